"""Read pictures from volumes and HDF5 files, in 8 bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
from numpy.typing import NDArray

from evenhand.cohort.images.bounds import DECODING_COPIES, admit
from evenhand.cohort.images.decoding import ImageFiles
from evenhand.cohort.images.planes import (
    PlaneChoice,
    Range,
    apply_window,
    as_value_error,
    grey_plane,
)
from evenhand.errors import EvenhandError, import_extra

ReadSlice = Callable[[Path, float], PIL.Image.Image]
"""Reads the slice of a volume at a position from 0 (bottom) to 1 (top), or raises ValueError."""

LUNG = (-600.0, 1500.0)
"""Centre and width of the window, in Hounsfield units, that shows lungs."""
SOFT_TISSUE = (40.0, 400.0)
"""Centre and width of the window, in Hounsfield units, that shows abdominal organs."""


@dataclass(frozen=True, eq=False, kw_only=True)
class VolumeSlices(ImageFiles):
    """Reads slices of volumes in files.

    Parameters
    ----------
    place
        Sample id → position of the slice in its volume, from 0 (bottom) to 1 (top).
    read_slice
        Reads a slice.
    volume_remark
        Returns a sentence for the run's notes on how a volume is read, or "".
    """

    place: Mapping[str, float] = field(default_factory=dict)
    read_slice: ReadSlice
    volume_remark: Callable[[Path], str] = lambda _: ""

    def remark(self, sample_id: str) -> str:
        """Return a sentence for the run's notes on the volume of a sample, or ""."""
        return self.volume_remark(Path(self.files[sample_id]))

    def _picture(self, sample_id: str) -> PIL.Image.Image:
        return self.read_slice(Path(self.files[sample_id]), self.place[sample_id])


def volume_slices(
    table: pd.DataFrame, source: Path, read_slice: ReadSlice, volume_remark: Callable[[Path], str]
) -> VolumeSlices:
    """Return the reader of the slices in a table of ``expand_slices``; ``source`` is its file."""
    ids = table["slice"]
    return VolumeSlices(
        files=dict(zip(ids, table["file"], strict=True)),
        rows=dict(zip(ids, table.index, strict=True)),
        table=source,
        place=dict(zip(ids, table["place"], strict=True)),
        read_slice=read_slice,
        volume_remark=volume_remark,
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Hdf5Images(ImageFiles):
    """Reads pictures of one HDF5 file; the id of a sample is the name of its array.

    Parameters
    ----------
    window
        Centre and width of the intensity window, in the units of the arrays.
    """

    window: Range

    def _picture(self, sample_id: str) -> PIL.Image.Image:
        return open_hdf5(Path(self.files[sample_id]), sample_id, self.window)


def hdf5_images(paths: pd.Series, sample_ids: pd.Series, table: Path, window: Range) -> Hdf5Images:
    """Return a reader of pictures of an HDF5 file; for the parameters see ``image_files``."""
    files = dict(zip(sample_ids, paths, strict=True))
    rows = dict(zip(sample_ids, paths.index.tolist(), strict=True))
    return Hdf5Images(files, rows, table, window=window)


def slice_positions(slices: int) -> NDArray[np.float64]:
    """Return the positions of slices, evenly over the middle half of a volume.

    Examples
    --------
    >>> slice_positions(1).tolist(), slice_positions(2).tolist()
    ([0.5], [0.375, 0.625])
    """
    return 0.25 + 0.5 * (np.arange(slices) + 0.5) / slices


def expand_slices(table: pd.DataFrame, sample: str, slices: int) -> pd.DataFrame:
    """Return a table with a row for each slice, given a table with a row for each volume.

    The new columns are ``slice`` (the volume's id and a number: ``ID-1``, ``ID-2`` …) and
    ``place`` (the position in the volume, from 0 to 1).
    """
    rows = table.loc[table.index.repeat(slices)].copy()
    number = np.tile(np.arange(slices), len(table))
    names = rows[sample] + "-" + pd.Series(number + 1, rows.index).astype("str")
    rows["slice"], rows["place"] = names, slice_positions(slices)[number]
    return rows


def cut_nifti(path: Path, place: float) -> PIL.Image.Image:
    """Read an axial slice of a NIfTI or Analyze volume; see `open_nifti`."""
    return open_nifti(path, PlaneChoice(place=place), None)


def open_nifti(path: Path, part: PlaneChoice, window: Range | None) -> PIL.Image.Image:
    """Read an axial slice of a NIfTI or Analyze volume; slice 1 is the lowest.

    Without a window, the 1st … 99th percentile of the finite voxels becomes 0 … 255; voxels that
    are not finite become 0.
    """
    nibabel = import_extra("nibabel", "readers")
    damaged = (
        *(nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError),
        nibabel.orientations.OrientationError,
    )
    with as_value_error(*damaged, TypeError, OverflowError, EOFError):
        volume = nibabel.load(path)
        depth = _depth(volume.shape)
        if len(volume.shape) > 2:
            volume = nibabel.as_closest_canonical(volume)
            height, width, depth = volume.shape[:3]
            admit(width, height, memory_pixels=DECODING_COPIES * width * height)
            index = part.slice(depth)
            pixels = np.asarray(volume.slicer[:, :, index : index + 1].dataobj, np.float32)
        else:
            admit(*volume.shape, memory_pixels=DECODING_COPIES * math.prod(volume.shape))
            part.slice(depth)
            pixels = np.asarray(volume.dataobj, np.float32)
    pixels = np.rot90(pixels.reshape(pixels.shape[:2]))  # the front of the head is above
    if window is not None:
        return apply_window(pixels, window)
    finite = pixels[np.isfinite(pixels)]
    if not finite.size:
        raise ValueError("no voxel of the slice is a finite number")
    low, high = np.percentile(finite, (1, 99))
    return grey_plane(pixels, low, high)


def _depth(shape: tuple[int, ...]) -> int:
    """Return the number of slices of a volume with this shape.

    Raises
    ------
    ValueError
        If the array holds several volumes.
    """
    if len(shape) > 3 and math.prod(shape[3:]) > 1:
        raise ValueError(
            f"it holds {math.prod(shape[3:])} volumes of {shape[:3]} voxels; save each as a file"
        )
    return int(shape[2]) if len(shape) > 2 else 1


def hdf5_names(path: Path) -> list[str]:
    """Return the names of the entries of an HDF5 file.

    Raises
    ------
    EvenhandError
        If the file is not an HDF5 file, or is damaged.
    """
    h5py = import_extra("h5py", "readers")
    try:
        with h5py.File(path, "r") as file:
            return list(file)
    except (OSError, RuntimeError) as error:
        raise EvenhandError(
            f"{path} cannot be read as HDF5: {error}. Download it again."
        ) from error


def open_hdf5(path: Path, name: str, window: Range) -> PIL.Image.Image:
    """Open an array ``(H, W)`` of an HDF5 file as a picture, through an intensity window.

    Each call opens the file, so that processes share no handle. Within a process, h5py allows one
    thread at a time.
    """
    h5py = import_extra("h5py", "readers")
    with (
        as_value_error(KeyError, TypeError, RuntimeError, AttributeError),
        h5py.File(path, "r") as file,
    ):
        array = file[name]
        admit(*_plane(array.shape))
        return apply_window(np.asarray(array[()], np.float32), window)


def _plane(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return width (the last axis) and height (all other axes together) of an array's shape."""
    return (int(shape[-1]), math.prod(shape[:-1])) if shape else (1, 1)
