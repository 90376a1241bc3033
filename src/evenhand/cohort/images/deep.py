"""Read images of 16 bits per channel; the file or the user declares the range to scale to 8."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
from numpy.typing import NDArray

Deep = NDArray[np.uint16]

_FULL = 65535  # largest value of 16 bits
_COLOUR = re.compile(r"(RGB|RGBA|RGBX|R|G|B|A);16[BLN]")  # raw modes; "R" is one plane
_OTHER_BYTE = str.maketrans("BL", "LB")
_MAX_VALUE_TAGS = (281, 341)  # TIFF: MaxSampleValue, SMaxSampleValue
_BITS_TAG = 258  # TIFF: BitsPerSample


def is_deep(image: PIL.Image.Image) -> bool:
    """Return whether an opened image has more than 8 bits per channel; Pillow may drop some."""
    return image.mode.startswith("I;") or any(";16" in raw for raw in _raw_modes(image))


def read_deep(
    image: PIL.Image.Image, path: Path, bit_depth: int | None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Return an opened image of 16 bits per channel in 8 bits, and its alpha channel if any.

    Parameters
    ----------
    image
        The image, opened and not yet decoded.
    path
        The file of the image.
    bit_depth
        The bits that the values use: 0 is black and ``2**bit_depth - 1`` white. None: the bits that
        the file declares.

    Returns
    -------
    tuple
        ``(H, W)`` or ``(H, W, 3)``, and ``(H, W)`` or None.

    Raises
    ------
    ValueError
        If neither the file nor the user declares the range, values lie outside the range, or the
        channels are stored in a form that cannot be read.
    """
    declared = _declared_bits(image, path)
    values, alpha = _values(image, path)
    white = _white_value(values, bit_depth, declared, png=image.format == "PNG")
    pixels = _to_8_bits(values, white)
    if alpha is None:
        return pixels, None
    return pixels, _to_8_bits(alpha, _FULL if alpha.max() > white else white)


def _raw_modes(image: PIL.Image.Image) -> list[str]:
    """Return the raw mode of each tile: Pillow's name for the form in which values are stored."""
    tiles = getattr(image, "tile", ())
    modes = (tile.args[0] if isinstance(tile.args, tuple) else tile.args for tile in tiles)
    return [mode for mode in modes if isinstance(mode, str)]


def _values(image: PIL.Image.Image, path: Path) -> tuple[Deep, Deep | None]:
    """Return the values of an image in 16 bits, and its alpha channel or None."""
    raw, transparent = _raw_modes(image), image.info.get("transparency")
    if image.mode.startswith("I;"):
        PIL.ImageOps.exif_transpose(image, in_place=True)
        values = np.asarray(image).astype(np.uint16)
    elif raw == ["LA;16B"]:
        four = _bytes_as(image, "RGBA")  # grey and alpha, the high byte of each before the low one
        joined = _join_bytes(four[..., ::2], four[..., 1::2])
        return joined[..., 0], joined[..., 1]
    elif raw and image.format in ("PNG", "TIFF") and all(map(_COLOUR.fullmatch, raw)):
        page = image.tell()
        with PIL.Image.open(path) as reopened:
            reopened.seek(page)
            low = _bytes_as(reopened, None)
        PIL.ImageOps.exif_transpose(image, in_place=True)
        values = _join_bytes(np.asarray(image), low)
        if values.shape[2] == 4:
            return values[..., :3], values[..., 3]
    else:
        raise ValueError(
            f"it has 16 bits per channel, stored as {', '.join(raw)}; convert it to PNG"
        )
    if transparent is None:
        return values, None
    same = values == np.asarray(transparent, np.uint16)
    see_through = same if same.ndim == 2 else same.all(axis=2)
    return values, np.where(see_through, 0, _FULL).astype(np.uint16)


