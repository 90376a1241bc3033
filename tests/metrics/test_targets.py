from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from evenhand.errors import EvenhandError
from evenhand.metrics import FAIRNESS, METRICS, excluded_groups, find_target, groups_of
from evenhand.metrics.aggregates import SUMMARIES
from evenhand.settings import TARGETS

NAMES = (*TARGETS, "sensitivity_worst", "auc_min_ratio", "equalized_odds_difference", "eopp1_sum")

LABELS = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0])
SCORES = np.array([0.1, 0.9, 0.2, 0.8, 0.6, 0.4, 0.3, 0.7, 0.5])
SEX = groups_of(["f", "f", "f", "f", "m", "m", "m", "m", "unknown"])


def value(name, labels=LABELS, scores=SCORES, groups=None, excluded=None):
    return find_target(name).value(labels, scores, groups or {"sex": SEX}, excluded)


def test_by_hand():
    # f is ordered perfectly; of m's four pairs (.6 .3 | .4 .7) one is out of order
    assert value("min_auc") == 0.75
    assert value("auc_gap") == 0.25
    # Youden's threshold of all rows is .7: it flags .9 .8 .7 of four positives, and no negative
    assert value("overall_acc") == pytest.approx(8 / 9)
    assert value("min_acc") == 0.75
    assert value("acc_gap") == 0.25
    loss = -np.mean(np.log([0.4, 0.4, 0.7, 0.7]))
    assert value("max_loss") == pytest.approx(loss, rel=1e-12)


def test_the_worst_of_several_attributes():
    age = groups_of(["b", "b", "b", "b", "a", "a", "b", "b", "b"])
    both = {"sex": SEX, "age": age}
    alone = [value("min_auc", groups={name: both[name]}) for name in both]
    assert alone[0] != alone[1]
    assert value("min_auc", groups=both) == min(alone)
    gaps = [value("auc_gap", groups={name: both[name]}) for name in both]
    assert gaps[0] != gaps[1]
    assert value("auc_gap", groups=both) == max(gaps)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=25)
def test_does_not_depend_on_the_order_of_rows(name, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    n, n_classes = 60, data.draw(st.sampled_from([2, 4]))
    labels = rng.integers(n_classes, size=n)
    raw = rng.random((n, n_classes)).round(2) + 0.01
    scores = raw[:, 0] / raw.sum(axis=1) if n_classes == 2 else raw / raw.sum(axis=1, keepdims=True)
    levels = rng.choice(["a", "b", "unknown"], size=n)
    order = rng.permutation(n)
    first = value(name, labels, scores, {"x": groups_of(levels)})
    again = value(name, labels[order], scores[order], {"x": groups_of(levels[order])})
    assert first == again or (np.isnan(first) and np.isnan(again))


def test_unknown_takes_no_part():
    moved = SCORES.copy()
    moved[-1] = 0.999  # the one sample whose sex is not known is scored at its worst
    assert value("min_auc", scores=moved) == value("min_auc")


def test_a_group_without_positives_is_a_problem_with_its_counts():
    labels = LABELS.copy()
    labels[4:8] = 0
    target = find_target("min_auc")
    (problem,) = target.problems(labels, {"sex": SEX})
    assert "'m' of 'sex' (4 samples, 0 positives): no positives among 4 samples" in problem.text
    assert problem.flag == '--exclude-group "sex=m"'
    assert str(problem).endswith(f"; leave it out with {problem.flag}")
    assert np.isnan(target.value(labels, SCORES, {"sex": SEX}))
    assert find_target("min_acc").problems(labels, {"sex": SEX}) == ()
    assert find_target("overall_auc").problems(labels, {"sex": SEX}) == ()


def test_an_empty_level_is_a_problem():
    import pandas as pd

    levels = pd.Categorical(["a", "a", "b", "b"], categories=["a", "b", "c"])
    target = find_target("min_auc")
    groups = {"x": groups_of(levels)}
    (problem,) = target.problems([0, 1, 0, 1], groups)
    assert "'c' of 'x' (0 samples, 0 positives): no samples" in problem.text
    excluded = excluded_groups(["x=c"], groups)
    assert target.problems([0, 1, 0, 1], groups, excluded) == ()
    assert target.value([0, 1, 0, 1], [0.1, 0.2, 0.4, 0.3], groups, excluded) == 0


def test_one_group_left_is_a_problem():
    (problem,) = find_target("auc_gap").problems(LABELS, {"sex": SEX}, {"sex": {"m"}})
    assert "attribute 'sex': 1 group left; two are needed" in problem.text


def test_many_classes_use_the_classes_that_every_group_has():
    rng = np.random.default_rng(0)
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 1, 0, 1])
    scores = rng.dirichlet(np.ones(3), size=10)
    groups = {"x": groups_of(["a"] * 6 + ["b"] * 4)}  # b has no sample of class 2

    def macro(rows):
        return np.mean([roc_auc_score(labels[rows] == c, scores[rows, c]) for c in (0, 1)])

    expected = min(macro(slice(0, 6)), macro(slice(6, 10)))
    assert value("min_auc", labels, scores, groups) == pytest.approx(expected, rel=1e-12)
    assert find_target("min_auc").problems(labels, groups, n_classes=3) == ()


