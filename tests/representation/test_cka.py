from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from evenhand.representation import Layer, batches, cka, hsic, rbf_layer, row_terms

ROWS = np.arange(60)[None]


def models(seed: int, n: int = 60, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Two models that see the same three things, each with noise of its own."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, 3))
    return tuple(
        shared @ rng.standard_normal((3, width)) + noise * rng.standard_normal((n, width))
        for width in (6, 8)
    )


def layers(kernel: str, *features: np.ndarray) -> list[Layer]:
    if kernel == "linear":
        return [Layer(feature) for feature in features]
    return [rbf_layer(feature, 1.0, np.random.default_rng(0)) for feature in features]


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@given(seed=st.integers(0, 1000), scale=st.floats(0.01, 100), move=st.floats(-50, 50))
@settings(max_examples=15)
def test_it_does_not_see_rotation_scale_or_place(kernel, seed, scale, move):
    x, y = models(seed)
    turned = scale * x @ ortho_group.rvs(6, random_state=seed) + move
    first, other, second = layers(kernel, x, turned, y)
    expected = cka([first], [second], ROWS).value
    np.testing.assert_allclose(cka([other], [second], ROWS).value, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_it_is_symmetric_and_one_with_itself(kernel):
    first, second = layers(kernel, *models(0))
    item, other = cka([first, second], [second], ROWS), cka([second], [first, second], ROWS)
    np.testing.assert_allclose(item.value, other.value.T)
    np.testing.assert_allclose(item.influence, other.influence.transpose(0, 2, 1))
    assert item.value[1, 0] == pytest.approx(1)
    assert item.error[1, 0] == pytest.approx(0, abs=1e-9)
    assert 0.2 < item.value[0, 0] < 0.95


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_influence_is_what_leaving_a_patient_out_does(kernel):
    first, second = layers(kernel, *models(0))
    dealt = batches(np.arange(60), 20, np.random.default_rng(0))
    whole = cka([first], [second], dealt)
    batch, patient = dealt[1], dealt[1, 4]
    without = [row_terms([first], [second], place) for place in (dealt[0], dealt[2])]
    without.append(row_terms([first], [second], batch[batch != patient]))
    mean = [
        np.mean([hsic(getattr(terms, name)) for terms in without])
        for name in ("cross", "first", "second")
    ]
    left_out = mean[0] / np.sqrt(mean[1] * mean[2])
    expected = (whole.value[0, 0] - left_out) * np.sqrt(59 / 60)
    assert whole.influence[patient, 0, 0] == pytest.approx(expected, rel=1e-6)


@given(st.integers(5, 40), st.integers(5, 60), st.integers(0, 100))
def test_batches_deal_everyone_out_and_nobody_twice_in_one(size, members, seed):
    size = min(size, members)
    dealt = batches(np.arange(100, 100 + members), size, np.random.default_rng(seed))
    assert dealt.shape == (-(-members // size), size)
    assert set(dealt.ravel()) == set(range(100, 100 + members))
    assert all(len(set(batch)) == size for batch in dealt)


def test_batches_estimate_what_all_rows_do():
    x, y = models(0, n=1200)
    rng, pair = np.random.default_rng(0), ([Layer(x)], [Layer(y)])
    whole = cka(*pair, np.arange(1200)[None])
    dealt = cka(*pair, batches(np.arange(1200), 100, rng))
    assert dealt.value[0, 0] == pytest.approx(whole.value[0, 0], abs=0.02)
    assert dealt.error[0, 0] == pytest.approx(whole.error[0, 0], rel=0.2)


def test_who_is_in_no_batch_has_no_influence():
    x, y = models(0)
    result = cka([Layer(x)], [Layer(y)], np.arange(10, 30)[None])
    assert not result.influence[:10].any()
    assert result.influence[10:30].all()
    assert not result.influence[30:].any()


def test_a_layer_that_does_not_vary_has_no_similarity():
    x, _ = models(0)
    result = cka([Layer(np.ones((60, 4)))], [Layer(x)], ROWS)
    assert np.isnan(result.value).all()
    assert np.isnan(result.error).all()


@pytest.mark.slow
@pytest.mark.parametrize(("n", "width", "noise"), [(40, 10, 1.0), (60, 400, 3.0), (150, 20, 0.5)])
def test_intervals_cover_the_truth(n, width, noise):
    """The truth is what 6,000 patients give; nominal is 95 %."""
    rng = np.random.default_rng(1)
    mix = rng.standard_normal((2, 5, width))

    def draw(size: int) -> tuple[list[Layer], list[Layer]]:
        shared = rng.standard_normal((size, 5))
        first, two = (shared @ m + noise * rng.standard_normal((size, width)) for m in mix)
        return [Layer(first)], [Layer(two)]

    truth = cka(*draw(6000), batches(np.arange(6000), 500, rng)).value[0, 0]
    ends = [cka(*draw(n), np.arange(n)[None]).interval(0.95) for _ in range(400)]
    covered = np.mean([low[0, 0] <= truth <= high[0, 0] for low, high in ends])
    assert 0.91 <= covered <= 1


@pytest.mark.slow
@pytest.mark.parametrize("width", [5, 300])
def test_the_interval_of_independent_features_holds_zero(width):
    """Where the bootstrap, whose doubled rows are alike in both models, is far above it."""
    rng = np.random.default_rng(0)
    held, above = [], []
    for _ in range(300):
        pair = [[Layer(rng.standard_normal((50, width)))] for _ in range(2)]
        low, high = cka(*pair, np.arange(50)[None]).interval(0.95)
        held.append(low[0, 0] <= 0 <= high[0, 0])
        same = rng.integers(50, size=50)
        twice = [[Layer(side[0].features[same])] for side in pair]
        above.append(cka(*twice, np.arange(50)[None]).value[0, 0])
    assert np.mean(held) >= 0.93
    assert np.mean(above) > 0.08
