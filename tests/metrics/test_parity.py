"""Deviation from parity against published values, and the headline made of it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from evenhand.metrics.groups import groups_of
from evenhand.metrics.parity import judge_parity, mean_of, percentile_interval, relative_reduction
from evenhand.metrics.resample import Bootstrap, resample
from evenhand.metrics.scored import as_scored

# TP, FP, TN, FN of the privileged and the unprivileged group, the six ratios, and the AAOD.
CASES = (
    (
        (744, 1687, 9028, 431),
        (170, 388, 1194, 77),
        (1.492167, 1.427234, 1.001999, 0.849874, 1.329576, 1.557766),
        0.071442,
    ),
    (
        (146, 263, 382, 249),
        (3, 12, 19, 9),
        (0.887019, 0.992006, 1.244106, 1.189759, 0.814544, 0.949344),
        0.070138,
    ),
)


def rows_of(*groups: tuple[int, int, int, int]):
    """Samples with those counts; nobody's score says anything but the decision."""
    labels, scores, names = [], [], []
    for name, (tp, fp, tn, fn) in zip("abcdef", groups, strict=False):
        labels += [1] * tp + [0] * fp + [0] * tn + [1] * fn
        scores += [0.9] * (tp + fp) + [0.1] * (tn + fn)
        names += [name] * (tp + fp + tn + fn)
    return as_scored(labels, scores), {"which": groups_of(names)}


def judged(*groups, replicates: int = 0):
    rows, values = rows_of(*groups)
    rng = np.random.default_rng(0)
    how = Bootstrap(replicates) if replicates else None
    return judge_parity(rows, values, resample(len(rows.members), how, rng))


@pytest.mark.parametrize(("privileged", "unprivileged", "ratios", "aaod"), CASES)
def test_published_values(privileged, unprivileged, ratios, aaod):
    result = judged(privileged, unprivileged)
    wanted = np.abs(1 - np.array(ratios)).mean()
    assert result.deviation["which"][0] == pytest.approx(wanted, abs=1e-5)
    assert result.aaod["which"][0] == pytest.approx(aaod, abs=1e-5)


def test_equal_groups_have_no_deviation():
    result = judged((30, 20, 60, 10), (3, 2, 6, 1), (15, 10, 30, 5))
    assert result.deviation["which"][0] == pytest.approx(0)
    assert result.aaod["which"][0] == pytest.approx(0)


def test_groups_are_not_pooled():
    """Two groups that lie apart on either side of the reference do not cancel out."""
    first, other = (20, 10, 30, 0), (10, 0, 20, 10)
    base = (60, 20, 100, 20)
    apart = judged(base, first, other).deviation["which"][0]
    pooled = judged(base, tuple(np.add(first, other))).deviation["which"][0]
    assert apart > pooled


def test_a_ratio_without_value_makes_the_deviation_undefined():
    assert np.isnan(judged((10, 0, 10, 5), (5, 1, 5, 1)).deviation["which"][0])


def test_the_headline_is_the_share_of_the_deviation_that_is_gone():
    supervised, ssl = np.array([0.2, 0.4, 0.0]), np.array([0.1, 0.5, 0.1])
    result = relative_reduction(supervised, ssl)
    assert result[:2].tolist() == pytest.approx([0.5, -0.25])
    assert np.isnan(result[2])


def test_intervals_hold_the_value_and_need_enough_resamples():
    values = judged((60, 20, 100, 20), (30, 20, 60, 10), replicates=200).deviation["which"]
    low, high = percentile_interval(values)
    assert low < values[0] < high
    values[1:20] = np.nan
    assert percentile_interval(values) is None


def test_groups_that_are_alike_are_not_said_to_deviate():
    """With sizes of each resample's own, no interval of these would reach down to 0."""
    low, apart = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        labels = rng.random(600) < 0.3
        scores = np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1)
        groups = {"which": groups_of(rng.choice(["a", "b"], 600))}
        resamples = resample(600, Bootstrap(300), rng)
        result = judge_parity(as_scored(labels.astype(int), scores), groups, resamples)
        values = result.deviation["which"]
        low.append(percentile_interval(values)[0])
        apart.append(result.apart["which"])
        assert low[-1] < values[0] < percentile_interval(values)[1]
    assert np.mean(np.array(low) <= 0) > 0.8  # .86 where it is simulated
    assert np.mean(apart) < 0.1


def test_groups_that_lie_apart_are_told_apart():
    values = judged((600, 200, 1000, 200), (200, 300, 600, 300), replicates=200)
    assert values.apart["which"]
    assert not judged((600, 200, 1000, 200), (60, 20, 100, 20), replicates=200).apart["which"]


def test_the_mean_over_seeds_is_taken_resample_by_resample():
    item = judged((60, 20, 100, 20), (30, 20, 60, 10), replicates=5)
    other = judged((50, 30, 90, 30), (35, 15, 50, 20), replicates=5)
    both = mean_of([item, other])
    wanted = (item.deviation["which"] + other.deviation["which"]) / 2
    assert np.array_equal(both.deviation["which"], wanted)


def cohort(rng, patients, sicker, harder):
    """Two groups of 14 % with the disease, of whom one may be sicker, and harder to tell."""
    other = rng.random(patients) < 0.56
    labels = (rng.random(patients) < 0.14 + sicker * other).astype(int)
    scores = norm.cdf(rng.normal(size=patients) + labels * (1.25 + harder * other))
    rows = as_scored(labels, scores, threshold=norm.cdf(0.55))
    return rows, {"which": groups_of(np.where(other, "b", "a"))}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sicker", "harder"), [(0, 0), (0.03, 0.1), (0.07, -0.4)], ids=["equal", "near", "apart"]
)
def test_how_often_intervals_of_the_deviation_hold(sicker, harder):
    rng = np.random.default_rng(0)
    rows, groups = cohort(rng, 2_000_000, sicker, harder)
    truth = judge_parity(rows, groups, resample(len(rows), None, rng)).deviation["which"][0]
    own_side, shown = [], []
    for _ in range(400):
        rows, groups = cohort(rng, 800, sicker, harder)
        result = judge_parity(rows, groups, resample(800, Bootstrap(600), rng))
        low, high = percentile_interval(result.deviation["which"])
        own_side.append(max(low, 0) <= truth <= high)
        shown.append((max(low, 0) if result.apart["which"] else 0) <= truth <= high)
    print(f"truth {truth:.3f}, data's side {np.mean(own_side):.3f}, shown {np.mean(shown):.3f}")
    assert np.mean(shown) > 0.92