def test_a_training_that_diverged_has_no_value():
    assert np.isnan(value("max_loss", scores=np.full(9, np.nan)))


def test_exclusions_that_name_nothing():
    with pytest.raises(EvenhandError, match="write ATTRIBUTE=LEVEL"):
        excluded_groups(["under 20"], {"sex": SEX})
    with pytest.raises(EvenhandError, match="no level of sex 'w'; there are: f, m, unknown"):
        excluded_groups(["sex=w"], {"sex": SEX})
    with pytest.raises(EvenhandError, match=r"no target 'min_auk'.*Did you mean 'min_auc'"):
        find_target("min_auk")


def noisy(n=400, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    groups = {"x": groups_of(rng.choice(["a", "b", "c"], size=n, p=[0.6, 0.3, 0.1]))}
    return labels, (labels + rng.normal(0, 1, n) + 3) / 7, groups, np.arange(n) // 2


@pytest.mark.parametrize("name", NAMES)
def test_the_bound_is_the_pessimistic_end_of_the_reports_interval(name):
    from evenhand.metrics import Plan, as_scored, measure, youden
    from evenhand.metrics.targets import BOUND

    labels, scores, groups, patients = noisy()
    target = find_target(name)
    cut = youden(labels, scores) if target.decision_rule == "youden" else 0.5
    rows = as_scored(labels, scores, patients=patients, threshold=cut)
    across = ("worst", "gap", "min_ratio", "equalized_odds_difference", "eopp1_sum")
    metrics = tuple(metric.name for metric in target.metrics)
    plan = Plan(metrics=metrics, across=across, bootstrap=BOUND)
    result = measure(rows, groups, plan, rng=np.random.default_rng(0))
    attribute = "*" if target.is_overall else "x"
    request = (result["metric"] == target.row_metric) & (result["attribute"] == attribute)
    (row,) = result[request & (result["group"] == "*")].to_dict("records")
    end = row["low"] if target.direction == "maximize" else row["high"]
    bound = target.pessimistic_value(labels, scores, groups, patients=patients)
    assert bound == pytest.approx(end, rel=1e-9)
    place = target.value(labels, scores, groups)
    assert bound < place if target.direction == "maximize" else bound > place


def test_the_bound_is_lower_when_rows_belong_to_fewer_patients():
    labels, scores, groups, _ = noisy()
    of_all = find_target("auc").pessimistic_value
    alone = of_all(labels, scores, groups, patients=np.arange(len(labels)))
    few = np.concatenate([labels] * 4), np.concatenate([scores] * 4)
    owners = np.concatenate([np.arange(len(labels))] * 4)
    assert find_target("overall_auc").pessimistic_value(
        *few, groups, patients=owners
    ) == pytest.approx(alone, abs=0.01)
    as_if = find_target("overall_auc").pessimistic_value(
        *few, groups, patients=np.arange(len(few[0]))
    )
    assert as_if > alone + 0.01


def test_a_target_about_one_attribute():
    age = groups_of(["b", "b", "b", "b", "a", "a", "b", "b", "b"])
    both = {"sex": SEX, "age": age}
    for name in both:
        alone = value("min_auc", groups={name: both[name]})
        assert value(f"min_auc:{name}", groups=both) == alone
    assert find_target("min_auc:age").name == "auc_worst:age"


@pytest.mark.parametrize("name", ["overall_auc", "min_auc", "auc_gap"])
def test_the_bound_of_what_resamples_never_change_is_the_value(name):
    labels, _, groups, patients = noisy()
    target = find_target(name)
    value_of_all = target.value(labels, labels * 0.8 + 0.1, groups)
    bound = target.pessimistic_value(labels, labels * 0.8 + 0.1, groups, patients=patients)
    assert bound == value_of_all == (0 if name == "auc_gap" else 1)


def test_accuracy_at_a_threshold_of_the_same_rows_looks_better_than_at_a_half():
    """Scores that say nothing: Youden's threshold makes something of them, argmax does not."""
    rng = np.random.default_rng(0)
    gains = []
    for _ in range(40):
        labels, scores = rng.integers(2, size=60), rng.random(60)
        gains.append(value("overall_acc", labels, scores) - 0.5)
        assert value("overall_acc_argmax", labels, scores) == np.mean((scores >= 0.5) == labels)
    assert np.mean(gains) > 0.05


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("min_acc", "accuracy_worst_argmax uses"),
        ("acc_gap:age", "accuracy_gap_argmax:age uses"),
        ("equalized_odds_difference", "equalized_odds_difference_argmax uses"),
        ("min_acc_argmax", None),
        ("min_auc", None),
        ("max_loss", None),
    ],
)
def test_a_target_says_that_its_threshold_is_fitted_on_the_same_rows(name, instead):
    caution = find_target(name).caution
    assert (caution is None) == (instead is None)
    if instead:
        assert instead in caution
        assert "the same rows" in caution


