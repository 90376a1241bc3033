"""What is said of a grid of pairs of models rests on patients and seeds, not on cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evenhand.jobs.similarity.layers import comparison_of
from evenhand.jobs.similarity.settings import SimilaritySettings
from evenhand.representation import Layer
from evenhand.representation.grid import (
    SeededMean,
    Sizes,
    contrast_of,
    correlation_of,
    size_ratio_of,
)
from evenhand.representation.jackknife import JackknifeEstimate, mean_absolute, size_ratio

N, WIDTH, LEVEL = 120, 6, 0.95
HOW = comparison_of(
    SimilaritySettings(runs=(Path("one"), Path("other")), permutations=99, minimum=8)
)


def models(rng, apart, noise=0.3):
    """Return two models' layers, which agree in all patients but those that are set apart."""
    signal = rng.normal(size=(N, WIDTH))
    own = np.where(apart[:, None], rng.normal(size=(N, WIDTH)), signal)
    return tuple(
        [Layer(base @ rng.normal(size=(WIDTH, WIDTH)) + noise * rng.normal(size=(N, WIDTH)))] * 2
        for base in (signal, own)
    )


@pytest.fixture(scope="module")
def grids():
    """Sizes of a planted attribute and of one that has nothing to do with any layer."""
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=N)
    planted, unrelated = rng.permutation(N) < N // 2, rng.permutation(N) < N // 2
    pairs = [[models(rng, planted) for _ in range(3)] for _ in range(3)]  # seeds × cells

    def sizes(group):
        rows = np.flatnonzero(group), np.flatnonzero(~group)
        return Sizes.of_contrasts(
            [[contrast_of(pair, rows, labels, HOW) for pair in row] for row in pairs]
        )

    return sizes(planted), sizes(unrelated)


def repeated(sizes, times):
    return Sizes(
        np.tile(sizes.values, (1, times)),
        np.tile(sizes.influence, (1, 1, times)),
        np.tile(sizes.permuted, (1, 1, times)),
    )


def test_planted_groups_are_told_from_permuted_ones_and_others_are_not(grids):
    planted, unrelated = grids
    assert planted.p == pytest.approx(0.01)
    assert planted.mean.interval(LEVEL)[0] > planted.by_chance
    assert unrelated.p > 0.05
    assert unrelated.mean.number.value == pytest.approx(unrelated.by_chance, abs=0.05)


def test_cells_that_repeat_make_nothing_more_certain(grids):
    """Only patients and seeds count, however many cells there are."""
    for sizes in grids:
        more = repeated(sizes, 20)
        assert more.p == sizes.p
        assert np.allclose(more.mean.interval(LEVEL), sizes.mean.interval(LEVEL))


def test_seeds_that_differ_widen_the_interval(grids):
    sizes = grids[0]
    alike = np.broadcast_to(sizes.values.mean(axis=0), sizes.values.shape)

    def width(by_seed):
        values = alike + np.array(by_seed)[:, None]
        low, high = Sizes(values, sizes.influence, sizes.permuted).mean.interval(LEVEL)
        return high - low

    assert width([-0.2, 0.0, 0.2]) > 2 * width([0.0, 0.0, 0.0])


def test_one_seed_and_many_patients_have_the_interval_of_patients(grids):
    rng = np.random.default_rng(1)
    numbers = JackknifeEstimate(np.array([0.3]), 0.01 * rng.normal(size=(5000, 1)))
    ends = SeededMean.over_seeds(numbers).interval(LEVEL)
    expected = JackknifeEstimate(numbers.value[0], numbers.influence[:, 0]).interval(LEVEL)
    assert np.allclose(ends, expected, atol=1e-3)


def test_the_ratio_of_one_pair_of_models_is_that_of_similarity():
    rng = np.random.default_rng(2)
    numbers = [
        JackknifeEstimate(np.full(4, value), 1e-3 * rng.normal(size=(2000, 4)))
        for value in (0.6, 0.2)
    ]
    single = [
        Sizes(mean.value[None, None], mean.influence[:, None, None], np.zeros((1, 1, 1)))
        for mean in map(mean_absolute, numbers)
    ]
    ratio = size_ratio_of(*single, LEVEL)
    expected = size_ratio(*numbers, LEVEL, rng)
    assert ratio.value == pytest.approx(3)
    assert (ratio.low, ratio.high) == pytest.approx((expected.low, expected.high), rel=1e-2)


def test_a_ratio_over_what_may_be_nothing_has_no_end(grids):
    planted, _ = grids
    nothing = Sizes(planted.values - planted.values.mean(), planted.influence, planted.permuted)
    assert size_ratio_of(planted, nothing, LEVEL) is None


def gaps(rng, cells, by_cell):
    """Return gaps in AUC ``(S, C, 1 + B)`` that grow from cell to cell, or do not."""
    noise = 0.01 * rng.normal(size=(3, cells, 401))
    return by_cell * np.linspace(0, 0.3, cells)[None, :, None] + noise


def growing(cells, by_cell, rng):
    values = 0.1 + by_cell * np.linspace(0, 0.3, cells) + 0.01 * rng.normal(size=(3, cells))
    influence = 0.001 * rng.normal(size=(N, 3, cells))
    permuted = np.concatenate([values[None], rng.uniform(0, 0.1, size=(199, 3, cells))])
    return Sizes(values, influence, permuted)


def test_sizes_that_go_with_gaps_are_correlated_and_others_are_not():
    rng = np.random.default_rng(3)
    with_gaps = correlation_of([growing(8, 1, rng)], [gaps(rng, 8, 1)], LEVEL, rng)
    assert with_gaps.low > 0.5
    assert with_gaps.p <= 0.02
    without = correlation_of([growing(16, 1, rng)], [gaps(rng, 16, 0)], LEVEL, rng)
    assert without.low < 0 < without.high
    assert without.p > 0.05


def test_too_few_points_say_nothing_of_a_correlation():
    rng = np.random.default_rng(4)
    assert correlation_of([growing(3, 1, rng)], [gaps(rng, 3, 1)], LEVEL, rng) is None