def _join_bytes(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> Deep:
    values = high.astype(np.uint16)
    values <<= 8
    values |= low
    return values


def _bytes_as(image: PIL.Image.Image, raw_mode: str | None) -> NDArray[np.uint8]:
    """Decode an image as another raw mode; None keeps the low byte of each value.

    Pillow keeps the high byte of each value of a colour channel. Given the opposite byte order, it
    keeps the low one.
    """
    tiles = []
    for tile in image.tile:  # type: ignore[attr-defined]
        rest = tile.args[1:] if isinstance(tile.args, tuple) else None
        old_mode = tile.args if rest is None else tile.args[0]
        mode = raw_mode or _low_byte_mode(old_mode)
        tiles.append(tile._replace(args=mode if rest is None else (mode, *rest)))
    image.tile = tiles  # type: ignore[attr-defined]
    PIL.ImageOps.exif_transpose(image, in_place=True)
    return np.asarray(image)


def _low_byte_mode(raw_mode: str) -> str:
    name, _, order = raw_mode.partition(";16")
    native = "L" if np.little_endian else "B"
    return f"{name};16{order.replace('N', native).translate(_OTHER_BYTE)}"


def _declared_bits(image: PIL.Image.Image, path: Path) -> int | None:
    """Return the bits per channel that a file declares; None if it declares none."""
    if image.format == "PNG":
        return _png_bits(path)
    if image.format == "JPEG2000":
        return 16  # Pillow scales to all 16 by the precision in the file
    if image.format != "TIFF":
        return None
    tags = image.tag_v2  # type: ignore[attr-defined]
    bits = max(tags.get(_BITS_TAG, (16,)))
    highest = max((max(_as_tuple(tags[tag])) for tag in _MAX_VALUE_TAGS if tag in tags), default=0)
    if bits < 16:
        return int(bits)
    used = int(highest).bit_length()
    # A tag that is not 2**used - 1 has the largest value that occurs, and declares no range.
    return used if used > 8 and highest == 2**used - 1 else None


def _as_tuple(value: object) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


def _png_bits(path: Path) -> int | None:
    """Return the significant bits per colour channel (chunk sBIT) that a PNG file declares."""
    with path.open("rb") as file:
        file.seek(8)  # skip the signature
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"sBIT":
                bits = file.read(length)
                return max(bits[: 1 if length < 3 else 3], default=None)  # no alpha
            if kind == b"IDAT":
                return None
            file.seek(length + 4, 1)
    return None


def _white_value(values: Deep, user_bits: int | None, declared: int | None, *, png: bool) -> int:
    """Return the value of white: from the user's bits per channel, else from the file's."""
    highest = int(values.max(initial=0))
    bits = user_bits or declared
    if bits is None:
        raise ValueError(
            f"it has 16 bits per channel and does not declare how many of them its values use; "
            f"they go up to {highest}. Give --bit-depth, as in --bit-depth 12 for values up to 4095"
        )
    white = int(2**bits - 1)
    if user_bits is None and png and bits < 16:
        return _white_of_png(values, highest, white, bits)
    if highest > white:
        source = f"--bit-depth {bits}" if user_bits else f"its header ({bits} bits)"
        raise ValueError(f"its values go up to {highest}, more than {source} allows ({white})")
    return white


def _white_of_png(values: Deep, highest: int, white: int, bits: int) -> int:
    """Return the value of white in a PNG file that declares its significant bits.

    The format requires values to be scaled to all 16 bits; some programs leave them in the lower
    bits.
    """
    if highest > white:
        return _FULL
    top = values >> (16 - bits)
    shifted = top << (16 - bits)
    scaled = np.round(top / white * _FULL)
    if highest and ((values == shifted) | (np.abs(values - scaled) <= 1)).all():
        raise ValueError(
            f"it declares {bits} significant bits, and its values (up to {highest}) may be in the "
            f"lower or the upper ones. Give --bit-depth {bits}, or --bit-depth 16"
        )
    return white


def _to_8_bits(values: Deep, white: int) -> NDArray[np.uint8]:
    share = np.arange(_FULL + 1) / white
    table = (share.clip(0, 1) * 255).round().astype(np.uint8)
    return table[values]
