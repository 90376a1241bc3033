"""Tables of one's own whose files are DICOM, NIfTI, arrays and pictures, mixed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from shutil import copyfile
from time import sleep

import nibabel
import numpy as np
import pandas as pd
import PIL.Image
import pydicom
import pytest
from pydicom.data import get_testdata_file
from tests.command import SMALL, evenhand
from tests.data.deep_pictures import write_png16
from tests.data.dicom import write_dicom

from evenhand.cohort.cohort import UnreadableError
from evenhand.cohort.images import arrays
from evenhand.cohort.images import planes as planes_module
from evenhand.cohort.images.dicom import open_dicom
from evenhand.cohort.readers import open_cohort
from evenhand.cohort.settings import DataSettings
from evenhand.cohort.store.samples import store_samples
from evenhand.errors import EvenhandError

COLUMNS = {"image_column": "file", "label": "dx", "patient": "person"}
FLAGS = ("--image-column", "file", "--label", "dx", "--patient", "person", "--attribute", "sex")
RNG = np.random.default_rng(0)
PLANE = RNG.integers(0, 256, (12, 12)).astype(np.uint8)
"""What every kind of file holds here."""


def write_table(root: Path, files: list[str]) -> Path:
    """Write a table that names files, two of each patient, with both classes and sexes."""
    number = np.arange(len(files))
    frame = pd.DataFrame({"file": files, "person": number // 2, "dx": number // 2 % 2})
    frame["sex"] = np.where(number // 4 % 2, "f", "m")
    frame.to_csv(root / "table.csv", index=False)
    return root / "table.csv"


def table_of(root: Path, *files: str) -> Path:
    """Write a table of eight rows that name the files in turn; those that are left are pictures."""
    named = list(files)
    for number in range(len(named), 8):
        PIL.Image.fromarray(PLANE).save(root / f"{number}.png")
        named.append(f"{number}.png")
    return write_table(root, named)


def read(table: Path, size: int = 12, **more: object):
    """Return the stored samples of a table by what it calls them."""
    settings = DataSettings(**{"data": str(table), **COLUMNS, "attribute": ("sex",), **more})
    stored = store_samples(open_cohort(settings), size, table.parent / "cache")
    return {name: np.asarray(stored.read(name), int) for name in stored.table["sample_id"]}


def problem(table: Path, **more: object) -> str:
    """Return what is said of a table that cannot be read."""
    with pytest.raises(EvenhandError) as error:
        read(table, **more)
    return str(error.value)


def write_grey_dicom(path: Path, plane: np.ndarray = PLANE, **header: object) -> None:
    """Write a plane of 8 bits in 16, without any rescaling."""
    more = {"RescaleSlope": 1, "RescaleIntercept": 0, "BitsStored": 8, "HighBit": 7, **header}
    write_dicom(path, 0, 12, **{"PixelData": plane.astype(np.uint16).tobytes(), **more})


def kinds(root: Path) -> list[str]:
    """Write the same plane as a file of each kind, and return their names."""
    PIL.Image.fromarray(PLANE).save(root / "a.png")
    write_png16(root / "deep.png", (PLANE[..., None] * np.uint16(257)).astype(np.uint16))
    write_grey_dicom(root / "a.dcm")
    write_grey_dicom(root / "negative", 255 - PLANE, PhotometricInterpretation="MONOCHROME1")
    np.save(root / "a.npy", PLANE)
    np.save(root / "float.npy", (PLANE / 255).astype(np.float32)[None])
    np.savez(root / "one.npz", image=PLANE)
    np.savez(root / "two.npz", mask=np.zeros((12, 12), np.uint8), image=PLANE)
    np.save(root / "deep.npy", PLANE.astype(np.uint16) * 257)
    volume = np.zeros((12, 12, 5), np.float32)
    volume[..., 3] = np.rot90(PLANE, -1)
    nibabel.Nifti1Image(volume, np.eye(4)).to_filename(root / "v.nii.gz")
    names = ["a.png", "deep.png", "a.dcm", "negative", "a.npy", "float.npy", "one.npz"]
    return [*names, "two.npz#image", "deep.npy", "v.nii.gz#4"]


def test_every_kind_of_file_gives_the_same_picture(tmp_path):
    names = kinds(tmp_path)
    table = write_table(tmp_path, names)
    content = read(table, bit_depth=16, window=(127.5, 255))
    assert list(content) == names
    for name in set(names) - {"float.npy", "deep.npy"}:
        assert np.array_equal(content[name], np.dstack([PLANE.astype(int)] * 3)), name


def test_arrays_are_scaled_by_their_kind_or_as_declared(tmp_path):
    np.save(tmp_path / "float.npy", PLANE / 255)
    np.save(tmp_path / "deep.npy", PLANE.astype(np.uint16) * 16)
    np.save(tmp_path / "black.npy", PLANE > 127)
    content = read(table_of(tmp_path, "float.npy", "deep.npy", "black.npy"), bit_depth=12)
    assert np.array_equal(content["float.npy"][..., 0], PLANE)
    assert np.abs(content["deep.npy"][..., 0] - PLANE * 255.0 * 16 / 4095).max() <= 0.51
    assert np.array_equal(content["black.npy"][..., 0], np.where(PLANE > 127, 255, 0))


def test_a_value_range_says_what_is_black_and_white(tmp_path):
    np.save(tmp_path / "units.npy", PLANE.astype(np.int16) - 1000)
    table = table_of(tmp_path, "units.npy")
    assert "the values of black and of white are unknown" in problem(table)
    result = read(table, value_range=(-1000, -745))["units.npy"][..., 0]
    assert np.array_equal(result, PLANE)
    assert "beyond the range from -1000 to -900" in problem(table, value_range=(-1000, -900))


def test_colours_come_first_or_last_in_an_array(tmp_path):
    colours = RNG.integers(0, 256, (12, 12, 3)).astype(np.uint8)
    np.save(tmp_path / "last.npy", colours)
    np.save(tmp_path / "first.npy", colours.transpose(2, 0, 1))
    content = read(table_of(tmp_path, "last.npy", "first.npy"))
    assert np.array_equal(content["last.npy"], colours)
    assert np.array_equal(content["first.npy"], colours)


class TestDicom:
    """DICOM files, which say themselves how they are shown, or not."""

    def test_a_file_is_shown_through_its_own_window(self, tmp_path):
        write_grey_dicom(tmp_path / "a.dcm", WindowCenter=[100, 20], WindowWidth=[50, 1])
        result = read(table_of(tmp_path, "a.dcm"))["a.dcm"][..., 0]
        wanted = ((PLANE.astype(float) - 75) / 49).clip(0, 1) * 255
        assert np.abs(result - wanted).max() <= 0.51

    @pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
    @pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
    @pytest.mark.parametrize("width", [1, 20, 300])
    def test_its_window_has_the_function_that_it_names(self, tmp_path, kind, function, width):
        path = tmp_path / "a.dcm"
        header = {"WindowCenter": 91.5, "WindowWidth": width, "VOILUTFunction": function}
        write_grey_dicom(
            path, PhotometricInterpretation=kind, RescaleSlope=2, RescaleIntercept=-100,
            **{name: value for name, value in header.items() if value is not None},
        )  # fmt: skip
        header = pydicom.dcmread(path)
        units = pydicom.pixels.apply_modality_lut(header.pixel_array, header)
        with np.errstate(over="ignore"):
            wanted = (pydicom.pixels.apply_windowing(units, header) + 100) / 2  # to 0 … 255
        wanted = 255 - wanted if kind == "MONOCHROME1" else wanted
        assert np.abs(np.asarray(open_dicom(path, None), float) - wanted).max() <= 0.51

    def test_a_window_that_the_user_gives_is_linear_whatever_the_file_s_function(self, tmp_path):
        write_grey_dicom(tmp_path / "a.dcm")
        more = {"WindowCenter": 9, "WindowWidth": 9, "VOILUTFunction": "SIGMOID"}
        write_grey_dicom(tmp_path / "b.dcm", **more)
        table = table_of(tmp_path, "a.dcm", "b.dcm")
        content = read(table, window=(100, 50))
        wanted = ((PLANE.astype(float) - 75) / 50).clip(0, 1) * 255
        assert np.abs(content["b.dcm"][..., 0] - wanted).max() <= 0.51
        assert np.array_equal(content["a.dcm"], content["b.dcm"])

    def test_a_function_that_the_standard_lacks_is_refused(self, tmp_path):
        more = {"WindowCenter": 9, "WindowWidth": 9, "VOILUTFunction": "CUBIC"}
        write_grey_dicom(tmp_path / "a.dcm", **more)
        with pytest.raises(ValueError, match=r"VOILUTFunction is 'CUBIC'.*give --window"):
            open_dicom(tmp_path / "a.dcm", None)
        open_dicom(tmp_path / "a.dcm", None, (9, 9))

    def test_without_one_it_is_the_range_of_its_bits_rescaled(self, tmp_path):
        write_grey_dicom(tmp_path / "a.dcm", RescaleSlope=2, RescaleIntercept=-1024)
        assert np.array_equal(read(table_of(tmp_path, "a.dcm"))["a.dcm"][..., 0], PLANE)

    def test_the_run_says_how_files_were_shown(self, tmp_path):
        write_grey_dicom(tmp_path / "a.dcm")
        write_grey_dicom(tmp_path / "b.dcm", WindowCenter=100, WindowWidth=50)
        table = table_of(tmp_path, "a.dcm", "b.dcm")
        settings = DataSettings(data=str(table), **COLUMNS, attribute=("sex",))
        notes = store_samples(open_cohort(settings), 12, tmp_path / "cache").source.notes
        assert "over the whole range of their stored bits" in notes[0]
        assert "shown through the window that it names" in notes[1]

    @pytest.mark.parametrize("name", ["examples_jpeg2k.dcm", "examples_rgb_color.dcm"])
    def test_colours_are_kept(self, tmp_path, name):
        copyfile(str(get_testdata_file(name, download=False)), tmp_path / "a.dcm")
        wanted = pydicom.pixels.pixel_array(tmp_path / "a.dcm").mean(axis=(0, 1))
        result = read(table_of(tmp_path, "a.dcm"), size=64)["a.dcm"].mean(axis=(0, 1))
        assert np.abs(result - wanted).max() < 1

    def test_jpeg_2000_is_read_as_the_same_file_without_it(self, tmp_path):
        for name in ("MR_small.dcm", "MR_small_jp2klossless.dcm"):
            copyfile(str(get_testdata_file(name, download=False)), tmp_path / name)
        content = read(table_of(tmp_path, "MR_small.dcm", "MR_small_jp2klossless.dcm"), size=64)
        first, two = (content[name] for name in ("MR_small.dcm", "MR_small_jp2klossless.dcm"))
        assert first.std() > 5
        assert np.array_equal(first, two)

    def test_a_decoder_that_is_missing_is_named_with_its_line(self, tmp_path, monkeypatch):
        monkeypatch.setattr(pydicom.pixels.decoders.base.Decoder, "is_available", False)
        name = "MR_small_jpeg_ls_lossless.dcm"
        copyfile(str(get_testdata_file(name, download=False)), tmp_path / "a.dcm")
        text = problem(table_of(tmp_path, "a.dcm"))
        assert "JPEG-LS Lossless Image Compression" in text
        assert "pip install 'pyjpegls'" in text

    def test_a_frame_of_several_is_named(self, tmp_path):
        frames = np.stack([PLANE, 255 - PLANE])
        write_grey_dicom(tmp_path / "a.dcm", frames, NumberOfFrames=2)
        assert "it has 2 frames" in problem(table_of(tmp_path, "a.dcm"))
        content = read(table_of(tmp_path, "a.dcm#1", "a.dcm#2"))
        assert np.array_equal(content["a.dcm#2"], 255 - content["a.dcm#1"])
        copied = [f"{number}.dcm" for number in range(8)]
        for name in copied:
            copyfile(tmp_path / "a.dcm", tmp_path / name)
        second = read(write_table(tmp_path, copied), page=2)["0.dcm"]
        assert np.array_equal(second, content["a.dcm#2"])
        assert "it has 2 frames, and the table names #3" in problem(table_of(tmp_path, "a.dcm#3"))

    def test_one_without_pixels_is_refused(self, tmp_path):
        copyfile(str(get_testdata_file("rtplan.dcm", download=False)), tmp_path / "a.dcm")
        assert "a DICOM file without pixels (RT Plan Storage)" in problem(
            table_of(tmp_path, "a.dcm")
        )

    def test_slices_of_a_folder_are_in_their_order(self, tmp_path):
        for number, place in enumerate((3, 1, 2)):
            write_grey_dicom(
                tmp_path / "scan" / f"{number}.dcm", PLANE // (number + 1), SliceLocation=place
            )
        content = read(table_of(tmp_path, "scan#1", "scan#2", "scan#3", "scan"))
        for name, number in (("scan#1", 1), ("scan#2", 2), ("scan#3", 0), ("scan", 2)):
            assert np.array_equal(content[name][..., 0], PLANE // (number + 1))


class TestVolumes:
    """NIfTI volumes: a slice by its number, the middle one, or several."""

    def volume(self, path: Path) -> None:
        """Write a volume whose slice k, from 1, is brighter to the right by k."""
        slope = np.arange(10.0)[:, None, None] * np.arange(1, 9)
        nibabel.Nifti1Image(
            np.broadcast_to(slope, (10, 6, 8)).astype(np.float32), np.eye(4)
        ).to_filename(path)

    def test_slices_are_cut_of_volumes_and_not_of_pictures(self, tmp_path):
        self.volume(tmp_path / "v.nii.gz")
        table = table_of(tmp_path, "v.nii.gz", "v.nii.gz#1")
        content = read(table, slices=2, window=(40, 80))
        assert list(content)[:4] == ["v.nii.gz-1", "v.nii.gz-2", "v.nii.gz#1", "2.png"]
        right = {name: sample[0, -1, 0] for name, sample in content.items()}
        assert right["v.nii.gz#1"] < right["v.nii.gz-1"] < right["v.nii.gz-2"]
        middle = read(table, window=(40, 80))["v.nii.gz"]
        assert right["v.nii.gz-1"] < middle[0, -1, 0] < right["v.nii.gz-2"]

    def test_a_slice_beyond_the_end_is_refused_with_file_and_row(self, tmp_path):
        self.volume(tmp_path / "v.nii.gz")
        text = problem(table_of(tmp_path, "v.nii.gz#9"))
        assert "v.nii.gz (" in text
        assert "row 2) cannot be read: it has 8 slices, and the table names #9" in text

    def test_slices_without_a_volume_are_refused(self, tmp_path):
        assert "none of the files is a NIfTI" in problem(table_of(tmp_path), slices=2)

    def test_several_volumes_in_a_file_are_refused(self, tmp_path):
        nibabel.Nifti1Image(np.zeros((4, 4, 4, 3)), np.eye(4)).to_filename(tmp_path / "v.nii")
        assert "it holds 3 volumes" in problem(table_of(tmp_path, "v.nii"))

    def test_parts_of_a_file_are_no_patients(self, tmp_path):
        self.volume(tmp_path / "v.nii.gz")
        table = table_of(tmp_path, "v.nii.gz#1", "v.nii.gz#2")
        text = problem(table, patient="file")
        assert "rows 2, 3: --patient file makes each part of a file a separate patient" in text


class Payload:
    """What runs code where a pickle is loaded."""

    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


BAD_ARRAYS = {
    "several": ("a.npz", lambda p: np.savez(p, a=PLANE, b=PLANE), "2 arrays (a, b), but a sample"),
    "none": ("a.npz", lambda p: np.savez(p), "an npz file without any array"),
    "unknown": ("a.npz#c", lambda p: np.savez(p, a=PLANE), "it has no array 'c'; it has a"),
    "part": ("a.npy#c", lambda p: np.save(p, PLANE), "it is one array and has no part #c"),
    "shape": ("a.npy", lambda p: np.save(p, np.zeros((2, 3, 4, 5))), "the shape (2, 3, 4, 5)"),
    "empty": ("a.npy", lambda p: np.save(p, np.zeros((0, 3))), "the shape (0, 3)"),
    "text": ("a.npy", lambda p: np.save(p, np.array([["x"]])), "not real numbers"),
    "pickle": (
        "a.npy",
        lambda p: np.save(p, np.array([Payload()], object), allow_pickle=True),
        "not real numbers",
    ),
    "nan": (
        "a.npy",
        lambda p: np.save(p, np.where(PLANE[2, 5] == PLANE, np.nan, 0.5)),
        "of its values are NaN or infinite, the first at [",
    ),
    "range": ("a.npy", lambda p: np.save(p, PLANE.astype(np.float32)), "beyond the range from 0"),
    "cut off": ("a.npy", lambda p: p.write_bytes(b"\x93NUMPY\x01\0"), "cannot be read"),
    "no zip": ("a.npz", lambda p: p.write_bytes(b"PK\3\4"), "no npz file"),
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_a_bad_array_is_refused_with_file_and_row(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    name, write, message = BAD_ARRAYS[kind]
    write(tmp_path / name.partition("#")[0])
    PIL.Image.fromarray(PLANE).save(tmp_path / "0.png")
    text = problem(table_of(tmp_path, "0.png", name))
    assert f"{tmp_path / 'table.csv'}, row 3) cannot be read: " in text
    assert message in text
    assert not (tmp_path / "ran").exists()


def test_a_name_with_a_hash_is_a_file_if_there_is_one(tmp_path):
    PIL.Image.fromarray(PLANE).save(tmp_path / "a.png")
    PIL.Image.fromarray(255 - PLANE).save(tmp_path / "a.png#1", "PNG")
    content = read(table_of(tmp_path, "a.png", "a.png#1"))
    assert np.array_equal(content["a.png#1"], 255 - content["a.png"])
    assert "is absent" in problem(table_of(tmp_path, "b.nii#1"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"window": (40, 400)}, "--window: none of the files is a folder of DICOM slices or a"),
        ({"value_range": (0, 1)}, "--value-range: none of the files is an array (.npy)"),
        ({"bit_depth": 12}, "none of the images has 16 bits"),
    ],
)
def test_a_setting_that_no_file_heeds_is_refused(tmp_path, setting, message):
    np.save(tmp_path / "a.npy", PLANE)
    assert message in problem(table_of(tmp_path, "a.npy"), **setting)


def test_a_reader_that_knows_its_range_takes_no_other():
    settings = DataSettings(data="phantom:patients=20,size=16", window=(1.0, 2.0))
    with pytest.raises(EvenhandError, match="--window: phantom reads no image files"):
        open_cohort(settings)


@pytest.mark.parametrize("kind", ["a.npy", "a.npz", "a.dcm", "a.nii"])
def test_large_files_of_any_kind_are_not_decoded_together(tmp_path, monkeypatch, kind):
    """What all threads hold is bounded in pixels of four bytes, of which numbers need several."""
    planes = np.dstack([PLANE.astype(np.float32) / 255])
    np.save(tmp_path / "a.npy", planes)
    np.savez(tmp_path / "a.npz", planes)
    write_grey_dicom(tmp_path / "a.dcm")
    nibabel.Nifti1Image(planes, np.eye(4)).to_filename(tmp_path / "a.nii")
    names = [f"{number}{kind}" for number in range(8)]
    for name in names:
        copyfile(tmp_path / kind, tmp_path / name)
    active, most, scale = [0], [0], planes_module.in_8_bits

    def slow(*arguments):
        active[0] += 1
        most[0] = max(most[0], active[0])
        sleep(0.02)
        active[0] -= 1
        return scale(*arguments)

    for module in (planes_module, arrays):
        monkeypatch.setattr(module, "in_8_bits", slow)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    text = problem(write_table(tmp_path, names), max_pixels=PLANE.size - 1)
    assert "more than the 143 that --max-pixels allows" in text
    read(write_table(tmp_path, names), max_pixels=4 * PLANE.size)
    assert most[0] == 1


def test_a_damaged_file_may_be_left_out(tmp_path):
    (tmp_path / "a.dcm").write_bytes(bytes(128) + b"DICM")
    table = table_of(tmp_path, "a.dcm")
    with pytest.raises(UnreadableError, match="row 2"):
        read(table)
    settings = DataSettings(data=str(table), **COLUMNS, attribute=("sex",))
    stored = store_samples(open_cohort(settings), 12, tmp_path / "cache", skip_unreadable=True)
    assert len(stored) == 7


def test_the_command_line_trains_on_a_table_of_all_kinds_and_predicts(tmp_path):
    for number in range(24):
        plane = (PLANE // 2 + 100 * (number // 2 % 2)).astype(np.uint8)
        if number % 2:
            np.save(tmp_path / f"{number}.npy", plane.astype(np.int16))
        else:
            write_grey_dicom(tmp_path / f"{number}.dcm", plane)
    table = write_table(tmp_path, [f"{n}.{'npy' if n % 2 else 'dcm'}" for n in range(24)])
    words = (table, *FLAGS, "--cache", tmp_path / "cache")
    shown = ("--window", "127.5", "255")
    run = tmp_path / "run"
    done = evenhand("finetune", *words, *SMALL, *shown, "--epochs", 1, "--out", run)
    assert done.status == 0, done.err
    source = json.loads((run / "run.json").read_text())["source"]
    assert source["window"] == [127.5, 255.0]
    done = evenhand("predict", run, table, "--cache", tmp_path / "cache", "--out", tmp_path / "p")
    assert done.status == 0, done.err
    assert json.loads((tmp_path / "p/run.json").read_text())["settings"]["window"] == [127.5, 255]
    refused = evenhand("finetune", *words, *SMALL, "--epochs", 1, "--out", tmp_path / "other")
    assert refused.status == 2
    assert "Give --value-range LOW HIGH" in refused.err
    assert not (tmp_path / "other").exists()
    wrong = evenhand("check", *words, "--window", "10", "0")
    assert "--window: give a centre and a width above 0" in wrong.err
