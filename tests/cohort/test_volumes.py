"""Pictures out of volumes, DICOM files and arrays."""

from __future__ import annotations

import struct
import zipfile

import nibabel
import numpy as np
import pydicom
import pytest
from tests.cohort.readers.test_conformance import SIZE
from tests.data import tiny
from tests.data.covid_ct_md import make_covid_ct_md
from tests.data.dicom import write_dicom
from tests.data.oasis1 import make_oasis1

from evenhand.cohort import registry
from evenhand.cohort.cohort import UnreadableError
from evenhand.cohort.images.arrays import open_npz
from evenhand.cohort.images.bounds import decoding_room
from evenhand.cohort.images.dicom import cut_dicom_series, open_dicom
from evenhand.cohort.images.planes import grey_plane
from evenhand.cohort.images.volumes import SOFT_TISSUE, cut_nifti, slice_positions
from evenhand.cohort.readers import open_cohort
from evenhand.cohort.settings import DataSettings
from evenhand.cohort.store.samples import store_samples
from evenhand.errors import EvenhandError


def ramp(path, axis: int):
    """Write a NIfTI volume that is brighter towards one end of an axis (right, front, top)."""
    values = np.broadcast_to(
        np.arange(10.0).reshape([-1 if a == axis else 1 for a in range(3)]), (10, 10, 10)
    )
    nibabel.Nifti1Image(values.astype(np.float32), np.eye(4)).to_filename(path)
    return path


def test_an_axial_slice_lies_with_the_front_above_and_left_at_left(tmp_path):
    front = np.asarray(cut_nifti(ramp(tmp_path / "front.nii", 1), 0.5), int)
    assert front[0].mean() > 250
    assert front[-1].mean() < 5
    right = np.asarray(cut_nifti(ramp(tmp_path / "right.nii.gz", 0), 0.5), int)
    assert right[:, -1].mean() > right[:, 0].mean()


def test_a_volume_stored_the_other_way_round_gives_the_same_slice(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.random((8, 9, 10)).astype(np.float32)
    nibabel.Nifti1Image(values, np.eye(4)).to_filename(tmp_path / "one.nii")
    flipped = nibabel.Nifti1Image(values[:, :, ::-1], np.diag([1.0, 1, -1, 1]))
    flipped.to_filename(tmp_path / "two.nii")
    first, two = (np.asarray(cut_nifti(tmp_path / name, 0.3)) for name in ("one.nii", "two.nii"))
    assert np.array_equal(first, two)


def test_a_volume_whose_axes_are_not_three_is_refused(tmp_path):
    flat = nibabel.Nifti1Image(np.ones((3, 4, 5), np.float32), None)
    flat.header.set_sform(np.diag([1.0, 1.0, 0.0, 1.0]), code=1)
    flat.to_filename(tmp_path / "flat.nii")
    with pytest.raises(ValueError, match="orientation"):
        cut_nifti(tmp_path / "flat.nii", 0.5)


@pytest.mark.parametrize("slices", [1, 2, 5, 32])
def test_slices_lie_evenly_in_the_middle_half(slices):
    result = slice_positions(slices)
    assert len(set(result)) == slices
    assert result.min() > 0.25
    assert result.max() < 0.75
    assert np.allclose(result + result[::-1], 1)


def test_a_window_says_what_is_black_and_what_white(tmp_path):
    write_dicom(tmp_path / "slice.dcm", 0)
    units = pydicom.dcmread(tmp_path / "slice.dcm").pixel_array.astype(float) - 1024
    centre, width = SOFT_TISSUE
    values = np.asarray(open_dicom(tmp_path / "slice.dcm", None, SOFT_TISSUE), int)
    wanted = ((units - centre + width / 2) / width).clip(0, 1) * 255
    assert np.abs(values - wanted).max() <= 0.51


def test_a_negative_is_turned_over(tmp_path):
    write_dicom(tmp_path / "slice.dcm", 0)
    dicom = pydicom.dcmread(tmp_path / "slice.dcm")
    dicom.PhotometricInterpretation = "MONOCHROME1"
    dicom.save_as(tmp_path / "negative.dcm")
    first, two = (
        np.asarray(open_dicom(tmp_path / name, None, SOFT_TISSUE), int)
        for name in ("slice.dcm", "negative.dcm")
    )
    assert np.abs(first + two - 255).max() <= 1


# What five slices, named IM8 … IM12, have in their headers; 3 of each is the middle.
LOCATED = [{"SliceLocation": -100.5 + order} for order in (4, 1, 5, 3, 2)]
HIGH = [{"ImagePositionPatient": [9.0, 0.0, 0.5 * order]} for order in (4, 1, 5, 3, 2)]
NUMBERED = [{"InstanceNumber": order} for order in (4, 1, 5, 3, 2)]
SAGITTAL = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}
LEFTWARDS = [
    {"ImagePositionPatient": [3.0 * order, -80.0, 90.0 - 1e-3 * order], **SAGITTAL}
    for order in (4, 1, 5, 3, 2)
]
OTHERWISE = [{"InstanceNumber": order} for order in (3, 1, 2, 4, 5)]


