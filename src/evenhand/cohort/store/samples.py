"""The sample store: decode every sample of a source once, into one memory-mapped file."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from evenhand.cohort.cohort import Cohort, Read, Sample, Stored, UnreadableError
from evenhand.cohort.series.recordings import Series
from evenhand.cohort.store.building import DATA, StoreIndex, decode_again, decode_samples, new_store
from evenhand.errors import SHOWN, EvenhandError
from evenhand.files import WriteError, remove_abandoned
from evenhand.networks.inputs import ImageForm, Images

FORMAT = 6  # version of the stores and of decoding; stores of other versions are not used


@dataclass(frozen=True, eq=False)
class SampleStore:
    """Decoded samples of one shape in a memory-mapped array.

    Parameters
    ----------
    samples
        Memory-mapped and read-only: images ``(n, H, W, C)`` uint8, or the recordings of
        series, one after the other, ``(all their steps, C)`` float32.
    steps
        The number of rows of a series in ``samples``; None for images, which have one row.
    unreadable
        Sample id → the reason why it could not be decoded.
    origin
        The reader of the original samples.
    index
        The ids of the n decoded samples.
    first_rows
        ``(n,)`` the first row in ``samples`` of each id.
    """

    samples: Sample
    steps: int | None
    unreadable: Mapping[str, str]
    origin: Read
    index: pd.Index
    first_rows: NDArray[np.intp]

    @property
    def ids(self) -> Sequence[str]:
        """The ids of all samples that could be decoded."""
        return tuple(self.index)

    def __call__(self, sample_id: str) -> Sample:
        """Return one sample: ``(H, W, C)``, or ``(steps, C)``."""
        first = self.first_rows[self.index.get_loc(sample_id)]
        sample = self.samples[first : first + (self.steps or 1)]
        return np.asarray(sample if self.steps else sample[0])

    def rows(self, sample_ids: Sequence[str] | pd.Series) -> NDArray[np.intp]:
        """Return the first row of each sample in ``samples``.

        Raises
        ------
        KeyError
            If the store lacks a sample.
        """
        # Arrow's hash table of ids is small and freed at once; pandas would keep its own.
        wanted, stored = (pa.array(ids, pa.large_string()) for ids in (sample_ids, self.index))
        rows = pc.index_in(wanted, stored)
        if rows.null_count:
            raise KeyError(wanted.filter(rows.is_null()).to_pylist())
        first_rows: NDArray[np.intp] = self.first_rows[rows.to_numpy()]
        return first_rows

    def resized(self, images: Images | None) -> Read:
        """Return a reader of the original samples in another size."""
        return self.origin.resized(images)


def default_cache() -> Path:
    """Return ``$EVENHAND_CACHE``, else a folder in the platform's folder of caches."""
    if folder := os.environ.get("EVENHAND_CACHE"):
        return Path(folder)
    if sys.platform == "win32":
        return Path(os.environ["LOCALAPPDATA"]) / "evenhand"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "evenhand"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evenhand"


def store_samples(
    cohort: Cohort,
    images: Images | None,
    cache: Path | None = None,
    *,
    skip_unreadable: bool = False,
) -> Cohort:
    """Return the same cohort with samples that are read from a store.

    The store holds the whole source, so all subsets share it. It is built under another name and
    renamed when it is complete; after a kill, the next call continues. If two processes build at
    once, both use the store that is complete first.

    Parameters
    ----------
    cohort
        Any cohort, stored or not.
    images
        Size and channels of the stored images; None for the default, and for series.
    cache
        The folder of stores; by default, ``default_cache()``.
    skip_unreadable
        Whether samples that cannot be read are left out and listed in ``source.left_out``.

    Raises
    ------
    UnreadableError
        If samples of the cohort cannot be read and ``skip_unreadable`` is false.
    EvenhandError
        If the cache folder cannot be written or is full, if its store of these data holds series of
        another form, or if series have an image size.
    """
    read = cohort.read.resized(images)
    source = read.recordings if isinstance(read, Series) else read
    names = list(source.ids)
    folder = _folder(cohort, names, images, cache or default_cache())
    try:
        if folder.exists():
            remove_abandoned(folder)
            built = decode_again(folder, source)
        else:
            with new_store(folder) as part:
                decode_samples(names, source, part).write(part)
            built = StoreIndex.of(folder)  # another process may have built it
    except (OSError, WriteError) as error:
        reason = error.reason if isinstance(error, WriteError) else error
        raise EvenhandError(
            f"the decoded samples cannot be written to {folder.parent}: {reason}. Make room, or "
            "name another folder with --cache."
        ) from error
    store = _open(folder, built, read, len(cohort.channels))
    notes = dict.fromkeys([*cohort.source.notes, *_remarks(cohort, built)])
    shape = store.samples.shape[1:] if store.steps is None else (store.steps, *built.row)
    form = Stored(store.samples.dtype.name, tuple(map(int, shape)))
    stored_source = replace(cohort.source, notes=tuple(notes), stored=form)
    stored = replace(cohort, read=store, source=stored_source)
    return _without_unreadable(stored, store.unreadable, skip_unreadable)


