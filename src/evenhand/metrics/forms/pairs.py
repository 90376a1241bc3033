"""Counts of ordered pairs: a positive row that scores above a negative row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics.registry import Floats, Weights
from evenhand.metrics.scored import Positions, Scored

CELLS = 2**16
"""Number of cells (chunks × resamples) in one step of the scan, so that they fit into the cache."""

BLOCK = 4096
"""Number of patients whose weights are transposed at a time."""

LONGEST = 256
"""Largest number of rows in a chunk: sums of products of its weights (bytes) stay below 2**31."""

FEW_STEPS = 16
"""Smallest number of steps for which counters of two bytes are faster than counters of four."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Weighted numbers ``(b,)`` of ordered pairs (ties count half), positives and negatives."""

    ordered: Floats
    positives: Floats
    negatives: Floats

    @property
    def share_ordered(self) -> Floats:
        """The share ``(b,)`` of all pairs of a positive and a negative that are ordered."""
        return self.ordered / (self.positives * self.negatives)


class Scan:
    """Counts ordered pairs in several groups.

    The rows of each group are sorted by score once and cut into chunks of equal length. Each step
    takes the next row of every chunk, for all resamples at once.

    Parameters
    ----------
    rows, positions
        The rows, and the positions of the rows of each of G groups.
    patients
        P, the number of patients.
    resamples
        The approximate number of resamples in a call.
    """

    def __init__(self, rows: Scored, positions: Positions, patients: int, resamples: int) -> None:
        self._patients = patients
        self._sizes = np.array([len(members) for members in positions])
        total = int(self._sizes.sum())
        mean_size = max(1, total // max(1, len(positions)))
        self._length = int(np.clip(total * resamples // CELLS, 1, min(LONGEST, mean_size)))
        below, tied = self._order(rows, positions, positives_first=True)
        self._walks = [self._walk(rows, below)]
        if tied:
            self._walks.append(
                self._walk(rows, self._order(rows, positions, positives_first=False)[0])
            )

    def __call__(self, drawn: Weights) -> Pairs:
        """Return the counts ``(G * b,)``, group by group, from weights ``(P + 1, b)``."""
        counts = [self._count(*walk, drawn) for walk in self._walks]
        ordered, positives, negatives = counts[0]
        if len(counts) > 1:  # ties count 0 in one walk and 1 in the other
            ordered = (ordered + counts[1][0]) / 2
        return Pairs(*(count.ravel() for count in (ordered, positives, negatives)))

    def _order(
        self, rows: Scored, positions: Positions, *, positives_first: bool
    ) -> tuple[NDArray[np.intp], bool]:
        """Return the rows of each group sorted by score, and whether opposite labels are tied."""
        order = rows.positives_first if positives_first else rows.negatives_first
        rank = np.empty(len(rows), dtype=np.intp)
        rank[order] = np.arange(len(rows))
        ordered = np.concatenate([order[np.sort(rank[members])] for members in positions])
        score, label = rows.scores[ordered], rows.labels[ordered]
        group = np.repeat(np.arange(len(positions)), self._sizes)
        tied = (score[1:] == score[:-1]) & (group[1:] == group[:-1])
        return ordered, bool((tied & (label[1:] != label[:-1])).any())

    def _walk(
        self, rows: Scored, ordered: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
        """Return the patients ``(L, C)`` and labels ``(L, C, 1)`` of the rows that each step takes.

        L is the length of a chunk, C the number of chunks.
        """
        chunks = -(-self._sizes // self._length)
        first_row, first_chunk = (np.cumsum(number) - number for number in (self._sizes, chunks))
        position = np.arange(len(ordered)) - np.repeat(first_row, self._sizes)
        chunk = np.repeat(first_chunk, self._sizes) + position // self._length
        shape = self._length, int(chunks.sum())
        patient = np.full(shape, self._patients)  # this index has the weight 0
        positive = np.zeros((*shape, 1), dtype=np.uint8)
        patient[position % self._length, chunk] = rows.members[rows.patients[ordered]]
        positive[position % self._length, chunk, 0] = rows.labels[ordered] == 1
        return patient, positive

    def _count(
        self, patient: NDArray[np.intp], positive: NDArray[np.uint8], drawn: Weights
    ) -> tuple[Floats, Floats, Floats]:
        """Return the numbers of ordered pairs, positives and negatives, ``(G, b)`` each."""
        length, chunks = patient.shape
        counter, steps = _counters(int(drawn.max(initial=0)))
        ordered, ups, downs = (np.zeros((chunks, drawn.shape[1]), np.int32) for _ in range(3))
        size = max(1, CELLS // drawn.shape[1])
        for first in range(0, chunks, size):
            block = slice(first, first + size)
            for start in range(0, length, steps):
                part = slice(start, start + steps), block
                within, up, down = _walked(patient[part], positive[part], drawn, counter)
                ordered[block] += within
                ordered[block] += up * downs[block]
                ups[block] += up
                downs[block] += down
        return self._by_group(*(count.astype(np.int64) for count in (ordered, ups, downs)))

    def _by_group(
        self, ordered: NDArray[np.int64], ups: NDArray[np.int64], downs: NDArray[np.int64]
    ) -> tuple[Floats, Floats, Floats]:
        """Return the counts of chunks ``(C, b)`` summed by group.

        The ordered pairs of a group are those within chunks, and the pairs of a positive with the
        negatives of the chunks with lower scores.
        """
        chunks = -(-self._sizes // self._length)
        nonempty = np.flatnonzero(chunks)
        starts = (np.cumsum(chunks) - chunks)[nonempty]
        below = np.cumsum(downs, axis=0) - downs
        below -= np.repeat(below[starts], chunks[nonempty], axis=0)
        sums = []
        for counts in (ordered + ups * below, ups, downs):
            total = np.zeros((len(chunks), counts.shape[1]))
            total[nonempty] = np.add.reduceat(counts, starts, axis=0)
            sums.append(total)
        return sums[0], sums[1], sums[2]


def _counters(largest: int) -> tuple[type[np.integer[Any]], int]:
    """Return the type of the counters of a walk, and after how many steps they may overflow.

    The rows of s steps have at most s² / 4 pairs, each of at most the square of the largest weight.
    """
    steps = (2**9 - 1) // max(1, largest)
    return (np.uint16, steps) if steps >= FEW_STEPS else (np.int32, LONGEST)


def _walked(
    patient: NDArray[np.intp],
    positive: NDArray[np.uint8],
    drawn: Weights,
    counter: type[np.integer[Any]],
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the ordered pairs, positives and negatives of some steps, ``(C, b)`` each."""
    shape = patient.shape[1], drawn.shape[1]
    weight, up = (np.empty(shape, dtype=np.uint8) for _ in range(2))
    wide = np.empty(shape, dtype=counter)
    ordered, ups, downs = (np.zeros(shape, dtype=counter) for _ in range(3))
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
        """Return the function that counts the pairs of some rows for weights ``(b, P)``."""
        renumbered = replace(rows, members=np.arange(len(rows.members)))
        scan = Scan(renumbered, [np.arange(len(rows))], len(rows.members), LONGEST)
        return lambda weights: scan(transposed_weights(weights))


pairs = MannWhitney()


def transposed_weights(weights: Weights) -> Weights:
    """Return weights ``(b, P)`` transposed, with a last row of zeros: ``(P + 1, b)``."""
    count, patients = weights.shape
    drawn = np.zeros((patients + 1, count), dtype=np.uint8)
    for start in range(0, patients, BLOCK):  # block by block, so that a block fits into the cache
        block = slice(start, min(start + BLOCK, patients))
        drawn[block] = weights[:, block].T
    return drawn
