"""Read NumPy arrays as images: ``.npy`` files, and one array of an ``.npz`` file."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, BinaryIO

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from evenhand.cohort.cohort import Image
from evenhand.cohort.images.bounds import admit
from evenhand.cohort.images.planes import PlaneChoice, Range, as_value_error, grey_plane, in_8_bits
from evenhand.errors import first_few
from evenhand.networks.inputs import RGB
from evenhand.networks.settings import MAX_CHANNELS

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_SCALING_BYTES = 12  # bytes per value that scaling needs, in addition to the array
_PER_PIXEL = 4  # bytes per pixel in memory, as `admit` counts them


@dataclass(frozen=True)
class ArrayForm:
    """Shape and type of an array, as its header declares them."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture: its two longest axes."""
        longest = sorted(sorted(range(len(self.shape)), key=self.shape.__getitem__)[-2:])
        height, width = [self.shape[axis] for axis in longest] if len(longest) == 2 else (1, 1)
        return int(width), int(height)

    @property
    def memory_pixels(self) -> int:
        """Memory that decoding needs, in pixels of 4 bytes."""
        values = int(np.prod(self.shape, dtype=np.int64))
        return values * (self.dtype.itemsize + _SCALING_BYTES) // _PER_PIXEL


def open_npz(path: Path, size: int | None, key: str, span: Range) -> PIL.Image.Image:
    """Open an array ``(H, W)`` of an npz file; the range ``span`` is scaled to 0 … 255."""
    return grey_plane(read_npz(path, PlaneChoice(key)), *span)


def read_npy(path: Path) -> NDArray[Any]:
    """Read the array of a .npy file; it must hold real numbers.

    Raises
    ------
    ValueError
        If the file is damaged, holds values that are not real numbers, or is too large (see
        `admit`).
    """
    with as_value_error(TokenError, EOFError), path.open("rb") as file:
        _admit(_form_of(file))
        file.seek(0)
        array: NDArray[Any] = np.load(file, allow_pickle=False)
        return array


def read_npz(path: Path, part: PlaneChoice) -> NDArray[Any]:
    """Read the array that ``part`` names from an npz file; without a name, its only array.

    Raises
    ------
    ValueError
        If the named array is missing, no name is given and the file does not hold exactly one
        array, or `read_npy` would refuse the array.
    """
    with _open_arrays(path) as arrays:
        name = _array_name(list(arrays.files), part)
        _admit(_form_in(arrays, name))
        array: NDArray[Any] = arrays[name]
        return array


def array_form(path: Path, part: PlaneChoice) -> ArrayForm:
    """Return the shape and type of an array in a .npy or npz file, from its header."""
    if not zipfile.is_zipfile(path):
        with as_value_error(TokenError, EOFError), path.open("rb") as file:
            return _form_of(file)
    with _open_arrays(path) as arrays:
        return _form_in(arrays, _array_name(list(arrays.files), part))


def with_channels_last(array: NDArray[Any], channels: int = RGB) -> NDArray[Any]:
    """Return an array ``(H, W)``, ``(H, W, C)`` or ``(C, H, W)`` as ``(H, W, C)``.

    Parameters
    ----------
    array
        C is ``channels``, 1 or 3; if the first and the last axis have this length, the last is C.
    channels
        The expected number of channels.

    Raises
    ------
    ValueError
        If the array has another shape.

    Examples
    --------
    >>> with_channels_last(np.zeros((3, 8, 6))).shape
    (8, 6, 3)
    >>> with_channels_last(np.zeros((8, 6, 5)), 5).shape
    (8, 6, 5)
    """
    if array.ndim == 2 and array.size:
        return array[..., None]
    if array.ndim == 3 and array.size:
        for count in dict.fromkeys((channels, 1, RGB)):
            if array.shape[2] == count:
                return array
            if array.shape[0] == count:
                return array.transpose(1, 2, 0)
    raise ValueError(_no_picture_text(array.shape, channels))


def _no_picture_text(shape: tuple[int, ...], channels: int) -> str:
    shortest = min((axis for axis in (shape[0], shape[-1]) if axis), default=0) if shape else 0
    advice = ""
    if len(shape) == 3 and 0 < shortest <= MAX_CHANNELS:
        advice = f". Give --channels {shortest} if all images have so many channels"
    return (
        f"its array has the shape {shape}; a picture is (H, W), (H, W, C) or (C, H, W) of "
        f"C = {channels} channel{'s' * (channels != 1)}{advice}"
    )


