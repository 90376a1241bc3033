"""`--pair-column`: how far the scores of twins lie apart, through the command line."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from tests.command import evenhand, training

from evenhand.evaluation.twins import Twins, _rows_of_model
from evenhand.files import read_json

PEOPLE = 400


def predictions(seed: int = 0, moved: float = 0.2) -> pd.DataFrame:
    """Return twins whose scores lie .05 apart, by ``moved`` in one group."""
    rng = np.random.default_rng(seed)
    first = pd.DataFrame(
        {
            "sample_id": [f"S{k}" for k in range(PEOPLE)],
            "patient_id": [f"P{k // 2}" for k in range(PEOPLE)],
            "label": np.arange(PEOPLE) // 2 % 2,
            "score": rng.uniform(0.3, 0.7, PEOPLE),
            "attr_skin": np.where(np.arange(PEOPLE) // 4 % 4 == 0, "dark", "light"),
            "attr_sticker": "no",
            "picture": [f"picture {k}" for k in range(PEOPLE)],
        }
    )
    step = np.where(first["attr_skin"] == "dark", moved, 0.05) + rng.normal(0, 0.01, PEOPLE)
    second = first.assign(
        sample_id="T" + first["sample_id"], score=first["score"] + step, attr_sticker="yes"
    )
    lone = first.head(3).assign(sample_id=["L0", "L1", "L2"], picture=["", "alone", ""])
    return pd.concat([first, second, lone], ignore_index=True)


def rows_of(run):
    rows = pd.DataFrame(read_json(run / "twins.json")["rows"])
    return rows.set_index(["attribute", "group"])


def test_audit_measures_twins_by_group(tmp_path):
    table = predictions()
    table.to_csv(tmp_path / "mine.csv", index=False)
    words = ("audit", tmp_path / "mine.csv", "--pair-column", "picture", "--threshold", "0.5")
    ended = evenhand(*words, "--out", tmp_path / "a")
    assert ended.status == 0, ended.err
    rows = rows_of(tmp_path / "a")
    values = rows[rows["reference"].isna()]
    wide = table.set_index("sample_id")
    pairs = [(f"S{k}", f"TS{k}") for k in range(PEOPLE)]
    apart = np.array([abs(wide["score"][a] - wide["score"][b]) for a, b in pairs])
    dark = (wide["attr_skin"][[a for a, _ in pairs]] == "dark").to_numpy()
    decided = (wide["score"] >= 0.5)[[a for a, _ in pairs]].to_numpy() != (wide["score"] >= 0.5)[
        [b for _, b in pairs]
    ].to_numpy()
    assert values.loc["skin", "dark"]["value"] == pytest.approx(apart[dark].mean())
    assert values.loc["*", "*"]["pairs"] == PEOPLE
    assert values.loc["*", "*"]["patients"] == PEOPLE // 2
    assert values.loc["*", "*"]["decided_otherwise"] == pytest.approx(decided.mean())
    between = rows[rows["reference"].notna()].loc["skin", "dark"]
    assert between["reference"] == "light"
    assert between["value"] == pytest.approx(apart[dark].mean() - apart[~dark].mean())
    assert between["low"] > 0.1
    page = (tmp_path / "a" / "report.html").read_text()
    assert "Does a shortcut move the score?" in page
    assert f"sticker: it is unknown or differs between the twins in {PEOPLE}" in page


def test_the_interval_of_a_mean_distance_ends_at_0():
    distance = np.array([1.0] + [0.0] * 11)
    twins = Twins(distance, distance, np.arange(12), {})
    (row,) = _rows_of_model("model", twins, {}, 0.95)
    assert row.low == 0
    assert row.high > distance.mean()


def test_an_audited_run_knows_its_twins_and_compare_pairs_models_by_patient(tmp_path):
    for name, moved in (("new", 0.05), ("old", 0.2)):
        predictions(moved=moved).to_csv(tmp_path / f"{name}.csv", index=False)
    words = ("--pair-column", "picture", "--attribute", "skin", "--out", tmp_path / "c")
    ended = evenhand("compare", tmp_path / "new.csv", tmp_path / "old.csv", *words)
    assert ended.status == 0, ended.err
    rows = rows_of(tmp_path / "c")
    change = rows[rows["against"] == "old"]
    assert change.loc["skin", "dark"]["value"] == pytest.approx(-0.15, abs=0.01)
    assert change.loc["skin", "dark"]["high"] < -0.1
    assert change.loc["skin", "light"]["value"] == pytest.approx(0, abs=1e-9)
    again = evenhand("audit", tmp_path / "c", "--attribute", "skin", "--out", tmp_path / "again")
    assert again.status == 0, again.err
    own = rows_of(tmp_path / "again")
    assert set(own["model"]) == {"new", "old"}


def test_the_interval_covers_the_true_distance():
    """In 400 cohorts of 40 patients with two pictures each, that move together."""
    from evenhand.evaluation.twins import Twins, _row

    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        own = rng.gamma(2, 0.05, 40)  # the mean distance is .1
        distance = np.repeat(own, 2) + rng.normal(0, 0.02, 80)
        twins = Twins(distance, distance, np.repeat(np.arange(40), 2), {})
        chosen = np.ones(80, bool)
        row = _row("m", ("*", "*", None), twins.mean_distance(chosen, 40), twins, chosen, 0.95)
        held += row.low <= 0.1 <= row.high
    assert held / 400 >= 0.92


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("twin", "has no column 'twin'"),
        ("sample_id", "no two rows of .* share a value"),
        ("attr_skin", "--pair-column attr_skin: 600 rows of .* share the value 'light'"),
    ],
)
def test_a_column_without_twins_is_refused_before_anything_is_written(tmp_path, column, message):
    predictions().to_csv(tmp_path / "mine.csv", index=False)
    words = ("--pair-column", column, "--out", tmp_path / "a")
    ended = evenhand("audit", tmp_path / "mine.csv", *words)
    assert ended.status == 2
    assert re.search(message, ended.err)
    assert not (tmp_path / "a").exists()


def test_a_column_pair_id_of_more_than_pairs_is_refused(tmp_path):
    predictions().rename(columns={"attr_skin": "pair_id"}).to_csv(tmp_path / "mine.csv")
    ended = evenhand("audit", tmp_path / "mine.csv", "--out", tmp_path / "a")
    assert ended.status == 2
    assert "the column 'pair_id': 600 rows of" in ended.err
    assert "but twins are pairs. Give --pair-column" in ended.err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("twins")
    data = "phantom:patients=200,size=32,seed=1,shortcut=1,harder=0.5"
    words = training(root / "cache", "--epochs", 3, "--lr", "1e-3")
    ended = evenhand("finetune", data, *words, "--out", root / "run")
    assert ended.status == 0, ended.err
    return root


def test_predict_shows_what_a_sticker_does_to_phantoms(trained):
    data = "phantom:patients=80,size=32,seed=2,twins=sticker"
    words = ("--pair-column", "pair", "--cache", trained / "cache", "--device", "cpu")
    ended = evenhand("predict", trained / "run", data, *words, "--out", trained / "new")
    assert ended.status == 0, ended.err
    rows = rows_of(trained / "new")
    everybody = rows.loc[("*", "*")]
    assert (everybody["pairs"], everybody["patients"]) == (80, 80)
    table = pd.read_parquet(next((trained / "new" / "models").glob("*/predictions.parquet")))
    apart = table.groupby("pair_id")["score"].agg(lambda scores: np.ptp(scores.to_numpy()))
    assert everybody["value"] == pytest.approx(apart.mean())
    assert everybody["low"] > 0
    refused = evenhand(
        "predict", trained / "run", data, *words[2:], "--pair-column", "x", "--out", trained / "no"
    )
    assert refused.status == 2
    assert "has no column 'x'" in refused.err
    assert not (trained / "no").exists()
