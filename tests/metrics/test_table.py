from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evenhand.errors import EvenhandError
from evenhand.metrics import (
    COLUMNS,
    Bootstrap,
    Plan,
    as_records,
    as_scored,
    groups_of,
    judge,
    measure,
    measure_part,
)


@pytest.fixture
def cohort():
    """Three images of each of 200 patients; the score is worse in the minority."""
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(200), 3)
    minority = patient % 4 == 0
    labels = rng.integers(2, size=200)[patient]
    scores = 1 / (1 + np.exp(-(labels - 0.5) * np.where(minority, 1, 3) + rng.normal(size=600)))
    names = np.where(minority, "few", np.where(patient % 7 == 1, "unknown", "many"))
    return as_scored(labels, scores, patients=patient), {"x": groups_of(names)}


def run(cohort, seed=0, against=None, **plan):
    rows, groups = cohort
    rng = np.random.default_rng(seed)
    return measure(rows, groups, Plan(**plan), rng=rng, against=against)


def only_row(table, **where):
    result = table[np.logical_and.reduce([table[name] == is_ for name, is_ in where.items()])]
    assert len(result) == 1
    return result.iloc[0]


def test_columns_and_counts(cohort):
    table = run(cohort, bootstrap=Bootstrap(50))
    assert tuple(table.columns) == COLUMNS
    row = only_row(table, attribute="x", group="few", metric="auc")
    assert (row["n"], row["patients"]) == (150, 50)
    assert row["positives"] == cohort[0].labels[::1][cohort[1]["x"].rows("few")].sum()
    assert np.isnan(row["threshold"])
    assert only_row(table, group="few", metric="sensitivity")["threshold"] == 0.5
    assert only_row(table, attribute="*", metric="auc")["n"] == 600


def test_unknown_is_shown_and_takes_no_part(cohort):
    rows, groups = cohort
    table = run(cohort, bootstrap=None)
    unknown = groups["x"].rows("unknown")
    assert only_row(table, group="unknown", metric="auc")["n"] == len(unknown)
    assert only_row(table, attribute="x", group="*", metric="auc_gap")["n"] == 600 - len(unknown)
    worse = rows.scores.copy()
    worse[unknown] = 1 - rows.labels[unknown]
    changed = as_scored(rows.labels, worse, patients=rows.patients)
    again = run((changed, groups), bootstrap=None)
    for name in ("auc_gap", "auc_worst", "auc_best"):
        assert only_row(again, metric=name)["value"] == only_row(table, metric=name)["value"]


def test_the_same_seed_the_same_rows_whatever_their_order(cohort):
    rows, groups = cohort
    order = np.random.default_rng(5).permutation(len(rows))
    names = pd.Categorical.from_codes(groups["x"].codes, groups["x"].levels)
    shuffled = as_scored(rows.labels[order], rows.scores[order], patients=rows.patients[order])
    first = run(cohort, bootstrap=Bootstrap(100))
    again = run((shuffled, {"x": groups_of(names[order])}), bootstrap=Bootstrap(100))
    pd.testing.assert_frame_equal(first, again, rtol=1e-12, atol=1e-14)
    other = run(cohort, seed=1, bootstrap=Bootstrap(100))
    assert (first["low"] != other["low"]).any()


def test_patients_are_resampled_not_rows(cohort):
    """Three images that agree carry the information of about one."""
    rows, groups = cohort
    apart = as_scored(rows.labels, rows.scores)
    both = [run((d, groups), bootstrap=Bootstrap(400)) for d in (rows, apart)]
    widths = [only_row(t, attribute="*", metric="auc") for t in both]
    prevalences = [
        only_row(
            run((d, groups), metrics=("prevalence",), across=(), bootstrap=Bootstrap(400)),
            attribute="*",
        )
        for d in (rows, apart)
    ]
    wide, narrow = (row["high"] - row["low"] for row in prevalences)
    assert wide / narrow == pytest.approx(np.sqrt(3), rel=0.15)
    assert widths[0]["high"] - widths[0]["low"] > widths[1]["high"] - widths[1]["low"]


def test_signed_differences_from_a_named_reference(cohort):
    plan = {"metrics": ("auc",), "across": ("difference",), "bootstrap": Bootstrap(200)}
    table = run(cohort, **plan, references={"x": "few"})
    row = only_row(table, metric="auc_difference")
    assert row["group"] == "many"
    assert row["reference"] == "few"
    values = {name: only_row(table, group=name, metric="auc")["value"] for name in ("few", "many")}
    assert row["value"] == values["many"] - values["few"]
    assert 0 < row["low"] < row["value"] < row["high"]
    turned = only_row(run(cohort, **plan), metric="auc_difference")  # the larger group by default
    assert turned["group"] == "few"
    assert turned["value"] == -row["value"]
    assert turned["low"] == pytest.approx(-row["high"])


