"""Pictures out of medical formats, in 8 bits: slices of volumes, DICOM, npz and HDF5 files."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
from numpy.typing import NDArray

from evenhand.cohort.images import ImageFiles
from evenhand.errors import EvenhandError, import_extra

Cut = Callable[[Path, float], PIL.Image.Image]
"""Cuts the slice at a place (0 bottom … 1 top) out of a volume; ValueError if it cannot."""

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
    """

    place: Mapping[str, float] = field(default_factory=dict)
    cut: Cut

    def _picture(self, sample_id: str) -> PIL.Image.Image:
        return self.cut(Path(self.files[sample_id]), self.place[sample_id])


def volume_slices(table: pd.DataFrame, source: Path, cut: Cut) -> VolumeSlices:
    """Return the way to read the slices of a table (see ``sliced``), which ``source`` names."""
    ids = table["slice"]
    return VolumeSlices(
        files=dict(zip(ids, table["file"], strict=True)),
        rows=dict(zip(ids, table.index, strict=True)),
        table=source,
        place=dict(zip(ids, table["place"], strict=True)),
        cut=cut,
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
    """Cut an axial slice out of a NIfTI or Analyze volume; its 1st … 99th percentile is 0 … 255."""
    nibabel = import_extra("nibabel", "readers")
    damaged = (nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError)
    with _damage(*damaged):
        volume = nibabel.as_closest_canonical(nibabel.load(path))
        depth = volume.shape[2]
        at = min(int(place * depth), depth - 1)
        pixels = np.asarray(volume.slicer[:, :, at : at + 1].dataobj, np.float32)
    pixels = pixels.reshape(pixels.shape[:2])
    low, high = np.percentile(pixels, (1, 99))
    return grey(np.rot90(pixels), low, high)  # the front of the head is above


def cut_dicom_series(path: Path, place: float, window: tuple[float, float]) -> PIL.Image.Image:
    """Cut a slice out of a folder of DICOM files, in the order that their headers tell."""
    files = _in_order(path, path.stat().st_mtime_ns)
    return open_dicom(files[min(int(place * len(files)), len(files) - 1)], None, window)


def open_dicom(path: Path, size: int | None, window: tuple[float, float]) -> PIL.Image.Image:
    """Open a DICOM file through a window: centre and width, in its rescaled units."""
    with _dicom() as pydicom:
        found = pydicom.dcmread(path)
        pixels = found.pixel_array.astype(np.float32)
        pixels = pixels * _number(found, "RescaleSlope", 1) + _number(found, "RescaleIntercept", 0)
        inverted = found.get("PhotometricInterpretation") == "MONOCHROME1"
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
    with _damage(KeyError, TypeError, RuntimeError), h5py.File(path, "r") as file:
        return windowed(np.asarray(file[name][()], np.float32), window)


def open_npz(path: Path, size: int | None, key: str, span: tuple[float, float]) -> PIL.Image.Image:
    """Open an array ``(H, W)`` of an npz file; ``span`` is what becomes 0 … 255."""
    with (
        _damage(zipfile.BadZipFile, KeyError),
        path.open("rb") as file,  # numpy does not close a file that it cannot make out
        np.load(file, allow_pickle=False) as arrays,
    ):
        return grey(arrays[key], *span)


def windowed(pixels: NDArray[np.float32], window: tuple[float, float]) -> PIL.Image.Image:
    """Return pixels ``(H, W)`` as a picture, through a window: centre and width."""
    centre, width = window
    return grey(pixels, centre - width / 2, centre + width / 2)


def grey(pixels: NDArray[np.generic], low: float, high: float) -> PIL.Image.Image:
    """Return pixels ``(H, W)`` as a picture in which ``low`` … ``high`` is 0 … 255."""
    if pixels.ndim != 2:
        raise ValueError(f"it holds an array of shape {pixels.shape} where a plane is expected")
    share = (pixels.astype(np.float32) - low) / max(high - low, 1e-6)
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


@lru_cache(maxsize=64)
def _in_order(folder: Path, changed: int) -> tuple[Path, ...]:
    """Return the slices of a folder from one end to the other; ``changed`` is when the folder was.

    The order is that of the first of their places which all of them have, else of their names.
    """
    files = sorted(folder.glob("*.dcm"), key=_by_number)
    if not files:
        raise ValueError("it holds no .dcm file")
    for places in zip(*map(_places_of, files), strict=True):
        if None not in places:
            order = np.argsort(places, kind="stable")
            return tuple(files[at] for at in order)
    return tuple(files)


def _places_of(file: Path) -> tuple[float | None, ...]:
    """Return a slice's location, its height in the patient and its number, None for each it lacks.

    Headers alone are read, which takes a fraction of the time of the pixels.
    """
    names = ["SliceLocation", "ImagePositionPatient", "InstanceNumber"]
    try:
        with _dicom() as pydicom:
            found = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=names)
            location, position, number = (found.get(name) for name in names)
            told = (location, position[2] if position else None, number)
            return tuple(None if value is None else float(value) for value in told)
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from error


def _number(found: Any, name: str, absent: float) -> float:
    """Return a number of a DICOM file, and what stands for it where the file does not have it."""
    value = found.get(name, absent)
    if value is None:
        raise ValueError(f"its {name} is empty")
    return float(value)


def _by_number(path: Path) -> tuple[int, str]:
    """Order IM2 before IM10."""
    numbers = re.findall(r"\d+", path.stem)
    return (int(numbers[-1]) if numbers else 0, path.name)
