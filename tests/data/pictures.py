"""Pictures that stand for medical images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image


def write_picture(path: Path, number: int, size: tuple[int, int] = (60, 45)) -> None:
    """Write a picture of which no two numbers give the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(number)
    base = rng.uniform(60, 200, 3)
    slope = np.linspace(-40, 40, size[0])[None, :, None]
    pixels = (base + slope + rng.normal(0, 5, (size[1], size[0], 3))).clip(0, 255)
    PIL.Image.fromarray(pixels.astype(np.uint8)).save(path)


def truncate(path: Path) -> None:
    """Cut a file in half."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