def array_in_8_bits(
    array: NDArray[Any], bit_depth: int | None, value_range: Range | None, window: Range | None
) -> Image:
    """Scale real numbers to uint8, from the given range or the default range of their type.

    Parameters
    ----------
    array
        Array of any shape. Booleans become 0 and 255, uint8 is unchanged, floats lie in 0 … 1
        unless a range is given.
    bit_depth
        The bits that uint16 values use.
    value_range
        Values that become 0 and 255; values outside this range are refused.
    window
        Centre and width of a range; values outside it are clipped.

    Raises
    ------
    ValueError
        If values are not finite or lie outside the range, or no range is given and the type of the
        values has no default.

    Examples
    --------
    >>> array_in_8_bits(np.array([0.0, 0.5, 1.0]), None, None, None).tolist()
    [0, 128, 255]
    """
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    _refuse_not_finite(array)
    if window is not None:
        return in_8_bits(array, window[0] - window[1] / 2, window[0] + window[1] / 2)
    low, high = _declared_range(array, bit_depth, value_range)
    smallest, largest = float(array.min(initial=high)), float(array.max(initial=low))
    if smallest < low or largest > high:
        raise ValueError(
            f"its values go from {smallest:g} to {largest:g}, beyond the range from {low:g} "
            f"to {high:g}. Give --value-range LOW HIGH (the values of black and of white), or "
            "--window CENTRE WIDTH to clip values outside"
        )
    return in_8_bits(array, low, high)


def _declared_range(
    array: NDArray[Any], bit_depth: int | None, value_range: Range | None
) -> tuple[float, float]:
    if array.dtype == np.uint16 and bit_depth is not None:
        return 0.0, float(2**bit_depth - 1)
    if value_range is not None:
        return value_range
    if array.dtype.kind == "f":
        return 0.0, 1.0
    bit_depth_hint = (
        " or --bit-depth 12 (for values up to 4095)" if array.dtype == np.uint16 else ""
    )
    raise ValueError(
        f"it holds {array.dtype} values from {array.min(initial=0)} to {array.max(initial=0)}, but "
        "the values of black and of white are unknown. Give --value-range LOW HIGH"
        f"{bit_depth_hint}"
    )


def _refuse_not_finite(array: NDArray[Any]) -> None:
    if array.dtype.kind != "f":
        return
    not_finite = ~np.isfinite(array)
    if not_finite.any():
        first = tuple(map(int, np.argwhere(not_finite)[0]))
        raise ValueError(
            f"{int(not_finite.sum())} of its values are NaN or infinite, the first at "
            f"{list(first)}; every pixel of a picture needs a finite value"
        )


@contextmanager
def _open_arrays(path: Path) -> Iterator[Any]:
    with (
        as_value_error(zipfile.BadZipFile, KeyError, TokenError, EOFError, NotImplementedError),
        path.open("rb") as file,  # numpy does not close a file that it cannot read
        np.load(_require_zip(file), allow_pickle=False) as arrays,
    ):
        yield arrays


def _require_zip(file: BinaryIO) -> BinaryIO:
    """Refuse a file that is not a zip archive; numpy's own message suggests unsafe loading."""
    if not zipfile.is_zipfile(file):
        raise ValueError("it is no npz file: no zip archive")
    file.seek(0)
    return file


def _array_name(names: list[str], part: PlaneChoice) -> str:
    if part.name in names:
        return part.name
    if not names:
        raise ValueError("it is an npz file without any array")
    if part.name:
        raise ValueError(f"it has no array {part.name!r}; it has {first_few(names)}")
    if len(names) > 1:
        raise ValueError(
            f"it has {len(names)} arrays ({first_few(names)}), but a sample is one array. Write "
            f"FILE#{names[0]} in the table"
        )
    return names[0]


def _form_in(arrays: Any, name: str) -> ArrayForm:
    with arrays.zip.open(f"{name}.npy") as header:  # without its values
        return _form_of(header)


def _form_of(file: IO[bytes]) -> ArrayForm:
    """Return the shape and type that the header of a .npy file declares."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"it has version {version} of the npy format; save it again with numpy")
    shape, _, dtype = _HEADERS[version](file)
    if dtype.kind not in "biuf":
        raise ValueError(f"it holds values of the kind {dtype}, not real numbers")
    return ArrayForm(shape, dtype)


def _admit(form: ArrayForm) -> None:
    width, height = form.size
    admit(width, height, memory_pixels=form.memory_pixels)
