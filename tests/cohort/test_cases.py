"""Small inputs that were misread once, where a copy of them lies beside the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evenhand.cohort.images.decoding import open_picture
from evenhand.cohort.images.dicom import cut_dicom_series, localizer_remark
from evenhand.cohort.images.volumes import cut_nifti
from evenhand.cohort.readers import open_cohort
from evenhand.cohort.settings import DataSettings


@pytest.fixture
def cases(shared_data: Path) -> Path:
    folder = shared_data.parent / "cases"
    if not folder.is_dir():
        pytest.skip(f"no cases: {folder} is absent")
    return folder


@pytest.mark.parametrize("name", ["rgb16_12bit.png", "la16_12bit.png", "grey16_12bit.png"])
def test_a_ramp_of_12_bits(cases, name):
    with pytest.raises(ValueError, match="Give --bit-depth"):
        open_picture(cases / name, None)
    result = np.asarray(open_picture(cases / name, None, bit_depth=12), int)[0, :, 0]
    assert (result[0], result[-1]) == (0, 255)
    assert set(np.diff(result)) == {8, 9}


def test_alpha_lies_over_white(cases):
    result = np.asarray(open_picture(cases / "la_only_alpha_varies.png", None), int)[0, :, 0]
    assert (result[0], result[-1]) == (255, 0)


def test_pages_are_refused(cases):
    with pytest.raises(ValueError, match="it has 2 pages"):
        open_picture(cases / "multipage.tif", None)


def test_voxels_outside_the_brain(cases):
    values = np.asarray(cut_nifti(cases / "nan_background.nii.gz", 0.5), int)
    assert (values[:, :2] == 0).all()
    assert (np.diff(values[:, 2:], axis=1) > 30).all()


def test_a_scout_among_slices(cases):
    folder = cases / "dicom_with_localizer"
    window = (-124.0, 1500.0)  # what the slices hold: from -874 to 626 in their units
    result = [
        np.asarray(cut_dicom_series(folder, place, window), int) for place in np.arange(6) / 6
    ]
    means = [slice_.mean() for slice_ in result]
    assert means == sorted(means)
    assert "scout.dcm" in localizer_remark(folder)


def test_training_and_testing_are_splits(cases):
    cohort = open_cohort(
        DataSettings(data=f"folders:{cases / 'folders_training_testing'}", positive="b")
    )
    assert cohort.classes == ("a", "b")
    assert cohort.table["split"].value_counts().to_dict() == {"train": 8, "test": 8}
