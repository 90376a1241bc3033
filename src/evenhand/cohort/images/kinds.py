"""Detect the kind of an image file by its content, and open it accordingly."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.cohort.cohort import Image
from evenhand.cohort.images.arrays import (
    array_form,
    array_in_8_bits,
    read_npy,
    read_npz,
    with_channels_last,
)
from evenhand.cohort.images.decoding import (
    MODES,
    ImageFiles,
    Picture,
    any_deep,
    open_pages,
    open_picture,
)
from evenhand.cohort.images.dicom import open_dicom, open_dicom_series, window_remark
from evenhand.cohort.images.planes import WHOLE, PlaneChoice, Range
from evenhand.cohort.images.volumes import open_nifti, slice_positions
from evenhand.errors import EvenhandError
from evenhand.networks.inputs import RGB, ImageForm, Images

_START = 352  # bytes at the beginning of a file that show its kind
_NIFTI = (".nii", ".nii.gz", ".img", ".img.gz", ".hdr")


@dataclass(frozen=True)
class Decoding:
    """The user's settings for decoding files; None leaves a setting to each file.

    Parameters
    ----------
    bit_depth
        The bits that values of 16 bits use.
    page
        The page of a picture, or the frame of a DICOM file, from 1.
    window
        Centre and width of the intensity window.
    value_range
        The values of black and of white in arrays.
    """

    bit_depth: int | None = None
    page: int | None = None
    window: Range | None = None
    value_range: Range | None = None

    @property
    def given(self) -> dict[str, object]:
        """Name → value of the settings that are not None."""
        values = {setting.name: getattr(self, setting.name) for setting in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Parameters
    ----------
    name
        The name of the kind, for messages.
    is_it
        Returns whether a file is of this kind, given its path and its first bytes.
    open
        Opens the part of a file as a picture of at least a size, or raises ValueError.
    takes
        Name of a setting of `Decoding` that applies to this kind → function that returns whether
        it applies to a file.
    volume
        Whether ``--slices`` applies.
    remark
        Returns a sentence for the run's notes on how a file is shown, or "".
    """

    name: str
    is_it: Callable[[Path, bytes], bool]
    open: Callable[[Path, PlaneChoice, Images | None, Decoding], Picture]
    takes: Mapping[str, Callable[[Path, PlaneChoice], bool]]
    volume: bool = False
    remark: Callable[[Path, Decoding], str] = lambda path, how: ""


def _every_file(path: Path, part: PlaneChoice) -> bool:
    return True


def _open_plain(path: Path, part: PlaneChoice, size: Images | None, how: Decoding) -> Picture:
    page = how.page
    if part.name:
        if not part.name.isdecimal() or part.name == "0":
            part.refuse("a picture, whose pages have numbers from 1")
        page = int(part.name)
    if page is None and isinstance(size, ImageForm) and size.channels not in MODES:
        return open_pages(path, size, how.bit_depth)
    return open_picture(path, size, bit_depth=how.bit_depth, page=page)


def _open_dicom(path: Path, part: PlaneChoice, size: Images | None, how: Decoding) -> Picture:
    named = PlaneChoice(str(how.page)) if how.page is not None and not part.name else part
    return open_dicom(path, size, how.window, named)


def _nifti_remark(path: Path, how: Decoding) -> str:
    if how.window is not None:
        return ""
    return (
        "Slices of NIfTI volumes are scaled from the 1st to the 99th percentile of each; --window "
        "shows all of them through the same window."
    )


def _open_npy(path: Path, part: PlaneChoice, size: Images | None, how: Decoding) -> Picture:
    part.refuse("one array")
    return _picture_of(read_npy(path), size, how)


def _picture_of(array: NDArray[Any], size: Images | None, how: Decoding) -> Image:
    channels = RGB if size is None else ImageForm.of(size).channels
    rows = with_channels_last(array, channels)
    return array_in_8_bits(rows, how.bit_depth, how.value_range, how.window)


def _is_array_to_scale(path: Path, part: PlaneChoice) -> bool:
    return array_form(path, part).dtype not in (np.uint8, np.bool_)


_ARRAY: dict[str, Callable[[Path, PlaneChoice], bool]] = {
    "bit_depth": lambda path, part: array_form(path, part).dtype == np.uint16,
    "window": _is_array_to_scale,
    "value_range": _is_array_to_scale,
}

KINDS = (
    Kind(
        "a folder of DICOM slices",
        lambda path, start: path.is_dir(),
        lambda path, part, size, how: open_dicom_series(path, part, how.window),
        {"window": _every_file},
        volume=True,
    ),
    Kind(
        "a DICOM file",
        lambda path, start: start[128:132] == b"DICM" or path.suffix.lower() in (".dcm", ".dicom"),
        _open_dicom,
        {"window": _every_file, "page": _every_file},
        remark=lambda path, how: "" if how.window is not None else window_remark(path),
    ),
    Kind(
        "a NIfTI volume",
        lambda path, start: start[344:348] == b"n+1\0" or path.name.lower().endswith(_NIFTI),
        lambda path, part, size, how: open_nifti(path, part, how.window),
        {"window": _every_file},
        volume=True,
        remark=_nifti_remark,
    ),
    Kind(
        "an array (.npy)",
        lambda path, start: start.startswith(b"\x93NUMPY"),
        _open_npy,
        _ARRAY,
    ),
    Kind(
        "arrays (.npz)",
        lambda path, start: path.suffix.lower() == ".npz",
        lambda path, part, size, how: _picture_of(read_npz(path, part), size, how),
        _ARRAY,
    ),
    Kind(
        "a picture",
        lambda path, start: True,
        _open_plain,
        {"page": _every_file, "bit_depth": lambda path, part: any_deep([str(path)])},
    ),
)
"""All kinds, in the order in which they are tried; the last one is read by Pillow."""


