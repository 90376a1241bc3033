"""Charts of the scores by group: ROC, precision–recall, calibration, net benefit, distribution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from evenhand.metrics import Groups, Scored
from evenhand.metrics.registry import Floats
from evenhand.reporting.charts.benefit import BenefitView, benefit_view
from evenhand.reporting.charts.linear_axis import polyline
from evenhand.reporting.text.vocabulary import display_name
from evenhand.tables.levels import UNKNOWN
from evenhand.wording import count_text

DRAWN = 8
"""Largest number of groups that are drawn, as readers cannot distinguish more line styles."""

POINTS_KEPT = 150
"""Largest number of points of a curve."""

CALIBRATION_BINS = 10
HISTOGRAM_BINS = 25


@dataclass(frozen=True)
class CurveSeries:
    """The line of one group, in percent of width and height from the top left.

    Attributes
    ----------
    name, style
        The group, and the number of its line style.
    points
        The points of the line.
    marks
        Marks on the line: x, y, and ``"few"`` for a mark from few samples.
    """

    name: str
    style: int
    points: str
    marks: tuple[tuple[float, float, str], ...] = ()


@dataclass(frozen=True)
class CurvePicture:
    """Lines of several groups on axes from 0 to 1.

    Attributes
    ----------
    title, x_label, y_label
        The title, and the names of the axes.
    series
        The lines.
    diagonal
        Whether the diagonal is drawn.
    """

    title: str
    x_label: str
    y_label: str
    series: tuple[CurveSeries, ...]
    diagonal: bool


@dataclass(frozen=True)
class Distribution:
    """The distribution of the scores of one group.

    Attributes
    ----------
    name, note
        The group, and its counts.
    positives, negatives
        The heights of the bars from score 0 to 1, in percent of half the picture.
    """

    name: str
    note: str
    positives: tuple[float, ...]
    negatives: tuple[float, ...]


@dataclass(frozen=True)
class ScoreView:
    """The scores of one model by the groups of one attribute.

    Attributes
    ----------
    attribute
        The attribute.
    pictures, distributions, benefit
        The curves, the distributions of the scores, and the net benefit.
    absent
        Sentences about groups that are not drawn.
    cut
        The decision threshold in percent, None where there is none or more than one.
    """

    attribute: str
    pictures: tuple[CurvePicture, ...]
    distributions: tuple[Distribution, ...]
    absent: tuple[str, ...]
    cut: float | None
    benefit: BenefitView


def score_views(rows: Scored, groups: Mapping[str, Groups], positive: str) -> tuple[ScoreView, ...]:
    """Lay out the scores of two classes by each attribute that has a known group."""
    return tuple(
        _view(rows, name, levels, positive)
        for name, levels in groups.items()
        if _known_sizes(levels)
    )


def _known_sizes(groups: Groups) -> dict[str, int]:
    """Return level → number of samples, of known levels that occur."""
    sizes = zip(groups.levels, groups.sizes, strict=True)
    return {level: int(size) for level, size in sizes if size and level != UNKNOWN}


def _view(rows: Scored, attribute: str, groups: Groups, positive: str) -> ScoreView:
    sizes = _known_sizes(groups)
    parts = {
        display_name(level): rows.take(groups.rows(level)) for level in largest_groups(sizes, DRAWN)
    }
    few = f"The {DRAWN} groups with the most samples are drawn, of {len(sizes):,} groups."
    left_out = (few,) if len(parts) < len(sizes) else ()
    ranked = {name: part for name, part in parts.items() if 0 < part.labels.sum() < len(part)}
    return ScoreView(
        attribute=display_name(attribute),
        pictures=_pictures(parts, ranked, positive),
        distributions=tuple(_distribution(name, part, positive) for name, part in parts.items()),
        absent=(
            *(
                _why_no_curve(name, part, positive)
                for name, part in parts.items()
                if name not in ranked
            ),
            *left_out,
        ),
        cut=None if rows.threshold is None else round(100 * rows.threshold, 2),
        benefit=benefit_view(parts, positive),
    )


def _pictures(
    parts: Mapping[str, Scored], ranked: Mapping[str, Scored], positive: str
) -> tuple[CurvePicture, ...]:
    """Draw ROC and precision–recall of groups with both classes, and calibration of all groups."""
    styles = {name: style for style, name in enumerate(parts)}
    counts = {name: count_flagged(part) for name, part in ranked.items()}
    return (
        CurvePicture(
            "ROC",
            "Share of other cases flagged",
            f"Share of {positive} cases found",
            tuple(_line(name, styles[name], *roc(*every)) for name, every in counts.items()),
            True,
        ),
        CurvePicture(
            "Precision–recall",
            f"Share of {positive} cases found",
            f"Share of flagged cases that are {positive}",
            tuple(_line(name, styles[name], *recall(*every)) for name, every in counts.items()),
            False,
        ),
        CurvePicture(
            "Calibration",
            "Mean score",
            f"Share of cases that are {positive}",
            tuple(_calibration(name, styles[name], part) for name, part in parts.items()),
            True,
        ),
    )


def largest_groups(sizes: Mapping[str, int], most: int) -> list[str]:
    """Return the groups with the most samples, at most ``most``, in the order of ``sizes``."""
    names = set(sorted(sizes, key=lambda name: sizes[name], reverse=True)[:most])
    return [name for name in sizes if name in names]


def roc(tp: Floats, fp: Floats) -> tuple[Floats, Floats]:
    """Return false positive rate and sensitivity, from nobody flagged to everybody flagged."""
    return np.append(0, fp / fp[-1]), np.append(0, tp / tp[-1])


def recall(tp: Floats, fp: Floats) -> tuple[Floats, Floats]:
    """Return recall and precision as steps; the area below is the average precision."""
    tp, fp = tp[tp > 0], fp[tp > 0]  # without a positive the recall is 0, and there is no step
    ends, heights = np.append(0, tp / tp[-1]), tp / (tp + fp)
    return np.repeat(ends, 2)[1:-1], np.repeat(heights, 2)


def calibration(rows: Scored) -> Iterator[tuple[float, float, int]]:
    """Yield mean score, share of positives and number of samples of each non-empty bin."""
    bins = np.minimum((rows.scores * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    for number in np.unique(bins):
        inside = bins == number
        yield (
            float(rows.scores[inside].mean()),
            float(rows.labels[inside].mean()),
            int(inside.sum()),
        )


def count_flagged(rows: Scored) -> tuple[Floats, Floats]:
    """Return the numbers of positives and negatives at or above each score, highest score first."""
    order = np.argsort(-rows.scores)
    score, positive = rows.scores[order], rows.labels[order] == 1
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True))
    return np.cumsum(positive)[last].astype(float), np.cumsum(~positive)[last].astype(float)


def _line(name: str, style: int, x: Floats, y: Floats) -> CurveSeries:
    """Lay out a line with at most `POINTS_KEPT` points."""
    chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), POINTS_KEPT)).round().astype(int))
    return CurveSeries(name, style, polyline(100 * x[chosen], 100 - 100 * y[chosen]))


def _calibration(name: str, style: int, rows: Scored) -> CurveSeries:
    bins = list(calibration(rows))
    line = _line(name, style, np.array([b[0] for b in bins]), np.array([b[1] for b in bins]))
    marks = tuple(
        (round(100 * score, 2), round(100 - 100 * share, 2), "few" if n < 10 else "")
        for score, share, n in bins
    )
    return CurveSeries(name, style, line.points, marks)


def _distribution(name: str, rows: Scored, positive: str) -> Distribution:
    """Lay out the histograms of the scores of positives and negatives."""
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    counts = [np.histogram(rows.scores[rows.labels == label], edges)[0] for label in (1, 0)]
    shares = [count / max(count.sum(), 1) for count in counts]
    tallest = max(share.max() for share in shares)
    heights = [tuple((100 * share / tallest).round(1).tolist()) for share in shares]
    positives = int(rows.labels.sum())
    note = f"{positives:,} {positive}, {len(rows) - positives:,} not"
    return Distribution(name, note, *heights)


def _why_no_curve(name: str, rows: Scored, positive: str) -> str:
    """Return the sentence on a group with cases of one class only."""
    cases = "only" if rows.labels.all() else "no"
    return (
        f"{name} has {cases} {positive} cases among {count_text(len(rows), 'sample')}, so it has "
        "no ROC and no precision–recall curve."
    )
