from __future__ import annotations

import numpy as np
import pytest

from evenhand.representation import JackknifeEstimate, mean_absolute_interval, size_ratio
from evenhand.representation.jackknife import ratio_of


def means(data: np.ndarray) -> JackknifeEstimate:
    """Means of columns, whose jackknife is known."""
    n = len(data)
    return JackknifeEstimate(data.mean(axis=0), (data - data.mean(axis=0)) / np.sqrt(n * (n - 1)))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_error_and_interval_of_means():
    data = rng().standard_normal((50, 3))
    result = means(data)
    np.testing.assert_allclose(result.error, data.std(axis=0, ddof=1) / np.sqrt(50))
    low, high = result.interval(0.95)
    np.testing.assert_allclose((high - low) / 2, 1.959964 * result.error)


def test_a_patient_on_both_sides_of_a_difference_counts_once():
    result = means(rng().standard_normal((50, 3)))
    assert not result.minus(result).error.any()


def test_the_size_of_nothing_holds_zero_and_of_something_does_not():
    noise = rng().standard_normal((100, 9))
    size = mean_absolute_interval(means(noise), 0.95, rng())
    assert size.low == 0 < size.value < size.high
    size = mean_absolute_interval(means(noise + np.resize([1, -1], 9)), 0.95, rng())
    assert 0.5 < size.low < 1 < size.high < 1.5


def test_no_ratio_over_what_may_be_zero():
    noise = rng().standard_normal((100, 4))
    assert size_ratio(means(noise + 2), means(noise), 0.95, rng()) is None


@pytest.mark.slow
def test_the_ratio_covers_the_truth():
    """Both come from the same patients, and are correlated."""
    generator, held = rng(), []
    for _ in range(400):
        base = generator.standard_normal((80, 1))
        item = means(base + generator.standard_normal((80, 4)) + [3, -3, 3, -3])
        other = means(base + generator.standard_normal((80, 4)) + [1, 1, -1, -1])
        ratio = size_ratio(item, other, 0.95, generator)
        held.append(ratio.low <= 3 <= ratio.high)
    assert 0.92 <= np.mean(held) <= 0.98


def test_no_ratio_is_told_over_numbers_whose_intervals_together_hold_0():
    # Nine numbers of 1.5, each with an error of 1 of its own: their mean is clear of 0 by itself.
    other = JackknifeEstimate(np.full((3, 3), 1.5), np.eye(9).reshape(9, 3, 3))
    assert mean_absolute_interval(other, 0.95, np.random.default_rng(0)).low == 0
    assert size_ratio(other, other, 0.95, np.random.default_rng(0)) is None


def test_a_ratio_of_numbers_that_move_together_is_certain():
    """Fieller's interval by hand: twice a number over the number is 2 for any patients."""
    influence = np.random.default_rng(0).normal(0, 0.01, 50)
    below = JackknifeEstimate(np.array(0.4), influence)
    above = JackknifeEstimate(2 * below.value, 2 * influence)
    ratio = ratio_of(above, below, 1.96)
    assert [ratio.value, ratio.low, ratio.high] == pytest.approx([2, 2, 2])
    against = ratio_of(JackknifeEstimate(above.value, -above.influence), below, 1.96)
    assert against.low < 1.8 < 2.2 < against.high