def test_a_small_group_makes_no_claim(cohort):
    table = run(cohort, minimum=160, bootstrap=Bootstrap(50))
    row = only_row(table, group="few", metric="auc")
    assert np.isnan([row["value"], row["low"], row["high"]]).all()
    assert row["n"] == 150
    assert "150 samples, fewer than the 160" in row["undefined"]
    assert "1 group to compare" in only_row(table, metric="auc_gap")["undefined"]


def test_undefined_replicates_are_counted():
    labels = [0, 1] + [0] * 8 + [0, 1] * 5
    scores = np.linspace(0.1, 0.9, 20)
    groups = {"x": groups_of(["a"] * 10 + ["b"] * 10)}
    rows = as_scored(labels, scores)
    table = run((rows, groups), bootstrap=Bootstrap(2000))
    lost = only_row(table, group="a", metric="auc")["replicates_undefined"]
    assert lost / 2000 == pytest.approx(np.exp(-1), abs=0.05)  # the one positive is not drawn
    assert only_row(table, metric="auc_gap")["replicates_undefined"] >= lost


def test_without_enough_replicates_there_is_no_interval():
    rows = as_scored([0, 1], [0.1, 0.9])
    row = only_row(run((rows, {}), metrics=("auc",), bootstrap=Bootstrap(500)), metric="auc")
    assert row["value"] == 1
    assert row["replicates_undefined"] > 200
    only = as_scored(
        [0, 1, 0, 0, 0, 0], [0.1, 0.9, 0.3, 0.3, 0.2, 0.2], patients=[0, 1, 2, 2, 2, 2]
    )
    assert only_row(run((only, {}), metrics=("auc",)), metric="auc")["value"] == 1


def test_a_difference_of_two_shares_lies_within_one():
    labels, scores = np.ones(5, int), np.array([0.9, 0.9, 0.9, 0.9, 0.1])
    first, second = (
        as_scored(labels, s, threshold=0.5) for s in (scores, scores[::-1] * [1, 0, 0, 0, 1])
    )
    table = run((first, {}), against=second, metrics=("sensitivity",))
    row = only_row(table, metric="sensitivity")
    assert (row["value"], row["high"]) == (pytest.approx(0.6), 1)


def test_paired_differences_are_narrower_than_apart(cohort):
    rows, _ = cohort
    rng = np.random.default_rng(3)
    near = np.clip(rows.scores + rng.normal(scale=0.02, size=600), 0, 1)
    other = as_scored(rows.labels, near, patients=rows.patients)
    apart = only_row(run(cohort), attribute="*", metric="auc")
    paired = only_row(run(cohort, against=other), attribute="*", metric="auc")
    assert paired["high"] - paired["low"] < 0.3 * (apart["high"] - apart["low"])


@pytest.mark.parametrize("metric", ["auc", "auc_worst", "auc_gap"])
def test_a_difference_between_models_may_lie_on_either_side_of_0(cohort, metric):
    """Its ends are no shares, though what it is a difference of may be one."""
    rows, _ = cohort
    rng = np.random.default_rng(3)
    near = np.clip(rows.scores + rng.normal(scale=0.02, size=600), 0, 1)
    other = as_scored(rows.labels, near, patients=rows.patients)
    attribute = {"attribute": "*"} if metric == "auc" else {}
    row = only_row(run(cohort, against=other), metric=metric, **attribute)
    assert row["low"] < 0 < row["high"]


def test_intersections_and_many_classes():
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1, 2], 60)
    labels[:60][labels[:60] == 2] = 0  # group a has no sample of class 2
    rows = as_scored(labels, rng.dirichlet(np.ones(3), 180), classes=("x", "y", "z"))
    table = run((rows, {"g": groups_of(["a"] * 60 + ["b"] * 120)}), bootstrap=Bootstrap(20))
    assert "macro without z" in only_row(table, group="b", metric="auc")["note"]
    assert "macro without z" in only_row(table, metric="auc_gap")["note"]
    auc = only_row(table, attribute="*", metric="auc")
    assert (auc["interval_method"], auc["note"]) == ("logit t", "macro")
    assert table["positives"].isna().all()