def _folder(cohort: Cohort, names: Sequence[str], images: Images | None, cache: Path) -> Path:
    """Return the folder of a store; its name is a hash of everything that determines the content.

    The fingerprint of the files is not sufficient: the same files may be read as images or as
    series, which have channels, and ids of samples may depend on the folder.
    """
    source = cohort.source
    size = astuple(images) if isinstance(images, ImageForm) else images
    form = [FORMAT, source.reader, size, source.fingerprint, cohort.channels]
    key = "\n".join([json.dumps(form), *names])
    return cache / "samples" / hashlib.sha256(key.encode()).hexdigest()[:32]


def _remarks(cohort: Cohort, built: StoreIndex) -> tuple[str, ...]:
    """Return the notes on how samples of a cohort were read, without repetition."""
    if not built.remarks:
        return ()
    texts = cohort.table["sample_id"].map(built.remarks).dropna()
    remarks = tuple(dict.fromkeys(texts))
    hidden = len(remarks) - SHOWN
    return (*remarks[:SHOWN], *([f"{hidden} more such notes are not shown."] if hidden > 0 else []))


def _open(folder: Path, built: StoreIndex, origin: Read, channels: int) -> SampleStore:
    lengths = pd.Series(built.stored, dtype=np.intp)
    shape, dtype = (int(lengths.sum()), *built.row), np.dtype(built.dtype)
    if len(lengths):
        samples: Sample = np.memmap(folder / DATA, dtype, "r", shape=shape)
    else:  # a file of no bytes cannot be mapped
        samples = np.empty(shape, dtype)
    first = lengths.cumsum() - lengths
    if not isinstance(origin, Series):
        ids = pd.Index(first.index, dtype="str")
        return SampleStore(samples, None, built.unreadable, origin, ids, np.asarray(first, np.intp))
    name, offset = origin.windows["recording"], origin.windows["offset"]
    kept = name.isin(first.index)
    lost = {str(key): built.unreadable[record] for key, record in name[~kept].items()}
    stored, offsets = np.asarray(name[kept]), offset[kept].to_numpy(np.intp)
    short = (lengths.reindex(stored).to_numpy() < offsets + origin.steps).any()
    # Otherwise the window of a short series would reach into the next series.
    if short or (len(lengths) and list(built.row) != [channels]):
        raise EvenhandError(
            f"{folder} holds series of another form than {origin.steps} steps of {channels} "
            "channels. Remove this folder; the series are then decoded again."
        )
    first_rows = first.reindex(stored).to_numpy() + offsets
    ids = pd.Index(name.index if kept.all() else name.index[kept], dtype="str")
    return SampleStore(samples, origin.steps, lost, origin, ids, first_rows)


def _without_unreadable(cohort: Cohort, unreadable: Mapping[str, str], skip: bool) -> Cohort:
    """Return the cohort without samples that cannot be read; refuse these unless ``skip``."""
    bad = cohort.table["sample_id"].isin(list(unreadable))
    if not bad.any():
        return cohort
    reasons = (unreadable[sample_id] for sample_id in cohort.table["sample_id"][bad])
    problems = tuple(dict.fromkeys(reasons))  # windows of one recording have the same reason
    if not skip:
        listed = "\n".join(problems[:SHOWN])
        raise UnreadableError(
            f"{bad.sum()} of {len(cohort)} samples cannot be read. Repair the files, or leave "
            f"them out with --skip-unreadable. The first {min(len(problems), SHOWN)}:\n{listed}"
        )
    source = replace(cohort.source, left_out=(*cohort.source.left_out, *problems))
    return replace(cohort.select(~bad), source=source)
