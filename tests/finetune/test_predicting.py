"""A table's model on another table."""

from __future__ import annotations

import pandas as pd
import pytest
from tests.command import evenhand, training, without
from tests.data.table import make_table

COLUMNS = ("--image-column", "photo", "--patient", "person", "--label", "finding")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    words = (*COLUMNS, "--attribute", "years", "--bins", "years=35", "--split", 0.4, 0.3, 0.3)
    table, more = make_table(folder), without(training(folder / "cache"), "--attribute")
    ended = evenhand("finetune", table, *words, *more, "--out", folder / "run")
    assert ended.status == 0, ended.err
    return folder / "run"


def other(run, **changes):
    """Return another table of the same pictures, under another name."""
    path = run.parent / f"{'-'.join(['other', *changes])}.csv"
    pd.read_csv(run.parent / "cohort.csv", dtype="str").assign(**changes).to_csv(path, index=False)
    return path


def test_columns_bins_and_attributes_are_as_in_the_run(run, tmp_path):
    words = ("predict", run, other(run), "--cache", run.parent / "cache")
    ended = evenhand(*words, "--out", tmp_path / "found")
    assert ended.status == 0, ended.err
    found = pd.read_parquet(tmp_path / "found" / "models" / "full" / "predictions.parquet")
    assert len(found) == 60
    assert set(found["attr_years"]) == {"under 35", "35+"}


def test_classes_by_other_names_are_refused_with_what_to_do(run, tmp_path):
    coded = other(run, finding=["1", "0"] * 30)
    words = ("predict", run, coded, "--cache", run.parent / "cache")
    ended = evenhand(*words, "--out", tmp_path / "found")
    assert ended.status == 2
    assert "has the classes 0, 1; the model tells healthy, sick apart" in ended.err
    assert "the label column has to hold these words" in ended.err
