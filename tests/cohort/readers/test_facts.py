"""What single readers know of their data set, beyond what all readers must hold."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest
from tests.data import tiny

from evenhand.cohort.readers import open_cohort

# Worked out by hand from what the tiny files say, and the conventions of each data set.
KNOWN = [
    ("chexpert", "train/patient00001/study1/view1_frontal.jpg", "patient00001", "finding",
     {"sex": "male", "age": "under 60", "race": "White", "view": "Frontal"}),
    ("chexpert_full", "train/patient00041/study1/view2_lateral.jpg", "patient00041", None,
     {"sex": "male", "view": "Lateral"}),
    ("covid_ct_md", "P051-1", "P051", "COVID-19", {"sex": "male", "age": "60+"}),
    ("covid_ct_md", "cap013-1", "cap013", "other", {"sex": "male", "age": "under 60"}),  # 56
    ("covid_ct_md", "cap028-1", "cap028", "other", {"sex": "female", "age": "under 60"}),
    ("fitzpatrick17k", hashlib.md5(b"2", usedforsecurity=False).hexdigest(), None, None,
     {"skin_type": "III", "skin_tone": "I-III"}),
    ("gf3300", "data_0047", "data_0047", "glaucoma",
     {"sex": "female", "race": "White", "ethnicity": "Hispanic", "language": "others"}),
    ("globem", "INS-W_001#INS-W_1#2018-04-30", "INS-W_001", "no depression",
     {"gender": "male", "age": "under 22", "race": "Asian", "disability": "yes"}),
    ("isic2019", "ISIC_0000041", "BCN_0000020", "benign", {"sex": "male", "age": "60+"}),
    ("isic2019", "ISIC_0000000_downsampled", "ISIC_0000000_downsampled", "malignant", {}),
    ("mesa_sleep", "1-1", "1", "asleep", {"sex": "male", "age": "under 65", "race": "Black"}),
    ("mesa_sleep", "16-2", "16", "awake", {"sex": "female", "race": "Black"}),
    ("mimic3_mortality", "1_episode1_timeseries.csv", "1", "survived",
     {"sex": "female", "age": "under 65", "ethnicity": "Black"}),
    ("mimic3_mortality", "3_episode1_timeseries.csv", "3", "died", {"sex": "male"}),
    ("mimic_cxr", "02aa804e-0021-pa", "10000053", "no finding",
     {"sex": "female", "age": "60+", "race": "Black", "race_white": "non-White"}),
    ("oasis1", "OAS1_0001_MR1-1", "OAS1_0001", "healthy", {"sex": "male", "age": "under 60"}),
    ("oasis1", "OAS1_0002_MR2-1", "OAS1_0002", None, {}),
    ("ol3i", "00000000", "00000000", "ischaemic heart disease",
     {"sex": "female", "age": "under 60"}),
    ("papila", "RET002OD", "#002", "glaucoma", {"sex": "male", "age": "under 60"}),
    ("papila", "RET003OS", "#003", "glaucoma", {"sex": "female"}),
    ("physionet2012", "100", "100", "died", {"sex": "male", "icu": "coronary"}),
    ("physionet2012", "201", "201", "survived", {"sex": "female", "icu": "cardiac surgery"}),
]  # fmt: skip


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    cohorts = {}

    def open_tiny(name):
        if name not in cohorts:
            settings = tiny(name, tmp_path_factory.mktemp(name) / "data")
            cohorts[name] = open_cohort(settings.model_copy(update={"attribute": ()}))
        return cohorts[name]

    return open_tiny


@pytest.mark.parametrize(("name", "sample", "patient", "label", "levels"), KNOWN)
def test_a_known_sample(opened, name, sample, patient, label, levels):
    cohort = opened(name)
    (row,) = cohort.table[cohort.table["sample_id"] == sample].to_dict("records")
    assert patient in (None, row["patient_id"])
    assert label in (None, cohort.classes[row["label"]])
    assert {level: row[f"attr_{level}"] for level in levels} == levels


@pytest.mark.parametrize(
    ("name", "attribute", "levels"),
    [
        ("mimic3_mortality", "religion", {"CATHOLIC", "JEWISH", "unknown"}),
        ("mimic_cxr", "language", {"English", "Spanish", "unknown"}),
    ],
)
def test_what_was_not_specified_is_unknown(opened, name, attribute, levels):
    assert set(opened(name).table[f"attr_{attribute}"]) == levels


def test_chexpert_is_the_same_however_it_is_packed(opened):
    small, full = opened("chexpert"), opened("chexpert_full")
    assert full.table.equals(small.table)
    for sample in small.table["sample_id"][::7]:
        assert np.array_equal(full.read(sample), small.read(sample))


def test_a_study_of_mimic_cxr_without_a_report_has_no_label(opened):
    cohort = opened("mimic_cxr")
    assert not cohort.table["sample_id"].str.contains("-0007-").any()
    assert len(cohort) == 78


def test_mimic_cxr_takes_race_from_the_first_admission(opened):
    race = opened("mimic_cxr").table["attr_race"]
    assert set(race.unique()) == {"White", "Black", "Asian", "Hispanic", "unknown"}  # none is Other


def test_a_window_of_mesa_is_in_the_order_of_time_around_its_epoch(tmp_path):
    settings = tiny("mesa_sleep", tmp_path)
    cohort = open_cohort(settings)
    raw = pd.concat(pd.read_csv(tmp_path / f"df{part}_task1.csv") for part in ("train", "test"))
    activity = raw.loc[raw["mesaid"] == 4, "activity"].to_numpy(np.float32)
    for epoch in (60, 1, len(activity)):
        window = cohort.read(f"4-{epoch}")[:, cohort.channels.index("activity")]
        there = range(max(0, epoch - 51), min(len(activity), epoch + 50))
        padded = np.full(101, np.nan, np.float32)
        padded[np.array(there) - (epoch - 51)] = activity[list(there)]
        assert np.array_equal(window, padded, equal_nan=True)


def test_ages_of_mimic3_that_are_coded_say_who_is_younger(tmp_path):
    settings = tiny("mimic3_mortality", tmp_path)
    path = tmp_path / "demographics_rich.csv"
    table = pd.read_csv(path, dtype="str")
    table.assign(AGE=np.where(table["SUBJECT_ID"] == "1", "1", "0")).to_csv(path, index=False)
    age = open_cohort(settings).table.set_index("patient_id")["attr_age"]
    assert age["1"] == "under 65"
    assert age["3"] == "65+"


def test_a_stay_of_mimic3_is_the_last_value_of_each_of_48_hours(tmp_path):
    settings = tiny("mimic3_mortality", tmp_path)
    path = tmp_path / "train" / "1_episode1_timeseries.csv"
    header = path.read_text(encoding="utf-8").splitlines()[0].split(",")

    def line(hours, **cells):
        row = dict.fromkeys(header, "") | {"Hours": str(hours)} | cells
        return ",".join(row[name] for name in header)

    eyes = "Glascow coma scale eye opening"
    lines = [
        line(0.2, Glucose="90"),
        line(0.9, Glucose="110", **{eyes: "None"}),
        line(47.9, pH="7.4"),
        line(48.1, pH="7.1"),
    ]
    path.write_text("\n".join([",".join(header), *lines]) + "\n", encoding="utf-8")
    cohort = open_cohort(settings)
    stay = pd.DataFrame(cohort.read(path.name), columns=list(cohort.channels))
    assert len(stay) == 48
    assert stay["Glucose"].dropna().to_dict() == {0: 110}
    assert stay["pH"].dropna().to_dict() == {47: pytest.approx(7.4)}
    assert stay.loc[0, [f"{eyes}: None", f"{eyes}: To Pain"]].tolist() == [1, 0]
    seen = stay.filter(like="observed: ").stack()
    assert set(seen[seen == 1].index) == {
        (0, "observed: Glucose"),
        (0, f"observed: {eyes}"),
        (47, "observed: pH"),
    }


@pytest.mark.parametrize(
    "spell",
    [
        lambda path: path.removeprefix("CheXpert-v1.0-small/"),
        lambda path: path.removeprefix("CheXpert-v1.0-small/train/"),
        lambda path: f"/data/{path}",
        lambda path: path.replace("/", "\\"),
    ],
    ids=["no prefix", "from the patient on", "a longer prefix", "backslashes"],
)
def test_paths_of_chexpert_are_found_whatever_they_begin_with(tmp_path, spell):
    settings = tiny("chexpert", tmp_path)
    wanted = open_cohort(settings)
    table = pd.read_csv(tmp_path / "train.csv", dtype="str")
    table.assign(Path=table["Path"].map(spell)).to_csv(tmp_path / "train.csv", index=False)
    cohort = open_cohort(settings)
    assert cohort.table.equals(wanted.table)
    assert cohort.read.files == wanted.read.files
