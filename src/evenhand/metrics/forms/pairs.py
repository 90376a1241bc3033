"""Pairs of a positive and a negative row, and how many of them the score puts in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics.registry import Floats, Weights
from evenhand.metrics.scored import Places, Scored

CELLS = 2**16
"""Chunks × resamples that one step of the scan works on; as many as stay in the cache."""

BLOCK = 4096
"""Patients whose weights are turned at a time."""

LONGEST = 256
"""Most rows of a chunk: the products of its weights, which are bytes, stay below 2**31."""

FEW_STEPS = 16
"""Fewest steps that are worth counting in two bytes, before they are added to four."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Weighted numbers ``(b,)``: pairs in order (ties count half), positives, negatives."""

    ordered: Floats
    positives: Floats
    negatives: Floats


class Scan:
    """Counts the pairs of a positive and a negative row that the score puts in order.

    The rows of each group are sorted by score once, and cut into chunks of equal length. All
    chunks are walked through side by side, a row of each at a time, for all resamples at once.

    Parameters
    ----------
    rows, places
        The rows, and which of them each of the G groups has.
    patients
        P.
    resamples
        How many are counted at a time, about.
    """

    def __init__(self, rows: Scored, places: Places, patients: int, resamples: int) -> None:
        self._patients = patients
        self._sizes = np.array([len(members) for members in places])
        total = int(self._sizes.sum())
        most = max(1, total // max(1, len(places)))
        self._length = int(np.clip(total * resamples // CELLS, 1, min(LONGEST, most)))
        below, tied = self._order(rows, places, positives_first=True)
        self._walks = [self._walk(rows, below)]
        if tied:
            self._walks.append(
                self._walk(rows, self._order(rows, places, positives_first=False)[0])
            )

    def __call__(self, drawn: Weights) -> Pairs:
        """Return the counts ``(G * b,)``, group by group, from weights ``(P + 1, b)``."""
        counts = [self._count(*walk, drawn) for walk in self._walks]
        ordered, positives, negatives = counts[0]
        if len(counts) > 1:  # tied negatives counted not at all, and as if they were below
            ordered = (ordered + counts[1][0]) / 2
        return Pairs(*(count.ravel() for count in (ordered, positives, negatives)))

    def _order(
        self, rows: Scored, places: Places, *, positives_first: bool
    ) -> tuple[NDArray[np.intp], bool]:
        """Return each group's rows sorted by score, and whether a positive and a negative tie."""
        order = rows.positives_first if positives_first else rows.negatives_first
        rank = np.empty(len(rows), dtype=np.intp)
        rank[order] = np.arange(len(rows))
        ordered = np.concatenate([order[np.sort(rank[members])] for members in places])
        score, label = rows.scores[ordered], rows.labels[ordered]
        group = np.repeat(np.arange(len(places)), self._sizes)
        alike = (score[1:] == score[:-1]) & (group[1:] == group[:-1])
        return ordered, bool((alike & (label[1:] != label[:-1])).any())

    def _walk(
        self, rows: Scored, ordered: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
        """Return which patients ``(L, C)`` and which positives ``(L, C, 1)`` each step takes."""
        chunks = -(-self._sizes // self._length)
        first_row, first_chunk = (np.cumsum(number) - number for number in (self._sizes, chunks))
        place = np.arange(len(ordered)) - np.repeat(first_row, self._sizes)
        chunk = np.repeat(first_chunk, self._sizes) + place // self._length
        shape = self._length, int(chunks.sum())
        patient = np.full(shape, self._patients)  # past all patients the weight is 0
        positive = np.zeros((*shape, 1), dtype=np.uint8)
        patient[place % self._length, chunk] = rows.members[rows.patients[ordered]]
        positive[place % self._length, chunk, 0] = rows.labels[ordered] == 1
        return patient, positive

    def _count(
        self, patient: NDArray[np.intp], positive: NDArray[np.uint8], drawn: Weights
    ) -> tuple[Floats, Floats, Floats]:
        """Return pairs in order, positives and negatives, ``(G, b)`` each."""
        length, chunks = patient.shape
        kind, steps = _counters(int(drawn.max(initial=0)))
        ordered, ups, downs = (np.zeros((chunks, drawn.shape[1]), np.int32) for _ in range(3))
        together = max(1, CELLS // drawn.shape[1])
        for first in range(0, chunks, together):
            own = slice(first, first + together)
            for start in range(0, length, steps):
                part = slice(start, start + steps), own
                within, up, down = _walked(patient[part], positive[part], drawn, kind)
                ordered[own] += within
                ordered[own] += up * downs[own]
                ups[own] += up
                downs[own] += down
        return self._by_group(*(count.astype(np.int64) for count in (ordered, ups, downs)))

    def _by_group(
        self, ordered: NDArray[np.int64], ups: NDArray[np.int64], downs: NDArray[np.int64]
    ) -> tuple[Floats, Floats, Floats]:
        """Add up chunks ``(C, b)``: to the pairs within come those with the chunks below."""
        chunks = -(-self._sizes // self._length)
        there = np.flatnonzero(chunks)
        starts = (np.cumsum(chunks) - chunks)[there]
        below = np.cumsum(downs, axis=0) - downs
        below -= np.repeat(below[starts], chunks[there], axis=0)
        sums = []
        for counts in (ordered + ups * below, ups, downs):
            every = np.zeros((len(chunks), counts.shape[1]))
            every[there] = np.add.reduceat(counts, starts, axis=0)
            sums.append(every)
        return sums[0], sums[1], sums[2]


def _counters(most: int) -> tuple[type[np.integer[Any]], int]:
    """Return the type that counts the pairs of a few steps of a walk, and how many steps.

    The pairs of s rows are at most s² / 4, each of at most ``most``² weights.
    """
    steps = (2**9 - 1) // max(1, most)
    return (np.uint16, steps) if steps >= FEW_STEPS else (np.int32, LONGEST)


def _walked(
    patient: NDArray[np.intp],
    positive: NDArray[np.uint8],
    drawn: Weights,
    kind: type[np.integer[Any]],
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Walk through chunks; return pairs in order, positives and negatives, ``(C, b)`` each."""
    shape = patient.shape[1], drawn.shape[1]
    weight, up = (np.empty(shape, dtype=np.uint8) for _ in range(2))
    wide = np.empty(shape, dtype=kind)
    ordered, ups, downs = (np.zeros(shape, dtype=kind) for _ in range(3))
    for step, is_up in zip(patient, positive, strict=True):
        np.take(drawn, step, axis=0, out=weight, mode="clip")
        np.multiply(weight, is_up, out=up)
        np.subtract(weight, up, out=weight)
        wide[...] = up
        ups += wide
        wide *= downs
        ordered += wide
        wide[...] = weight
        downs += wide
    return ordered, ups, downs


@dataclass(frozen=True, eq=False)
class MannWhitney:
    """The form of the metrics that are computed from ordered pairs."""

    def __call__(self, rows: Scored) -> Callable[[Weights], Pairs]:
        """Prepare one group's rows, and return the function from weights ``(b, P)`` to counts."""
        own = replace(rows, members=np.arange(len(rows.members)))
        scan = Scan(own, [np.arange(len(rows))], len(rows.members), LONGEST)
        return lambda weights: scan(side_by_side(weights))


pairs = MannWhitney()


def side_by_side(weights: Weights) -> Weights:
    """Return weights ``(b, P)`` as ``(P + 1, b)``, where the last row is of nobody, and 0."""
    count, patients = weights.shape
    drawn = np.zeros((patients + 1, count), dtype=np.uint8)
    for start in range(0, patients, BLOCK):  # a part that stays in the cache
        own = slice(start, min(start + BLOCK, patients))
        drawn[own] = weights[:, own].T
    return drawn