@pytest.mark.parametrize(
    ("headers", "order"),
    [
        (
            [item | other for item, other in zip(LOCATED, OTHERWISE, strict=True)],
            (9, 12, 11, 8, 10),
        ),
        ([item | other for item, other in zip(HIGH, OTHERWISE, strict=True)], (9, 12, 11, 8, 10)),
        (
            [item | other for item, other in zip(LEFTWARDS, OTHERWISE, strict=True)],
            (9, 12, 11, 8, 10),
        ),
        ([{"SliceLocation": None} | item for item in NUMBERED], (9, 12, 11, 8, 10)),
        ([*LOCATED[:4], {}], (8, 9, 10, 11, 12)),
        ([{}] * 5, (8, 9, 10, 11, 12)),
    ],
    ids=["location", "height", "sagittal", "number", "one without", "name"],
)
def test_slices_of_a_series_are_in_the_order_of_their_places(tmp_path, headers, order):
    for number, header in zip(range(8, 13), headers, strict=True):
        write_dicom(tmp_path / f"IM{number}.dcm", number, **header)
    for place, number in zip((0.0, 0.3, 0.5, 0.7, 1.0), order, strict=True):
        values = np.asarray(cut_dicom_series(tmp_path, place, SOFT_TISSUE))
        wanted = np.asarray(open_dicom(tmp_path / f"IM{number}.dcm", None, SOFT_TISSUE))
        assert np.array_equal(values, wanted)


def test_a_slice_that_is_added_takes_its_place(tmp_path):
    for number in (1, 2):
        write_dicom(tmp_path / f"IM{number}.dcm", number, SliceLocation=number)
    before = np.asarray(cut_dicom_series(tmp_path, 0.0, SOFT_TISSUE))
    write_dicom(tmp_path / "IM3.dcm", 3, SliceLocation=-1)
    assert not np.array_equal(np.asarray(cut_dicom_series(tmp_path, 0.0, SOFT_TISSUE)), before)


def test_a_header_that_cannot_be_read_is_named(tmp_path):
    write_dicom(tmp_path / "IM1.dcm", 1)
    (tmp_path / "IM2.dcm").write_bytes(b"garbage")
    with pytest.raises(ValueError, match=r"IM2\.dcm: "):
        cut_dicom_series(tmp_path, 0.0, SOFT_TISSUE)


def damaged(path, how: str) -> None:
    """Write a DICOM file with something wrong in it that pydicom, or a decoder, trips over."""
    write_dicom(path, 0)
    if how == "odd bytes":
        rows = b"\x28\x00\x10\x00US"  # an integer of two bytes, and now of three
        raw = path.read_bytes().replace(rows + b"\x02\x00", rows + b"\x03\x00\x00")
        path.write_bytes(raw)
        return
    result = pydicom.dcmread(path)
    if how == "empty slope":
        result.RescaleSlope = None
    elif how == "many slopes":
        result.RescaleSlope = [1, 2]
    else:
        result.PixelData = pydicom.encaps.encapsulate([b"garbage"])
        result["PixelData"].is_undefined_length = True
        result.file_meta.TransferSyntaxUID = how
    result.save_as(path)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("empty slope", "its RescaleSlope is empty"),
        ("many slopes", "MultiValue"),
        ("odd bytes", "multiple of bytes per value"),
        (pydicom.uid.JPEG2000Lossless, "nable to decode"),
        (pydicom.uid.RLELossless, "nable to decode"),
        (pydicom.uid.MPEG2MPML, "compressed as MPEG2"),
    ],
)
def test_damage_is_told_and_left_out_when_asked(tmp_path, how, message):
    data = tmp_path / "data"
    make_covid_ct_md(data, 12)
    for path in (data / "COVID-19 Cases" / "P000").iterdir():
        damaged(path, how)
    cohort = open_cohort(DataSettings(data=f"covid_ct_md:{data}"))
    with pytest.raises(UnreadableError, match=message):
        cohort.read("P000-1")
    stored = store_samples(cohort, SIZE, tmp_path / "cache", skip_unreadable=True)
    assert len(stored) == len(cohort) - 1


