"""From a run directory to its metric rows and its page."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest

from evenhand import AuditSettings, CompareSettings, EvenhandError
from evenhand.evaluation.requests import resolve_requests
from evenhand.files import read_json
from evenhand.jobs import evaluate as evaluate_job
from evenhand.jobs.audit import job as audit_job
from evenhand.jobs.audit.job import audit
from evenhand.jobs.compare import compare
from evenhand.jobs.evaluate import evaluate
from evenhand.jobs.report import write_card


def table(shift: float, n: int = 120) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    label = np.arange(n) % 2
    return pd.DataFrame(
        {
            "sample_id": [f"s{i}" for i in range(n)],
            "patient_id": [f"p{i}" for i in range(n)],
            "split": np.where(np.arange(n) % 4 < 2, "val", "test"),
            "label": label,
            "score": (0.4 + shift * label + rng.normal(0, 0.1, n)).clip(0, 1),
            "sex": np.where(np.arange(n) // 2 % 3 == 0, "female", "male"),
        }
    )


@pytest.fixture
def paths(tmp_path):
    paths = (tmp_path / "good.csv", tmp_path / "poor.csv")
    for path, shift in zip(paths, (0.2, 0.05), strict=True):
        table(shift).to_csv(path, index=False)
    return paths


@pytest.fixture
def run(paths, tmp_path):
    return audit(AuditSettings(inputs=paths, attribute=("sex",)), tmp_path / "run")


def test_a_request_is_resolved_once(paths, tmp_path, monkeypatch):
    resolved = []

    def counting(models, *rest):
        resolved.append(tuple(models))
        return resolve_requests(models, *rest)

    for job in (audit_job, evaluate_job):
        monkeypatch.setattr(job, "resolve_requests", counting)
    settings = {"inputs": paths, "attribute": ("sex",)}
    audit(AuditSettings(**settings), tmp_path / "audited")
    compare(CompareSettings(**settings), tmp_path / "compared")
    assert resolved == [("good", "poor")] * 2


def rows_of(run):
    return pd.DataFrame(read_json(run.root / "metrics.json")["rows"])


def test_models_stand_side_by_side(run):
    rows = rows_of(run)
    assert run.finished
    assert run.record.chosen is None
    assert list(rows["model"].unique()) == ["good", "poor"]
    assert rows["against"].isna().all()
    assert "evenhand compare gives paired differences" in run.record.notes[0]


def test_the_reference_of_a_detectable_difference_is_told_alone(run):
    page = (run.root / "report.html").read_text("utf-8")
    assert "female against male" in page
    assert "80 % power" not in page


def test_a_comparison_pairs_models(paths, tmp_path):
    run = compare(CompareSettings(inputs=paths, attribute=("sex",)), tmp_path / "compared")
    rows = rows_of(run)
    assert run.record.pairs == (("good", "poor"),)
    pair = rows[rows["against"].notna() & (rows["metric"] == "auc") & (rows["attribute"] == "*")]
    assert pair[["model", "against", "split"]].to_numpy().tolist() == [["good", "poor", "test"]]
    alone = rows[
        (rows["metric"] == "auc")
        & (rows["split"] == "test")
        & (rows["attribute"] == "*")
        & rows["against"].isna()
    ].set_index("model")["value"]
    assert pair["value"].item() == pytest.approx(alone["good"] - alone["poor"])


def test_intervals_are_for_the_test_split_and_thresholds_from_validation(run):
    rows = rows_of(run)
    auc = rows[(rows["metric"] == "auc") & rows["against"].isna()]
    assert auc.loc[auc["split"] == "test", "low"].notna().all()
    assert auc.loc[auc["split"] == "val", "low"].isna().all()
    cuts = rows[(rows["metric"] == "accuracy") & (rows["model"] == "good")]["threshold"].dropna()
    validation = table(0.2).query("split == 'val'")["score"]
    assert cuts.nunique() == 1
    assert np.isclose(validation, cuts.iloc[0]).any()


def test_it_can_be_done_again_from_the_folder_alone(run):
    before = (run.root / "metrics.json").read_bytes()
    evaluate(run, chosen=None)
    assert (run.root / "metrics.json").read_bytes() == before
    page = (run.root / "report.html").read_text(encoding="utf-8")
    assert "good" in page
    assert "female" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": "twice"}, "two inputs are called 'good'"),
        ({"attribute": ("skin",)}, "skin"),
        ({"map": ("label",)}, "write it as NAME=COLUMN"),
        ({"map": ("sampleid=img",)}, "'sampleid'.* Did you mean 'sample_id'"),
        ({"attribute": ("skin",), "map": ("sexx=gender",)}, "there are: .*skin"),
        ({"attribute": ("skin",)}, "--map skin=COLUMN"),
        ({"inputs": "nothing"}, "nothing"),
    ],
)
def test_what_is_refused_leaves_nothing(run, tmp_path, change, message):
    good = tmp_path / "good.csv"
    other = tmp_path / "elsewhere" / "good.csv"
    other.parent.mkdir()
    shutil.copy(good, other)
    inputs = {"twice": (good, other), "nothing": (tmp_path / "nothing.csv",)}
    arguments = {"inputs": (good,), "attribute": ("sex",)} | change
    arguments["inputs"] = inputs.get(arguments["inputs"], arguments["inputs"])
    with pytest.raises(EvenhandError, match=message):
        audit(AuditSettings(**arguments), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_bar_goes_to_its_end_over_models_splits_and_pairs(paths, tmp_path, monkeypatch):
    bars = []

    @contextmanager
    def counted(title, total):
        done = {"title": title, "total": total, "done": 0, "texts": []}
        bars.append(done)

        def advance(steps=1, *, text=""):
            done["done"] += steps
            done["texts"].append(text)

        yield advance

    monkeypatch.setattr("evenhand.jobs.evaluate.bar", counted)
    settings = CompareSettings(inputs=paths, attribute=("sex",), permutations=19, replicates=50)
    compare(settings, tmp_path / "compared")
    (bar,) = bars
    assert bar["done"] == bar["total"]
    texts = {"good, val", "good, test", "poor, val", "poor, test", "good less poor"}
    assert set(bar["texts"]) == texts


def test_an_excluded_group_is_in_no_sentence_and_in_no_gap(tmp_path):
    inputs = table(0.2)
    inputs.loc[inputs.index % 5 == 0, "sex"] = "c"
    inputs.loc[inputs["sex"] == "c", "score"] = 1 - inputs["label"]  # always wrong
    inputs.to_csv(tmp_path / "one.csv", index=False)
    settings = AuditSettings(
        inputs=(tmp_path / "one.csv",), attribute=("sex",), exclude_group=("sex=c",),
        across=("gap",), replicates=20,
    )  # fmt: skip
    text = (audit(settings, tmp_path / "run").root / "report.html").read_text("utf-8")
    assert "Where sex is " in text
    assert "sex is c" not in text
    (counts,) = json.loads(re.search(r'json">(.*)</script>', text)[1])["tables"]
    assert [count["gap"] for count in counts] == [
        False,
        False,
        True,
        True,
    ]  # everyone, c, and others


def test_each_model_is_told_with_its_own_decision_rule(paths, tmp_path):
    table(0.1).query("split == 'test'").to_csv(tmp_path / "new.csv", index=False)
    settings = AuditSettings(
        inputs=(*paths, tmp_path / "new.csv"), attribute=("sex",), replicates=19
    )
    text = (audit(settings, tmp_path / "run").root / "report.html").read_text("utf-8")
    assert "Decision rule of good and poor: " in text
    assert "Decision rule of new: 0.5, as there are no validation rows." in text


def test_a_rule_that_all_models_share_is_told_once_and_so_is_that_it_fits_the_rows(paths, tmp_path):
    settings = AuditSettings(inputs=paths, attribute=("sex",), replicates=19, split="val")
    text = (audit(settings, tmp_path / "run").root / "report.html").read_text("utf-8")
    assert text.count("Decision rule: ") == 1
    assert text.count("The threshold was chosen on the reported rows") == 1


@pytest.mark.parametrize("named", [True, False])
def test_page_and_card_name_a_split_only_where_the_predictions_do(tmp_path, named):
    path, card = tmp_path / "mine.csv", tmp_path / "card.md"
    written = table(0.2) if named else table(0.2).drop(columns="split")
    written.to_csv(path, index=False)
    run = audit(AuditSettings(inputs=(path,), attribute=("sex",)), tmp_path / "run")
    write_card(run, None, card)
    for text in ((run.root / "report.html").read_text("utf-8"), card.read_text("utf-8")):
        assert ("of the test split" in text) == named
        whom = "Measured on all 120 samples from 120 patients (the predictions name no split)"
        assert (whom in text) != named
    assert ("split reported: test" in card.read_text("utf-8")) == named
