"""PNG and TIFF files of 16 bits per channel, which Pillow reads and does not write."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # of PNG, by the number of channels


def ramp(channels: int, highest: int, side: int = 16) -> NDArray[np.uint16]:
    """Return values from 0 to the highest, rising evenly, the same in all channels but alpha."""
    values = np.linspace(0, highest, side * side).round().astype(np.uint16).reshape(side, side, 1)
    values = np.repeat(values, channels, axis=2)
    if channels in (2, 4):
        values[..., -1] = highest
    return values


def write_png16(path: Path, values: NDArray[np.uint16], **chunks: bytes) -> Path:
    """Write values ``(H, W, C)``; ``chunks`` are further ones by name, as ``sBIT``."""
    height, width, channels = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPE[channels], 0, 0, 0)
    rows = values.astype(">u2").reshape(height, -1)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    parts = {"IHDR": header, **chunks, "IDAT": pixels, "IEND": b""}
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in parts.items():
        chunk = name.encode() + data
        content += struct.pack(">I", len(data)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(content)
    return path


def write_tiff16(
    path: Path, values: NDArray[np.uint16], order: str = "<", highest: int | None = None
) -> Path:
    """Write values ``(H, W, C)``, low byte first or (``>``) last; ``highest`` is MaxSampleValue."""
    height, width, channels = values.shape
    pixels = values.astype(f"{order}u2").tobytes()
    data = 8 + len(pixels)
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, channels, data if channels > 2 else 16),
    ]
    tags += [(259, 3, 1, 1), (262, 3, 1, 2 if channels > 2 else 1), (273, 4, 1, 8)]
    tags += [(277, 3, 1, channels), (278, 4, 1, height), (279, 4, 1, len(pixels))]
    if highest is not None:
        tags.append((281, 3, 1, highest))
    entries = b""
    for tag, kind, count, value in tags:
        if kind == 3 and count == 1:
            entries += struct.pack(f"{order}HHIHH", tag, kind, count, value, 0)
        else:
            entries += struct.pack(f"{order}HHII", tag, kind, count, value)
    depths = struct.pack(f"{order}{channels}H", *[16] * channels)
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(f"{order}HI", 42, data + len(depths))
    directory = struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", 0)
    path.write_bytes(head + pixels + depths + directory)
    return path
