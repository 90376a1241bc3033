"""A user's own table of series, one CSV each."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from tests.command import evenhand
from tests.data.series_table import CHANNELS, STEPS, make_series, make_series_table

from evenhand.cohort.cohort import UnreadableError
from evenhand.cohort.readers import open_cohort
from evenhand.cohort.settings import DataSettings
from evenhand.cohort.store.samples import store_samples
from evenhand.errors import EvenhandError

COLUMNS = {"series_column": "signal", "label": "finding", "patient": "person"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_series_table(tmp_path, patients=10)


def opened(path: Path, **more):
    return open_cohort(DataSettings(**{"data": str(path), **COLUMNS, **more}))


def refusal(path: Path) -> str:
    """Return what is said when the samples are decoded."""
    with pytest.raises(UnreadableError) as error:
        store_samples(opened(path), None, path.parent / "cache")
    return str(error.value)


def test_rows_are_time_steps_and_columns_are_channels(path):
    cohort = opened(path)
    assert cohort.channels == CHANNELS
    content = cohort.read("series/004.csv")
    assert content.shape == (STEPS, len(CHANNELS))
    assert np.array_equal(content, make_series(4).to_numpy(np.float32), equal_nan=True)


def test_columns_may_come_in_any_order(path):
    series = path.parent / "series" / "004.csv"
    make_series(4)[list(reversed(CHANNELS))].to_csv(series, index=False)
    content = opened(path).read("series/004.csv")
    assert np.array_equal(content, make_series(4).to_numpy(np.float32), equal_nan=True)


def test_a_blank_line_of_one_channel_is_a_step(path):
    for number in range(20):
        (path.parent / "series" / f"{number:03d}.csv").write_text("pulse\n1\n\nNA\n4\n")
    content = opened(path).read("series/004.csv")
    assert np.array_equal(content[:, 0], [1, np.nan, np.nan, 4], equal_nan=True)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("pulse,spo2,temp\n1,2,3\n", r"has 1 time steps instead of 6, unlike .*/000\.csv\."),
        (
            "pulse,spo2,hr,ph\n1,2,3,4\n",
            r"lacks the columns temp and has also hr, ph, unlike .*/000",
        ),
        ("pulse,spo2,temp\n1,2,3\n1,,much\n", "cannot be read: row 3: 'temp' is no number: 'much'"),
        ("pulse,spo2,temp\n1,2,3\n1,2\n", r"cannot be read: .*Row #3: Expected 3 columns, got 2"),
        ("pulse,spo2,temp\n1,2,3\n1,1e60,3\n", "cannot be read: row 3 holds a number that is not"),
        ("pulse,spo2,temp\n,,\n", "cannot be read: nothing was observed in it"),
        ("pulse,spo2,temp\n", "cannot be read: it has no row below the header"),
        ("", "cannot be read: it has no row below the header"),
        ("pulse,spo2,spo2\n1,2,3\n", "cannot be read: row 1, .*, repeats spo2"),
        ("pulse,,temp\n1,2,3\n", "cannot be read: row 1, .*, has a column without a name"),
    ],
)
def test_a_series_that_is_unlike_the_others_is_named_with_its_row(path, text, problem):
    (path.parent / "series" / "004.csv").write_text(text)
    named = re.escape(f"{path.parent}/series/004.csv ({path}, row 6) ")
    assert re.search(named + problem, refusal(path))
    stored = store_samples(opened(path), None, path.parent / "cache", skip_unreadable=True)
    assert len(stored) == 19
    assert len(stored.source.left_out) == 1


def test_the_form_is_that_of_the_first_series_that_can_be_read(path):
    (path.parent / "series" / "000.csv").write_text("torn")
    assert opened(path).channels == CHANNELS
    assert refusal(path).startswith("1 of 20 samples cannot be read")


def test_no_series_at_all(path):
    for file in (path.parent / "series").iterdir():
        file.write_bytes(b"\xff\xfe")
    with pytest.raises(UnreadableError, match=r"000\.csv \(.*cohort\.csv, row 2\) cannot be read"):
        opened(path)


def test_a_series_that_is_not_there(path):
    (path.parent / "series" / "004.csv").unlink()
    with pytest.raises(EvenhandError, match=r"cohort\.csv, row 6: 1 of 20 files is absent: .*004"):
        opened(path)


def test_a_table_is_of_images_or_of_series(path):
    with pytest.raises(EvenhandError, match="give --image-column or --series-column, not both"):
        opened(path, image_column="signal")
    with pytest.raises(EvenhandError, match="needs --image-column or --series-column and --label"):
        opened(path, series_column=None, label=None)


def test_a_model_is_tuned_and_a_channel_without_values_is_said(path, tmp_path):
    for number, file in enumerate(sorted((path.parent / "series").iterdir())):
        make_series(number).assign(temp=np.nan).to_csv(file, index=False)
    words = ("--series-column", "signal", "--label", "finding", "--patient", "person")
    words += ("--attribute", "skin", "--backbone", "conv1d", "--weights", "none", "--epochs", 1)
    out = tmp_path / "run"
    ended = evenhand("finetune", path, *words, "--cache", tmp_path / "cache", "--out", out)
    assert ended.status == 0, ended.err
    assert "never observed in training patients" in (out / "run.json").read_text()
