"""Limit the pixels of one image, and of all images that are decoded at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import PIL.Image

from evenhand.cohort.settings import MAX_PIXELS


class _Thread(threading.local):
    """The limit of the current thread, and the pixels that it holds."""

    limit: int = MAX_PIXELS
    inside = False
    pixels = 0


_thread = _Thread()
_changed = threading.Condition()
_in_flight = 0


@contextmanager
def decoding_room(limit: int) -> Iterator[None]:
    """Reserve the pixels that `admit` grants in the block until the block ends.

    Parameters
    ----------
    limit
        The largest number of pixels of one image, and of all threads together.
    """
    global _in_flight
    _thread.limit, _thread.inside, _thread.pixels = limit, True, 0
    try:
        yield
    finally:
        with _changed:
            _in_flight -= _thread.pixels
            _changed.notify_all()
        _thread.limit, _thread.inside, _thread.pixels = MAX_PIXELS, False, 0


def admit(width: int, height: int, *, held: int | None = None) -> None:
    """Check an image's size before it is decoded, and wait until there is room for it.

    A thread reserves room once for each image. If no other image is being decoded, there is always
    room.

    Parameters
    ----------
    width, height
        The size of the image in pixels, as its file declares it.
    held
        The pixels that decoding keeps in memory; by default, width × height.

    Raises
    ------
    ValueError
        If the image has more pixels than the limit of the enclosing `decoding_room`.
    """
    global _in_flight
    pixels, limit = width * height, _thread.limit
    if pixels > limit:
        raise ValueError(
            f"it has {width:,} x {height:,} = {pixels:,} pixels, more than the {limit:,} that "
            f"--max-pixels allows. If you trust the file, give --max-pixels {pixels}"
        )
    if not _thread.inside or _thread.pixels:
        return
    need = pixels if held is None else held
    with _changed:
        _changed.wait_for(lambda: _in_flight == 0 or _in_flight + need <= limit)
        _in_flight += need
        _thread.pixels = need


_opening = threading.Lock()
_open_count = 0
_pillow_limit: int | None = None


@contextmanager
def without_pillow_limit() -> Iterator[None]:
    """Switch off Pillow's own limit, whose warning lacks the file's name, during the block.

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
