"""Images by sample id: from files, or from an array."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
import PIL.ImageOps

from evenhand.cohort.cohort import Image, UnreadableError

Open = Callable[[Path, int | None], PIL.Image.Image]
"""Opens a file as a picture, no smaller than a side (None: as it is); ValueError if it cannot."""

NO_ROW = 0  # the row of an image that a table does not name: a header is row 1
IMAGE_SIZE = 224  # pixels, where no size is asked for

# What Pillow raises for a damaged file, whatever its format.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, PIL.Image.DecompressionBombError)


def open_picture(path: Path, size: int | None) -> PIL.Image.Image:
    """Open a file of pixels the way up that its EXIF says.

    A JPEG is opened at the smallest scale that is no smaller than ``size``.
    """
    with PIL.Image.open(path) as image:
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"it has more than 8 bits per channel ({image.mode}); convert it")
        if size is not None:
            image.draft("RGB", (size, size))
        PIL.ImageOps.exif_transpose(image, in_place=True)
        return image.convert("RGB")


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images in files.

    Parameters
    ----------
    files
        The path of each sample.
    rows
        The row of ``table`` that names each sample, for messages; ``NO_ROW`` where none does.
    table
        The table that names the files.
    size
        Side of the square that each image is squashed to; None leaves it as it is.
    open
        The way to open a file as a picture.
    """

    files: Mapping[str, str]
    rows: Mapping[str, int]
    table: Path
    size: int | None = None
    open: Open = open_picture

    @property
    def ids(self) -> Sequence[str]:
        """Every sample, in the order of the table."""
        return tuple(self.files)

    def __call__(self, sample_id: str) -> Image:
        """Decode one image, ``(H, W, 3)``."""
        path = self.files[sample_id]
        try:
            picture = self._picture(sample_id).convert("RGB")
            return np.asarray(picture) if self.size is None else _squash(picture, self.size)
        except _DAMAGED as error:
            row = self.rows[sample_id]
            where = "" if row == NO_ROW else f" ({self.table}, row {row})"
            raise UnreadableError(f"{path}{where} cannot be read: {error}") from error

    def _picture(self, sample_id: str) -> PIL.Image.Image:
        return self.open(Path(self.files[sample_id]), self.size)

    def resized(self, size: int | None) -> ImageFiles:
        """Return the way to read the same files as ``(size, size, 3)``."""
        return replace(self, size=size or IMAGE_SIZE)


@dataclass(frozen=True, eq=False)
class ImageArray:
    """Images in memory: ``images[row[sample_id]]``, with ``images`` ``(n, H, W, 3)`` uint8."""

    images: Image
    row: Mapping[str, int]
    size: int | None = None

    @property
    def ids(self) -> Sequence[str]:
        """Every sample, in the order of the array."""
        return tuple(self.row)

    def __call__(self, sample_id: str) -> Image:
        """Look one image up, ``(H, W, 3)``."""
        image: Image = self.images[self.row[sample_id]]
        if self.size is None:
            return image
        return _squash(PIL.Image.fromarray(image), self.size)

    def resized(self, size: int | None) -> ImageArray:
        """Return the way to read the same images as ``(size, size, 3)``."""
        return replace(self, size=size or IMAGE_SIZE)


def image_files(
    paths: pd.Series, sample_ids: pd.Series, table: Path, open: Open = open_picture
) -> ImageFiles:
    """Return the way to read the images that a table names.

    Parameters
    ----------
    paths, sample_ids
        The path and the id of each sample, indexed by row as ``read_table`` counts it.
    table
        The table.
    open
        The way to open a file as a picture.
    """
    ids = sample_ids.to_numpy(object)
    files, rows = zip(ids, paths, strict=True), zip(ids, paths.index.tolist(), strict=True)
    return ImageFiles(dict(files), dict(rows), table, open=open)


def _squash(image: PIL.Image.Image, size: int) -> Image:
    """Resize to a square, whatever the shape; Pillow's bicubic filter does not alias."""
    return np.asarray(image.resize((size, size), PIL.Image.Resampling.BICUBIC))
