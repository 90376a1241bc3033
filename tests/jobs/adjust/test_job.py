"""`evenhand adjust` on predictions files, as users call it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import recall_score
from tests.command import evenhand

from evenhand.files import read_json
from evenhand.methods.afterwards.recalibrate import recalibrate
from evenhand.tables.predictions import read_predictions

FEW = ("--replicates", 60)


def table(n=1200, seed=0, shift=-1.0, stretch=1.6):
    """Scores of women are too low and too extreme; half of the rows are for validation."""
    rng = np.random.default_rng(seed)
    sex = np.repeat(rng.choice(["female", "male"], n // 2, p=[0.4, 0.6]), 2)
    label = (rng.random(n) < 0.4).astype(int)
    logit = rng.normal(2.2 * label - 1.2 + shift * (sex == "female"), 1)
    logit = logit * np.where(sex == "female", stretch, 1.0)
    return pd.DataFrame(
        {
            "sample_id": [f"i{k}" for k in range(n)],
            "patient_id": [f"p{k // 2}" for k in range(n)],
            "split": np.where(np.arange(n) // 2 % 2 == 0, "val", "test"),
            "label": label,
            "score": (1 / (1 + np.exp(-logit))).round(5),
            "attr_sex": sex,
            "age": np.repeat(rng.integers(30, 90, n // 2), 2),
        }
    )


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "mine.csv"
    table().to_csv(path, index=False)
    return path


def adjusted(path, out, *words):
    ended = evenhand("adjust", path, "--attribute", "sex", *words, *FEW, "--out", out)
    assert ended.status == 0, ended.err
    return pd.DataFrame(read_json(out / "metrics.json")["rows"]), ended


def value(rows, **where):
    chosen = rows[np.logical_and.reduce([rows[name] == is_ for name, is_ in where.items()])]
    assert len(chosen) == 1
    return chosen.iloc[0]


def test_thresholds_equalise_the_sensitivity_and_the_page_says_what_it_costs(path, tmp_path):
    out = tmp_path / "out"
    rows, ended = adjusted(path, out, "--method", "thresholds:value=0.9")
    single = rows[rows["against"].isna() & (rows["split"] == "val")]
    for level in ("female", "male"):
        result = value(single, model="thresholds", group=level, metric="sensitivity")["value"]
        assert abs(result - 0.9) < 0.03
    gain = value(rows, model="thresholds", against="unadjusted", group="female",
                 metric="sensitivity", split="test")  # fmt: skip
    assert gain["value"] > 0.1
    assert gain["p_adjusted"] < 0.05
    assert "thresholds − unadjusted  specificity" in ended.out
    verdicts = read_json(out / "verdicts.json")["verdicts"]
    assert any("specificity of" in verdict["about"] and verdict["claim"] for verdict in verdicts)
    page = (out / "report.html").read_text("utf-8")
    assert "a trade" in page
    assert "Attribute needed at test time" in page
    assert "It costs specificity." in page


def test_decisions_are_those_of_the_stored_thresholds(path, tmp_path):
    """Sensitivity on test by hand, from adjustment.json and predictions.parquet alone."""
    out = tmp_path / "out"
    rows, _ = adjusted(path, out, "--method", "thresholds:value=0.8")
    stored = json.loads((out / "models/thresholds/adjustment.json").read_text())
    predictions = read_predictions(out / "models/thresholds/predictions.parquet").of_split("test")
    for level, group in stored["fit"]["groups"].items():
        own = (predictions.group("sex") == level).to_numpy()
        decided = predictions.scores[own] >= group["threshold"]
        by_hand = recall_score(predictions.labels[own], decided)
        shown = value(rows[rows["against"].isna()], model="thresholds", group=level,
                      metric="sensitivity", split="test")  # fmt: skip
        assert shown["value"] == pytest.approx(by_hand)


def test_recalibration_is_fitted_on_validation_rows_alone(path, tmp_path):
    out = tmp_path / "out"
    adjusted(path, out, "--method", "recalibrate")
    raw = read_predictions(out / "models/unadjusted/predictions.parquet")
    new = read_predictions(out / "models/recalibrate/predictions.parquet")
    val = raw.of_split("val")
    fit = recalibrate(val.scores, val.labels, val.group("sex").astype(str),
                      patients=val.table["patient_id"])  # fmt: skip
    expected = fit.apply(raw.scores, raw.group("sex").astype(str))
    np.testing.assert_allclose(new.scores, expected, atol=1e-7)
    assert new.table.drop(columns="score").equals(raw.table.drop(columns="score"))


def test_labels_of_test_rows_change_no_prediction(path, tmp_path):
    """Negative control of leaks: with other test labels the adjusted scores are the same."""
    words = ("--method", "recalibrate", "--method", "multicalibrate", "--method", "thresholds")
    adjusted(path, tmp_path / "one", *words)
    changed = table()
    changed.loc[changed["split"] == "test", "label"] ^= 1
    changed.to_csv(path, index=False)
    adjusted(path, tmp_path / "other", *words)
    for name in ("recalibrate", "multicalibrate", "thresholds"):
        first, other = (
            read_predictions(tmp_path / run / f"models/{name}/predictions.parquet")
            for run in ("one", "other")
        )
        np.testing.assert_array_equal(first.scores, other.scores)


def test_levelling_down_is_called_that(tmp_path):
    """Equal sensitivity below that of both groups serves one worse and none better."""
    path = tmp_path / "mine.csv"
    table(shift=0.0, stretch=1.0).to_csv(path, index=False)
    _, ended = adjusted(path, tmp_path / "out", "--method", "thresholds:value=0.3")
    assert "Levelled down" in ended.out
    assert "levelled down" in (tmp_path / "out/report.html").read_text("utf-8")


def test_what_cannot_be_promised_is_said_with_what_it_takes(tmp_path):
    path = tmp_path / "mine.csv"
    table(n=160).to_csv(path, index=False)
    out = tmp_path / "out"
    adjusted(path, out, "--method", "thresholds:aim=minimum-sensitivity,value=0.95")
    page = (out / "report.html").read_text("utf-8")
    assert "no threshold can guarantee a sensitivity of 0.95" in page
    assert "72 positive patients" in page  # .95^72 < .05 / 2
    (promise,) = (item for item in read_json(out / "verdicts.json")["verdicts"]
                  if item["about"].startswith("promise"))  # fmt: skip
    assert promise["claim"] is False


def test_multicalibration_tests_segments_of_test_patients_before_and_after(path, tmp_path):
    out = tmp_path / "out"
    words = ("--attribute", "age", "--bins", "age=60", "--method", "multicalibrate")
    adjusted(path, out, *words)
    stored = read_json(out / "models/multicalibrate/adjustment.json")
    before, after = ({item["segment"]: item for item in part} for part in stored["checks"])
    assert abs(before["sex=female"]["error"]) > abs(after["sex=female"]["error"])
    assert "sex=female, age=60+" in before
    assert "calibration of the test patients by segment" in (out / "report.html").read_text("utf-8")


def test_the_page_can_be_written_again_and_a_run_can_be_adjusted_again(path, tmp_path):
    out = tmp_path / "out"
    adjusted(path, out, "--method", "recalibrate")
    files = [out / name for name in ("metrics.json", "verdicts.json")]
    before = [file.read_bytes() for file in files]
    assert evenhand("report", out).status == 0
    assert [file.read_bytes() for file in files] == before
    assert "What was adjusted" in (out / "report.html").read_text("utf-8")
    _, ended = adjusted(out, tmp_path / "again", "--method", "thresholds")
    assert "thresholds" in ended.out


def test_several_settings_of_a_method_have_names_of_their_own(path, tmp_path):
    out = tmp_path / "out"
    words = ("--method", "thresholds:value=0.8", "--method", "thresholds:value=0.95")
    rows, _ = adjusted(path, out, *words)
    assert set(rows["model"]) == {"unadjusted", "thresholds", "thresholds-2"}


def test_the_same_command_writes_the_same_bytes(path, tmp_path):
    for name in ("one", "other"):
        adjusted(path, tmp_path / name, "--method", "recalibrate")
    first, other = (
        (tmp_path / name / "models/recalibrate/predictions.parquet").read_bytes()
        for name in ("one", "other")
    )
    assert first == other


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--method", "threshold"), "no method 'threshold'; there are:"),
        (("--method", "group-dro"), "no method 'group-dro'"),
        (("--method", "thresholds:strength=1"), "thresholds has no setting 'strength'"),
        (("--method", "thresholds:aim=best"), "aim='best'"),
        (("--method", "thresholds:value=90"), "input should be less than 1"),
        (("--method", "recalibrate", "--method", "recalibrate"), "'recalibrate' is given twice"),
        (("--method", "dfr"), "dfr needs the features of a model"),
        (("--method", "thresholds:at_test=inferred"), "needs the features of a model"),
        (("--method", "thresholds", "--threshold", "0.3"), "leave --threshold 0.3 out"),
        (("--method", "thresholds", "--split", "val"), "--split val: methods are fitted on"),
        (("--method", "recalibrate", "--method-attribute", "race"), "no --method-attribute 'race'"),
        (("--method", "recalibrate", "--model", "full"), "--model full"),
        ((), "--method is missing: thresholds, recalibrate, multicalibrate or dfr"),
    ],
)
def test_bad_settings_are_one_error_and_leave_nothing(path, tmp_path, words, text):
    out = tmp_path / "out"
    ended = evenhand("adjust", path, "--attribute", "sex", *words, *FEW, "--out", out)
    assert ended.status == 2
    assert text in ended.err
    assert not out.exists()


def change(fault):
    mine = table(n=400)
    female = mine["attr_sex"] == "female"
    if fault == "no split":
        return mine.drop(columns="split")
    if fault == "no validation":
        return mine.assign(split="test")
    if fault == "no test":
        return mine.assign(split="val")
    if fault == "one label":
        return mine.assign(label=mine["label"].where(~female, 0))
    if fault == "unknown":
        return mine.assign(attr_sex=mine["attr_sex"].where(mine["split"] == "val", None))
    return mine.assign(score_0=1 - mine["score"], score_1=mine["score"] / 2,
                       score_2=mine["score"] / 2, label=np.arange(400) % 3
                       ).drop(columns="score")  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "method", "text"),
    [
        ("no split", "recalibrate", "has no rows of the split 'val'"),
        ("no validation", "recalibrate", "has no rows of the split 'val'"),
        ("no test", "recalibrate", "has no rows of the split 'test'"),
        ("one label", "recalibrate", "female has 0 rows of class 1"),
        ("one label", "thresholds", "group 'female' has"),
        ("unknown", "thresholds", "needs sex of the test rows, but it is unknown for 100%"),
        ("three classes", "thresholds", "is for two classes; there are 3"),
    ],
)
def test_unfit_tables_are_refused_before_any_work(tmp_path, fault, method, text):
    path, out = tmp_path / "mine.csv", tmp_path / "out"
    change(fault).to_csv(path, index=False)
    ended = evenhand("adjust", path, "--attribute", "sex", "--method", method, *FEW, "--out", out)
    assert ended.status == 2
    assert text in ended.err
    assert not out.exists()
