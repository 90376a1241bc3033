"""The sample store: every sample of a source decoded once, into one memory-mapped file."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.cohort.cohort import Cohort, Read, Sample, UnreadableError
from evenhand.cohort.series import Recordings, Series
from evenhand.cohort.tables import SHOWN
from evenhand.errors import EvenhandError
from evenhand.files import read_json, write_json
from evenhand.progress import bar

_CHUNK = 256  # samples decoded before they are written
_ABANDONED = 24 * 3600.0  # seconds after which a build that nobody writes to was killed


@dataclass(frozen=True, eq=False)
class SampleStore:
    """Decoded samples of one shape, read as lookups in a memory-mapped array.

    Parameters
    ----------
    samples
        Memory-mapped and read-only: images ``(n, size, size, 3)`` uint8, or the recordings of
        series, one after the other, ``(all their steps, C)`` float32.
    steps
        How many rows of ``samples`` a series is; None for images, which are one row.
    unreadable
        What is wrong with each sample that could not be decoded.
    origin
        The way to read the samples from where they came.
    row
        The ids of the decoded samples.
    first
        The first row of each of them in ``samples``, ``(n,)``.
    """

    samples: Sample
    steps: int | None
    unreadable: Mapping[str, str]
    origin: Read
    row: pd.Index
    first: NDArray[np.intp]

    @property
    def ids(self) -> Sequence[str]:
        """Every sample of the source that could be decoded."""
        return tuple(self.row)

    def __call__(self, sample_id: str) -> Sample:
        """Look one sample up: ``(size, size, 3)``, or ``(steps, C)``."""
        first = self.first[self.row.get_loc(sample_id)]
        found = self.samples[first : first + (self.steps or 1)]
        return np.asarray(found if self.steps else found[0])

    def rows(self, sample_ids: Sequence[str] | pd.Series) -> NDArray[np.intp]:
        """Return the first row of each sample in ``samples``.

        Raises
        ------
        KeyError
            The store lacks one of them.
        """
        rows = self.row.get_indexer(pd.Index(sample_ids))
        if (rows < 0).any():
            raise KeyError(list(np.asarray(sample_ids)[rows < 0]))
        return self.first[rows]

    def resized(self, size: int | None) -> Read:
        """Return the way to read the samples in another size, from where they came."""
        return self.origin.resized(size)


def default_cache() -> Path:
    """Return ``$EVENHAND_CACHE``, else the folder that the platform has for caches."""
    if named := os.environ.get("EVENHAND_CACHE"):
        return Path(named)
    if sys.platform == "win32":
        return Path(os.environ["LOCALAPPDATA"]) / "evenhand"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "evenhand"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evenhand"


def store_samples(
    cohort: Cohort,
    image_size: int | None,
    cache: Path | None = None,
    *,
    skip_unreadable: bool = False,
) -> Cohort:
    """Return the same cohort, with samples that are read from a store.

    The store holds the whole source, so that every subset of it, in any order, shares one. It is
    built under another name and renamed when it is complete: a build that is killed leaves
    nothing that would be used, and of two builds at once the first to end serves both.

    Parameters
    ----------
    cohort
        Any cohort, stored or not.
    image_size
        Side of the stored squares; None for series, and for images in their usual size.
    cache
        Folder of stores; None is ``default_cache()``.
    skip_unreadable
        Whether samples that cannot be read are left out, and noted in ``source.left_out``.

    Raises
    ------
    UnreadableError
        Samples of the cohort cannot be read, and ``skip_unreadable`` is false.
    EvenhandError
        The cache folder cannot be written, or is full; or series are given an image size.
    """
    read = cohort.read.resized(image_size)
    folder = _folder(cohort, image_size, cache or default_cache())
    if not folder.exists():
        try:
            with _building(folder) as part:
                _build(read.recordings if isinstance(read, Series) else read, part)
        except OSError as error:
            raise EvenhandError(
                f"the decoded samples cannot be kept in {folder.parent}: {error}. Make room, or "
                "name another folder with --cache."
            ) from error
    store = _open(folder, read)
    return _without(replace(cohort, read=store), store.unreadable, skip_unreadable)


def _folder(cohort: Cohort, image_size: int | None, cache: Path) -> Path:
    key = f"{cohort.source.reader}\0{image_size}\0{cohort.source.fingerprint}"
    return cache / "samples" / hashlib.sha256(key.encode()).hexdigest()[:32]


@contextmanager
def _building(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the name ``folder`` when the block succeeds."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _clear_abandoned(folder.parent)
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder.parent))
    try:
        yield part
        try:
            part.rename(folder)
        except OSError:
            if not folder.exists():  # otherwise another process was first, with the same samples
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _clear_abandoned(cache: Path) -> None:
    """Remove what killed builds have left: nobody has written to it for a day."""
    for part in cache.glob(".part-*"):
        with suppress(FileNotFoundError):  # its build came to an end just now
            written = max(path.stat().st_mtime for path in (part, *part.iterdir()))
            if time.time() - written > _ABANDONED:
                shutil.rmtree(part, ignore_errors=True)


def _build(read: Read | Recordings, part: Path) -> None:
    """Decode everything in threads (Pillow lets go of the interpreter lock) into ``part``."""
    ids, decode = list(read.ids), partial(_try, read)
    stored: dict[str, int] = {}  # how many rows of the file each takes
    unreadable: dict[str, str] = {}
    row = np.empty((0,), np.uint8)
    with (
        (part / "samples.bin").open("wb") as file,
        ThreadPoolExecutor(os.cpu_count()) as pool,
        bar("decoding samples", len(ids)) as advance,
    ):
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            for name, sample in zip(chunk, pool.map(decode, chunk), strict=True):
                if isinstance(sample, UnreadableError):
                    unreadable[name] = str(sample)
                    continue
                rows = sample[None] if sample.ndim == 3 else sample
                stored[name], row = len(rows), rows[0]
                file.write(np.ascontiguousarray(rows).data)
            advance(len(chunk))
        _to_disk(file)
    about = {"stored": stored, "row": row.shape, "dtype": row.dtype.name, "unreadable": unreadable}
    write_json(part / "index.json", about)


def _try(read: Read | Recordings, name: str) -> Sample | UnreadableError:
    try:
        return read(name)
    except UnreadableError as error:
        return error


def _to_disk(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _open(folder: Path, origin: Read) -> SampleStore:
    index: dict[str, Any] = read_json(folder / "index.json")
    lengths = pd.Series(index["stored"], dtype=np.intp)
    shape, dtype = (int(lengths.sum()), *index["row"]), np.dtype(index["dtype"])
    if len(lengths):
        samples: Sample = np.memmap(folder / "samples.bin", dtype, "r", shape=shape)
    else:  # a file of no bytes cannot be mapped
        samples = np.empty(shape, dtype)
    first = lengths.cumsum() - lengths
    unreadable: dict[str, str] = index["unreadable"]
    if not isinstance(origin, Series):
        row = pd.Index(first.index, dtype="str")
        return SampleStore(samples, None, unreadable, origin, row, first.to_numpy())
    name, offset = origin.windows["recording"], origin.windows["offset"]
    kept = name.isin(first.index)
    lost = {str(key): unreadable[record] for key, record in name[~kept].items()}
    begins = (name[kept].map(first) + offset[kept]).to_numpy(np.intp)
    row = pd.Index(name.index[kept], dtype="str")
    return SampleStore(samples, origin.steps, lost, origin, row, begins)


def _without(cohort: Cohort, unreadable: Mapping[str, str], skip: bool) -> Cohort:
    """Leave samples out that cannot be read, or refuse them."""
    bad = cohort.table["sample_id"].isin(list(unreadable))
    if not bad.any():
        return cohort
    named = (unreadable[sample_id] for sample_id in cohort.table["sample_id"][bad])
    problems = tuple(dict.fromkeys(named))  # windows of one recording have one problem
    if not skip:
        listed = "\n".join(problems[:SHOWN])
        raise UnreadableError(
            f"{bad.sum()} of {len(cohort)} samples cannot be read. Mend the files, or leave "
            f"them out with --skip-unreadable. The first {min(len(problems), SHOWN)}:\n{listed}"
        )
    source = replace(cohort.source, left_out=(*cohort.source.left_out, *problems))
    return replace(cohort.select(~bad), source=source)
