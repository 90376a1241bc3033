"""PhysioNet 2012: the hourly grid, attributes, and what is refused or left out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from tests.data.physionet2012 import make_physionet2012, write_stay

from evenhand.cohort.cohort import Cohort, UnreadableError
from evenhand.cohort.listing import verify
from evenhand.cohort.readers import open_cohort
from evenhand.cohort.readers.physionet2012 import CHANNEL_INDEX, CHANNELS
from evenhand.cohort.settings import DataSettings
from evenhand.cohort.store.samples import store_samples
from evenhand.errors import EvenhandError


@pytest.fixture
def root(tmp_path) -> Path:
    return make_physionet2012(tmp_path / "physionet")


def opened(root: Path, **changes) -> Cohort:
    return open_cohort(DataSettings(data=f"physionet2012:{root}", **changes))


def test_each_hour_is_the_mean_of_what_was_measured_in_it(root):
    lines = ("00:00,HR,80", "01:05,HR,60", "01:59,HR,90", "48:00,HR,100", "10:00,Temp,-1")
    write_stay(root / "set-a" / "100.txt", 0, tuple(sorted(lines)))
    values = opened(root).read("100")
    assert values.shape == (48, 37)
    assert values[[0, 1, 47], CHANNEL_INDEX["HR"]].tolist() == [80, 75, 100]
    assert np.isnan(values[2:47, CHANNEL_INDEX["HR"]]).all()
    assert np.isnan(values[:, CHANNEL_INDEX["Temp"]]).all()  # -1 is no temperature


def test_there_are_36_parameters_and_weight():
    assert len(set(CHANNELS)) == 37
    assert CHANNELS[-1] == "Weight"


def test_sets_are_read_together_with_their_attributes(root):
    table = opened(root).table.set_index("sample_id")
    assert len(table) == 90
    assert table.loc[["200", "300"], "label"].tolist() == [1, 1]
    assert table.loc[["100", "101", "102"], "attr_sex"].tolist() == ["male", "female", "unknown"]
    assert table.loc[["117", "118"], "attr_age"].tolist() == ["under 65", "65+"]
    assert table.loc["102", "attr_icu"] == "medical"


def test_an_unknown_age_is_no_young_age(root):
    file = root / "set-a" / "103.txt"
    file.write_text(file.read_text().replace("Age,36", "Age,-1"))
    table = opened(root).table.set_index("sample_id")
    assert table.loc["103", "attr_age"] == "unknown"


def test_other_bins(root):
    cohort = opened(root, attribute=("age",), bins=("age=40,80",))
    assert cohort.levels["age"] == ("under 40", "40-79", "80+")


def test_a_stay_without_measurement_is_left_out_and_recorded(root):
    write_stay(root / "set-a" / "104.txt", 4, ())
    cohort = opened(root)
    assert "104" not in set(cohort.table["sample_id"])
    assert cohort.source.left_out == (f"{root}/set-a/104.txt holds no measurement",)
    result = verify(f"physionet2012:{root}")
    assert f"left out: 1 sample: {root}/set-a/104.txt holds no measurement" in result


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("03:00,Pulse,80", "row 10: there is no parameter 'Pulse'; there are: RecordID, Age"),
        ("01:00,HR,80", "row 10: the time 01:00 is earlier than the row above"),
        ("48:01,HR,80", "row 10: the time 48:01 is beyond 48 hours"),
        ("03:00,HR,fast", "row 10: '03:00,HR,fast' is no hh:mm,NAME,VALUE"),
        ("03:00,HR", "row 10: '03:00,HR' is no hh:mm,NAME,VALUE"),
    ],
)
def test_a_damaged_stay_is_named_with_file_and_row(root, tmp_path, line, message):
    write_stay(root / "set-a" / "105.txt", 5, ("02:00,HR,70", "02:10,HR,71", line))
    cohort = opened(root)
    with pytest.raises(UnreadableError) as error:
        store_samples(cohort, None, tmp_path / "cache")
    assert f"set-a/105.txt, {message}" in str(error.value)
    stored = store_samples(cohort, None, tmp_path / "cache", skip_unreadable=True)
    assert len(stored) == 89
    assert message in stored.source.left_out[0]


def test_outcomes_without_a_stay_and_the_reverse(root):
    (root / "set-a" / "106.txt").unlink()
    with pytest.raises(EvenhandError, match=r"Outcomes-a.txt, row 8: there is no file set-a/"):
        opened(root)
    write_stay(root / "set-a" / "106.txt", 6)
    write_stay(root / "set-b" / "999.txt", 9)
    with pytest.raises(EvenhandError, match=r"Outcomes-b.txt has no outcome for 1 stays"):
        opened(root)


@pytest.mark.parametrize(
    ("gone", "message"),
    [("Outcomes-b.txt", "Outcomes-b.txt for set-b"), ("set-c", "set-c for Outcomes-c.txt")],
)
def test_half_a_set_is_refused(root, gone, message):
    (root / gone).rename(root.parent / gone)
    for read in (opened, lambda root: verify(f"physionet2012:{root}")):
        with pytest.raises(EvenhandError, match=f"lacks {message}. Put it there"):
            read(root)


def test_another_label(root):
    with pytest.raises(EvenhandError, match="no label of physionet2012 'los'"):
        opened(root, label="los")


def test_the_real_stays(shared_data):
    cohort = opened(shared_data / "physionet2012")
    assert len(cohort) == 3997
    assert cohort.labels.sum() == 554
    assert len(cohort.source.left_out) == 3
    assert cohort.read("132539")[0, CHANNEL_INDEX["Temp"]] == np.float32(35.35)  # of 35.1 and 35.6


def test_a_stay_that_changes_makes_other_data(root):
    before = opened(root).source.fingerprint
    os.utime(root / "set-a" / "105.txt", (1, 1))
    assert opened(root).source.fingerprint != before


def test_a_link_to_nowhere_counts_as_absent(root):
    stay = root / "set-a" / "105.txt"
    stay.unlink()
    stay.symlink_to(root / "gone.txt")
    with pytest.raises(EvenhandError, match=r"there is no file set-a/<RecordID>.txt"):
        opened(root)
