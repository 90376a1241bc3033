"""MESA: windows in the order of time, and what of a night is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.data.mesa_sleep import EPOCHS, make_mesa_sleep

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.readers import open_cohort
from evenhand.cohort.settings import DataSettings
from evenhand.cohort.store.samples import store_samples
from evenhand.errors import EvenhandError

TRAIN, TEST = "dftrain_task1.csv", "dftest_task1.csv"


@pytest.fixture
def root(tmp_path) -> Path:
    return make_mesa_sleep(tmp_path / "mesa", people=8)


def opened(root: Path) -> Cohort:
    return open_cohort(DataSettings(data=f"mesa_sleep:{root}"))


def refused(root: Path, name: str, table: pd.DataFrame) -> str:
    table.to_csv(root / name, index=False)
    with pytest.raises(EvenhandError) as error:
        opened(root)
    return str(error.value)


def test_windows_of_a_night_are_in_the_order_of_time(root):
    night = pd.read_csv(root / TRAIN).query("mesaid == 1")
    activity = night["activity"].to_numpy(np.float32)
    cohort = opened(root)
    assert np.array_equal(cohort.read("1-60")[:, 0], activity[9:110])  # epochs 10 … 110
    first, last = cohort.read("1-1")[:, 0], cohort.read(f"1-{EPOCHS}")[:, 0]
    assert np.isnan(first[:50]).all()
    assert np.array_equal(first[50:], activity[:51])
    assert np.array_equal(last[:51], activity[-51:])
    assert np.isnan(last[51:]).all()
    asleep = cohort.table.set_index("sample_id")["label"]
    assert asleep["1-1"] == int(night["gt"].iloc[0]) != int(night["wake"].iloc[0])


def test_epochs_that_the_tables_leave_out_are_not_observed(root, tmp_path):
    whole = opened(root)
    table = pd.read_csv(root / TRAIN)
    out = (table["mesaid"] == 1) & table.index.isin(table.index[table["mesaid"] == 1][60:100])
    table[~out].to_csv(root / TRAIN, index=False)
    cohort = store_samples(opened(root), None, tmp_path / "cache")
    assert set(whole.table["sample_id"]) - set(cohort.table["sample_id"]) == {
        f"1-{epoch}" for epoch in range(61, 101)
    }
    for epoch in (1, 60, 101, EPOCHS):  # epoch 61 is the first that lacks
        window = whole.read(f"1-{epoch}").copy()
        gone = np.arange(60, 100) - (epoch - 51)
        window[gone[(gone >= 0) & (gone < 101)]] = np.nan
        assert np.array_equal(cohort.read(f"1-{epoch}"), window, equal_nan=True)


def test_times_of_day_begin_anew_at_midnight(root):
    wanted = opened(root)
    for name in (TRAIN, TEST):
        table = pd.read_csv(root / name)
        table["linetime"] = table["linetime"].str[-8:]
        table.to_csv(root / name, index=False)
    assert {"23:59:30", "00:00:00"} < set(table["linetime"])
    assert opened(root).table.equals(wanted.table)


@pytest.mark.parametrize("cell", ["nonsense", "25:00:00", ""])
def test_a_time_that_is_none_is_named_with_its_row(root, cell):
    table = pd.read_csv(root / TEST)
    table.loc[3, "linetime"] = cell
    assert f"{TEST}, row 5: 'linetime' is neither a time" in refused(root, TEST, table)


@pytest.mark.parametrize("form", [slice(None), slice(-8, None)], ids=["dates", "times"])
@pytest.mark.parametrize(
    ("change", "row"),
    [
        (lambda table: table.iloc[[0, 2, 1, *range(3, len(table))]], 4),
        (lambda table: table.iloc[[0, 1, 1, *range(2, len(table))]], 4),
        (lambda table: table.iloc[::-1], 3),
    ],
    ids=["exchanged", "twice", "backwards"],
)
def test_rows_out_of_the_order_of_time_are_refused(root, form, change, row):
    table = pd.read_csv(root / TEST)
    table["linetime"] = table["linetime"].str[form]
    result = refused(root, TEST, change(table))
    assert f"{TEST}, row" in result
    assert f" {row}" in result
    assert "Sort the rows of each person by time" in result


def stretched(table: pd.DataFrame, step: int) -> pd.DataFrame:
    after = pd.to_timedelta(step * table.groupby("mesaid").cumcount(), unit="s")
    return table.assign(linetime=(pd.Timestamp("1900-01-01 20:00") + after).astype("str"))


def test_nights_in_other_steps_are_refused(root):
    table = pd.read_csv(root / TRAIN)
    assert f"{TRAIN}, rows 3, " in refused(root, TRAIN, stretched(table, 45))
    assert f"{TRAIN}: rows are 60 s apart" in refused(root, TRAIN, stretched(table, 60))


def test_a_gap_of_a_day_is_refused(root):
    table = pd.read_csv(root / TEST)
    later = pd.to_datetime(table["linetime"]) + pd.to_timedelta(1 * (table.index == 129), unit="D")
    assert f"{TEST}, row 131: " in refused(root, TEST, table.assign(linetime=later.astype("str")))


def test_a_person_in_both_tables_is_refused(root):
    train, test = pd.read_csv(root / TRAIN), pd.read_csv(root / TEST)
    both = pd.concat([test, train[train["mesaid"] == 1]])
    result = refused(root, TEST, both)
    assert f"{TEST}, rows {len(test) + 2}, " in result
    assert f"mesaid 1 is in {TRAIN}, too" in result


def test_a_number_that_is_none_is_named_with_its_row(root):
    table = pd.read_csv(root / TEST, dtype=object)
    table.loc[3, "activity"] = "much"
    assert f"{TEST}, row 5: 'activity' is no number" in refused(root, TEST, table)


def test_ids_of_the_demographic_table_are_numbers_and_rows_may_come_twice(root):
    wanted = opened(root)
    path = root / "demographics.csv"
    people = pd.read_csv(path, sep=";", dtype="str")
    people["mesaid"] = people["mesaid"].str.zfill(4)
    pd.concat([people, people.head(3)]).to_csv(path, index=False, sep=";")
    assert opened(root).table.equals(wanted.table)
    people.assign(mesaid="first").to_csv(path, index=False, sep=";")
    with pytest.raises(EvenhandError, match=r"demographics\.csv, rows 2, .*is not a whole number"):
        opened(root)
