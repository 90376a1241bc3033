"""The threshold explorer: counts by group at many thresholds, embedded in the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics import Groups, Scored
from evenhand.metrics.registry import Floats
from evenhand.reporting.charts.curves import largest_groups
from evenhand.reporting.text.vocabulary import PERCENT, POINTS, display_name

STEPS = 100
DRAWN = 20
LARGEST = (
    "The {1} groups with the most samples are shown, of {0:,}; the gap is over the shown ones."
)
COLUMNS = ("Sensitivity", "Specificity", "PPV", "Share flagged")


@dataclass(frozen=True)
class DecisionCounts:
    """The counts of one group at each threshold.

    Attributes
    ----------
    name, positives, negatives
        The group, and its numbers of positives and negatives.
    tp, fp
        The flagged positives and negatives at each threshold.
    compared
        Whether the group takes part in the gap.
    """

    name: str
    positives: int
    negatives: int
    tp: tuple[int, ...]
    fp: tuple[int, ...]
    compared: bool

    def rates(self, step: int) -> tuple[float, ...]:
        """Return the rates that ``COLUMNS`` name at one threshold, NaN where undefined."""
        tp, fp = self.tp[step], self.fp[step]
        return (
            _share(tp, self.positives),
            _share(self.negatives - fp, self.negatives),
            _share(tp, tp + fp),
            _share(tp + fp, self.positives + self.negatives),
        )


@dataclass(frozen=True)
class ExplorerTable:
    """The groups of one attribute, and the cells that are shown before the script runs."""

    attribute: str
    counts: tuple[DecisionCounts, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    left_out: str = ""


@dataclass(frozen=True)
class Explorer:
    """All tables, the thresholds of the slider, and the index of the threshold at the start."""

    thresholds: tuple[float, ...]
    start: int
    tables: tuple[ExplorerTable, ...]

    @property
    def data(self) -> dict[str, object]:
        """The data of the script, in the order of the table's cells: numbers without names."""
        return {
            "thresholds": self.thresholds,
            "tables": [
                [
                    {
                        "p": group.positives,
                        "n": group.negatives,
                        "tp": group.tp,
                        "fp": group.fp,
                        "gap": group.compared,
                    }
                    for group in table.counts
                ]
                for table in self.tables
            ],
        }


def explorer(
    rows: Scored, groups: Mapping[str, Groups], compared: Mapping[str, Sequence[str]]
) -> Explorer:
    """Count flagged samples of two classes at thresholds from 0 to 1 and at the model's threshold.

    Parameters
    ----------
    rows, groups
        The samples, and the level of each sample by attribute.
    compared
        By attribute: the levels that take part in the gap.
    """
    decided = 0.5 if rows.threshold is None else rows.threshold
    thresholds = np.unique([*(k / STEPS for k in range(STEPS + 1)), decided])
    start = int(np.searchsorted(thresholds, decided))
    everyone = _counts("everyone", rows, slice(None), thresholds, compared=False)
    tables = []
    for name, levels in groups.items():
        sizes = dict(zip(levels.levels, levels.sizes.tolist(), strict=True))
        drawn, in_gap = largest_groups(sizes, DRAWN), set(compared[name])
        by_level = (
            _counts(
                display_name(level), rows, levels.rows(level), thresholds, compared=level in in_gap
            )
            for level in drawn
        )
        counts = (everyone, *by_level)
        few = LARGEST.format(len(levels.levels), DRAWN) if len(drawn) < len(levels.levels) else ""
        tables.append(ExplorerTable(display_name(name), counts, explorer_cells(counts, start), few))
    return Explorer(tuple(thresholds.tolist()), start, tuple(tables))


def explorer_cells(
    counts: Sequence[DecisionCounts], step: int
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the name and the cells of each group at one threshold, then those of the gap."""
    rates = [count.rates(step) for count in counts]
    texts = [
        (count.name, tuple(_text(value) for value in row))
        for count, row in zip(counts, rates, strict=True)
    ]
    compared = [row for count, row in zip(counts, rates, strict=True) if count.compared]
    gaps = tuple(
        _text(max(column) - min(column), POINTS.unit) if _has_gap(column) else _text(math.nan)
        for column in zip(*compared, strict=True)
    )
    return (*texts, ("Gap", gaps or (_text(math.nan),) * len(COLUMNS)))


def _counts(
    name: str,
    rows: Scored,
    members: NDArray[np.intp] | slice,
    thresholds: Floats,
    *,
    compared: bool,
) -> DecisionCounts:
    """Count the flagged positives and negatives of a group at each threshold."""
    labels, scores = rows.labels[members], rows.scores[members]

    def flagged(label: int) -> tuple[int, ...]:
        rising = np.sort(scores[labels == label])
        at_or_above = len(rising) - np.searchsorted(rising, thresholds, side="left")
        return tuple(at_or_above.tolist())

    positives = int(labels.sum())
    negatives = len(labels) - positives
    return DecisionCounts(name, positives, negatives, flagged(1), flagged(0), compared)


def _share(count: int, whole: int) -> float:
    return count / whole if whole else math.nan


def _has_gap(column: Sequence[float]) -> bool:
    return len(column) > 1 and not any(map(math.isnan, column))


def _text(value: float, unit: str = PERCENT.unit) -> str:
    return "undefined" if math.isnan(value) else PERCENT.number(value) + unit
