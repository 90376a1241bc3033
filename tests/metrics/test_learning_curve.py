"""A learning curve says what the last doubling changed, and claims nothing where nothing did."""

from __future__ import annotations

import numpy as np
import pytest

from evenhand.metrics.learning_curve import ALL, HALF, learning_curve
from evenhand.metrics.rows import Key
from evenhand.reporting.sections.learning_curve import curve_part, doubling_text

OLD, YOUNG, BRIER = Key("age", "old", "auc"), Key("age", "young", "auc"), Key("*", "*", "brier")
PATIENTS = {0.25: 50.0, HALF: 100.0, 0.75: 150.0, ALL: 200.0}


def curve(gain: float, *, own: Key | None = None, seed: int = 0):
    """Return a curve on which the old group gains so much from half to all."""
    rng = np.random.default_rng(seed)
    luck = {key: rng.normal(0, 0.02, (1, 1001)) for key in (OLD, YOUNG, BRIER)}
    values = {
        share: {
            key: 0.7 + (gain * np.log2(share) if key == OLD else 0.0)
            + drawn + rng.normal(0, 0.003, (3, 1)) + rng.normal(0, 0.003, (3, 1001))
            for key, drawn in luck.items()
        }
        for share in PATIENTS
    }  # fmt: skip
    rarer = dict.fromkeys((OLD, YOUNG, BRIER), 90)
    name = "everybody" if own is None else "age=old"
    return learning_curve(name, own, PATIENTS, values, rarer, rng)


def test_a_planted_gain_is_shown_for_the_group_that_has_it():
    planted = curve(0.05)
    assert planted.of_doubling(OLD).value == pytest.approx(0.05, abs=0.01)
    assert planted.of_doubling(OLD).better is True
    assert planted.of_doubling(YOUNG).better is None
    assert "helped" in doubling_text(planted, OLD)
    assert "From 100 to 200 patients (all training patients)" in doubling_text(planted, OLD)
    assert "would have shown with power .8" in doubling_text(planted, YOUNG)
    assert "harmed" in doubling_text(curve(-0.05), OLD)


def test_a_flat_curve_claims_something_in_at_most_one_of_twenty():
    claims = sum(
        any(change.better is not None for change in curve(0.0, seed=seed).doubling)
        for seed in range(100)
    )
    assert claims <= 10  # 11 or more come in 1 of 100 where the true share is .05


def test_only_auc_is_kept():
    assert BRIER not in curve(0.0).keys


def test_the_sentences_are_about_the_thinned_group_and_the_groups_served_worst():
    part = curve_part(curve(0.0, own=OLD), {"age": "young"})
    assert ["AUC of old" in text or "AUC of young" in text for text in part.sentences] == [True] * 2
    assert "age=old in training" in part.sentences[0]
    assert len(curve_part(curve(0.0), {"age": "young"}).sentences) == 1
    (chart,) = part.charts
    assert [line.name for line in chart.lines] == ["old", "young"]
    assert len(chart.lines[0].marks) == 4


def test_the_worst_group_is_the_one_with_the_lowest_auc_on_all_patients():
    for group in (OLD, YOUNG):
        low = curve(0.0)
        low.values[ALL][group][:] -= 0.2
        assert low.worst("age") == group
    assert low.worst("sex") is None
