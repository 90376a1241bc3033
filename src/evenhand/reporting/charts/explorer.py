"""The threshold explorer: counts by group at many thresholds, embedded in the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics import Groups, Scored
from evenhand.reporting.text.numbers import PERCENT, POINTS
from evenhand.reporting.text.vocabulary import shown

STEPS = 100
DRAWN = 20
LARGEST = "Of {:,} groups the {} with most samples are shown; the gap is taken over these."
COLUMNS = ("Sensitivity", "Specificity", "PPV", "Share flagged")


@dataclass(frozen=True)
class DecisionCounts:
    """One group: how many positives and negatives are flagged at each threshold.

    ``compared`` tells whether the group takes part in the gap.
    """

    name: str
    positives: int
    negatives: int
    tp: tuple[int, ...]
    fp: tuple[int, ...]
    compared: bool

    def rates(self, step: int) -> tuple[float, ...]:
        """Return what ``COLUMNS`` name at one threshold, NaN where undefined."""
        tp, fp = self.tp[step], self.fp[step]
        return (
            _over(tp, self.positives),
            _over(self.negatives - fp, self.negatives),
            _over(tp, tp + fp),
            _over(tp + fp, self.positives + self.negatives),
        )


@dataclass(frozen=True)
class ExplorerTable:
    """The groups of one attribute, and the cells that are shown before a script runs."""

    attribute: str
    counts: tuple[DecisionCounts, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    left_out: str = ""


@dataclass(frozen=True)
class Explorer:
    """All tables, the thresholds that the slider goes through, and where it starts."""

    thresholds: tuple[float, ...]
    start: int
    tables: tuple[ExplorerTable, ...]

    @property
    def data(self) -> dict[str, object]:
        """What the script reads, in the order of the table's cells: numbers only, no names."""
        return {
            "thresholds": self.thresholds,
            "tables": [
                [
                    {"p": c.positives, "n": c.negatives, "tp": c.tp, "fp": c.fp, "gap": c.compared}
                    for c in table.counts
                ]
                for table in self.tables
            ],
        }


def explorer(
    rows: Scored, groups: Mapping[str, Groups], compared: Mapping[str, Sequence[str]]
) -> Explorer:
    """Count the flagged of two classes at thresholds from 0 to 1 and at the model's own.

    ``compared`` names the levels of each attribute that take part in the gap.
    """
    own = 0.5 if rows.threshold is None else rows.threshold
    thresholds = np.unique([*(k / STEPS for k in range(STEPS + 1)), own])
    start = int(np.searchsorted(thresholds, own))
    tables = []
    for name, levels in groups.items():
        drawn, taking_part = _largest(levels), set(compared[name])
        parts = [("everyone", rows, False)]
        parts += [
            (shown(level), rows.take(levels.rows(level)), level in taking_part) for level in drawn
        ]
        counts = tuple(_counts(*part, thresholds) for part in parts)
        few = LARGEST.format(len(levels.levels), DRAWN) if len(drawn) < len(levels.levels) else ""
        tables.append(ExplorerTable(shown(name), counts, explorer_cells(counts, start), few))
    return Explorer(tuple(thresholds.tolist()), start, tuple(tables))


def _largest(groups: Groups) -> tuple[str, ...]:
    """Return the levels to show, in their order: at most `DRAWN`, those with most samples."""
    if len(groups.levels) <= DRAWN:
        return groups.levels
    kept = np.sort(np.argsort(-groups.sizes, kind="stable")[:DRAWN])
    return tuple(groups.levels[place] for place in kept)


def explorer_cells(
    counts: Sequence[DecisionCounts], step: int
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return name and cells of each group at one threshold, and last the gap."""
    rates = [count.rates(step) for count in counts]
    texts = [
        (count.name, tuple(_text(value) for value in row))
        for count, row in zip(counts, rates, strict=True)
    ]
    compared = [row for count, row in zip(counts, rates, strict=True) if count.compared]
    gaps = tuple(
        _text(max(column) - min(column), POINTS.unit) if _all_known(column) else _text(math.nan)
        for column in zip(*compared, strict=True)
    )
    return (*texts, ("Gap", gaps or (_text(math.nan),) * len(COLUMNS)))


def _counts(
    name: str, rows: Scored, compared: bool, thresholds: NDArray[np.float64]
) -> DecisionCounts:
    def flagged(label: int) -> tuple[int, ...]:
        scores = np.sort(rows.scores[rows.labels == label])
        at_or_above = len(scores) - np.searchsorted(scores, thresholds, side="left")
        return tuple(at_or_above.tolist())

    positives = int(rows.labels.sum())
    return DecisionCounts(name, positives, len(rows) - positives, flagged(1), flagged(0), compared)


def _over(count: int, whole: int) -> float:
    return count / whole if whole else math.nan


def _all_known(column: Sequence[float]) -> bool:
    return len(column) > 1 and not any(map(math.isnan, column))


def _text(value: float, unit: str = PERCENT.unit) -> str:
    return "undefined" if math.isnan(value) else PERCENT.number(value) + unit
