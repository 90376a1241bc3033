"""Samples that are there twice: the same numbers, or nearly the same picture.

No two samples are compared but those that lie close together in one of several sorted orders, so
that the work grows as the number of samples does, and not as its square.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.cohort.cohort import Cohort
from evenhand.progress import bar

NEAR = 0.95
"""Correlation from which two samples are near duplicates."""

SIDE = 16  # cells along either side of an image's sketch
ORDERS = 32  # sorted orders; each finds a pair that another may miss
BITS = 63  # signs that samples are sorted by
REACH = 8  # neighbours in an order that a sample is compared with
CLIP = 5.0  # standard deviations beyond which a value counts as no further
SCALED_BY = 2000  # series, at most, that channels are standardised by
WIDEST = 512  # numbers that a series is sketched by, at most
_CHUNK = 1024  # samples read at a time

Floats = NDArray[np.float32]


def duplicates(cohort: Cohort, near: float = NEAR, seed: int = 0) -> pd.DataFrame:
    """Return pairs of samples of different patients that are the same or nearly so.

    Images are compared by how grey levels change from cell to cell of a coarse grid, which a
    change of size, compression or brightness leaves as it is; series by their standardised values
    and by what was observed.

    Parameters
    ----------
    cohort
        A cohort whose samples have one shape.
    near
        Correlation from which two samples count as nearly the same.
    seed
        Of the orders. What is exactly the same is always found; by reckoning, a pair at .95 is
        missed about once in 1,000 times among thousands of samples, once in 50 among a million.

    Returns
    -------
    pandas.DataFrame
        ``first`` and ``second`` (positions in the cohort), ``correlation`` and ``exact``; the
        most alike first.
    """
    sketches, digests = _sketches(cohort)
    patient = pd.factorize(cohort.table["patient_id"])[0]
    alike = [_same(digests), *_alike(sketches, patient, near, np.random.default_rng(seed))]
    pairs = np.unique(np.sort(np.concatenate(alike), axis=1), axis=0)
    pairs = pairs[patient[pairs[:, 0]] != patient[pairs[:, 1]]]
    table = pd.DataFrame({"first": pairs[:, 0], "second": pairs[:, 1]})
    table["correlation"] = np.einsum("ij,ij->i", sketches[pairs[:, 0]], sketches[pairs[:, 1]])
    table["exact"] = digests[pairs[:, 0]] == digests[pairs[:, 1]]
    order = table.sort_values(["exact", "correlation"], ascending=False, kind="stable")
    return order.reset_index(drop=True)


def _sketches(cohort: Cohort) -> tuple[Floats, NDArray[np.void]]:
    """Return a unit vector per sample ``(n, d)``, and a digest of its numbers ``(n,)``."""
    sketch = _series(cohort) if cohort.channels else _images
    ids = cohort.table["sample_id"]
    width = sketch(_read(cohort, ids[:1])).shape[1]
    # Allocated once: they are all there is in memory of samples that may be millions.
    sketches, digests = np.empty((len(ids), width), np.float32), []
    with bar("looking for duplicates", len(ids)) as advance:
        for start in range(0, len(ids), _CHUNK):
            samples = _read(cohort, ids[start : start + _CHUNK])
            digests += [
                hashlib.blake2b(sample.tobytes(), digest_size=16).digest() for sample in samples
            ]
            sketches[start : start + len(samples)] = _unit(sketch(samples))
            advance(len(samples))
    return sketches, np.array(digests, dtype="V16")


def _read(cohort: Cohort, ids: pd.Series) -> NDArray[Any]:
    return np.stack([cohort.read(sample_id) for sample_id in ids])


def _images(samples: NDArray[Any]) -> Floats:
    """Return differences of neighbouring cells, across and down, of images ``(n, H, W, 3)``."""
    grey = samples.mean(axis=3, dtype=np.float32)
    edges = [np.linspace(0, size, SIDE + 1).astype(int)[:-1] for size in grey.shape[1:]]
    cells = np.add.reduceat(np.add.reduceat(grey, edges[0], axis=1), edges[1], axis=2)
    across, down = np.diff(cells, axis=2), np.diff(cells, axis=1)
    return np.concatenate([part.reshape(len(samples), -1) for part in (across, down)], axis=1)


def _series(cohort: Cohort) -> Callable[[NDArray[Any]], Floats]:
    """Return the sketch of series ``(n, T, C)``: values in standard units, and what was observed.

    Where that is many numbers they are projected at random, which keeps correlations.
    """
    rng = np.random.default_rng(0)
    ids = cohort.table["sample_id"]
    some = _read(cohort, ids.iloc[np.sort(rng.permutation(len(ids))[:SCALED_BY])])
    flat = some.reshape(-1, some.shape[2]).astype(np.float64)
    seen = ~np.isnan(flat)
    count = np.maximum(seen.sum(axis=0), 1)
    mean = np.where(seen, flat, 0).sum(axis=0) / count
    spread = np.sqrt(np.where(seen, (flat - mean) ** 2, 0).sum(axis=0) / count)
    spread[spread == 0] = np.inf  # a constant channel tells nothing
    width = 2 * some.shape[1] * some.shape[2]
    project = rng.standard_normal((width, min(width, WIDEST)), np.float32)

    def sketch(samples: NDArray[Any]) -> Floats:
        observed = ~np.isnan(samples)
        values = np.where(observed, (samples - mean) / spread, 0).clip(-CLIP, CLIP)
        both = np.concatenate([values, observed - observed.mean()], axis=2, dtype=np.float32)
        projected: Floats = both.reshape(len(samples), -1) @ project
        return projected

    return sketch


def _unit(rows: Floats) -> Floats:
    """Return rows less their mean, of length 1; a flat sample, which has no pattern, of length 0.

    So it is near to none; two that are the same are found by their digests.
    """
    rows = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Floats = np.divide(rows, length, out=np.zeros_like(rows), where=length > 1e-6)
    return unit


def _same(digests: NDArray[np.void]) -> NDArray[np.intp]:
    """Return neighbours ``(m, 2)`` among samples of one digest: as many as link them all."""
    order = np.argsort(digests, kind="stable")
    again = np.flatnonzero(digests[order[1:]] == digests[order[:-1]])
    return np.column_stack([order[again], order[again + 1]])


def _alike(
    sketches: Floats, patient: NDArray[np.intp], near: float, rng: np.random.Generator
) -> Iterator[NDArray[np.intp]]:
    """Yield pairs ``(m, 2)`` that correlate by ``near`` and lie close together in some order.

    Those of one patient are no duplicates, and are many where windows overlap.

    An order is by the signs of random projections (Charikar, STOC 2002), taken about the mean
    sample: without it most samples of one kind would have the same signs.
    """
    mean = sketches.mean(axis=0)
    for _ in range(ORDERS):
        directions = rng.standard_normal((sketches.shape[1], BITS), np.float32)
        signs = sketches @ directions > mean @ directions
        packed = np.packbits(signs, axis=1, bitorder="little").view("<u8")[:, 0]
        order = np.argsort(packed, kind="stable")
        for step in range(1, min(REACH + 1, len(order))):
            first, second = order[:-step], order[step:]
            for start in range(0, len(first), _CHUNK):
                a, b = first[start : start + _CHUNK], second[start : start + _CHUNK]
                apart = patient[a] != patient[b]
                a, b = a[apart], b[apart]
                close = np.einsum("ij,ij->i", sketches[a], sketches[b]) >= near
                yield np.column_stack([a[close], b[close]])
