"""Who chooses a step and who confirms it, and how lucky the choice is said to be."""

from __future__ import annotations

import math
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter
from tests.conftest import ROOT

from evenhand.cohort.phantoms.images import PhantomSettings, make_phantoms
from evenhand.evaluation.rows import choose_cut, metric_rows, scored_rows
from evenhand.jobs.prune import luck
from evenhand.jobs.prune.judge import PATIENTS, Halves, Judge, halve
from evenhand.jobs.prune.settings import PruneSettings
from evenhand.metrics import Bootstrap, Plan, find_target
from evenhand.reporting.sections.luck import Luck, luck_sentences
from evenhand.tables.predictions import Predictions

GROUPS = ("majority", "minority")
LEVELS = {"group": GROUPS}


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(luck, "BOOTSTRAP", Bootstrap(60))
    monkeypatch.setattr(luck, "HALVES", 20)


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def predictions(scores: np.ndarray, patients: int) -> Predictions:
    """Return two samples a patient; label and group alternate over patients."""
    patient = np.repeat(np.arange(patients), 2)
    table = pd.DataFrame(
        {
            "sample_id": [f"s{k}" for k in range(2 * patients)],
            "patient_id": [f"p{k}" for k in patient],
            "split": "val",
            "label": patient // 2 % 2,
            "score": scores,
            "attr_group": np.array(GROUPS)[patient // 4 % 2],
        }
    )
    return Predictions(table, ("0", "1"), LEVELS)


def drawn(rng: np.random.Generator, patients: int, signal: float = 0.2) -> Predictions:
    own = predictions(np.zeros(2 * patients), patients)
    noise = rng.uniform(0, 1 - signal, 2 * patients)
    return Predictions(own.table.assign(score=noise + signal * own.labels), own.classes, own.levels)


def judge_of(halves: Halves | None, objective: str = "auc_gap", **changes) -> Judge:
    settings = PruneSettings(run="run", attribute=("group",), **{"budget": None} | changes)
    return Judge(
        None,
        "group",
        find_target(objective),
        settings.rank_by,
        settings.budget,
        settings.budget_metric,
        {},
        halves,
    )


EVEN = Halves(frozenset(f"p{k}" for k in range(0, 80, 2)))


@pytest.mark.parametrize("seed", range(3))
def test_halves_share_no_patient_and_are_stratified(seed):
    cohort = make_phantoms(PhantomSettings(patients=300, size=16, seed=seed))
    halves = halve(cohort, "group", GROUPS, seeded(seed))
    assert halves is not None
    assert halve(cohort, "group", GROUPS, seeded(seed)) == halves
    by_patient = cohort.table.drop_duplicates("patient_id")
    chooses = by_patient["patient_id"].isin(halves.choosing)
    strata = [by_patient["label"], by_patient["attr_group"].astype(str)]
    shares = chooses.groupby(strata).agg(["sum", "count"])
    assert ((shares["sum"] - shares["count"] / 2).abs() <= 1).all()


def test_too_few_patients_are_not_halved():
    many = make_phantoms(PhantomSettings(patients=300, size=16, seed=0))
    kinds = many.table.drop_duplicates("patient_id").groupby(["attr_group", "label"], observed=True)
    least = int(kinds.size().min())
    assert least >= 2 * PATIENTS
    small = kinds.head(2 * PATIENTS - 1)["patient_id"]
    few = many.select(many.table["patient_id"].isin(small))
    assert halve(few, "group", GROUPS, seeded()) is None


def test_patients_that_confirm_have_no_part_in_the_choice():
    judge, predictions = judge_of(EVEN, "equalized_odds_difference"), drawn(seeded(), 80)
    confirms = ~predictions.table["patient_id"].isin(EVEN.choosing)
    before, ranks = judge.values(predictions), judge.rank_values(predictions, GROUPS)
    shaken = predictions.table.assign(
        score=predictions.table["score"].where(~confirms, 1 - predictions.table["score"])
    )
    changed = Predictions(shaken, predictions.classes, predictions.levels)
    after = judge.values(changed)
    assert judge.rank_values(changed, GROUPS) == ranks  # they name the unprivileged group
    ours = {name for name in before if not name.startswith("confirm:")}
    assert {f"confirm:{name}" for name in ours} == set(before) - ours
    assert all(after[name] == before[name] for name in ours)
    assert after["confirm:equalized_odds_difference"] != before["confirm:equalized_odds_difference"]


def test_values_are_those_of_each_half_cut_where_the_choosing_half_says():
    judge, predictions = judge_of(EVEN, "accuracy_gap"), drawn(seeded(1), 80)
    first, second = EVEN.split(predictions)
    values = judge.values(predictions)
    plan = Plan(metrics=("accuracy",), across=("gap",), bootstrap=None)
    for prefix, half in (("", first), ("confirm:", second)):
        rows = metric_rows(
            half, ["group"], model="", seed=0, plan=plan, split="val", cut=choose_cut(first)
        )
        gap = rows[rows["metric"] == "accuracy_gap"]["value"].item()
        assert values[f"{prefix}accuracy_gap"] == pytest.approx(gap)


@pytest.mark.parametrize(("objective", "better"), [("auc_gap", -1), ("auc_worst", 1)])
def test_luck_is_how_much_better_the_change_looks_to_those_that_chose(objective, better):
    judge = judge_of(EVEN, objective)
    steps = [drawn(seeded(seed), 80) for seed in range(4)]
    values = [judge.values(step) for step in steps]
    measured = luck.measure_luck(judge, steps, 2)
    assert (measured.step, measured.choosing, measured.confirming) == (2, 40, 40)
    for prefix, value, gain in (
        ("", measured.chosen, measured.gain),
        ("confirm:", measured.confirmed, measured.confirmed_gain),
    ):
        name = f"{prefix}{objective}"
        assert value[0] == pytest.approx(values[2][name])
        assert gain[0] == pytest.approx(values[2][name] - values[0][name])
    assert measured.luck[0] == pytest.approx(
        better * (measured.gain[0] - measured.confirmed_gain[0])
    )
    assert measured.luck[1] < measured.luck[0] < measured.luck[2]
    assert luck.measure_luck(judge, steps, 0) is None


def test_the_interval_of_a_difference_of_two_halves():
    assert luck.span_difference((0.5, 0.2, 0.8), (0.1, -0.3, 0.5)) == pytest.approx(
        (0.4, -0.1, 0.9)
    )
    value, low, high = luck.span_difference((0.5, 0.4, 0.9), (0.1, 0.1, 0.1))
    assert (value, low, high) == pytest.approx((0.4, 0.3, 0.8))
    assert luck.span_difference((0.5, None, None), (0.1, 0.0, 0.2))[1:] == (None, None)


def test_repeated_halves_tell_no_luck_where_one_step_wins_always():
    """A step that is far better, and no other: every half chooses it."""
    steps = [drawn(seeded(0), 40, signal=0.1) for _ in range(3)]
    wins = steps[0].table.assign(score=steps[0].table["label"] * 0.8 + 0.1)
    steps.append(Predictions(wins, steps[0].classes, LEVELS))
    result = luck.measure_luck(judge_of(None, "auc_worst"), steps, 3)
    assert (result.how, result.choosing, result.confirming) == (
        "repeated halves",
        40,
        0,
    )
    assert result.chosen[0] == result.confirmed[0] == 1.0
    assert abs(result.luck[0]) < 0.03  # halves of 40 patients measure the untouched model, too
    assert result.confirmed_gain[0] == pytest.approx(result.gain[0] - result.luck[0])


def test_the_luck_of_equally_good_steps_is_taken_off():
    judge = judge_of(None, budget=30.0)
    steps = [drawn(seeded(seed), 40) for seed in range(8)]
    winner = judge.best_step([judge.values(step) for step in steps])
    assert winner > 0
    result = luck.measure_luck(judge, steps, winner)
    assert result.luck[0] > 0
    assert result.confirmed[0] > result.chosen[0]  # less is better
    assert result.confirmed_gain[0] == pytest.approx(result.gain[0] + result.luck[0])


def test_halves_hold_equally_many_of_each_label_and_group():
    predictions = drawn(seeded(3), 42, signal=0.05)
    rows = scored_rows(predictions, choose_cut(predictions))
    groups = np.arange(42) // 4 % 2
    masks = luck._half_masks(rows, np.repeat(groups, 2), seeded())[:, rows.patients[::2]]
    assert masks.shape == (20, 42)
    labels = np.arange(42) // 2 % 2
    for group in (0, 1):
        for label in (0, 1):
            mine = (groups == group) & (labels == label)
            assert (np.abs(masks[:, mine].sum(axis=1) - mine.sum() / 2) <= 1).all()
    assert len({mask.tobytes() for mask in masks}) == 20
    assert set(masks.mean(axis=0)) != {0.0, 1.0}


def test_the_luck_of_all_patients_is_that_of_half_of_them_over_the_root_of_two():
    apart = np.tile([0.2, -0.05, -0.15], (20, 1))
    assert luck._mean_luck(apart) == pytest.approx((0.2 / 2**0.5, 0.1 / 2**0.5))
    apart[:15] = np.nan
    assert np.isnan(luck._mean_luck(apart)).all()


def test_a_gap_of_a_half_has_no_sign():
    """Whichever group is ahead there: the least gap is the one nearest to 0."""
    values = luck._half_values(judge_of(None), drawn(seeded(3), 24, signal=0.05))["auc_gap"]
    assert len(values) == 1 + 2 * 20
    assert np.nanmin(values) >= 0


@pytest.mark.parametrize("halves", [EVEN, None], ids=["halves", "repeated halves"])
def test_a_value_that_is_undefined_tells_no_luck(halves):
    """Nobody of the minority is positive: neither it nor the gap has an AUC."""
    first = drawn(seeded(), 80)
    minority = first.table["attr_group"] == "minority"
    table = first.table.assign(label=first.table["label"].where(~minority, 0))
    steps = [Predictions(table, first.classes, LEVELS)] * 2
    assert luck.measure_luck(judge_of(halves), steps, 1) is None


def test_sentences_and_what_is_read_back():
    result = Luck(
        "auc_gap", True, "halves", 3, 60, 58,
        (0.045, 0.01, 0.11), (0.091, 0.03, 0.16),
        (-0.068, -0.1, -0.02), (-0.022, -0.06, 0.02), (0.046, None, None),
    )  # fmt: skip
    first, second, third = luck_sentences(result)
    assert "Step 3 was chosen on one half of the validation patients (60): AUC gap 0.045" in first
    assert "a change of \N{MINUS SIGN}0.068 (\N{MINUS SIGN}0.100 to" in first
    assert "less is better" in first
    assert "The other half (58) had no part in the choice: 0.091 (0.030 to 0.160)" in second
    assert "looks better by 0.046 on the patients that chose" in third
    written = TypeAdapter(Luck).dump_json(result)
    assert TypeAdapter(Luck).validate_json(written) == result


@pytest.mark.slow
@pytest.mark.parametrize("how", ["halves", "repeated"])
def test_where_all_steps_are_alike_the_choice_looks_better_and_its_confirmation_does_not(how):
    script = runpy.run_path(str(Path(ROOT) / "benchmarks" / "pruning_luck.py"))
    runs, patients = (60, 200) if how == "halves" else (30, 60)
    table = script["simulate"](runs, patients, how, seed=1)
    chosen, confirmed = table["chosen_change_error"], table["confirmed_change_error"]
    assert chosen.mean() < -5 * chosen.sem()
    if how == "halves":
        assert abs(confirmed.mean()) < 2.5 * confirmed.sem()
        assert (
            abs(table["confirmed_value_error"].mean()) < 2.5 * table["confirmed_value_error"].sem()
        )
    assert abs(confirmed.mean()) < (0.3 if how == "halves" else 0.75) * abs(chosen.mean())
    assert not math.isnan(table["confirmed_change_holds_0"].mean())
