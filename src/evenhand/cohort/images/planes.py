"""Turn planes of numbers into pictures of 8 bits, and choose a plane of a file."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray

Range = tuple[float, float]
"""Two numbers: centre and width of a window, or the values of black and of white."""


@dataclass(frozen=True)
class PlaneChoice:
    """The choice of one picture in a file that holds several.

    Parameters
    ----------
    name
        The text after ``#`` in the table: the name of an array, or the number of a slice, frame or
        page, from 1; "" without a choice.
    place
        The position of the slice in a volume, from 0 (bottom) to 1 (top), if ``name`` is "".
    """

    name: str = ""
    place: float = 0.5

    def number(self, count: int, what: str) -> int | None:
        """Return the index, from 0, of the chosen picture among ``count``; None without a choice.

        Raises
        ------
        ValueError
            If the part is not a number, or lies beyond the end.
        """
        if not self.name:
            return None
        if not self.name.isdecimal() or not 1 <= int(self.name) <= count:
            raise ValueError(
                f"it has {count} {what}{'s' * (count != 1)}, and the table names #{self.name}; "
                f"give a number from 1 to {count} after #"
            )
        return int(self.name) - 1

    def slice(self, count: int) -> int:
        """Return the index, from 0, of the chosen slice among ``count``."""
        number = self.number(count, "slice")
        return min(int(self.place * count), count - 1) if number is None else number

    def refuse(self, what: str) -> None:
        """Refuse a choice in a file that holds one picture; ``what`` describes the file."""
        if self.name:
            raise ValueError(f"it is {what} and has no part #{self.name}; leave the part out")


WHOLE = PlaneChoice()


def apply_window(pixels: NDArray[np.float32], window: Range) -> PIL.Image.Image:
    """Return pixels ``(H, W)`` as a picture, through an intensity window (centre and width)."""
    centre, width = window
    return grey_plane(pixels, centre - width / 2, centre + width / 2)


def grey_plane(pixels: NDArray[np.generic], low: float, high: float) -> PIL.Image.Image:
    """Return pixels ``(H, W)`` as a picture in which ``low`` … ``high`` is 0 … 255."""
    if pixels.ndim != 2 or not pixels.size:
        raise ValueError(f"it holds an array of shape {pixels.shape} where a plane is expected")
    return PIL.Image.fromarray(in_8_bits(pixels, low, high))


def in_8_bits(pixels: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint8]:
    """Return numbers as uint8: ``low`` … ``high`` becomes 0 … 255, values not finite become 0."""
    share = (pixels.astype(np.float32) - low) / max(high - low, 1e-6)
    share[~np.isfinite(share)] = 0
    share.clip(0, 1, out=share)  # in place: a picture may have 80 million pixels
    share *= 255
    np.rint(share, out=share)
    return share.astype(np.uint8)


@contextmanager
def as_value_error(*kinds: type[Exception]) -> Iterator[None]:
    """Turn a library's errors for a damaged file (``kinds``) into ValueError."""
    damaged: tuple[type[Exception], ...] = (zlib.error, *kinds)
    try:
        yield
    except damaged as error:
        raise ValueError(str(error) or type(error).__name__) from error
