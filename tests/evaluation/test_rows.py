from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evenhand.errors import EvenhandError
from evenhand.evaluation.rows import choose_cut, groups_in, metric_rows, paired_rows, shared_rows
from evenhand.metrics import COLUMNS, Bootstrap, Plan, policy, youden
from evenhand.tables.predictions import Predictions

PLAN = Plan(metrics=("auc", "sensitivity"), across=("worst", "gap"), bootstrap=Bootstrap(200))


def predictions(seed, n=600, shift=0.0):
    data, noise = np.random.default_rng(0), np.random.default_rng(seed)
    patient = data.integers(n // 3, size=n)
    sex = np.where(patient % 3 == 0, "f", np.where(patient % 3 == 1, "m", "unknown"))
    label = data.integers(2, size=n)
    score = 1 / (1 + np.exp(-(label - 0.5 + noise.normal(size=n) + shift)))
    table = pd.DataFrame(
        {
            "sample_id": [f"s{i}" for i in range(n)],
            "patient_id": patient.astype(str),
            "split": np.where(patient % 2, "val", "test"),
            "label": label,
            "score": score,
            "attr_sex": sex,
        }
    )
    return Predictions(table, ("benign", "malignant"), {"sex": ("f", "m")})


def only_row(rows, **where):
    result = rows[np.logical_and.reduce([rows[name] == is_ for name, is_ in where.items()])]
    assert len(result) == 1
    return result.iloc[0]


def test_rows_of_the_test_split_with_a_threshold_from_validation():
    inputs = predictions(1)
    rows = metric_rows(inputs, ["sex"], model="full", seed=0, plan=PLAN)
    assert tuple(rows.columns) == COLUMNS
    test = inputs.of_split("test").table
    cut = choose_cut(inputs)
    assert "validation" in cut.how
    row = only_row(rows, group="f", metric="sensitivity")
    mine = test[(test["attr_sex"] == "f") & (test["label"] == 1)]
    assert row["value"] == pytest.approx((mine["score"] >= cut.threshold).mean(), rel=1e-12)
    assert row["threshold"] == cut.threshold
    assert row["low"] < row["value"] < row["high"]
    assert (rows["model"] == "full").all()
    assert (rows["split"] == "test").all()
    assert rows["against"].isna().all()


def test_the_threshold_never_comes_from_test_rows():
    inputs = predictions(1)
    moved = inputs.table.copy()
    test = moved["split"] == "test"
    moved.loc[test, "label"] = 1 - moved.loc[test, "label"]
    again = choose_cut(Predictions(moved, inputs.classes, inputs.levels))
    assert again.threshold == choose_cut(inputs).threshold
    alone = Predictions(inputs.of_split("test").table, inputs.classes, inputs.levels)
    assert choose_cut(alone).threshold == 0.5


def test_paired_differences_are_of_the_same_patients():
    first, second = predictions(1), predictions(2, shift=0.3)
    names = ("tuned", "full")
    rows = paired_rows((first, second), ["sex"], names=names, seed=0, plan=PLAN)
    apart = [metric_rows(item, ["sex"], model="m", seed=0, plan=PLAN) for item in (first, second)]
    np.testing.assert_allclose(rows["value"], apart[0]["value"] - apart[1]["value"], atol=1e-15)
    assert (rows["model"] == "tuned").all()
    assert (rows["against"] == "full").all()
    same = paired_rows((first, first), ["sex"], names=names, seed=0, plan=PLAN)
    assert (same["value"] == 0).all()
    assert same["low"].isna().all()


def test_rows_are_matched_by_sample():
    first, second = predictions(1), predictions(2)
    shuffled = Predictions(
        second.table.sample(frac=0.5, random_state=0), second.classes, second.levels
    )
    mine, theirs = shared_rows(first, shuffled)
    assert mine.table["sample_id"].tolist() == theirs.table["sample_id"].tolist()
    assert len(mine) == 300


def test_other_data_cannot_be_compared():
    first, second = predictions(1), predictions(2)
    second.table["label"] = 1 - second.table["label"]
    with pytest.raises(EvenhandError, match="600 samples with another label"):
        shared_rows(first, second)
    second.table["sample_id"] = second.table["sample_id"] + "x"
    with pytest.raises(EvenhandError, match="no sample in common"):
        shared_rows(first, second)


@pytest.mark.parametrize("column", ["label", "patient_id", "attr_sex"])
def test_a_sample_that_two_models_tell_apart(column):
    first, second = predictions(1), predictions(2)
    second.table.loc[3, column] = {"label": 1 - second.table["label"][3]}.get(column, "m")
    first.table.loc[3, "attr_sex"] = "f"
    with pytest.raises(EvenhandError, match=f"another {column}.*'s3'"):
        shared_rows(first, second)


def test_levels_keep_their_order():
    inputs = predictions(1)
    table = inputs.table.replace({"attr_sex": {"unknown": "m"}})
    ordered = Predictions(table, inputs.classes, {"sex": ("m", "f")})
    assert groups_in(ordered, ["sex"])["sex"].levels == ("m", "f")


def test_a_split_without_rows():
    with pytest.raises(
        EvenhandError, match=r"no rows of the split 'train'\. Give --split one of: val, test"
    ):
        metric_rows(predictions(1), ["sex"], model="full", seed=0, split="train")


def test_a_threshold_for_each_group():
    inputs = predictions(1)
    cut = choose_cut(inputs, policy("youden"), by="sex")
    val = inputs.of_split("val").table
    women = val[val["attr_sex"] == "f"]
    assert cut.by_level["f"] == youden(women["label"], women["score"])
    rows = metric_rows(inputs, ["sex"], model="full", seed=0, plan=PLAN, cut=cut)
    assert only_row(rows, group="f", metric="sensitivity")["threshold"] == cut.by_level["f"]
    assert only_row(rows, group="m", metric="sensitivity")["threshold"] == cut.by_level["m"]
    assert np.isnan(only_row(rows, attribute="*", metric="sensitivity")["threshold"])
    assert "for each group of sex" in cut.how


def test_a_policy_that_needs_validation_rows():
    alone = predictions(1).of_split("test")
    with pytest.raises(EvenhandError, match=r"fixed at 0\.3 is the same for every group of sex"):
        choose_cut(predictions(1), policy("0.3"), by="sex")
    with pytest.raises(EvenhandError, match="'f1' needs rows of the split 'val'"):
        choose_cut(alone, policy("f1"))
    assert choose_cut(alone, policy("0.3")).threshold == 0.3


def test_many_classes_take_no_threshold():
    predictions = Predictions(pd.DataFrame(), ("a", "b", "c"), {})
    assert "highest score" in choose_cut(predictions).how
    with pytest.raises(EvenhandError, match="thresholds are for two classes; there are 3"):
        choose_cut(predictions, policy("youden"))


def test_an_attribute_within_the_levels_of_another():
    inputs = predictions(1)
    inputs.table["attr_site"] = np.where(inputs.table["patient_id"].astype(int) % 5 < 2, "A", "B")
    both = Predictions(inputs.table, inputs.classes, {**inputs.levels, "site": ("A", "B")})
    rows = metric_rows(both, ["sex|site"], model="full", seed=0, plan=PLAN)
    assert list(rows["attribute"].unique()) == ["*", "sex|site=A", "sex|site=B"]
    test = both.of_split("test").table
    count = ((test["attr_sex"] == "f") & (test["attr_site"] == "A")).sum()
    assert only_row(rows, attribute="sex|site=A", group="f", metric="auc")["n"] == count


def few(predictions, keep):
    """Keep the test rows, and only some of the validation rows."""
    val = predictions.table["split"] == "val"
    chosen = ~val | keep(predictions.table, val)
    return Predictions(
        predictions.table[chosen].reset_index(drop=True), predictions.classes, predictions.levels
    )


def test_few_validation_rows_give_a_half_and_the_rule_says_so():
    inputs = predictions(1)
    scarce = few(inputs, lambda table, val: val & ((table["label"] == 0) | (table.index % 40 == 0)))
    cut = choose_cut(scarce)
    assert cut.threshold == 0.5
    assert cut.origin == "default"
    assert cut.how.startswith("0.5 and not Youden's index (")
    assert "as the validation rows hold" in cut.how
    assert "positives and " in cut.how
    assert cut.how.endswith("negatives, and 10 of each are needed")
    one_class = few(inputs, lambda table, val: val & (table["label"] == 0))
    assert "hold 0 positives and" in choose_cut(one_class).how
    assert choose_cut(inputs).origin == "validation"


def test_a_group_with_few_validation_rows_says_whose_threshold_it_takes():
    inputs = predictions(1)
    women = inputs.table["attr_sex"] == "f"
    scarce = few(inputs, lambda table, val: val & (~women | (table.index % 12 == 0)))
    cut = choose_cut(scarce, policy("youden"), by="sex")
    assert set(cut.by_level) == {"m", "unknown"}
    assert "have that of all rows" in cut.how
    assert "f: " in cut.how
    assert cut.threshold == youden(*(scarce.of_split("val").table[c] for c in ("label", "score")))


def test_combinations_that_do_not_occur_are_no_groups():
    inputs = predictions(1)
    table = inputs.table.assign(attr_age=np.where(inputs.table["attr_sex"] == "f", "old", "young"))
    table.loc[table.index % 5 == 0, "attr_age"] = "old"  # but no young woman
    both = Predictions(table, inputs.classes, {**inputs.levels, "age": ("young", "old", "oldest")})
    groups = groups_in(both, ["sex*age"])["sex*age"]
    assert groups.levels == ("f*old", "m*young", "m*old", "unknown")
    rows = metric_rows(both, ["sex*age", "age"], model="m", seed=0, plan=PLAN)
    assert only_row(rows, attribute="sex*age", metric="auc_gap")["value"] > 0
    # A level of an attribute that was declared stays, and leaves its gap undefined.
    assert (
        "group 'oldest': no samples"
        in only_row(rows, attribute="age", metric="auc_gap")["undefined"]
    )
    least = Plan(metrics=("auc",), across=("gap",), minimum=70, bootstrap=None)
    rows = metric_rows(both, ["sex*age"], model="m", seed=0, plan=least)
    small = only_row(rows, attribute="sex*age", group="m*old", metric="auc")
    assert "fewer than the 70" in small["undefined"]
    assert only_row(rows, attribute="sex*age", metric="auc_gap")["value"] >= 0
