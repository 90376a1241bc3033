from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenhand.representation import Layer, hsic, rbf_layer, row_terms
from evenhand.representation.cka import hsic_without


def gram(rows: np.ndarray, bandwidth: float | None) -> np.ndarray:
    if bandwidth is None:
        return rows @ rows.T
    return np.exp(-((rows[:, None] - rows) ** 2).sum(-1) / (2 * bandwidth**2))


def by_definition(first: np.ndarray, second: np.ndarray) -> float:
    """Song et al. 2012, eq. 4, as a mean over every four different rows."""
    n, total, count = len(first), 0.0, 0
    for i, j, q, r in permutations(range(n), 4):
        total += first[i, j] * (second[i, j] + second[q, r] - 2 * second[i, q])
        count += 1
    return total / count


def pair(seed: int, n: int = 7, widths: tuple[int, int] = (3, 4)) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, 2))
    return [
        shared @ rng.standard_normal((2, width)) + rng.standard_normal((n, width)) + 5
        for width in widths
    ]


@pytest.mark.parametrize("bandwidth", [None, 1.7])
def test_it_is_the_mean_over_all_quadruples(bandwidth):
    x, y = pair(0)
    terms = row_terms([Layer(x, bandwidth)], [Layer(y, bandwidth)], np.arange(7))
    for result, item, two in [
        (terms.cross[:, 0, 0], x, y),
        (terms.first[:, 0], x, x),
        (terms.second[:, 0], y, y),
    ]:
        expected = by_definition(gram(item, bandwidth), gram(two, bandwidth))
        assert hsic(result) == pytest.approx(expected, rel=1e-9)


@given(st.integers(0, 1000), st.booleans())
def test_without_a_row_it_is_what_the_other_rows_give(seed, wide):
    """With few features it goes by features, with many by n × n matrices."""
    x, y = pair(seed, n=12, widths=(30, 20) if wide else (1, 1))
    layers = [Layer(x)], [Layer(y)]
    result = hsic_without(row_terms(*layers, np.arange(12)).cross)[:, 0, 0]
    for row in range(12):
        rest = np.delete(np.arange(12), row)
        assert result[row] == pytest.approx(hsic(row_terms(*layers, rest).cross)[0, 0], rel=1e-7)


@given(st.integers(0, 1000))
def test_features_and_matrices_give_the_same(seed):
    """Zeros beside the features change no product, and make matrices the cheaper way."""
    x, y = pair(seed, n=40, widths=(2, 3))
    padded = [Layer(np.hstack([rows, np.zeros((40, 200))])) for rows in (x, y)]
    item = row_terms([Layer(x)], [Layer(y)], np.arange(40))
    two = row_terms(padded[:1], padded[1:], np.arange(40))
    for name in ("cross", "first", "second"):
        np.testing.assert_allclose(getattr(item, name), getattr(two, name), rtol=1e-8, atol=1e-8)


def test_more_layers_on_either_side_change_nothing():
    x, y = pair(1)
    layers = [Layer(x), Layer(x[:, :2]), Layer(y)]
    rows = np.arange(7)
    wide, high = row_terms(layers[:1], layers, rows), row_terms(layers, layers[:1], rows)
    np.testing.assert_allclose(wide.cross[:, 0], high.cross[:, :, 0])
    np.testing.assert_allclose(wide.second, high.first)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_independent_features_give_zero_on_average(kernel):
    """The biased estimator would give about .1 here."""
    rng = np.random.default_rng(0)
    result = []
    for _ in range(400):
        x, y = rng.standard_normal((2, 20, 30))
        layers = [Layer(z) if kernel == "linear" else rbf_layer(z, 1.0, rng) for z in (x, y)]
        terms = row_terms(layers[:1], layers[1:], np.arange(20))
        own = np.sqrt(hsic(terms.first)[0] * hsic(terms.second)[0])
        result.append(hsic(terms.cross)[0, 0] / own)
    assert abs(np.mean(result)) < 3 * np.std(result) / np.sqrt(400)


def test_single_precision_is_enough():
    x, y = pair(3, n=300, widths=(500, 400))
    place = np.arange(300)
    single = row_terms([Layer(x.astype("f4"))], [Layer(y.astype("f4"))], place)
    double = row_terms([Layer(x)], [Layer(y)], place)
    assert hsic(single.cross) == pytest.approx(hsic(double.cross), rel=1e-4)
