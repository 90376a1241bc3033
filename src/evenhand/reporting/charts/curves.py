"""What the scores look like by group: ROC, precision–recall, calibration, net benefit, spread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics import UNKNOWN, Groups, Scored
from evenhand.reporting.charts.benefit import BenefitView, benefit_view
from evenhand.reporting.charts.polyline import polyline
from evenhand.reporting.text.numbers import count_text
from evenhand.reporting.text.vocabulary import shown

Floats = NDArray[np.float64]

DRAWN = 8
"""How many groups are drawn, the largest first; more line styles could not be told apart."""

POINTS_KEPT = 150
"""How many points of a curve are drawn at most."""

CALIBRATION_BINS = 10
HISTOGRAM_BINS = 25


@dataclass(frozen=True)
class CurveSeries:
    """One group's line in a picture, in percent of width and height from the top left."""

    name: str
    look: int
    points: str
    marks: tuple[tuple[float, float, str], ...] = ()


@dataclass(frozen=True)
class CurvePicture:
    """Lines of several groups over a square from 0 to 1."""

    title: str
    says: str
    across: str
    up: str
    series: tuple[CurveSeries, ...]
    diagonal: str


@dataclass(frozen=True)
class Distribution:
    """How the scores of one group are spread.

    Attributes
    ----------
    name, note
        The group, and its counts.
    positives, negatives
        Height of each bar as a percentage of half the picture, from score 0 to 1.
    """

    name: str
    note: str
    positives: tuple[float, ...]
    negatives: tuple[float, ...]


@dataclass(frozen=True)
class ScoreView:
    """The scores of one model by the groups of one attribute."""

    attribute: str
    pictures: tuple[CurvePicture, ...]
    distributions: tuple[Distribution, ...]
    absent: tuple[str, ...]
    cut: float | None
    benefit: BenefitView


def score_views(rows: Scored, groups: Mapping[str, Groups], positive: str) -> tuple[ScoreView, ...]:
    """Lay out the scores of two classes by each attribute."""
    return tuple(_view(rows, name, levels, positive) for name, levels in groups.items())


def _view(rows: Scored, attribute: str, groups: Groups, positive: str) -> ScoreView:
    sized = zip(groups.levels, groups.sizes, strict=True)
    every = {level: size for level, size in sized if size and level != UNKNOWN}
    parts = {shown(level): rows.take(groups.rows(level)) for level in _largest(every)}
    few = f"Of {len(every):,} groups the {DRAWN} with most samples are drawn."
    left_out = (few,) if len(parts) < len(every) else ()
    ranked = {name: part for name, part in parts.items() if 0 < part.labels.sum() < len(part)}
    return ScoreView(
        attribute=shown(attribute),
        pictures=_pictures(parts, ranked, positive),
        distributions=tuple(_spread(name, part, positive) for name, part in parts.items()),
        absent=(
            *(_why(name, part, positive) for name, part in parts.items() if name not in ranked),
            *left_out,
        ),
        cut=None if rows.threshold is None else round(100 * rows.threshold, 2),
        benefit=benefit_view(parts, positive),
    )


def _pictures(
    parts: Mapping[str, Scored], ranked: Mapping[str, Scored], positive: str
) -> tuple[CurvePicture, ...]:
    """Draw ROC and precision–recall of groups with both classes, and calibration of all groups."""
    looks = {name: look for look, name in enumerate(parts)}
    return (
        CurvePicture(
            "ROC",
            "Towards the upper left is better; the diagonal is chance.",
            "Share of the others flagged",
            f"Share of {positive} found",
            tuple(_line(name, looks[name], *roc(part)) for name, part in ranked.items()),
            "up",
        ),
        CurvePicture(
            "Precision–recall",
            "Towards the upper right is better; rarer cases lower every line.",
            f"Share of {positive} found",
            f"Share of the flagged that is {positive}",
            tuple(_line(name, looks[name], *recall(part)) for name, part in ranked.items()),
            "",
        ),
        CurvePicture(
            "Calibration",
            "On the diagonal a score equals the share of cases; hollow marks have fewer than 10 "
            "samples.",
            "Mean score",
            f"Share that is {positive}",
            tuple(_calibration(name, looks[name], part) for name, part in parts.items()),
            "up",
        ),
    )


def _largest(size: dict[str, int]) -> list[str]:
    """Return the groups that are drawn, in the order of the levels."""
    names = set(sorted(size, key=lambda name: size[name], reverse=True)[:DRAWN])
    return [name for name in size if name in names]


def roc(rows: Scored) -> tuple[Floats, Floats]:
    """Return false positive rate and sensitivity, from nobody flagged to everybody."""
    tp, fp = _flagged(rows)
    return np.append(0, fp / fp[-1]), np.append(0, tp / tp[-1])


def recall(rows: Scored) -> tuple[Floats, Floats]:
    """Return recall and precision as steps; the area below is the average precision."""
    tp, fp = _flagged(rows)
    tp, fp = tp[tp > 0], fp[tp > 0]  # before the first positive there is no recall to draw over
    ends, heights = np.append(0, tp / tp[-1]), tp / (tp + fp)
    return np.repeat(ends, 2)[1:-1], np.repeat(heights, 2)


def calibration(rows: Scored) -> Iterator[tuple[float, float, int]]:
    """Yield mean score, share of positives and count of each bin of scores that is not empty."""
    which = np.minimum((rows.scores * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    for bin_ in np.unique(which):
        inside = which == bin_
        yield (
            float(rows.scores[inside].mean()),
            float(rows.labels[inside].mean()),
            int(inside.sum()),
        )


def _flagged(rows: Scored) -> tuple[Floats, Floats]:
    """Return positives and negatives at or above each distinct score, scores falling."""
    order = np.argsort(-rows.scores, kind="stable")
    score, positive = rows.scores[order], rows.labels[order] == 1
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True))
    return np.cumsum(positive)[last].astype(float), np.cumsum(~positive)[last].astype(float)


def _line(name: str, look: int, x: Floats, y: Floats) -> CurveSeries:
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), POINTS_KEPT)).round().astype(int))
    return CurveSeries(name, look, polyline(100 * x[kept], 100 - 100 * y[kept]))


def _calibration(name: str, look: int, rows: Scored) -> CurveSeries:
    bins = list(calibration(rows))
    line = _line(name, look, np.array([b[0] for b in bins]), np.array([b[1] for b in bins]))
    marks = tuple(
        (round(100 * score, 2), round(100 - 100 * share, 2), "few" if n < 10 else "")
        for score, share, n in bins
    )
    return CurveSeries(name, look, line.points, marks)


def _spread(name: str, rows: Scored, positive: str) -> Distribution:
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    counts = [np.histogram(rows.scores[rows.labels == label], edges)[0] for label in (1, 0)]
    shares = [count / max(count.sum(), 1) for count in counts]
    tallest = max(share.max() for share in shares)
    heights = [tuple((100 * share / tallest).round(1).tolist()) for share in shares]
    positives = int(rows.labels.sum())
    note = f"{positives:,} {positive}, {len(rows) - positives:,} not"
    return Distribution(name, note, *heights)


def _why(name: str, rows: Scored, positive: str) -> str:
    lacking = "has no other case" if rows.labels.all() else f"has no {positive} case"
    return f"{name} {lacking} among {count_text(len(rows), 'sample')} and no curve."
