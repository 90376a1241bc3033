"""What is particular to the readers of series."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tests.data.globem import make_globem
from tests.data.mimic3_mortality import make_mimic3_mortality

from evenhand.cohort.cohort import UnreadableError, count_groups
from evenhand.cohort.listing import verify
from evenhand.cohort.readers import open_cohort
from evenhand.cohort.readers.mimic3_mortality import CHANNELS, VARIABLES
from evenhand.cohort.settings import DataSettings
from evenhand.cohort.store.samples import store_samples
from evenhand.errors import EvenhandError


@pytest.fixture
def stays(tmp_path):
    return make_mimic3_mortality(tmp_path / "mimic3")


def write(path, *lines: dict[str, object]) -> None:
    pd.DataFrame(lines, columns=["Hours", *VARIABLES]).to_csv(path, index=False)


def test_a_stay_has_the_last_value_of_each_hour_in_the_benchmarks_channels(stays):
    write(
        stays / "train" / "1_episode1_timeseries.csv",
        {"Hours": -0.5, "Heart Rate": 10},
        {"Hours": 0.0, "Heart Rate": 80},
        {"Hours": 1.0, "Heart Rate": 90, "Glascow coma scale total": "15.0"},
        {"Hours": 1.00001, "pH": 7.4},
        {"Hours": 48.0, "Glascow coma scale eye opening": "4 Spontaneously"},
        {"Hours": 48.0000005, "Weight": 70},
        {"Hours": 48.00001, "Weight": 200},
    )
    grid = open_cohort(DataSettings(data=f"mimic3_mortality:{stays}")).read(
        "1_episode1_timeseries.csv"
    )
    position = {name: place for place, name in enumerate(CHANNELS)}
    assert len(CHANNELS) == 76
    assert grid.shape == (48, 76)
    assert grid[0, position["Heart Rate"]] == 90
    assert np.isnan(grid[1:, position["Heart Rate"]]).all()
    total = [
        place for name, place in position.items() if name.startswith("Glascow coma scale total")
    ]
    assert len(total) == 13
    assert grid[0, total].sum() == 1
    assert grid[0, position["Glascow coma scale total: 15"]] == 1
    assert grid[47, position["Glascow coma scale eye opening: 4 Spontaneously"]] == 1
    observed = grid[:, position["observed: Capillary refill rate"] :]
    assert observed.shape == (48, 17)
    assert np.flatnonzero(~np.isnan(grid[:, position["pH"]])).tolist() == [1]
    assert grid[47, position["Weight"]] == 70
    assert observed.sum() == 5
    assert set(np.unique(observed)) == {0, 1}


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ({"Hours": 1, "Heart Rate": "fast"}, "could not convert string to float: 'fast'"),
        ({"Hours": 1, "Capillary refill rate": 7}, "Capillary refill rate is '7'; known are 0, 1"),
        ({"Hours": ""}, "could not convert"),
        ({"Hours": "nan"}, "cannot convert float NaN to integer"),
    ],
)
def test_a_stay_that_cannot_be_read_is_named_with_its_row(stays, tmp_path, cells, problem):
    write(stays / "train" / "1_episode1_timeseries.csv", cells)
    cohort = open_cohort(DataSettings(data=f"mimic3_mortality:{stays}"))
    with pytest.raises(UnreadableError, match=problem) as error:
        store_samples(cohort, None, tmp_path / "cache")
    assert "train/1_episode1_timeseries.csv (train/listfile.csv:2)" in str(error.value)


def test_the_benchmarks_split_is_kept_where_its_lists_are(stays):
    settings = DataSettings(data=f"mimic3_mortality:{stays}")
    split = open_cohort(settings).table["split"].value_counts()
    assert set(split.index) == {"train", "val", "test"}
    (stays / "val_listfile.csv").unlink()
    cohort = open_cohort(settings)
    assert "split" not in cohort.table
    assert cohort.source.notes == (
        "The benchmark's split (train_listfile.csv, test_listfile.csv) is not kept: there is no "
        "val_listfile.csv.",
    )
    for part in ("train", "test"):
        (stays / f"{part}_listfile.csv").unlink()
    assert open_cohort(settings).source.notes == ()


def test_stays_that_no_list_names_are_noted(stays):
    write(stays / "train" / "99_episode1_timeseries.csv", {"Hours": 1, "Heart Rate": 80})
    data = f"mimic3_mortality:{stays}"
    (note,) = open_cohort(DataSettings(data=data)).source.notes
    assert note.startswith("1 of the files below the folder are named by no row")
    assert "train/99_episode1_timeseries.csv" in note
    assert note in verify(data)


def test_mimic3s_own_tables_say_who_the_subjects_are(stays):
    settings = DataSettings(data=f"mimic3_mortality:{stays}")
    wanted = open_cohort(settings).table
    (stays / "demographics_rich.csv").unlink()
    assert open_cohort(settings).table.equals(wanted)


def test_an_attribute_of_mimic3_names_the_tables_that_it_needs(stays):
    def refused(attribute: str) -> str:
        with pytest.raises(EvenhandError) as error:
            open_cohort(DataSettings(data=f"mimic3_mortality:{stays}", attribute=(attribute,)))
        return str(error.value)

    (stays / "demographics_rich.csv").unlink()
    (stays / "ADMISSIONS.csv.gz").unlink()
    text = refused("sex*age")
    assert f"{stays} lacks demographics*.csv (SUBJECT_ID, LANGUAGE" in text
    assert "or ADMISSIONS.csv* (SUBJECT_ID, ADMITTIME, LANGUAGE" in text
    assert "the attribute 'age'" in text
    (stays / "PATIENTS.csv").unlink()
    assert "or PATIENTS.csv* (SUBJECT_ID, GENDER, DOB" in refused("sex")
    table = open_cohort(DataSettings(data=f"mimic3_mortality:{stays}")).table
    assert set(table["attr_age"]) == set(table["attr_religion"]) == {"unknown"}


def test_an_age_that_is_only_under_65_or_not(stays):
    settings = DataSettings(data=f"mimic3_mortality:{stays}")
    wanted = open_cohort(settings).table["attr_age"]
    path = stays / "demographics_rich.csv"
    people = pd.read_csv(path)
    people.assign(AGE=(people["AGE"] < 65).astype(int)).to_csv(path, index=False)
    assert open_cohort(settings).table["attr_age"].equals(wanted)


def test_a_survey_has_the_28_days_that_end_on_its_day(tmp_path):
    root = make_globem(tmp_path / "globem")
    cohort = open_cohort(DataSettings(data=f"globem:{root}"))
    name = "f_steps:phone_steps_rapids_mean:allday"
    steps = pd.read_csv(root / "INS-W_1" / "FeatureData" / "steps.csv")
    own = steps[steps["pid"] == "INS-W_003"].set_index("date")[name]
    days = pd.date_range("2018-04-03", "2018-04-30").strftime("%Y-%m-%d")
    result = cohort.read("INS-W_003#INS-W_1#2018-04-30")[:, cohort.channels.index(name)]
    assert np.array_equal(result, own.reindex(days).to_numpy(np.float32), equal_nan=True)
    early = cohort.read("INS-W_003#INS-W_1#2018-04-07")
    assert np.isnan(early[:21]).all()  # before the study began
    assert not any("_dis" in channel or "14dhist" in channel for channel in cohort.channels)


def test_who_takes_part_twice_is_one_patient(tmp_path):
    cohort = open_cohort(DataSettings(data=f"globem:{make_globem(tmp_path / 'globem')}"))
    study = cohort.table["sample_id"].str.split("#").str[1]
    assert cohort.table.groupby(study)["patient_id"].nunique().tolist() == [30, 30]
    assert cohort.table["patient_id"].nunique() == 50


@pytest.mark.slow
def test_the_public_sample_of_globem(shared_data, tmp_path):
    cohort = open_cohort(DataSettings(data=f"globem:{shared_data / 'globem_sample'}"))
    assert len(cohort) == 60
    assert cohort.table["patient_id"].nunique() == 20
    assert len(cohort.channels) == 1390
    platform = count_groups(cohort, "platform").set_index("group")["patients"].to_dict()
    assert platform["android"] + platform["ios"] == 20
    stored = store_samples(cohort, None, tmp_path)
    assert stored.read(cohort.table["sample_id"][0]).shape == (28, 1390)
    assert np.isfinite(stored.read.samples).mean() > 0.3


@pytest.mark.slow
def test_the_published_table_of_fitzpatrick17k(shared_data, tmp_path):
    table = pd.read_csv(shared_data / "fitzpatrick17k.csv")
    table.to_csv(tmp_path / "fitzpatrick17k.csv", index=False)
    (tmp_path / "images").mkdir()
    for name in table["md5hash"]:
        (tmp_path / "images" / f"{name}.jpg").touch()
    cohort = open_cohort(DataSettings(data=f"fitzpatrick17k:{tmp_path}"))
    assert len(cohort) == 16_577
    types = count_groups(cohort, "skin_type").set_index("group")["n"].to_dict()
    wanted = {"I": 2947, "II": 4808, "III": 3308, "IV": 2781, "V": 1533, "VI": 635}
    assert types == {**wanted, "unknown": 565}
    tone = count_groups(cohort, "skin_tone").set_index("group")
    assert tone["n"].to_dict() == {"I-III": 11_063, "IV-VI": 4_949, "unknown": 565}
    assert tone["positives"].sum() == 2_263
    for label, classes in (("three", 3), ("nine", 9), ("condition", 114)):
        settings = DataSettings(data=f"fitzpatrick17k:{tmp_path}", label=label)
        assert len(open_cohort(settings).classes) == classes
