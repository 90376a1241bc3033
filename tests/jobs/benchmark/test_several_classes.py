"""A benchmark of three classes: every entry that several classes allow, the others by name."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from tests.command import changed, evenhand, training
from tests.data.pictures import write_picture
from tests.data.table import make_frame, write_frame

from evenhand.tables.predictions import read_predictions

CLASSES = ("bkl", "mel", "nv")
RECIPE = (
    *("--image-column", "photo", "--patient", "person", "--label", "finding"),
    *("--epochs", 1, "--trials", 1, "--folds", 2, "--seeds", 2),
    *("--lr-min", "1e-3", "--lr-max", "1e-2", "--strategy", "head"),
)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    root = tmp_path_factory.mktemp("classes")
    frame = make_frame(patients=60)
    patient = np.arange(len(frame)) // 2
    frame["finding"] = np.array(CLASSES)[(patient + patient // 7) % 3]
    frame["skin"] = np.array(["I", "II"])[patient // 3 % 2]
    for number, photo in enumerate(frame["photo"]):
        write_picture(root / photo, number)
    return write_frame(root / "cohort.csv", frame)


@pytest.fixture(scope="module")
def command(table, tmp_path_factory):
    words = training(tmp_path_factory.mktemp("cache"), "--attribute", "skin")
    words = changed(("benchmark", table, *RECIPE, *words), "--seed", 0)
    place = words.index("group")
    return (*words[: place - 1], *words[place + 1 :])


@pytest.fixture(scope="module")
def run(command, table, tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmark") / "run"
    more = ("--method", "dfr", "--method", "thresholds", "--method", "soft-eodds")
    more += ("--pruning", "beta=0.5,limit=20")
    outcome = evenhand(*command, *more, "--external", table, "--skip-refused", "--out", out)
    assert outcome.status == 0, outcome.err
    assert "Entry thresholds is left out" in outcome.out
    assert "soft-eodds is for two classes; there are 3" in outcome.out
    return out


def numbers_of(run, name):
    entries = json.loads((run / "benchmark.json").read_text())["entries"]
    (numbers,) = (entry["numbers"] for entry in entries if entry["name"] == name)
    return {(number["attribute"], number["group"], number["base"]): number["value"]
            for number in numbers if number["aggregate"] is None}  # fmt: skip


@pytest.mark.parametrize("name", ["erm", "dfr", "head"])
def test_numbers_are_those_of_the_scores_of_all_classes(name, run):
    values = []
    for path in sorted(run.glob(f"models/{name}/seeds/*.parquet")):
        predictions = read_predictions(path)
        assert predictions.classes == CLASSES
        assert predictions.scores.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
        values.append(roc_auc_score(predictions.labels, predictions.scores, multi_class="ovr"))
    assert numbers_of(run, name)["*", "*", "auc"] == pytest.approx(np.mean(values))


def test_a_last_layer_that_is_fitted_anew_changes_the_scores_of_every_class(run):
    erm, dfr = (read_predictions(run / "models" / name / "predictions.parquet").scores
                for name in ("erm", "dfr"))  # fmt: skip
    assert (np.abs(erm - dfr).max(axis=0) > 1e-3).all()


def test_no_positives_are_counted_where_no_class_is_the_positive_one(run):
    rows = json.loads((run / "metrics.json").read_text())["rows"]
    assert {row["positives"] for row in rows} == {None}
    page = (run / "report.html").read_text()
    assert "samples positive" not in page
    assert "Data request" in page


@pytest.mark.parametrize("method", ["thresholds", "recalibrate", "multicalibrate", "soft-eodds"])
def test_methods_for_two_classes_are_refused_by_name(method, command, tmp_path):
    ended = evenhand(*command, "--method", method, "--out", tmp_path / "run")
    assert ended.status == 2
    assert f"entry {method}: {method} is for two classes; there are 3" in ended.err
    assert not (tmp_path / "run").exists()


def test_what_several_classes_allow_is_compared(run):
    names = {path.name for path in (run / "fits").iterdir()}
    assert names == {"erm", "head", "dfr", "prune-beta-0.5-limit-20"}
