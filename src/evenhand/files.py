"""Files that appear whole or not at all, and fingerprints of the files that came in."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, which takes its place when the block succeeds.

    A reader sees the old file or the new one, never half of it. When the block raises, the
    temporary file is removed and the old file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.touch()
    mode = part.stat().st_mode
    try:
        yield part
        part.chmod(mode)  # safetensors writes files that their owner alone may read
        with part.open("r+b") as written:  # Windows syncs only what may be written
            os.fsync(written.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Put ``text`` (UTF-8) at ``path``, whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Put ``value`` at ``path`` as indented JSON; NaN and infinity are refused with ValueError."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_rows(path: Path, facts: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> None:
    """Put facts and, last, ``rows`` at ``path`` as one JSON object, a line for each row."""
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    start = json.dumps({**facts, "rows": []}, ensure_ascii=False, allow_nan=False)
    write_text(path, start[:-2] + "\n" + ",\n".join(lines) + "\n]}\n")


def read_json(path: Path) -> Any:
    """Return the JSON value in a file."""
    return json.loads(path.read_text(encoding="utf-8"))


Stamp = tuple[str, int, int]
"""Path, size in bytes and time of change in nanoseconds of a file."""


def fingerprint(files: Iterable[Stamp], tables: Iterable[Path] = ()) -> str:
    """Return a hex digest that changes when the data do.

    Parameters
    ----------
    files
        Bulk files (images, recordings). Paths are taken from the folder that all of them lie in,
        so data that are moved as they are stay the same data.
    tables
        Tables: their whole content counts, and where they lie does not.
    """
    stamps = sorted(files)
    root, digest = _root(stamps), hashlib.sha256()
    for path, size, changed in stamps:
        digest.update(f"{path.removeprefix(root)}\0{size}\0{changed}\n".encode())
    for table in sorted(tables):
        digest.update(hashlib.sha256(table.read_bytes()).digest())
    return digest.hexdigest()


def _root(sorted_stamps: list[Stamp]) -> str:
    """Return the folder that files lie in: of sorted paths, the ends have the least in common."""
    ends = [os.path.dirname(path) for path, _, _ in sorted_stamps[:1] + sorted_stamps[-1:]]  # noqa: PTH120
    try:
        return os.path.commonpath(ends)
    except ValueError:  # no file; or one path is absolute, or on another drive, and one is not
        return ""