def test_an_array_under_another_name_or_of_another_shape(tmp_path):
    np.savez(tmp_path / "map.npz", other=np.zeros((3, 3)), rnflt=np.zeros(3))
    with pytest.raises(ValueError, match="missing"):
        open_npz(tmp_path / "map.npz", None, "missing", (0, 1))
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        open_npz(tmp_path / "map.npz", None, "rnflt", (0, 1))


def npy(header: str, version: tuple[int, int] = (1, 0)) -> bytes:
    size = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + size + header.encode() + bytes(64)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 4)}\n", (3, 0)), "version"),
        (npy("{'descr': '<U4', 'fortran_order': False, 'shape': (2, 2)}\n"), "not real numbers"),
        (npy("{'descr': '<c8', 'fortran_order': False, 'shape': (2, 2)}\n"), "not real numbers"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (2, 2)}\n"), "not real numbers"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4)}\n"), "where a plane"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999, 99999)}\n"), "pixels"),
        (npy("(" * 5000, (2, 0)), "EOF in multi-line statement"),
        (b"", "EOF: reading magic string"),
    ],
)
def test_an_array_with_an_odd_header(tmp_path, content, problem):
    with zipfile.ZipFile(tmp_path / "map.npz", "w") as file:
        file.writestr("rnflt.npy", content)
    with pytest.raises(ValueError, match=problem):
        open_npz(tmp_path / "map.npz", None, "rnflt", (0, 1))


def test_no_archive_is_no_npz(tmp_path):
    for content in (b"hello", b"\x80\x04N.", npy("{}")):
        (tmp_path / "map.npz").write_bytes(content)
        with pytest.raises(ValueError, match="no npz file"):
            open_npz(tmp_path / "map.npz", None, "rnflt", (0, 1))


def test_a_flat_plane_is_no_division_by_zero():
    assert np.asarray(grey_plane(np.full((2, 2), 7.0), 7, 7)).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("reader", "make"), [("oasis1", make_oasis1), ("covid_ct_md", make_covid_ct_md)]
)
def test_more_slices_of_a_volume_stay_with_their_patient(reader, make, tmp_path):
    data = f"{reader}:{make(tmp_path / 'data', 20)}"
    cohort = open_cohort(DataSettings(data=data))
    three = open_cohort(DataSettings(data=data, slices=3))
    assert len(three) == 3 * len(cohort)
    assert (
        three.table["patient_id"]
        .value_counts()
        .eq(3 * cohort.table["patient_id"].value_counts())
        .all()
    )
    stored = store_samples(three, SIZE, tmp_path / "cache")
    volume = three.table["sample_id"][:3]
    assert [name[-2:] for name in volume] == ["-1", "-2", "-3"]
    pictures = {stored.read(name).tobytes() for name in volume}
    assert len(pictures) == 3


@pytest.mark.parametrize(
    ("reader", "recorded"),
    [
        ("covid_ct_md", {"slices": 1, "window": (-600, 1500)}),
        ("oasis1", {"slices": 1}),
        ("ol3i", {"window": (40, 400)}),
        ("papila", {}),
    ],
)
def test_a_run_keeps_which_slices_it_saw_and_through_which_window(reader, recorded, tmp_path):
    facts = open_cohort(tiny(reader, tmp_path)).source.facts
    assert {name: facts[name] for name in ("slices", "window") if name in facts} == recorded


def test_slices_that_are_asked_for_are_kept_too(tmp_path):
    settings = tiny("oasis1", tmp_path).model_copy(update={"slices": 3})
    assert open_cohort(settings).source.facts["slices"] == 3


@pytest.mark.parametrize(
    "name",
    sorted(
        name
        for name, reader in registry.READERS.items()
        if not reader.about.slices and name != "table"
    ),
)
def test_slices_of_what_is_no_volume_are_refused(name):
    with pytest.raises(EvenhandError, match=f"--slices cannot be given with {name}"):
        open_cohort(DataSettings(data=f"{name}:nowhere", slices=2))


