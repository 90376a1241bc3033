from __future__ import annotations

from dataclasses import replace

import pytest

from evenhand.reporting.estimates import Estimate, Extremes
from evenhand.reporting.text.sentences import (
    apart_sentence,
    chance_remark,
    chance_sentence,
    detectable_group_sentences,
    explain_pictures,
    gap_sentence,
    groups_sentence,
    has_interval_above_0,
    introduction,
    models_sentence,
    no_gap_sentence,
    overall_cost_sentence,
    p_text,
    paired_chip,
    paired_sentence,
    strategy_sentence,
    where,
)

OLD = Estimate(
    model="m", split="test", attribute="age", group="60+", base="sensitivity", value=0.61, low=0.55,
    high=0.67, level=0.95, n=150, patients=120, positives=50,
)  # fmt: skip
YOUNG = replace(OLD, group="under 60", value=0.84, low=0.79, high=0.89)
GAP = replace(OLD, group="*", base="sensitivity", aggregate="gap", value=0.23, low=0.15, high=0.31)
PAIRED = replace(
    OLD, model="FairTune", against="full fine-tuning", group="*", base="auc", aggregate="worst",
    value=0.039, low=-0.01, high=0.088, p_adjusted=0.3,
)  # fmt: skip


def same(text: str, expected: str) -> bool:
    return text.replace("\N{NO-BREAK SPACE}", " ") == expected


def test_groups_are_told_in_counts_out_of_a_hundred() -> None:
    assert groups_sentence(OLD, YOUNG, "malignant") == (
        "Where age is 60+, the model finds 61 of 100 malignant cases; where it is under 60, 84."
    )


def test_a_headline_about_decisions_names_the_threshold() -> None:
    old, young = (replace(row, threshold=0.4312) for row in (OLD, YOUNG))
    assert groups_sentence(old, young, "malignant") == (
        "Where age is 60+, the model finds 61 of 100 malignant cases at the threshold 0.431; where "
        "it is under 60, 84."
    )
    assert groups_sentence(old, replace(young, threshold=0.3), "malignant").endswith(
        "at the threshold 0.431; where it is under 60, 84 at the threshold 0.3."
    )


def test_groups_told_by_auc_and_accuracy() -> None:
    old, young = (replace(row, base="auc") for row in (OLD, YOUNG))
    assert groups_sentence(old, young, "malignant") == (
        "Where age is 60+, the model scores a malignant case above another case 61 times in 100 "
        "(AUC 0.610); where it is under 60, 84 times (0.840)."
    )
    old, young = (replace(row, positives=None) for row in (old, young))
    assert groups_sentence(old, young, "") == (
        "Where age is 60+, the AUC is 0.610; where it is under 60, 0.840."
    )
    old, young = (replace(row, base="accuracy") for row in (OLD, YOUNG))
    assert groups_sentence(old, young, "") == (
        "Where age is 60+, the model is right in 61 of 100 cases; where it is under 60, 84."
    )


def test_an_intersection_names_each_attribute() -> None:
    assert where("sex*age", "female*60+") == "sex is female and age is 60+"
    assert where("sex*age", "unknown") == "sex × age is unknown"


def test_gap_in_points_with_its_interval() -> None:
    assert same(
        gap_sentence(Extremes(OLD, YOUNG, 2, GAP)),
        "The gap is 23 points (95 % interval 15 to 31).",
    )


@pytest.mark.parametrize(
    ("low", "interval_text"),
    [
        (0.003, "23.0 points (95 % interval 0.3"),
        (0.0004, "23.00 points (95 % interval 0.04"),
        (0.0, "23 points (95 % interval 0"),
        (0.0000001, "23.000 points (95 % interval 0.000"),
    ],
)
def test_an_end_of_the_interval_is_not_rounded_to_zero(low: float, interval_text: str) -> None:
    text = gap_sentence(Extremes(OLD, YOUNG, 2, replace(GAP, low=low)))
    assert text.replace("\N{NO-BREAK SPACE}", " ").startswith(f"The gap is {interval_text} to 31")


