"""A user's own series in one long table: a row per measurement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.command import evenhand

from evenhand.cohort.cohort import UnreadableError
from evenhand.cohort.readers import open_cohort
from evenhand.cohort.settings import DataSettings
from evenhand.cohort.store.samples import store_samples
from evenhand.errors import EvenhandError

FORM = {"series_column": "stay", "series_table": "measured.csv", "label": "died", "patient": "who"}
STAYS = 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Twenty stays: a pulse twice in the first hour and once in the third, a spo2 in the second."""
    stays = [f"s{k}" for k in range(STAYS)]
    table = {"stay": stays, "who": [f"p{k // 2}" for k in range(STAYS)]}
    died = [k // 2 % 2 for k in range(STAYS)]
    frame = pd.DataFrame(table | {"died": died, "sex": ["f", "f", "m", "m"] * (STAYS // 4)})
    frame.to_csv(tmp_path / "stays.csv", index=False)
    rows = [
        (stay, time, name, value + k)
        for k, stay in enumerate(stays)
        for time, name, value in ((0, "pulse", 60), (30, "pulse", 64), (70, "spo2", 95))
    ]
    rows += [(stay, 150, "pulse", 70) for stay in stays]
    measured(tmp_path, rows)
    return tmp_path / "stays.csv"


def measured(folder: Path, rows: list[tuple[str, object, str, object]]) -> None:
    names = ["stay", "time", "variable", "value"]
    pd.DataFrame(rows, columns=names).to_csv(folder / "measured.csv", index=False)


def opened(path: Path, **more):
    return open_cohort(DataSettings(**{"data": str(path), "series_step": 60, **FORM, **more}))


def test_a_step_is_the_mean_of_what_was_measured_in_it(path):
    cohort = opened(path)
    assert cohort.channels == ("pulse", "spo2")
    wanted = [[62 + 3, np.nan], [np.nan, 95 + 3], [70, np.nan]]
    assert np.array_equal(cohort.read("s3"), np.float32(wanted), equal_nan=True)


@pytest.mark.parametrize("step", [0.1, 0.7, 1 / 3, 0.25])
def test_what_is_measured_as_a_step_begins_belongs_to_it(path, step):
    times = [round(number * step, 12) for number in range(50)]
    rows = [(f"s{k}", time, "pulse", n) for k in range(STAYS) for n, time in enumerate(times)]
    measured(path.parent, rows)
    values = opened(path, series_step=step).read("s0")
    assert np.array_equal(values[:, 0], np.arange(50))


def test_length_and_variables_may_be_given(path):
    cohort = opened(path, series_steps=5, series_variable=("temp", "spo2", "pulse"))
    assert cohort.channels == ("temp", "spo2", "pulse")
    assert cohort.read("s0").shape == (5, 3)
    assert np.isnan(cohort.read("s0")[:, 0]).all()
    assert cohort.read("s0")[1, 1] == 95


def test_a_variable_with_a_zero_fraction_is_the_whole_number(path):
    names = ["1.0", "2.0", "1"]
    measured(path.parent, [(f"s{k}", 0, names[k % 3], 60) for k in range(STAYS)])
    assert opened(path).channels == ("1", "2")


def test_a_blank_value_was_not_observed(path):
    measured(path.parent, [(f"s{k}", 0, "pulse", 60) for k in range(STAYS)] + [("s0", 9, "ph", "")])
    assert np.array_equal(opened(path).read("s0"), [[np.nan, 60]], equal_nan=True)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (("s19", 10, "pulse", 60), r"measured\.csv, row 82: the time is earlier than in the row"),
        (("s20", 10, "pulse", 60), r"measured\.csv, row 82: .*stays\.csv has no sample of this"),
        (("s19", "noon", "pulse", 60), r"row 82: the 'time' is no finite number"),
        (("s19", 160, "pulse", "high"), r"row 82: the 'value' is no finite number"),
        (("s19", 160, "", 60), r"row 82: the column 'variable' is blank"),
    ],
)
def test_a_row_that_cannot_be_is_refused_by_its_number(path, row, problem):
    with (path.parent / "measured.csv").open("a") as table:
        table.write(",".join(map(str, row)) + "\n")
    with pytest.raises(EvenhandError, match=problem):
        opened(path)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"series_steps": 2}, r"rows 62, 63, .*: the time lies beyond 2 steps"),
        ({"series_variable": ("pulse",)}, r"the variable is none of pulse"),
        ({"series_table": None}, r"--series-step: a long table of series needs --series-table"),
        ({"series_table": "none.csv"}, r"there is no table .*none\.csv"),
    ],
)
def test_settings_that_do_not_go_with_the_table_are_refused(path, more, problem):
    with pytest.raises(EvenhandError, match=problem):
        opened(path, **more)


def test_a_sample_without_a_measurement_is_named_or_left_out(path):
    measured(path.parent, [(f"s{k}", 0, "pulse", k) for k in range(1, STAYS)])
    with pytest.raises(UnreadableError, match="has no measurement of 's0'"):
        store_samples(opened(path), None, path.parent / "cache")
    stored = store_samples(opened(path), None, path.parent / "cache", skip_unreadable=True)
    assert len(stored) == STAYS - 1
    assert len(stored.source.left_out) == 1


def test_other_measurements_are_other_data(path):
    before = opened(path).source.fingerprint
    with (path.parent / "measured.csv").open("a") as table:
        table.write("s19,170,pulse,1\n")
    assert opened(path).source.fingerprint != before


@pytest.mark.parametrize(
    "other", [{"series_step": 30}, {"series_steps": 5}, {"series_variable": ("spo2", "pulse")}]
)
def test_another_grid_is_decoded_for_itself(path, other):
    cache = path.parent / "cache"
    store_samples(opened(path), None, cache)
    cohort = opened(path, **other)
    stored = store_samples(cohort, None, cache)
    for name in cohort.table["sample_id"]:
        assert np.array_equal(stored.read(name), cohort.read(name), equal_nan=True)


def test_a_grid_that_is_given_is_the_one_that_is_found(path):
    inputs = opened(path, series_step=60, series_steps=3, series_variable=("pulse", "spo2"))
    assert inputs.source.fingerprint == opened(path).source.fingerprint


def test_a_published_data_set_has_no_long_table(tmp_path):
    with pytest.raises(EvenhandError, match="--series-table cannot be given with series_phantom"):
        open_cohort(DataSettings(data="series_phantom:patients=40", series_table="x.csv"))


def test_the_command_line_tunes_a_model_on_it(path, tmp_path):
    words = ("--series-table", "measured.csv", "--series-column", "stay", "--series-step", 60)
    words += ("--label", "died", "--patient", "who", "--attribute", "sex")
    words += ("--backbone", "conv1d", "--weights", "none", "--epochs", 1)
    flags = ("--cache", tmp_path / "cache", "--out", tmp_path / "run")
    ended = evenhand("finetune", path, *words, *flags)
    assert ended.status == 0, ended.err


def test_one_variable_in_two_spellings(path):
    table = pd.read_csv(path.parent / "measured.csv")
    table.loc[table.index % 2 == 0, "variable"] = table["variable"].str.upper()
    table.to_csv(path.parent / "measured.csv", index=False)
    with pytest.raises(EvenhandError, match="--merge variable="):
        opened(path)
    cohort = opened(path, merge=("variable=pulse,PULSE", "variable=spo2,SPO2"))
    assert cohort.channels == ("pulse", "spo2")
