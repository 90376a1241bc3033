"""OL3I, whose slices lie in one HDF5 file."""

from __future__ import annotations

import multiprocessing
import os
import re
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from tests.data.ol3i import make_ol3i
from tests.data.pictures import truncate

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.listing import verify
from evenhand.cohort.prepare import prepare_splits
from evenhand.cohort.readers import open_cohort
from evenhand.cohort.settings import DataSettings, SplitSettings
from evenhand.cohort.store.samples import store_samples
from evenhand.errors import EvenhandError

FIRST, SECOND = "00000000", "00001eef"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_ol3i(tmp_path / "ol3i")


def opened(root: Path, **more) -> Cohort:
    return open_cohort(DataSettings(data=f"ol3i:{root}", **more))


def refusal(root: Path) -> str:
    with pytest.raises(EvenhandError) as error:
        opened(root)
    return str(error.value)


def test_a_slice_is_shown_through_the_window_of_soft_tissue(root):
    with h5py.File(root / "l3_slices.h5") as file:
        units = file[SECOND][()].astype(float)
    seen = opened(root).read(SECOND)[..., 0]
    wanted = np.clip((units - (40 - 200)) / 400, 0, 1) * 255  # centre 40, width 400
    assert np.abs(seen - wanted).max() <= 0.51


@pytest.mark.parametrize(("label", "samples"), [("1y", 60), ("5y", 40)])
def test_each_label_has_its_published_split(root, label, samples):
    settings = DataSettings(data=f"ol3i:{root}", label=label, cache=root / "cache")
    splits = prepare_splits(SplitSettings(**settings.model_dump()), 8, np.random.default_rng(0))
    published = pd.read_csv(root / "clinical_data.csv").set_index("anon_id")[f"set_{label}"]
    for name, part in splits.items():
        assert set(part.table["sample_id"]) == set(published.index[published == name])
    assert sum(len(part) for _, part in splits.items()) == samples


def test_a_split_of_another_name_is_refused(root):
    path = root / "clinical_data.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("val", "tune"), encoding="utf-8")
    assert re.search(r"clinical_data\.csv, rows 14.*: the split must be one of", refusal(root))


def test_a_patient_without_a_slice_and_a_slice_without_a_patient(root):
    with h5py.File(root / "l3_slices.h5", "a") as file:
        file.move(SECOND, "extra")
    slices = root / "l3_slices.h5"
    assert f"row 3: 1 of 60 files is absent: {slices}/{SECOND}." in refusal(root)
    cohort = opened(root, skip_unreadable=True)
    assert SECOND not in set(cohort.table["sample_id"])
    assert cohort.source.left_out == (
        f"{slices}/{SECOND} ({root / 'clinical_data.csv'}, row 3) is absent",
    )
    assert f"{slices}/extra" in cohort.source.notes[0]


@pytest.mark.parametrize("damage", [truncate, lambda path: path.write_bytes(b"garbage")])
def test_a_file_that_is_not_whole_is_refused(root, damage):
    damage(root / "l3_slices.h5")
    assert re.search(r"l3_slices\.h5 cannot be read as HDF5: .* Download it again", refusal(root))


@pytest.mark.parametrize("bad", ["group", "text", "cube"])
def test_what_is_no_plane_is_left_out_when_asked(root, bad, tmp_path):
    with h5py.File(root / "l3_slices.h5", "a") as file:
        del file[FIRST]
        if bad == "group":
            file.create_group(FIRST)
        else:
            file[FIRST] = "text" if bad == "text" else np.zeros((2, 2, 2))
    cohort = opened(root)
    stored = store_samples(cohort, 8, tmp_path, skip_unreadable=True)
    assert len(stored) == len(cohort) - 1
    assert re.match(r".*l3_slices\.h5 \(.*row 2\) cannot be read: ", stored.source.left_out[0])


def test_a_file_that_changes_makes_other_data(root):
    before = opened(root).source.fingerprint
    os.utime(root / "l3_slices.h5", (1, 1))
    assert opened(root).source.fingerprint != before


def test_a_link_that_leads_outside_is_refused_once(root, tmp_path):
    slices = root / "l3_slices.h5"
    slices.rename(tmp_path / "outside.h5")
    slices.symlink_to(tmp_path / "outside.h5")
    assert f": {slices} is a link that leads outside" in refusal(root)


def test_the_file_is_not_among_those_that_no_sample_uses(root):
    assert "no sample uses" not in verify(f"ol3i:{root}")


@pytest.mark.parametrize(
    "workers",
    [
        lambda: ThreadPoolExecutor(8),
        pytest.param(
            lambda: ProcessPoolExecutor(2, multiprocessing.get_context("spawn")),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_many_at_once_read_what_one_reads(root, workers):
    read = opened(root).read
    wanted = [read(name) for name in read.ids]
    pool: Executor
    with workers() as pool:
        result = list(pool.map(read, read.ids))
    assert all(map(np.array_equal, result, wanted))
