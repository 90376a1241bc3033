"""Find the pictures in the files of a user's table: whole files, parts (``FILE#PART``), slices."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.cohort.images.kinds import MixedFiles, file_kind
from evenhand.cohort.images.planes import PlaneChoice
from evenhand.cohort.images.volumes import slice_positions
from evenhand.errors import EvenhandError

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