def file_kind(path: Path) -> Kind:
    """Return the kind of a file or folder, by its content or else by its name.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    start = b""
    if not path.is_dir():
        with path.open("rb") as file:
            start = file.read(_START)
    return next(kind for kind in KINDS if kind.is_it(path, start))


@dataclass(frozen=True, eq=False, kw_only=True)
class MixedFiles(ImageFiles):
    """Reads pictures in files of any kind.

    Parameters
    ----------
    parts
        Sample id → picture of its file, for files that hold several.
    how
        The user's settings for decoding.
    """

    parts: Mapping[str, PlaneChoice] = field(default_factory=dict)
    how: Decoding = Decoding()

    def remark(self, sample_id: str) -> str:
        """Return a sentence for the run's notes on how a file is shown, or ""."""
        path = Path(self.files[sample_id])
        return file_kind(path).remark(path, self.how)

    def uses(self, setting: str) -> bool:
        """Return whether a setting of `Decoding` applies to any file."""
        return any(
            _uses(Path(path), self.parts.get(sample_id, WHOLE), setting)
            for sample_id, path in self.files.items()
        )

    def _picture(self, sample_id: str) -> Picture:
        path = Path(self.files[sample_id])
        return file_kind(path).open(path, self.parts.get(sample_id, WHOLE), self.size, self.how)


def _uses(path: Path, part: PlaneChoice, setting: str) -> bool:
    """Return whether a setting applies to a file; False for damaged files, which fail later."""
    try:
        takes = file_kind(path).takes.get(setting)
        return takes is not None and takes(path, part)
    except (OSError, ValueError):
        return False


PART = "#"
"""The sign between a file and the name of its part in a table."""


def split_parts(names: pd.Series, folder: Path) -> tuple[pd.Series, pd.Series]:
    """Return the path of each file that a table names, and the name of its part ("" without one).

    A ``#`` is read as a separator only if the whole text is not a file and the text before it is.

    Parameters
    ----------
    names
        Paths relative to the folder, indexed by the row of the table.
    folder
        The folder.
    """
    paths = names.map(lambda name: os.path.join(folder, name)).astype(object)  # noqa: PTH118
    parts = pd.Series("", names.index, dtype=object)
    for index in np.flatnonzero(names.str.contains(PART, regex=False)).tolist():
        path = paths.iloc[index]
        file, _, part = path.rpartition(PART)
        if part and not os.path.lexists(path) and os.path.lexists(file):
            paths.iloc[index], parts.iloc[index] = file, part
    return paths, parts


@dataclass(frozen=True, eq=False)
class OwnPictures:
    """The samples in the files of a table: ``(n,)`` index of the row, ids, and their reader."""

    rows: NDArray[np.intp]
    ids: pd.Series
    read: MixedFiles


def own_pictures(
    paths: pd.Series, names: pd.Series, parts: pd.Series, table: Path, slices: int | None
) -> OwnPictures:
    """Return the samples in the files that a table names.

    Parameters
    ----------
    paths, names, parts
        The path, the text in the table and the part of each file, indexed by the table's rows.
    table
        The path of the table.
    slices
        The number of slices of each volume that the table names without a part; None for one.

    Raises
    ------
    EvenhandError
        If ``slices`` are requested and none of the files is such a volume.
    """
    times = np.ones(len(paths), np.intp)
    if slices is not None:
        volume = [
            not part and file_kind(Path(path)).volume
            for path, part in zip(paths, parts, strict=True)
        ]
        if not any(volume):
            raise EvenhandError(
                f"--slices {slices}: none of the files is a NIfTI volume or a folder of DICOM "
                "slices that the table names without #; it applies only to these. Leave it out."
            )
        times[volume] = slices
    rows = np.repeat(np.arange(len(paths)), times)
    number = np.arange(len(rows)) - np.repeat(times.cumsum() - times, times)
    is_single = times[rows] == 1
    ids = names.iloc[rows].astype(object)
    ids = ids.where(is_single, ids + "-" + pd.Series(number + 1, ids.index).astype(str))
    positions = slice_positions(slices or 1)
    choices = {
        sample: PlaneChoice(part, 0.5 if single else float(positions[k]))
        for sample, part, single, k in zip(ids, parts.iloc[rows], is_single, number, strict=True)
        if part or not single
    }
    files = dict(zip(ids, paths.iloc[rows], strict=True))
    numbers = dict(zip(ids, paths.index[rows].tolist(), strict=True))
    return OwnPictures(rows, ids, MixedFiles(files, numbers, table, parts=choices))
