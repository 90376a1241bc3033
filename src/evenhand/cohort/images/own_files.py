"""The files that a table of one's own names: whole, a part of each (``FILE#PART``), or slices."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.cohort.images.kinds import MixedFiles, kind_of
from evenhand.cohort.images.planes import PlaneChoice
from evenhand.cohort.images.volumes import places
from evenhand.errors import EvenhandError

PART = "#"
"""What stands in a table between a file and the part of it that is meant."""


def without_parts(names: pd.Series, folder: Path) -> tuple[pd.Series, pd.Series]:
    """Return the path of each file that a table names, and the part of it, empty where none is.

    A ``#`` divides them where the whole is no file and what stands before it is one.

    Parameters
    ----------
    names
        Paths relative to the folder, indexed by the row of the table.
    folder
        Where they lie.
    """
    paths = names.map(lambda name: os.path.join(folder, name)).astype(object)  # noqa: PTH118
    parts = pd.Series("", names.index, dtype=object)
    for place in np.flatnonzero(names.str.contains(PART, regex=False)).tolist():
        path = paths.iloc[place]
        file, _, part = path.rpartition(PART)
        if part and not os.path.lexists(path) and os.path.lexists(file):
            paths.iloc[place], parts.iloc[place] = file, part
    return paths, parts


@dataclass(frozen=True, eq=False)
class OwnPictures:
    """The samples in files of a table: which row each is of, its name, and the way to read it."""

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
        The table.
    slices
        How many slices are cut of each volume that the table names as a whole; None: one.

    Raises
    ------
    EvenhandError
        If ``slices`` are requested and none of the files is such a volume.
    """
    times = np.ones(len(paths), np.intp)
    if slices is not None:
        volume = [
            not part and kind_of(Path(path)).volume for path, part in zip(paths, parts, strict=True)
        ]
        if not any(volume):
            raise EvenhandError(
                f"--slices {slices}: none of the files is a NIfTI volume or a folder of DICOM "
                "slices that the table names without #, to which alone this applies. Leave it out."
            )
        times[volume] = slices
    rows = np.repeat(np.arange(len(paths)), times)
    number = np.arange(len(rows)) - np.repeat(times.cumsum() - times, times)
    once = times[rows] == 1
    ids = names.iloc[rows].astype(object)
    ids = ids.where(once, ids + "-" + pd.Series(number + 1, ids.index).astype(str))
    place = places(slices or 1)
    named = {
        sample: PlaneChoice(part, 0.5 if alone else float(place[k]))
        for sample, part, alone, k in zip(ids, parts.iloc[rows], once, number, strict=True)
        if part or not alone
    }
    files = dict(zip(ids, paths.iloc[rows], strict=True))
    numbers = dict(zip(ids, paths.index[rows].tolist(), strict=True))
    return OwnPictures(rows, ids, MixedFiles(files, numbers, table, parts=named))
