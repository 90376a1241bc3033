"""A run as users see it: models, metrics, predictions, and itself in a notebook."""

from __future__ import annotations

import json
import os

import numpy as np
import pandas as pd
import pytest
import torch

import evenhand
from evenhand.errors import EvenhandError
from evenhand.experiments.runs import begin_run
from evenhand.experiments.settings import FinetuneSettings
from evenhand.networks.model import build_model, save_model
from evenhand.runs import run_scope


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    """Two models on 60 samples; the second scores everybody alike."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"sample_id": np.arange(60), "patient_id": np.arange(60)})
    table["label"] = np.arange(60) % 2
    table["attr_sex"] = np.array(["f", "<b>m"])[np.arange(60) // 2 % 2]
    for name, share in (("good", 0.9), ("poor", 0.0)):
        score = share * table["label"] + (1 - share) * rng.uniform(size=60)
        table.assign(score=score).to_csv(folder / f"{name}.csv", index=False)
    return evenhand.audit(
        folder / "good.csv", folder / "poor.csv", replicates=50, out=folder / "audit & co"
    )


@pytest.fixture
def trained(tmp_path):
    """A run with the weights of one model, as a job leaves it that pre-trains."""
    with run_scope():
        settings = FinetuneSettings(data="phantom:")
        run = begin_run(tmp_path / "run", "finetune", settings, fingerprint="f")
    save_model(run.folder("encoder"), build_model("test_vit", "none", 32, ("a", "b"), 0))
    return run


def test_metrics_are_the_rows_of_the_file(audit):
    rows = audit.metrics
    assert rows.equals(evenhand.open_run(audit.root).metrics)
    assert {"model", "against", "attribute", "group", "metric", "value", "low", "high"} <= {*rows}
    best = rows.query("model == 'good' and metric == 'auc' and attribute == '*'")
    assert best["value"].tolist() == [1.0]


def test_metrics_that_others_have_written_since_are_read_again(audit):
    path = audit.root / "metrics.json"
    before = path.read_text()
    file = json.loads(before)
    file["rows"][0]["value"] = 0.25
    path.write_text(json.dumps(file))
    try:
        assert audit.metrics["value"].iloc[0] == 0.25
    finally:
        path.write_text(before)


def test_predictions_by_name_or_the_only_ones(audit):
    assert audit.models == ("good", "poor")
    assert len(audit.predictions("poor").table) == 60
    with pytest.raises(EvenhandError, match="good, poor and chose none; name one"):
        audit.predictions()
    with pytest.raises(EvenhandError, match=r"no model 'pour'.*Did you mean 'poor'"):
        audit.predictions("pour")


def test_a_notebook_shows_each_model_with_its_main_numbers(audit, monkeypatch):
    monkeypatch.chdir(audit.root.parent)
    page = audit._repr_html_()
    assert "evenhand audit: audit &amp; co" in page
    titles = ["model", "samples", "auc, everybody", "auc, worst by sex", "auc, gap by sex"]
    assert "".join(f"<th>{title}</th>" for title in titles) in page
    assert "<td>good</td><td>60</td><td>1.000 (" in page
    assert "<td>poor</td>" in page
    assert '<a href="audit &amp; co/report.html">' in page


def test_a_notebook_shows_a_run_that_measures_nothing(trained):
    page = trained._repr_html_()
    assert "evenhand finetune: run (not finished)" in page
    assert "<a" not in page
    with pytest.raises(EvenhandError, match=r"'finetune' in .* has no metrics\.json"):
        _ = trained.metrics


def test_a_model_comes_as_a_module(trained):
    with pytest.raises(EvenhandError, match=r"holds the models none and chose none of them"):
        trained.model()
    trained.finish(chosen="encoder")
    model = trained.model()
    assert isinstance(model, torch.nn.Module)
    assert not model.training
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 2)
    with pytest.raises(EvenhandError, match="no model 'full'; there are: encoder"):
        trained.model("full")


def test_a_run_is_a_path(audit):
    assert os.fspath(audit) == str(audit.root)
    assert evenhand.open_run(audit).root == audit.root
