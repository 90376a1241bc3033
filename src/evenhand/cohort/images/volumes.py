"""Pictures out of medical formats, in 8 bits: slices of volumes, DICOM, npz and HDF5 files."""

from __future__ import annotations

import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, BinaryIO

import numpy as np
import pandas as pd
import PIL.Image
from numpy.typing import NDArray

from evenhand.cohort.images.bounds import admit
from evenhand.cohort.images.decoding import ImageFiles
from evenhand.errors import EvenhandError, import_extra, some

Cut = Callable[[Path, float], PIL.Image.Image]
"""Cuts the slice at a place (0 bottom … 1 top) out of a volume; ValueError if it cannot."""

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}

LUNG = (-600.0, 1500.0)
"""Centre and width of the window, in Hounsfield units, that shows lungs."""
SOFT_TISSUE = (40.0, 400.0)
"""Centre and width of the window, in Hounsfield units, that shows abdominal organs."""


@dataclass(frozen=True, eq=False, kw_only=True)
class VolumeSlices(ImageFiles):
    """Slices of volumes in files.

    Parameters
    ----------
    place
        Where in its volume each sample lies, between 0 and 1.
    cut
        The way to cut a slice.
    remark_on
        Returns a sentence for the run's notes on how a volume is read; empty if there is none.
    """

    place: Mapping[str, float] = field(default_factory=dict)
    cut: Cut
    remark_on: Callable[[Path], str] = lambda _: ""

    def remark(self, sample_id: str) -> str:
        """Return a sentence for the run's notes on the volume of a sample; empty if none."""
        return self.remark_on(Path(self.files[sample_id]))

    def _picture(self, sample_id: str) -> PIL.Image.Image:
        return self.cut(Path(self.files[sample_id]), self.place[sample_id])


