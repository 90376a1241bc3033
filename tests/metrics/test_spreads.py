"""The difference of two models' spreads: its interval, and the claim that one is smaller."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from evenhand.metrics import Bootstrap, Plan, as_scored, groups_of, measure
from evenhand.metrics.contrasts import side
from evenhand.metrics.spreads import MOST_PAIRS, compare_spreads

SPREADS = ("equalized_odds_difference", "sensitivity_gap")
PLAN = Plan(
    metrics=("auc", "sensitivity", "specificity", "false_positive_rate"),
    across=("worst", "gap", "equalized_odds_difference"),
    bootstrap=Bootstrap(replicates=300),
    spreads=SPREADS,
)


def paired(first_tilt, second_tilt, seed, groups=2, n=600):
    """Return the rows of two models of the same patients; a tilt moves the scores of a group."""
    rng = np.random.default_rng(seed)
    group, label = rng.integers(0, groups, n), rng.integers(0, 2, n)
    signal = 0.8 * (rng.normal(0, 1, n) + 1.8 * label) - 0.8

    def model(tilt):
        moved = signal + rng.normal(0, 0.6, n) + tilt * (group / max(groups - 1, 1) - 0.5)
        return as_scored(label, norm.cdf(moved), patients=np.arange(n))

    first, second = model(first_tilt), model(second_tilt)
    levels = {"g": groups_of([f"g{value}" for value in group])}
    rng = np.random.default_rng(seed)
    table = measure(first, levels, PLAN, rng=rng, against=second)
    return table[table["attribute"] == "g"].set_index("metric")


@pytest.mark.parametrize("spread", SPREADS)
def test_a_repaired_model_is_claimed_to_have_the_smaller_spread(spread):
    row = paired(0.0, 1.5, seed=0).loc[spread]
    assert row["p_adjusted"] <= 0.05
    assert row["high"] < 0
    assert row["approximate"] is None


def test_models_with_the_same_gap_are_rarely_claimed_to_differ():
    seeds = range(20)
    claims = [(paired(0.8, 0.8, seed).loc[list(SPREADS), "p_adjusted"] <= 0.05) for seed in seeds]
    assert sum(map(any, claims)) <= 4  # a true 5 % stays below that in 98 of 100


def test_exchanged_models_have_the_negated_interval():
    rng = np.random.default_rng(0)
    label, group = rng.integers(0, 2, 500), rng.integers(0, 3, 500)
    levels = {"g": groups_of([f"g{value}" for value in group])}
    models = [
        as_scored(
            label, rng.random(500) * 0.6 + 0.2 * label + tilt * group, patients=np.arange(500)
        )
        for tilt in (0.0, 0.08)
    ]
    there, back = (
        measure(item, levels, PLAN, rng=np.random.default_rng(1), against=other).set_index("metric")
        for item, other in (models, models[::-1])
    )
    assert there.loc[SPREADS[0], "low"] == pytest.approx(-back.loc[SPREADS[0], "high"])
    assert there.loc[SPREADS[0], "high"] == pytest.approx(-back.loc[SPREADS[0], "low"])


def test_the_interval_covers_the_true_difference_of_spreads():
    # With so many patients the values are nearly the truth.
    truth = paired(0.0, 1.0, seed=99, n=60_000)["value"]
    rows = [paired(0.0, 1.0, seed) for seed in range(20)]
    for spread in SPREADS:
        inside = [
            row.loc[spread, "low"] <= truth[spread] <= row.loc[spread, "high"] for row in rows
        ]
        assert sum(inside) >= 17


def test_many_groups_are_marked_approximate_and_claim_nothing():
    groups = 12  # 66 pairs
    assert groups * (groups - 1) / 2 > MOST_PAIRS
    row = paired(0.0, 1.5, seed=0, groups=groups, n=2400).loc["sensitivity_gap"]
    assert row["approximate"] is not None
    assert np.isnan(row["p_adjusted"])


def test_a_value_that_no_resample_changes_makes_no_claim():
    rng = np.random.default_rng(0)
    varied = [side(name, rng.uniform(0.4, 0.8, 101), 50, share=True) for name in "ab"]
    fixed = [varied[0], side("b", np.ones(101), 50, share=True, trials=50)]
    assert compare_spreads([varied], [varied[::-1]]) is not None
    assert compare_spreads([varied], [fixed]) is None
    assert compare_spreads([fixed], [varied]) is None
