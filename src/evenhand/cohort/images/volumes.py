"""Pictures out of volumes and HDF5 files, in 8 bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
from numpy.typing import NDArray

from evenhand.cohort.images.bounds import admit
from evenhand.cohort.images.decoding import ImageFiles
from evenhand.cohort.images.planes import PlaneChoice, Range, damage, grey, windowed
from evenhand.errors import EvenhandError, import_extra

Cut = Callable[[Path, float], PIL.Image.Image]
"""Cuts the slice at a place (0 bottom … 1 top) out of a volume; ValueError if it cannot."""

_HELD = 4  # times a slice's pixels, at four bytes each, that decoding holds
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

    window: Range

    def _picture(self, sample_id: str) -> PIL.Image.Image:
        return open_hdf5(Path(self.files[sample_id]), sample_id, self.window)


def hdf5_images(paths: pd.Series, sample_ids: pd.Series, table: Path, window: Range) -> Hdf5Images:
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
    """Cut an axial slice out of a NIfTI or Analyze volume; see `open_nifti`."""
    return open_nifti(path, PlaneChoice(place=place), None)


def open_nifti(path: Path, part: PlaneChoice, window: Range | None) -> PIL.Image.Image:
    """Cut an axial slice out of a NIfTI or Analyze volume; slice 1 is the lowest.

    Without a window the 1st … 99th percentile of its finite voxels is 0 … 255; the others are 0.
    """
    nibabel = import_extra("nibabel", "readers")
    damaged = (
        *(nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError),
        nibabel.orientations.OrientationError,
    )
    with damage(*damaged, TypeError, OverflowError, EOFError):
        volume = nibabel.load(path)
        depth = _depth(volume.shape)
        if len(volume.shape) > 2:
            volume = nibabel.as_closest_canonical(volume)
            height, width, depth = volume.shape[:3]
            admit(width, height, held=_HELD * width * height)
            index = part.slice(depth)
            pixels = np.asarray(volume.slicer[:, :, index : index + 1].dataobj, np.float32)
        else:
            admit(*volume.shape, held=_HELD * math.prod(volume.shape))
            part.slice(depth)
            pixels = np.asarray(volume.dataobj, np.float32)
    pixels = np.rot90(pixels.reshape(pixels.shape[:2]))  # the front of the head is above
    if window is not None:
        return windowed(pixels, window)
    finite = pixels[np.isfinite(pixels)]
    if not finite.size:
        raise ValueError("no voxel of the slice is a finite number")
    low, high = np.percentile(finite, (1, 99))
    return grey(pixels, low, high)


def _depth(shape: tuple[int, ...]) -> int:
    """Return how many slices a volume of that shape has.

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
    """Return the names of what an HDF5 file holds.

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
            f"{path} cannot be read as HDF5: {error}. Download it again, whole."
        ) from error


def open_hdf5(path: Path, name: str, window: Range) -> PIL.Image.Image:
    """Open an array ``(H, W)`` of an HDF5 file through a window.

    The file is opened anew each time, so that no handle is shared between processes; within one,
    h5py lets a single thread in at a time.
    """
    h5py = import_extra("h5py", "readers")
    with damage(KeyError, TypeError, RuntimeError, AttributeError), h5py.File(path, "r") as file:
        array = file[name]
        admit(*_plane(array.shape))
        return windowed(np.asarray(array[()], np.float32), window)


def _plane(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return an array's shape as width and height, all but its last axis taken together."""
    return (int(shape[-1]), math.prod(shape[:-1])) if shape else (1, 1)