def test_gap_of_a_metric_that_may_be_negative() -> None:
    old, young = (replace(row, base="net_benefit") for row in (OLD, YOUNG))
    old, young = replace(old, value=-0.02), replace(young, value=0.03)
    gap = replace(GAP, base="net_benefit", aggregate="gap", value=0.05, low=0.01, high=0.09)
    assert same(
        gap_sentence(Extremes(old, young, 2, gap)),
        "The gap is 0.050 (95 % interval 0.010 to 0.090).",
    )


def test_gap_has_a_decimal_where_rounding_would_contradict_the_groups() -> None:
    old, young = replace(OLD, value=0.876), replace(YOUNG, value=0.892)  # told as 88 and 89
    gap = replace(GAP, value=0.016, low=0.003, high=0.104)
    assert same(
        gap_sentence(Extremes(old, young, 2, gap)),
        "The gap is 1.6 points (95 % interval 0.3 to 10.4).",
    )


def test_an_undefined_gap_says_why() -> None:
    gap = replace(GAP, value=None, low=None, high=None, undefined="group 'x': no samples")
    assert gap_sentence(Extremes(OLD, YOUNG, 2, gap)) == (
        "The gap is undefined: group 'x': no samples."
    )


def test_a_gap_that_was_not_measured() -> None:
    extremes = Extremes(OLD, YOUNG, 2, None)
    assert gap_sentence(extremes) == "The gap was not measured."
    assert chance_sentence(extremes).startswith("Without a test it is not known")


@pytest.mark.parametrize(
    ("p", "groups", "sentence"),
    [
        (0.01, 2, "The two groups differ by more than chance explains (corrected p = 0.010)."),
        (
            0.01,
            5,
            "At least two of the 5 groups differ by more than chance explains "
            "(corrected p = 0.010).",
        ),
        (
            0.2,
            2,
            "These data do not show that the two groups differ in sensitivity "
            "(corrected p = 0.200); a difference of 30.0 points would usually show (power 80 %).",
        ),
        (None, 2, "Without a test it is not known whether the two groups differ."),
    ],
)
def test_whether_chance_explains_a_gap(p: float | None, groups: int, sentence: str) -> None:
    extremes = Extremes(OLD, YOUNG, groups, replace(GAP, p_adjusted=p), detectable=0.3)
    assert same(chance_sentence(extremes), sentence)


@pytest.mark.parametrize(
    ("metric", "aggregate", "value", "p", "chip"),
    [
        ("auc", "worst", 0.04, 0.06, "cannot tell"),
        ("auc", "worst", 0.04, 0.05, "better"),
        ("auc", "worst", -0.04, 0.01, "worse"),
        ("auc", "gap", -0.04, 0.01, "better"),
        ("log_loss", "worst", 0.04, 0.01, "worse"),
        ("auc", "worst", 0.04, None, "cannot tell"),
        ("auc", "worst", None, 0.01, "cannot tell"),
        ("selection_rate", None, 0.04, 0.01, "cannot tell"),
    ],
)
def test_paired_outcome(
    metric: str, aggregate: str | None, value: float | None, p: float | None, chip: str
) -> None:
    row = replace(PAIRED, base=metric, aggregate=aggregate, value=value, p_adjusted=p)
    assert paired_chip(row) == chip


def test_paired_sentence() -> None:
    assert same(
        paired_sentence(PAIRED),
        "Against full fine-tuning: +0.039 (95 % interval −0.010 to 0.088; corrected p = 0.300): "
        "cannot tell.",
    )
    bare = replace(PAIRED, low=None, high=None, no_interval="the same in every resample")
    assert same(
        paired_sentence(bare),
        "Against full fine-tuning: +0.039 (no interval: the same in every resample; "
        "corrected p = 0.300): cannot tell.",
    )
    undefined = replace(PAIRED, value=None, low=None, high=None, undefined="no positives")
    assert paired_sentence(undefined) == "Against full fine-tuning: undefined, no positives."


