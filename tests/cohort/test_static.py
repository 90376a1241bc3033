"""What is known of a patient from the start: read with a series, said, and refused where wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.command import evenhand
from tests.data.physionet2012 import make_physionet2012
from tests.data.series_table import CHANNELS, make_series_table

from evenhand import load_model
from evenhand.cohort.readers import open_cohort
from evenhand.cohort.settings import DataSettings
from evenhand.cohort.store.samples import store_samples
from evenhand.errors import EvenhandError
from evenhand.files import read_json

COLUMNS = {"series_column": "signal", "label": "finding", "patient": "person"}
WORDS = ("--series-column", "signal", "--label", "finding", "--patient", "person")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    table = make_series_table(tmp_path, patients=10)
    frame = pd.read_csv(table).assign(weight=lambda rows: 50.5 + rows.index)
    frame.loc[4, "weight"] = None
    frame.to_csv(table, index=False)
    return table


def opened(path: Path, **more):
    return open_cohort(DataSettings(**{"data": str(path), **COLUMNS, **more}))


def test_a_column_is_a_channel_that_is_observed_in_the_first_step(path):
    cohort = opened(path, static=("weight",))
    assert cohort.channels == (*CHANNELS, "weight")
    name = cohort.table["sample_id"].iloc[3]
    values = cohort.read(name)
    assert np.array_equal(values[:, :3], opened(path).read(name), equal_nan=True)
    assert values[0, 3] == 53.5
    assert np.isnan(values[1:, 3]).all()
    assert np.isnan(cohort.read(cohort.table["sample_id"].iloc[4])[:, 3]).all()  # a blank cell


def test_without_static_nothing_changes_and_with_it_the_fingerprint_does(path):
    marks = {opened(path, static=names).source.fingerprint for names in ((), ("weight",))}
    assert len(marks) == 2


def test_the_samples_are_stored_with_their_static_channels(path, tmp_path):
    stored = store_samples(opened(path, static=("weight",)), None, tmp_path / "cache")
    name = stored.table["sample_id"].iloc[3]
    assert opened(path, static=("weight",)).read(name)[0, 3] == 53.5
    assert stored.channels[-1] == "weight"


@pytest.mark.parametrize(
    ("static", "message"),
    [
        (("finding",), "--static finding: this is the label, the sample or the patient"),
        (("person",), "--static person: this is the label, the sample or the patient"),
        (("skin",), r"the 'skin' is no finite number. Give --static a column of 0 and 1"),
        (("mass",), "mass"),
        (("pulse",), "--static pulse: the series have a channel of that name"),
    ],
)
def test_what_is_no_number_or_must_not_be_read_is_refused(path, static, message):
    frame = pd.read_csv(path).assign(skin="light", pulse=1.0)
    frame.to_csv(path, index=False)
    with pytest.raises(EvenhandError, match=message):
        opened(path, static=static)


def test_images_have_no_static_channels(path):
    with pytest.raises(EvenhandError, match="--static cannot be given with a table of images"):
        opened(path, series_column=None, image_column="signal", static=("weight",))


def test_physionet_names_what_is_known_at_admission(tmp_path):
    root = make_physionet2012(tmp_path)
    data = f"physionet2012:{root}"
    cohort = open_cohort(DataSettings(data=data, static=("age", "sex", "height", "icu")))
    units = ("coronary", "cardiac surgery", "medical", "surgical")
    added = ("age", "male", "height", *(f"icu: {unit}" for unit in units))
    assert cohort.channels[37:] == added
    first, third = cohort.read("100")[0, 37:], cohort.read("102")[0, 37:]
    assert np.array_equal(first, [30, 1, np.nan, 1, 0, 0, 0], equal_nan=True)
    assert np.array_equal(third, [34, np.nan, np.nan, 0, 0, 1, 0], equal_nan=True)  # sex unknown
    with pytest.raises(EvenhandError, match="no --static of physionet2012 'weight'"):
        open_cohort(DataSettings(data=data, static=("weight",)))


def test_a_run_says_that_the_model_reads_a_protected_attribute(path, tmp_path):
    out, cache = tmp_path / "run", ("--cache", tmp_path / "cache")
    flags = (
        "--attribute",
        "years",
        "--bins",
        "years=25",
        "--static",
        "years",
        "--static",
        "weight",
    )
    words = (*WORDS, *flags, "--backbone", "gru", "--weights", "none", "--epochs", 1)
    ended = evenhand("finetune", path, *words, *cache, "--out", out)
    assert ended.status == 0, ended.err
    (note,) = [note for note in read_json(out / "run.json")["notes"] if "--static" in note]
    assert "years, weight (--static). Protected attributes among them: years." in note
    assert load_model(out / "models" / "full").spec.inputs.channels[3:] == ("years", "weight")
    ended = evenhand("predict", out, path, *cache, "--out", tmp_path / "again")
    assert ended.status == 0, ended.err  # which inherits --static