@pytest.mark.parametrize(("alias", "name"), TARGETS.items())
def test_an_alias_is_the_same_target(alias, name):
    assert find_target(alias) == find_target(name)
    assert find_target(f"{alias}=0.5").bound == 0.5
    assert find_target(alias).name == name == find_target(name).name


@pytest.mark.parametrize(
    ("name", "lower"),
    [
        ("auc_gap", True),
        ("auc_worst", False),
        ("auc_best", False),
        ("auc_min_ratio", False),
        ("log_loss", True),
        ("log_loss_worst", True),
        ("log_loss_min_ratio", False),
        ("calibration_slope_gap", True),
        ("eopp1_sum", True),
        ("equalized_odds_difference", True),
        ("demographic_parity_ratio", False),
    ],
)
def test_which_direction_is_better_and_what_reaches_a_bound(name, lower):
    target = find_target(f"{name}=0.1")
    assert target.beats(0.1, 0.2) is lower
    assert target.beats(0.2, 0.1) is not lower
    assert not target.beats(0.1, 0.1)
    assert target.is_reached(0.1)
    assert find_target(f"{name}=0.2").is_reached(0.1) is lower
    assert target.is_reached(0.2) is not lower
    assert not target.is_reached(np.nan)
    assert not find_target(name).is_reached(0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("calibration_slope_worst", "neither a higher nor a lower calibration_slope is better"),
        ("prevalence_gap", "computed from labels alone"),
        ("disparate_impact", "is a number for each group"),
        ("auc_worst_argmax", "uses no decisions; leave _argmax out"),
        ("auc:age", "auc is about everybody; leave :age out"),
        ("auc_gap=x", "write NAME=NUMBER, as in auc_gap=0.02"),
        ("auc_gap=nan", "write NAME=NUMBER"),
        ("auc_median", "no target 'auc_median'; a target is a metric"),
        ("auc[0.9]_gap", "takes no number in brackets"),
    ],
)
def test_what_is_no_target(text, message):
    with pytest.raises(EvenhandError, match=re.escape(message)):
        find_target(text)


def test_every_metric_with_every_aggregate_is_what_the_report_says():
    from evenhand.metrics import Plan, as_scored, measure, youden

    labels, scores, groups, patients = noisy()
    rows = as_scored(labels, scores, patients=patients, threshold=youden(labels, scores))
    across = (*SUMMARIES, *(name for name, item in FAIRNESS.items() if item.over != "reference"))
    table = measure(
        rows, groups, Plan(tuple(METRICS), across, bootstrap=None), rng=np.random.default_rng(0)
    )
    numbers = table[(table["group"] == "*")].set_index(["attribute", "metric"])["value"]
    compared = 0
    for (attribute, name), value_of_row in numbers.items():
        try:
            target = find_target(name)
        except EvenhandError:
            continue
        if target.is_overall is (attribute == "*"):
            got = target.value(labels, scores, groups, patients=patients)
            assert got == pytest.approx(value_of_row, rel=1e-12, nan_ok=True), name
            compared += 1
    assert compared > 80


@pytest.mark.parametrize(
    "name", ["accuracy_worst", "auc_worst", "sensitivity_gap_argmax", "log_loss"]
)
def test_two_columns_of_scores_are_the_second_alone(name):
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=200)
    scores = 1 / (1 + np.exp(-rng.normal(2 * labels - 2.5, 1)))  # Youden's threshold is far from .5
    groups = {"sex": groups_of(rng.choice(["f", "m"], 200).tolist())}
    target = find_target(name)
    both = target.value(labels, np.stack([1 - scores, scores], axis=1), groups)
    assert both == target.value(labels, scores, groups)
    patients = np.arange(200)
    ends = [
        target.pessimistic_value(labels, inputs, groups, patients=patients)
        for inputs in (scores, np.stack([1 - scores, scores], axis=1))
    ]
    assert ends[0] == ends[1]