def test_strategies_in_one_sentence() -> None:
    better = replace(PAIRED, p_adjusted=0.01)
    unsure, worse = replace(PAIRED, against="head only"), replace(better, against="x", value=-0.05)
    assert strategy_sentence([better]) == (
        "FairTune serves its worst-served age group better than full fine-tuning."
    )
    assert strategy_sentence([PAIRED, unsure]) == (
        "These data do not show that FairTune serves its worst-served age group better or worse "
        "than full fine-tuning or head only."
    )
    assert strategy_sentence([better, unsure, worse]) == (
        "FairTune serves its worst-served age group better than full fine-tuning but worse than x; "
        "these data do not show whether it does better or worse than head only."
    )


def test_models_side_by_side() -> None:
    unpaired = replace(PAIRED, against=None, value=0.78)
    other = replace(unpaired, model="full fine-tuning", value=None)
    assert models_sentence([unpaired, other]) == (
        "AUC of the worst age group: FairTune 0.780 and full fine-tuning undefined."
    )
    overall = [replace(row, attribute="*", aggregate=None) for row in (unpaired, other)]
    assert models_sentence(overall) == (
        "AUC of everybody: FairTune 0.780 and full fine-tuning undefined."
    )


def test_what_a_gain_costs_everybody_is_said_where_it_is_certain() -> None:
    overall = replace(PAIRED, attribute="*", aggregate=None, value=-0.09, p_adjusted=0.01)
    unsure = replace(overall, against="head only", p_adjusted=0.2)
    assert overall_cost_sentence([overall, unsure]) == (
        " It serves everybody together worse than full fine-tuning."
    )
    assert not overall_cost_sentence([unsure])
    assert not overall_cost_sentence([])


@pytest.mark.parametrize(
    ("p", "outcome"),
    [(0.2, "(corrected p = 0.200); a difference of 30.0 points would usually show (power 80 %)"),
     (None, "(not tested)")],
)  # fmt: skip
def test_a_further_metric_without_a_gap_says_what_would_show_if_it_was_tested(
    p: float | None, outcome: str
) -> None:
    ends = Extremes(OLD, YOUNG, 2, replace(GAP, p_adjusted=p), detectable=0.3)
    assert same(
        no_gap_sentence(ends),
        f"No gap is shown in sensitivity: lowest 61.0 %, highest 84.0 % {outcome}.",
    )


def test_whom_the_numbers_are_about() -> None:
    everyone = replace(OLD, attribute="*", group="*", n=1800, patients=1, positives=390)
    assert introduction([OLD, everyone], "test", "lesion", "malignant") == (
        "Measured on 1,800 samples from 1 lesion of the test split, 390 of the samples malignant."
    )
    many = replace(everyone, positives=None)
    assert introduction([many], "all", "stay", "") == "Measured on 1,800 samples from 1 stay."
    assert introduction([], "all", "stay", "") == "This report has no numbers."


def test_reading_names_the_level_of_the_intervals() -> None:
    assert "90\N{NO-BREAK SPACE}% interval" in explain_pictures([replace(OLD, level=0.9)])
    assert "interval" not in explain_pictures([replace(OLD, low=None, high=None)])


def test_an_attribute_called_group_is_not_named_twice_and_names_keep_their_case() -> None:
    paired = replace(PAIRED, model="ResNet_A", attribute="group", p_adjusted=0.01)
    assert strategy_sentence([paired]) == (
        "ResNet_A serves its worst-served group better than full fine-tuning."
    )
    renamed = replace(paired, model="full fine-tuning", against="vgg")
    sentence = "Full fine-tuning serves its worst-served group better than vgg."
    assert strategy_sentence([renamed]) == sentence


