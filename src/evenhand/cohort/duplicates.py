"""Find duplicate samples: the same numbers, or nearly the same image or series.

A sample is compared only with its neighbours in several sorted orders. Therefore the work grows
almost linearly with the number of samples, not with its square.
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
"""The smallest correlation of near duplicates."""

SIDE = 16  # cells along each side of the grid that an image is reduced to
ORDERS = 32  # number of sorted orders; each finds pairs that others may miss
BITS = 63  # signs of random projections in the sort key of a sample
REACH = 8  # neighbours in each order that a sample is compared with
CLIP = 5.0  # standard deviations; values beyond are clipped
SCALED_BY = 2000  # most series from which a channel's mean and deviation are estimated
WIDEST = 512  # most numbers in the sketch of a series
_CHUNK = 1024  # samples read at a time

Floats = NDArray[np.float32]


def find_duplicates(cohort: Cohort, near: float = NEAR, seed: int = 0) -> pd.DataFrame:
    """Return pairs of equal or nearly equal samples of different patients.

    Images are compared by the differences of grey level between neighbouring cells of a coarse
    grid; resizing, compression and brightness change these very little. Series are compared by
    their standardised values and by which values were observed.

    Parameters
    ----------
    cohort
        A cohort whose samples have one shape.
    near
        The smallest correlation of two samples that count as nearly equal.
    seed
        Seed of the sorted orders. Exact duplicates are always found. By calculation, a pair of
        correlation 0.95 is missed about once in 1,000 times among thousands of samples, and once
        in 50 times among a million.

    Returns
    -------
    pandas.DataFrame
        A row for each pair, the most similar one first: ``first`` and ``second`` (positions in the
        cohort), ``correlation``, ``exact`` (whether the numbers are equal).
    """
    sketches, digests = _sketches(cohort)
    patient = pd.factorize(cohort.table["patient_id"])[0]
    candidates = [
        _same_digest(digests),
        *_near_pairs(sketches, patient, near, np.random.default_rng(seed)),
    ]
    pairs = np.unique(np.sort(np.concatenate(candidates), axis=1), axis=0)
    pairs = pairs[patient[pairs[:, 0]] != patient[pairs[:, 1]]]
    table = pd.DataFrame({"first": pairs[:, 0], "second": pairs[:, 1]})
    table["correlation"] = np.einsum("ij,ij->i", sketches[pairs[:, 0]], sketches[pairs[:, 1]])
    table["exact"] = digests[pairs[:, 0]] == digests[pairs[:, 1]]
    order = table.sort_values(["exact", "correlation"], ascending=False, kind="stable")
    return order.reset_index(drop=True)


def _sketches(cohort: Cohort) -> tuple[Floats, NDArray[np.void]]:
    """Return a sketch (unit vector) per sample ``(n, d)``, and a digest of its numbers ``(n,)``."""
    sketch = _series_sketcher(cohort) if cohort.channels else _sketch_images
    ids = cohort.table["sample_id"]
    width = sketch(_read_samples(cohort, ids[:1])).shape[1]
    # Allocated once: samples may be millions, and only their sketches stay in memory.
    sketches, digests = np.empty((len(ids), width), np.float32), []
    with bar("looking for duplicates", len(ids)) as advance:
        for start in range(0, len(ids), _CHUNK):
            samples = _read_samples(cohort, ids[start : start + _CHUNK])
            digests += [
                hashlib.blake2b(sample.tobytes(), digest_size=16).digest() for sample in samples
            ]
            sketches[start : start + len(samples)] = _to_unit_length(sketch(samples))
            advance(len(samples))
    return sketches, np.array(digests, dtype="V16")


def _read_samples(cohort: Cohort, ids: pd.Series) -> NDArray[Any]:
    return np.stack([cohort.read(sample_id) for sample_id in ids])


def _sketch_images(samples: NDArray[Any]) -> Floats:
    """Return differences of neighbouring cells, across and down, of images ``(n, H, W, 3)``."""
    grey = samples.mean(axis=3, dtype=np.float32)
    edges = [np.linspace(0, size, SIDE + 1).astype(int)[:-1] for size in grey.shape[1:]]
    cells = np.add.reduceat(np.add.reduceat(grey, edges[0], axis=1), edges[1], axis=2)
    across, down = np.diff(cells, axis=2), np.diff(cells, axis=1)
    return np.concatenate([part.reshape(len(samples), -1) for part in (across, down)], axis=1)


def _series_sketcher(cohort: Cohort) -> Callable[[NDArray[Any]], Floats]:
    """Return the function that sketches series ``(n, T, C)`` by standardised values and masks.

    A random projection reduces a sketch to at most `WIDEST` numbers and nearly keeps correlations.
    """
    rng = np.random.default_rng(0)
    ids = cohort.table["sample_id"]
    subset = _read_samples(cohort, ids.iloc[np.sort(rng.permutation(len(ids))[:SCALED_BY])])
    flat = subset.reshape(-1, subset.shape[2]).astype(np.float64)
    is_observed = ~np.isnan(flat)
    count = np.maximum(is_observed.sum(axis=0), 1)
    mean = np.where(is_observed, flat, 0).sum(axis=0) / count
    deviation = np.sqrt(np.where(is_observed, (flat - mean) ** 2, 0).sum(axis=0) / count)
    deviation[deviation == 0] = np.inf  # a constant channel carries no information
    width = 2 * subset.shape[1] * subset.shape[2]
    project = rng.standard_normal((width, min(width, WIDEST)), np.float32)

    def sketch(samples: NDArray[Any]) -> Floats:
        observed = ~np.isnan(samples)
        values = np.where(observed, (samples - mean) / deviation, 0).clip(-CLIP, CLIP)
        features = np.concatenate([values, observed - observed.mean()], axis=2, dtype=np.float32)
        projected: Floats = features.reshape(len(samples), -1) @ project
        return projected

    return sketch


def _to_unit_length(rows: Floats) -> Floats:
    """Return rows minus their mean, scaled to length 1; a constant row becomes 0.

    Constant samples are therefore near no other sample; equal ones are found by their digests.
    """
    rows = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Floats = np.divide(rows, length, out=np.zeros_like(rows), where=length > 1e-6)
    return unit


def _same_digest(digests: NDArray[np.void]) -> NDArray[np.intp]:
    """Return pairs ``(m, 2)`` that link all samples of the same digest in a chain."""
    order = np.argsort(digests, kind="stable")
    repeated = np.flatnonzero(digests[order[1:]] == digests[order[:-1]])
    return np.column_stack([order[repeated], order[repeated + 1]])


def _near_pairs(
    sketches: Floats, patient: NDArray[np.intp], near: float, rng: np.random.Generator
) -> Iterator[NDArray[np.intp]]:
    """Yield pairs ``(m, 2)`` of neighbours in an order, with a correlation of at least ``near``.

    Pairs of one patient are skipped: they are not duplicates, and overlapping windows make many.

    The sort key consists of the signs of random projections (Charikar, STOC 2002) of each sample
    minus the mean sample. Without the subtraction, most samples would have the same signs.
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