def volume_slices(
    table: pd.DataFrame, source: Path, cut: Cut, remark_on: Callable[[Path], str]
) -> VolumeSlices:
    """Return the way to read the slices of a table (see ``sliced``), which ``source`` names."""
    ids = table["slice"]
    return VolumeSlices(
        files=dict(zip(ids, table["file"], strict=True)),
        rows=dict(zip(ids, table.index, strict=True)),
        table=source,
        place=dict(zip(ids, table["place"], strict=True)),
        cut=cut,
        remark_on=remark_on,
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Hdf5Images(ImageFiles):
    """Pictures of one HDF5 file, each in an array that its sample's id names.

    Parameters
    ----------
    window
        Centre and width of the window that they are shown through, in the units of the arrays.
    """

    window: tuple[float, float]

    def _picture(self, sample_id: str) -> PIL.Image.Image:
        return open_hdf5(Path(self.files[sample_id]), sample_id, self.window)


def hdf5_images(
    paths: pd.Series, sample_ids: pd.Series, table: Path, window: tuple[float, float]
) -> Hdf5Images:
    """Return the way to read pictures of an HDF5 file; arguments as in ``image_files``."""
    files = dict(zip(sample_ids, paths, strict=True))
    rows = dict(zip(sample_ids, paths.index.tolist(), strict=True))
    return Hdf5Images(files, rows, table, window=window)


def places(slices: int) -> NDArray[np.float64]:
    """Return where slices are cut: evenly over the middle half of a volume.

    Examples
    --------
    >>> places(1).tolist(), places(2).tolist()
    ([0.5], [0.375, 0.625])
    """
    return 0.25 + 0.5 * (np.arange(slices) + 0.5) / slices


def sliced(table: pd.DataFrame, sample: str, slices: int) -> pd.DataFrame:
    """Return one row per slice out of one row per volume.

    The new columns are ``slice`` (the volume's id and a number: ``ID-1``, ``ID-2`` …) and
    ``place``.
    """
    rows = table.loc[table.index.repeat(slices)].copy()
    number = np.tile(np.arange(slices), len(table))
    names = rows[sample] + "-" + pd.Series(number + 1, rows.index).astype("str")
    rows["slice"], rows["place"] = names, places(slices)[number]
    return rows


def cut_nifti(path: Path, place: float) -> PIL.Image.Image:
    """Cut an axial slice out of a NIfTI or Analyze volume.

    The 1st … 99th percentile of its finite voxels is 0 … 255; the others are 0.
    """
    nibabel = import_extra("nibabel", "readers")
    damaged = (nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError)
    with _damage(*damaged, TypeError, OverflowError):
        volume = nibabel.as_closest_canonical(nibabel.load(path))
        height, width, depth = volume.shape[:3]
        admit(width, height)
        index = min(int(place * depth), depth - 1)
        pixels = np.asarray(volume.slicer[:, :, index : index + 1].dataobj, np.float32)
    pixels = pixels.reshape(pixels.shape[:2])
    finite = pixels[np.isfinite(pixels)]
    if not finite.size:
        raise ValueError("no voxel of the slice is a finite number")
    low, high = np.percentile(finite, (1, 99))
    return grey(np.rot90(pixels), low, high)  # the front of the head is above


def cut_dicom_series(path: Path, place: float, window: tuple[float, float]) -> PIL.Image.Image:
    """Cut a slice out of a folder of DICOM files, in the order that their headers tell."""
    files = _series_in(path, path.stat().st_mtime_ns).slices
    return open_dicom(files[min(int(place * len(files)), len(files) - 1)], None, window)


def open_dicom(path: Path, size: int | None, window: tuple[float, float]) -> PIL.Image.Image:
    """Open a DICOM file through a window: centre and width, in its rescaled units."""
    with _dicom() as pydicom:
        header = pydicom.dcmread(path)
        frames = int(header.get("NumberOfFrames") or 1)
        admit(frames * int(header.get("Columns") or 0), int(header.get("Rows") or 0))
        pixels = header.pixel_array.astype(np.float32)
        pixels = pixels * _number(header, "RescaleSlope", 1) + _number(
            header, "RescaleIntercept", 0
        )
        inverted = header.get("PhotometricInterpretation") == "MONOCHROME1"
    if inverted:
        return windowed(-pixels, (-window[0], window[1]))
    return windowed(pixels, window)


def hdf5_names(path: Path) -> list[str]:
    """Return the names of what an HDF5 file holds.

    Raises
    ------
    EvenhandError
        It is no HDF5 file, or a damaged one.
    """
    h5py = import_extra("h5py", "readers")
    try:
        with h5py.File(path, "r") as file:
            return list(file)
    except (OSError, RuntimeError) as error:
        raise EvenhandError(
            f"{path} cannot be read as HDF5: {error}. Download it again, whole."
        ) from error


def open_hdf5(path: Path, name: str, window: tuple[float, float]) -> PIL.Image.Image:
    """Open an array ``(H, W)`` of an HDF5 file through a window.

    The file is opened anew each time, so that no handle is shared between processes; within one,
    h5py lets a single thread in at a time.
    """
    h5py = import_extra("h5py", "readers")
    with _damage(KeyError, TypeError, RuntimeError, AttributeError), h5py.File(path, "r") as file:
        array = file[name]
        admit(*_plane(array.shape))
        return windowed(np.asarray(array[()], np.float32), window)


def open_npz(path: Path, size: int | None, key: str, span: tuple[float, float]) -> PIL.Image.Image:
    """Open an array ``(H, W)`` of an npz file; ``span`` is what becomes 0 … 255."""
    with (
        _damage(zipfile.BadZipFile, KeyError, TokenError),
        path.open("rb") as file,  # numpy does not close a file that it cannot make out
        np.load(_checked_zip(file), allow_pickle=False) as arrays,
    ):
        with arrays.zip.open(f"{key}.npy") as start:  # its shape, before its values
            shape = _shape_of_npy(start)
        admit(*_plane(shape))
        return grey(arrays[key], *span)


def _checked_zip(file: BinaryIO) -> BinaryIO:
    """Refuse a file that is no zip archive, for which numpy suggests to load it unsafely."""
    if not zipfile.is_zipfile(file):
        raise ValueError("it is no npz file: no zip archive")
    file.seek(0)
    return file


def _shape_of_npy(file: IO[bytes]) -> tuple[int, ...]:
    """Return the shape of the numbers that the header of a .npy file declares."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"it has version {version} of the npy format; save it again with numpy")
    shape, _, kind = _HEADERS[version](file)
    if kind.kind not in "biuf":
        raise ValueError(f"it holds values of the kind {kind}, not real numbers")
    return shape


def windowed(pixels: NDArray[np.float32], window: tuple[float, float]) -> PIL.Image.Image:
    """Return pixels ``(H, W)`` as a picture, through a window: centre and width."""
    centre, width = window
    return grey(pixels, centre - width / 2, centre + width / 2)


def grey(pixels: NDArray[np.generic], low: float, high: float) -> PIL.Image.Image:
    """Return pixels ``(H, W)`` as a picture in which ``low`` … ``high`` is 0 … 255."""
    if pixels.ndim != 2 or not pixels.size:
        raise ValueError(f"it holds an array of shape {pixels.shape} where a plane is expected")
    share = (pixels.astype(np.float32) - low) / max(high - low, 1e-6)
    share[~np.isfinite(share)] = 0
    return PIL.Image.fromarray((share.clip(0, 1) * 255).round().astype(np.uint8))


@contextmanager
def _damage(*kinds: type[Exception]) -> Iterator[None]:
    """Turn what a library raises for a damaged file into the ValueError that it stands for."""
    damaged: tuple[type[Exception], ...] = (zlib.error, *kinds)
    try:
        yield
    except damaged as error:
        raise ValueError(str(error) or type(error).__name__) from error


@contextmanager
def _dicom() -> Iterator[Any]:
    """Yield pydicom, and turn what it and its decoders raise for a damaged file into ValueError."""
    pydicom = import_extra("pydicom", "readers")
    with _damage(
        *(pydicom.errors.InvalidDicomError, pydicom.errors.BytesLengthException, struct.error),
        *(AttributeError, IndexError, KeyError, RuntimeError, TypeError),
    ):
        yield pydicom


@dataclass(frozen=True)
class _Header:
    """What the header of a DICOM slice says of its place, and of the series that it is of."""

    file: Path
    places: tuple[float | None, ...]  # location, height in the patient, number
    series: str
    shape: str
    localizer: bool


@dataclass(frozen=True)
class _DicomSeries:
    """The slices of a folder from one end to the other, and the localizers beside them."""

    slices: tuple[Path, ...]
    localizers: tuple[Path, ...]


def localizers_left_out(folder: Path) -> str:
    """Return a sentence on the localizers of a DICOM folder; empty if it has none."""
    localizers = _series_in(folder, folder.stat().st_mtime_ns).localizers
    if not localizers:
        return ""
    names = some(path.name for path in localizers)
    return f"{folder}: localizer images are no slices of the volume and were left out ({names})."


@lru_cache(maxsize=64)
def _series_in(folder: Path, changed: int) -> _DicomSeries:
    """Return the slices of a folder in order; ``changed`` is when the folder was.

    The order is that of the first of their places which all of them have, else of their names.

    Raises
    ------
    ValueError
        There is no slice, or they are of several series or shapes.
    """
    paths = (path for path in folder.iterdir() if path.suffix.lower() == ".dcm")
    headers = [_header_of(path) for path in sorted(paths, key=_by_number)]
    if not headers:
        raise ValueError("it holds no .dcm file")
    localizers = tuple(header.file for header in headers if header.localizer)
    headers = [header for header in headers if not header.localizer]
    if not headers:
        raise ValueError("all of its .dcm files are localizers")
    _refuse_several("series (SeriesInstanceUID)", {each.file: each.series for each in headers})
    _refuse_several("shapes", {each.file: each.shape for each in headers})
    for places in zip(*(header.places for header in headers), strict=True):
        if None not in places:
            order = np.argsort(places, kind="stable")
            return _DicomSeries(tuple(headers[position].file for position in order), localizers)
    return _DicomSeries(tuple(header.file for header in headers), localizers)


def _refuse_several(what: str, value: Mapping[Path, str]) -> None:
    """Refuse slices that do not belong together, with the first file of each kind."""
    first: dict[str, str] = {}
    for path, kind in value.items():
        first.setdefault(kind, path.name)
    if len(first) > 1:
        raise ValueError(
            f"its slices are of {len(first)} {what}: "
            f"{some(f'{name} ({kind})' for kind, name in first.items())}. Keep one "
            "volume in each folder"
        )


def _header_of(file: Path) -> _Header:
    """Return what a slice's header says; each place that it lacks is None.

    Headers alone are read, which takes a fraction of the time of the pixels.
    """
    names = ["SliceLocation", "ImagePositionPatient", "InstanceNumber"]
    series = ["SeriesInstanceUID", "Rows", "Columns", "ImageType"]
    try:
        with _dicom() as pydicom:
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=names + series)
            location, position, number = (header.get(name) for name in names)
            places = (location, position[2] if position else None, number)
            kinds = header.get("ImageType") or ()
            kinds = [kinds] if isinstance(kinds, str) else kinds
            return _Header(
                file,
                tuple(None if place is None else float(place) for place in places),
                str(header.get("SeriesInstanceUID") or "none"),
                f"{header.get('Columns')} x {header.get('Rows')}",
                any(str(kind).strip().upper() == "LOCALIZER" for kind in kinds),
            )
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from error


def _plane(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return an array's shape as width and height, all but its last axis taken together."""
    return (int(shape[-1]), math.prod(shape[:-1])) if shape else (1, 1)


def _number(header: Any, name: str, absent: float) -> float:
    """Return a number of a DICOM file, and what stands for it where the file does not have it."""
    value = header.get(name, absent)
    if value is None:
        raise ValueError(f"its {name} is empty")
    return float(value)


def _by_number(path: Path) -> tuple[int, str]:
    """Order IM2 before IM10."""
    numbers = re.findall(r"\d+", path.stem)
    return (int(numbers[-1]) if numbers else 0, path.name)