@pytest.mark.parametrize(
    ("metric", "label", "worst", "best", "gap"),
    [
        ("auc", "AUC", "0.610", "0.840", "0.150 to 0.310"),
        ("specificity", "specificity", "61.0 %", "84.0 %", "15.0 to 31.0 points"),
    ],
)
def test_a_further_gap_is_told(metric: str, label: str, worst: str, best: str, gap: str) -> None:
    old, young = replace(OLD, base=metric), replace(YOUNG, base=metric)
    extremes = Extremes(old, young, 2, replace(GAP, base=metric, aggregate="gap", p_adjusted=0.02))
    assert same(
        apart_sentence(extremes),
        f"In {label}, too, the groups differ by more than chance explains: {worst} where age is "
        f"60+, {best} where it is under 60 (the gap's 95 % interval {gap}; corrected p = 0.020).",
    )


@pytest.mark.parametrize(
    ("p", "text"), [(0.0312, "corrected p = 0.031"), (0.0002, "corrected p < 0.001"), (None, "")]
)
def test_a_small_p_value_is_shown_as_a_bound_and_not_as_0(p: float | None, text: str) -> None:
    assert p_text(replace(OLD, p_adjusted=p)) == text


@pytest.mark.parametrize(
    ("value", "low", "high", "p", "text"),
    [
        (0.3, 0.15, 0.43, 0.01, "is worse than chance"),
        (0.3, 0.15, 0.43, 0.2, "is not shown to be better than chance"),
        (0.6, 0.51, 0.62, 0.2, "is not shown to be better than chance"),
        (0.5, 0.48, 0.62, None, "is not shown to be better than chance"),
        (0.6, 0.51, 0.62, None, None),
        (0.6, 0.51, 0.62, 0.01, None),
        (0.5, None, None, 0.9, None),
    ],
)
def test_a_model_that_does_no_better_than_chance(
    value: float, low: float | None, high: float | None, p: float | None, text: str | None
) -> None:
    auc = replace(OLD, group="*", base="auc", value=value, low=low, high=high, p_adjusted=p)
    remark = chance_remark(auc)
    assert (remark is None) if text is None else (text in (remark or ""))
    assert (p_text(auc) or "interval") in (remark or f"interval, {p_text(auc)}")


@pytest.mark.parametrize(("detectable", "is_given"), [(0.04, True), (0.0, False)])
def test_what_would_usually_show_is_not_said_of_models_that_never_differ(
    detectable: float, is_given: bool
) -> None:
    same_worst = replace(PAIRED, value=0.0, p_adjusted=1.0)
    reach = replace(same_worst, aggregate="detectable", value=detectable)
    assert bool(detectable_group_sentences([same_worst, reach], [same_worst])) == is_given


@pytest.mark.parametrize(
    ("p", "low", "is_explained"), [(0.2, 0.03, True), (0.2, 0.0, False), (0.01, 0.03, False)]
)
def test_an_interval_above_0_beside_no_claim_is_explained(
    p: float, low: float, is_explained: bool
) -> None:
    ends = Extremes(OLD, YOUNG, 2, replace(GAP, p_adjusted=p, low=low))
    assert has_interval_above_0(ends) == is_explained


def test_a_gap_that_was_not_tested_says_why() -> None:
    gap = replace(GAP, p_adjusted=None, approximate="12 patients")
    text = chance_sentence(Extremes(OLD, YOUNG, 2, gap))
    assert text.startswith(
        "The gap was not tested (as some group has too few patients: 12 patients). "
    )


def test_a_group_of_too_few_patients_for_a_test_is_named_with_what_would_do() -> None:
    few = replace(OLD, base="auc", approximate="7 patients")
    gap = replace(GAP, base="auc", p_adjusted=None, approximate="7 patients")
    text = chance_sentence(Extremes(few, replace(YOUNG, base="auc"), 2, gap))
    assert text.startswith(
        "The gap was not tested: its AUC rests on too few patients where age is 60+ (7 patients "
        "of its rarer class), and a test needs 10 in each group (160 with "
        "percentile or BCa intervals). Add patients, or merge groups"
    )
