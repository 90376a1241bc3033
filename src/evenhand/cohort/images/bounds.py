"""Limit the pixels of one image, and of all images that are decoded at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import PIL.Image

from evenhand.cohort.settings import MAX_PIXELS

DECODING_COPIES = 4
"""Memory that decoding DICOM or NIfTI needs, in copies of a picture at 4 bytes per pixel."""


class _Thread(threading.local):
    """The limit of the current thread, and the pixels that it reserved."""

    limit: int = MAX_PIXELS
    in_block = False
    pixels = 0


_thread = _Thread()
_changed = threading.Condition()
_reserved_pixels = 0


@contextmanager
def decoding_room(limit: int) -> Iterator[None]:
    """Release the memory that `admit` reserves in the block when the block ends.

    Parameters
    ----------
    limit
        The largest number of pixels of one image, and of all threads together.
    """
    global _reserved_pixels
    _thread.limit, _thread.in_block, _thread.pixels = limit, True, 0
    try:
        yield
    finally:
        with _changed:
            _reserved_pixels -= _thread.pixels
            _changed.notify_all()
        _thread.limit, _thread.in_block, _thread.pixels = MAX_PIXELS, False, 0


def admit(width: int, height: int, *, memory_pixels: int | None = None) -> None:
    """Check an image's size before it is decoded, and wait until there is room for it.

    A thread reserves room once for each image. If no other image is being decoded, there is always
    room.

    Parameters
    ----------
    width, height
        The size of the image in pixels, as its file declares it.
    memory_pixels
        Memory that decoding needs, in pixels of 4 bytes; by default, width × height.

    Raises
    ------
    ValueError
        If the image has more pixels than the limit of the enclosing `decoding_room`.
    """
    global _reserved_pixels
    pixels, limit = width * height, _thread.limit
    if pixels > limit:
        raise ValueError(
            f"it has {width:,} x {height:,} = {pixels:,} pixels, more than the {limit:,} that "
            f"--max-pixels allows. If you trust the file, give --max-pixels {pixels}"
        )
    if not _thread.in_block or _thread.pixels:
        return
    need = pixels if memory_pixels is None else memory_pixels
    with _changed:
        _changed.wait_for(lambda: _reserved_pixels == 0 or _reserved_pixels + need <= limit)
        _reserved_pixels += need
        _thread.pixels = need


_opening = threading.Lock()
_open_count = 0
_pillow_limit: int | None = None


@contextmanager
def without_pillow_limit() -> Iterator[None]:
    """Switch off Pillow's own limit in the block, because its warning does not name the file.

    The limit is a global variable of Pillow. It is restored when the last such block ends.
    """
    global _open_count, _pillow_limit
    with _opening:
        if _open_count == 0:
            _pillow_limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
        _open_count += 1
    try:
        yield
    finally:
        with _opening:
            _open_count -= 1
            if _open_count == 0:
                PIL.Image.MAX_IMAGE_PIXELS = _pillow_limit
