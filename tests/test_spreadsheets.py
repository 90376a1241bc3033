"""No cell that Evenhand writes starts a formula, and what it reads back is what it wrote."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import ROOT

from evenhand.cohort.phantoms.images import PhantomSettings, make_phantoms
from evenhand.cohort.splits import exclude_patients, read_splits, split_patients, write_splits
from evenhand.spreadsheets import quote_formula, unquote_formulas, write_csv

cells = st.text(st.sampled_from("=+-@\t\r'a1 ,\"\n"), max_size=6)


@given(st.lists(cells, min_size=1))
def test_every_text_comes_back_and_none_starts_a_formula(texts):
    written = [quote_formula(text) for text in texts]
    assert not any(text[:1] in {*"=+-@\t\r"} for text in written if text)
    assert unquote_formulas(pd.Series(written, dtype=object)).tolist() == texts


def test_numbers_stay_numbers(tmp_path):
    table = pd.DataFrame({"n": [-1.5, np.nan], "t": ["-1.5", None], "=f": [1, -2]})
    write_csv(tmp_path / "t.csv", table)
    rows = list(csv.reader(io.StringIO((tmp_path / "t.csv").read_text())))
    assert rows == [["n", "t", "'=f"], ["-1.5", "'-1.5", "1"], ["", "", "-2"]]


def test_splits_of_hostile_ids_are_read_back(tmp_path):
    cohort = make_phantoms(PhantomSettings(patients=40, size=16))
    names = [f"{'=+-@'[k % 4]}cmd|{k}" for k in range(40)]
    table = cohort.table.assign(sample_id=names, patient_id=pd.Categorical(names))
    cohort = type(cohort)(table, cohort.read, cohort.attributes, cohort.classes, cohort.source)
    splits = split_patients(cohort, (), (0.6, 0.2, 0.2), np.random.default_rng(0))
    path = tmp_path / "splits.csv"
    write_splits(path, splits)
    assert not re.search(r"(^|,)[=+@-]", path.read_text(), re.MULTILINE)
    again = read_splits(path, cohort)
    for name, part in splits.items():
        assert set(getattr(again, name).table["sample_id"]) == set(part.table["sample_id"])
    with pytest.raises(Exception, match="these are all the patients"):
        exclude_patients(cohort, [path])


def test_no_other_function_writes_csv_for_people():
    """Phantoms and static values only hash their CSV text, and spelling parses one line."""
    users = {
        f"{path.parent.name}/{path.name}"
        for path in (ROOT / "src").rglob("*.py")
        if re.search(r"\.to_csv\(|csv\.(Dict)?[Ww]riter\(", path.read_text(encoding="utf-8"))
    }
    assert users == {
        "evenhand/spreadsheets.py",
        "phantoms/images.py",
        "phantoms/series.py",
        "series/static.py",
        "tables/spelling.py",
    }