def test_three_hundred_levels_with_names_of_any_kind():
    rng = np.random.default_rng(0)
    names = ["<script>alert(1)</script>", 'a,"b"', "line\nline", *map(str, range(297))]
    groups = {"x": groups_of(np.tile(names, 20))}
    rows = as_scored(rng.integers(2, size=6000), rng.random(6000))
    table = run((rows, groups), metrics=("accuracy",), bootstrap=Bootstrap(50))
    assert set(names) < set(table["group"])
    assert only_row(table, metric="accuracy_gap")["interval_method"] == "simultaneous"


@pytest.mark.parametrize(
    ("across", "paired", "permutations", "steps"),
    [
        (("gap",), False, 0, 51),
        (("gap",), True, 0, 51),
        (("gap", "eom", "equity_scaled_auc"), False, 9, 51 + 9 * 2),
    ],
)
def test_progress_counts_every_resample_and_permutation(
    cohort, across, paired, permutations, steps
):
    rows, groups = cohort
    seen = []
    bootstrap = Bootstrap(50)
    plan = Plan(("auc", "accuracy"), across, bootstrap=bootstrap, permutations=permutations)
    measure(
        rows,
        groups,
        plan,
        rng=np.random.default_rng(0),
        against=rows if paired else None,
        progress=lambda done, all_of_them: seen.append((done, all_of_them)),
    )
    assert seen[-1] == (steps, steps)
    assert seen == sorted(seen)


def test_records_hold_null_for_what_is_missing(cohort):
    rows, groups = cohort
    plan = Plan(bootstrap=None)
    rng = np.random.default_rng(0)
    record, *others = as_records(judge([measure_part(rows, groups, plan, rng=rng)]))
    assert tuple(record) == COLUMNS
    assert record["low"] is None
    assert record["model"] is None
    assert type(record["n"]) is int
    assert type(record["value"]) is float
    across = {(other["metric"], other["base"], other["aggregate"]) for other in others}
    assert ("auc_gap", "auc", "gap") in across
    assert all(other["reference"] for other in others if other["aggregate"] == "difference")


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ({"metrics": ("acu",)}, "no metric 'acu'.*Did you mean 'auc'"),
        ({"across": ("gapp",)}, "no comparison across groups 'gapp'.*Did you mean 'gap'"),
        ({"excluded": {"y": {"few"}}}, "no attribute 'y'"),
        ({"excluded": {"x": {"fw"}}}, "no level of x 'fw'.*Did you mean 'few'"),
        ({"references": {"x": "unknown"}}, "takes no part"),
        ({"references": {"x": "few"}, "excluded": {"x": {"few"}}}, "takes no part"),
    ],
)
def test_names_that_are_not_known(cohort, plan, says):
    with pytest.raises(EvenhandError, match=says):
        run(cohort, **plan)


def test_one_class_of_two_against_the_other():
    rows = as_scored([0, 1], [0.1, 0.7], classes=("no", "yes"))
    turned = rows.versus_rest(0)
    np.testing.assert_allclose(turned.scores, [0.9, 0.3])
    assert turned.labels.tolist() == [1, 0]
    assert turned.decisions.tolist() == [1, 0]
    assert turned.classes == ("other", "no")


def test_arrays_that_do_not_go_together(cohort):
    rows, _ = cohort
    with pytest.raises(EvenhandError, match="2 labels, 3 scores"):
        as_scored([0, 1], [0.1, 0.2, 0.3])
    with pytest.raises(EvenhandError, match="labels run from 0 to 2"):
        as_scored([0, 1, 2], [0.1, 0.2, 0.3])
    with pytest.raises(EvenhandError, match="position 1 is not a finite number"):
        as_scored([0, 1], [0.1, np.nan])
    with pytest.raises(EvenhandError, match="no samples"):
        run((as_scored([], []), {}))
    with pytest.raises(EvenhandError, match="2 levels for 600"):
        run((rows, {"x": groups_of(["a", "b"])}))
    with pytest.raises(EvenhandError, match="not scored on the same samples"):
        run(cohort, against=as_scored(1 - rows.labels, rows.scores, patients=rows.patients))
    with pytest.raises(EvenhandError, match="at least one"):
        Bootstrap(0)


def test_a_metric_that_only_describes_has_a_gap_and_no_worst_group(cohort):
    table = run(cohort, metrics=("selection_rate",), bootstrap=Bootstrap(20))
    for name in ("worst", "best"):
        row = only_row(table, metric=f"selection_rate_{name}")
        assert np.isnan(row["value"])
        assert row["undefined"].startswith("selection_rate has no better direction")
    assert only_row(table, metric="selection_rate_gap")["value"] > 0
