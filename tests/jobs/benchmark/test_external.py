"""Patients of elsewhere, and benchmarks of other data sets, as users name them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy.stats import friedmanchisquare
from tests.command import PHANTOMS, changed, evenhand, training, without
from tests.data.table import make_table

from evenhand.jobs.benchmark.comparing import Result
from evenhand.jobs.benchmark.external import ExternalResult
from evenhand.jobs.benchmark.other_data_sets import TRANSFERRED, transfers_of
from evenhand.metrics.recipes import Difference
from evenhand.metrics.rows import Key
from evenhand.tables.predictions import read_predictions

ELSEWHERE = PHANTOMS.replace("seed=1", "seed=2")
RECIPE = (
    *("--epochs", 1, "--trials", 1, "--folds", 2, "--seeds", 2, "--lr-min", "1e-3"),
    *("--lr-max", "1e-2", "--strategy", "head"),
)
COLUMNS = ("--image-column", "photo", "--patient", "person", "--label", "finding")


def read(path):
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def command(cache):
    more = ("--method", "thresholds", "--method", "dfr")
    return ("benchmark", PHANTOMS, *RECIPE, *more, *training(cache))


@pytest.fixture(scope="module")
def run(command, tmp_path_factory):
    out = tmp_path_factory.mktemp("beyond") / "run"
    outcome = evenhand(*command, "--external", ELSEWHERE, "--gap", 0.04, "--out", out)
    assert outcome.status == 0, outcome.err
    return out


def test_every_entry_scores_all_patients_of_elsewhere_with_the_models_of_every_fold(run):
    for name in ("erm", "head", "dfr"):
        tables = [
            read_predictions(path).table for path in run.glob(f"fits/{name}/*/external.parquet")
        ]
        assert len(tables) == 4
        assert all(len(table) == 160 for table in tables)
        assert len({tuple(table["score"]) for table in tables}) == 4
    numbers = read(run / "benchmark.json")["external"]["entries"]
    assert set(numbers) == {"erm", "head", "thresholds", "dfr", "chosen on validation"}


def test_numbers_of_elsewhere_are_means_over_the_models(run):
    from sklearn.metrics import roc_auc_score

    tables = [read_predictions(path).table for path in run.glob("fits/head/*/external.parquet")]
    expected = np.mean([roc_auc_score(table["label"], table["score"]) for table in tables])
    numbers = read(run / "benchmark.json")["external"]["entries"]["head"]
    (value,) = (number["value"] for number in numbers
                if (number["attribute"], number["base"]) == ("*", "auc"))  # fmt: skip
    assert value == pytest.approx(expected)


def test_the_page_says_what_could_transfer_and_report_writes_it_again(run):
    page = (run / "report.html").read_text()
    assert "Internal → external patients" in page
    assert "needed to detect a gap of 0.040 in the AUC of erm" in page
    before = {name: (run / name).read_bytes() for name in ("benchmark.json", "verdicts.json")}
    assert evenhand("report", run).status == 0
    assert before == {name: (run / name).read_bytes() for name in before}


def test_what_is_shown_here_and_there_has_transferred():
    key = Key("age", "*", "auc", "worst")
    shown = Difference("dro", key, 0.1, 0.05, 0.15, p=0.001, p_adjusted=0.001, better=True)
    result = Result({}, [shown], {}, 2)
    (transfer,) = transfers_of(result, ExternalResult({}, [shown], {}))
    verdict = transfer.verdict
    assert verdict.claim
    assert verdict.text.lower().startswith(TRANSFERRED)
    hidden = Difference("dro", key, 0.02, -0.1, 0.14, p=0.5, p_adjusted=0.5, detectable=0.2)
    (transfer,) = transfers_of(result, ExternalResult({}, [hidden], {}))
    verdict = transfer.verdict
    assert not verdict.claim
    assert "Not shown to transfer" in verdict.text
    assert "A difference of 0.200 would have shown with power .8." in verdict.text


def test_a_table_of_elsewhere_may_have_other_columns(tmp_path):
    table = make_table(tmp_path)
    names = {"finding": "diagnosis", "years": "age", "person": "subject", "photo": "png"}
    other = tmp_path / "other.csv"
    pd.read_csv(table, dtype="str").rename(columns=names).to_csv(other, index=False)
    words = (*COLUMNS, "--attribute", "years", "--bins", "years=35")
    more = without(training(tmp_path / "cache"), "--attribute")
    command = ("benchmark", table, *RECIPE, *words, *more, "--external", other)
    refused = evenhand(*command, "--out", tmp_path / "run")
    assert refused.status == 2
    assert "--map" in refused.err
    assert not (tmp_path / "run").exists()
    mapped = ("label=diagnosis", "years=age", "patient_id=subject", "photo=png")
    maps = [word for name in mapped for word in ("--map", name)]
    ended = evenhand(*command, *maps, "--out", tmp_path / "run")
    assert ended.status == 0, ended.err
    files = list((tmp_path / "run").glob("fits/*/*/external.parquet"))
    assert len(files) == 8
    assert set(read_predictions(files[0]).table["attr_years"]) == {"under 35", "35+"}


def test_from_six_data_sets_on_ranks_are_tested(command, run, tmp_path):
    others = [shutil.copytree(run, tmp_path / f"set{number}") for number in range(5)]
    also = [word for path in others for word in ("--also", path)]
    ended = evenhand(*command, *also, "--out", tmp_path / "all")
    assert ended.status == 0, ended.err
    together = read(tmp_path / "all" / "benchmark.json")["data_sets"]
    values = together["values"]
    assert set(values) == {"erm", "head", "dfr"}
    assert together["test"]["p"] == pytest.approx(friedmanchisquare(*values.values()).pvalue)
    assert together["names"] == ["all", *(path.name for path in others)]
    verdict = read(tmp_path / "all" / "verdicts.json")["verdicts"][-1]
    assert verdict["about"] == "6 data sets"
    assert "Friedman" in verdict["text"]
    page = (tmp_path / "all" / "report.html").read_text()
    assert "Several data sets" in page
    few = evenhand(*command, *also[:4], "--out", tmp_path / "few")
    assert few.status == 0, few.err
    verdict = read(tmp_path / "few" / "verdicts.json")["verdicts"][-1]
    assert "each data set has its own verdict" in verdict["text"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--map", "sex=gender"), "--map renames columns of --external"),
        (("--external", "nothing.csv"), "--external nothing.csv: "),
        (("--also", "RUN", "--method", "group-balance"), "lacks the entries group-balance"),
        (("--also", "RUN", "--epochs", 2), "has epochs 1, and this command 2"),
        (("--also", "RUN", "--primary", "auc_gap"), "has primary auc_worst"),
    ],
)
def test_what_cannot_be_compared_is_refused_by_name(words, says, command, run, tmp_path):
    inputs = [run if word == "RUN" else word for word in words]
    ended = evenhand(*changed(command, *inputs), "--out", tmp_path / "run")
    assert ended.status == 2
    assert says in ended.err
    assert not (tmp_path / "run").exists()