@pytest.mark.parametrize(
    ("reader", "module"), [("oasis1", "nibabel"), ("covid_ct_md", "pydicom"), ("ol3i", "h5py")]
)
def test_a_missing_package_is_told_before_work_begins(reader, module, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(EvenhandError, match=rf"{module} is needed.*'evenhand\[readers\]'"):
        open_cohort(DataSettings(data=f"{reader}:{tmp_path}"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["volume.nii", "volume.nii.gz"])
def test_voxels_that_are_no_number_are_black_and_change_no_other(tmp_path, name, value):
    values = np.random.default_rng(0).uniform(5, 9, (20, 20, 3)).astype(np.float32)
    values[:6] = value
    nibabel.Nifti1Image(values, np.eye(4)).to_filename(tmp_path / name)
    result = np.asarray(cut_nifti(tmp_path / name, 0.5), int)
    whole = np.rot90(values[6:, :, 1])
    low, high = np.percentile(whole, (1, 99))
    wanted = ((whole - low) / (high - low)).clip(0, 1) * 255
    assert (result[:, :6] == 0).all()
    assert np.abs(result[:, 6:] - wanted).max() <= 0.51
    nibabel.Nifti1Image(np.full_like(values, value), np.eye(4)).to_filename(tmp_path / name)
    with pytest.raises(ValueError, match="no voxel of the slice is a finite number"):
        cut_nifti(tmp_path / name, 0.5)


def test_an_array_with_holes_is_black_there(tmp_path):
    values = np.asarray(grey_plane(np.array([[np.nan, 1.0], [np.inf, 2.0]]), 0, 2))
    assert values.tolist() == [[0, 128], [0, 255]]


SLICES = [{"SliceLocation": 10.0 * order, "SeriesInstanceUID": "1.2"} for order in range(4)]


def series(folder, headers):
    for number, header in enumerate(headers):
        write_dicom(folder / f"IM{number}.dcm", number, **header)
    return folder


def test_a_localizer_is_no_slice_and_the_run_says_so(tmp_path):
    root = make_covid_ct_md(tmp_path / "data", 12)
    wanted = store_samples(open_cohort(DataSettings(data=f"covid_ct_md:{root}")), SIZE, tmp_path)
    scout = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SeriesInstanceUID": "9.9"}
    folder = root / "COVID-19 Cases" / "P000"
    write_dicom(folder / "a_scout.DCM", 99, side=64, **scout)
    cohort = open_cohort(DataSettings(data=f"covid_ct_md:{root}"))
    for _ in range(2):  # decoded, and out of the store
        result = store_samples(cohort, SIZE, tmp_path)
        assert np.array_equal(result.read("P000-1"), wanted.read("P000-1"))
        assert result.source.notes == (
            f"{folder}: localizer images are no slices of the volume and were left out "
            "(a_scout.DCM).",
        )
    assert wanted.source.notes == ()


@pytest.mark.parametrize(
    ("odd", "text"),
    [
        ({"SeriesInstanceUID": "1.3"}, r"2 series \(SeriesInstanceUID\): IM0.dcm \(1.2\), IM4"),
        ({"side": 48}, r"2 shapes: IM0.dcm \(40 x 40\), IM4.dcm \(48 x 48\)"),
    ],
)
def test_slices_of_two_volumes_in_one_folder_are_refused(tmp_path, odd, text):
    folder = series(tmp_path, [*SLICES, {**SLICES[0], "SliceLocation": 5.0, **odd}])
    with pytest.raises(ValueError, match=text):
        cut_dicom_series(folder, 0.5, SOFT_TISSUE)


@pytest.mark.parametrize(
    "headers",
    [SLICES, [{"InstanceNumber": number} for number in range(4)]],
    ids=["location", "number"],
)
def test_two_slices_of_one_place_are_refused(tmp_path, headers):
    folder = series(tmp_path, [*headers, headers[2]])
    with pytest.raises(ValueError, match=r"IM2\.dcm and IM4\.dcm have the same position"):
        cut_dicom_series(folder, 0.5, SOFT_TISSUE)


def test_a_folder_of_localizers(tmp_path):
    folder = series(tmp_path, [{"ImageType": ["DERIVED", "LOCALIZER"]}])
    with pytest.raises(ValueError, match=r"all of its .dcm files are localizers"):
        cut_dicom_series(folder, 0.5, SOFT_TISSUE)


def test_the_bound_on_pixels_holds_for_medical_formats(tmp_path):
    write_dicom(tmp_path / "IM0.dcm", 0)
    nibabel.Nifti1Image(np.zeros((40, 40, 2)), np.eye(4)).to_filename(tmp_path / "v.nii.gz")
    np.savez_compressed(tmp_path / "map.npz", rnflt=np.zeros((40, 40)))
    reads = (
        lambda: open_dicom(tmp_path / "IM0.dcm", None, SOFT_TISSUE),
        lambda: cut_nifti(tmp_path / "v.nii.gz", 0.5),
        lambda: open_npz(tmp_path / "map.npz", None, "rnflt", (0, 1)),
    )
    for read in reads:
        with decoding_room(1600):
            read()
        with decoding_room(1599), pytest.raises(ValueError, match="40 x 40 = 1,600 pixels, more"):
            read()
