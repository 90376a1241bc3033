"""`--probe`: what layers reveal of an attribute, through the command line and by itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta
from tests.command import PHANTOMS, evenhand, training

from evenhand import EvenhandError, probe
from evenhand.experiments.runs import open_run
from evenhand.files import read_json
from evenhand.jobs.probing import FEWEST, probed_levels
from evenhand.metrics import groups_of
from evenhand.tables.predictions import Predictions


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two fine-tuned models of the same patients, the first of them probed."""
    root = tmp_path_factory.mktemp("probe")
    words = training(root / "cache", "--attribute", "sex", "--epochs", 1, "--lr", "1e-3")
    data = PHANTOMS.replace("patients=160", "patients=300")
    for name, more in (("plain", ["--probe"]), ("dro", ["--method", "group-dro"])):
        ended = evenhand("finetune", data, *words, *more, "--out", root / name)
        assert ended.status == 0, ended.err
    return root


def rows_of(run):
    return pd.DataFrame(read_json(run / "probe.json")["rows"])


def test_finetune_shows_each_layer_before_and_after_training(runs):
    rows = rows_of(runs / "plain")
    values = rows[rows["against"].isna()]
    assert set(values["model"]) == {"full", "before training"}
    assert values.groupby(["model", "attribute"])["layer"].nunique().nunique() == 1
    skin = values[values["attribute"] == "group"]
    assert (skin["low"] > 0.8).all()  # the minority has a darker skin
    coin = values[values["attribute"] == "sex"]  # drawn by a coin, and in no picture
    assert ((coin["low"] < 0.5) & (coin["high"] > 0.5)).mean() > 0.7
    page = (runs / "plain" / "report.html").read_text()
    assert "What do the layers reveal of the attribute?" in page
    assert "head input" in page
    assert "What do the layers reveal" not in (runs / "dro" / "report.html").read_text()


def test_compare_pairs_the_layers_of_two_models_by_patient(runs, tmp_path):
    words = ("--probe", "--attribute", "group", "--attribute", "sex", "--out", tmp_path / "c")
    ended = evenhand("compare", runs / "dro", runs / "plain", *words)
    assert ended.status == 0, ended.err
    rows = rows_of(tmp_path / "c")
    change = rows[rows["against"].notna()].set_index(["attribute", "layer"])
    assert set(zip(change["model"], change["against"], strict=True)) == {
        ("dro-full-group-dro", "plain-full")
    }
    values = rows[rows["against"].isna()].set_index(["model", "attribute", "layer"])["value"]
    apart = values["dro-full-group-dro"] - values["plain-full"]
    assert change["value"].sort_index().to_numpy() == pytest.approx(apart.sort_index().to_numpy())
    again = rows_of(runs / "plain")
    own = (again["model"] == "full") & again["against"].isna()
    again = again[own].set_index(["attribute", "layer"])["value"]
    assert values["plain-full"].to_dict() == pytest.approx(again.to_dict())
    page = (tmp_path / "c" / "report.html").read_text()
    assert "change of this AUC" in page


def test_a_report_is_written_again_with_its_probe(runs):
    path = runs / "plain" / "report.html"
    path.unlink()
    assert evenhand("report", runs / "plain").status == 0
    assert "What do the layers reveal" in path.read_text()


def test_predictions_alone_have_no_layers(runs, tmp_path):
    run = open_run(runs / "plain")
    table = tmp_path / "mine.csv"
    pd.read_parquet(run.predictions_file("full")).to_csv(table, index=False)
    ended = evenhand("compare", runs / "dro", table, "--probe", "--out", tmp_path / "c")
    assert ended.status == 2
    assert "--probe reads the layers of the networks" in ended.err
    assert not (tmp_path / "c").exists()


def test_the_difference_of_two_probes_is_paired_by_patient():
    rng = np.random.default_rng(0)
    sex = np.repeat(["f", "m"], 100)
    noise = rng.normal(size=(200, 4))
    before = probe(noise + (sex == "m")[:, None], sex)
    same = before.less(before)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    after = probe(noise + 0.1 * (sex == "m")[:, None], sex)
    apart = after.less(before)
    assert apart.value == pytest.approx(after.value - before.value)
    alone = (after.high - after.low) + (before.high - before.low)
    assert apart.high - apart.low < alone
    assert apart.high < 0
    with pytest.raises(EvenhandError, match="the same rows in the same order"):
        probe(noise[1:], sex[1:]).less(before)


def test_an_attribute_that_is_always_found_has_an_interval_that_more_patients_narrow():
    widths = []
    for count in (20, 80):
        sex = np.repeat(["f", "m"], count)
        result = probe((sex == "m")[:, None] + np.zeros((1, 2)), sex)
        assert (result.value, result.high) == (1, 1)
        assert result.low == pytest.approx(beta.ppf(0.025, count, 1))
        apart = result.less(result)
        assert (apart.low, apart.high) == (result.low - 1, 1 - result.low)
        widths.append(result.high - result.low)
    assert widths[1] < widths[0] / 3


def test_the_rarest_level_decides_how_narrow_that_interval_can_be():
    sex = np.repeat(["f", "m"], [10, 80])
    result = probe((sex == "f")[:, None] + np.zeros((1, 2)), sex)
    assert (result.value, result.high) == (1, 1)
    assert result.low == pytest.approx(beta.ppf(0.025, 10, 1))


def test_a_level_of_few_patients_is_left_out_by_name():
    levels = ["a"] * 20 + ["b"] * 20 + ["rare"] * (FEWEST - 1)
    table = pd.DataFrame({"patient_id": [f"P{k}" for k in range(len(levels))]})
    samples = Predictions(table, ("0", "1"), {})
    names, notes = probed_levels(groups_of(levels), samples)
    assert set(names) == {"a", "b", "unknown"}
    assert notes == [f"rare (9 patients) left out; a probe takes {FEWEST} patients of a level."]
