"""Stage 4 for the whole grid, on the page: sentences, profiles by layer, and tables that fold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evenhand.jobs.assess.evaluation import Evaluation
from evenhand.jobs.assess.evidence import text_of
from evenhand.jobs.assess.grid import with_share
from evenhand.jobs.assess.similarity_grid import (
    AttributeContrast,
    CellContrast,
    CorrelationRecord,
    GridInterval,
    GridSimilarity,
    Profile,
    Ratio,
)
from evenhand.jobs.assess.values import Value
from evenhand.reporting.charts.lines import LineChart, LineFrame, Place, Reading, line_chart
from evenhand.reporting.charts.scatter import Frame, Point, Scatter, scatter
from evenhand.reporting.part import Fold, Part, Table
from evenhand.reporting.text.numbers import PLAIN, p_value, plain
from evenhand.wording import counted

LINES = 6
"""Cells whose differences are drawn in one chart, at most."""


def grid_part(grid: GridSimilarity, evaluation: Evaluation, unit: str) -> Part:
    """Show how far apart groups are over the grid, and whether that goes with gaps in AUC."""
    resting = f"{counted(grid.patients, f'validation {unit}')} and {counted(grid.seeds, 'seed')}"
    cells = len({(contrast.cell, contrast.share) for contrast in grid.cells})
    return Part(
        sentences=(
            f"Every cell and supervised with the same labels and seed ({counted(cells, 'pair')}): "
            "how much more do they agree in the group that they serve best than in the one that "
            "they serve worst? Size is the mean of |difference of CKA| over pairs of layers. All "
            f"cells rest on the same {resting}; intervals are over these. Permuted groups (within "
            f"a label, {grid.permutations} times) show what noise makes. This describes the grid: "
            "p-values are not corrected, and no verdict rests on them.",
            *map(_of_attribute, grid.attributes),
            *map(_of_ratio, grid.ratios),
            *map(_of_correlation, grid.correlations),
            *(f"{name}: {reason}." for name, reason in grid.left_out.items()),
        ),
        scatters=(_scatter(grid.cells),) if grid.cells else (),
        charts=tuple(_charts(grid, evaluation)),
        folds=(Fold(f"Every cell: {len(grid.cells)} rows", Part(tables=(_table(grid.cells),))),),
    )


def _of_attribute(contrast: AttributeContrast) -> str:
    by_chance = f"{plain(contrast.by_chance)} (p {p_value(contrast.p)})"
    return (
        f"{contrast.attribute}: best and worst served group are apart by {_text(contrast.size)}, "
        f"permuted groups by {by_chance}; gap in AUC {plain(contrast.gap)}."
    )


def _of_ratio(ratio: Ratio) -> str:
    pair = f"{ratio.attribute}, which has the larger gap in AUC, over {ratio.over}"
    if ratio.ratio is None:
        return f"How many times further apart, {pair}: no ratio, as {ratio.reason}."
    return f"How many times further apart, {pair}: {_text(ratio.ratio)}."


def _of_correlation(record: CorrelationRecord) -> str:
    where = (
        "over attributes and cells"
        if record.attribute == "*"
        else f"{record.attribute}, over cells"
    )
    points = counted(record.points, "point")
    if record.correlation is None or record.p is None:
        return f"Rank correlation of size with gap in AUC, {where}: {points}, too few or all alike."
    return (
        f"Rank correlation of size with gap in AUC, {where}: {_text(record.correlation)}, "
        f"p {p_value(record.p)} ({points}, which are not independent: patients and seeds are drawn "
        "again for the interval, groups permuted for p)."
    )


def _scatter(cells: Sequence[CellContrast]) -> Scatter:
    points = [
        Point(
            contrast.attribute,
            with_share(contrast.cell, contrast.share),
            abs(contrast.gap),
            contrast.size.value,
        )
        for contrast in cells
    ]
    title = "Differences of layers and of performance"
    says = "One point for each cell and attribute, mean over seeds."
    up = "mean |difference of CKA|, best and worst served"
    return scatter(points, Frame(title, says, "gap in AUC", up, PLAIN))


def _charts(grid: GridSimilarity, evaluation: Evaluation) -> Iterator[LineChart]:
    """Yield, by attribute, the chosen cell by layer in both groups, and how cells differ."""
    places = [Place(float(number), name) for number, name in enumerate(grid.layers)]
    for attribute in dict.fromkeys(profile.attribute for profile in grid.profiles):
        own = [
            profile
            for profile in grid.profiles
            if profile.attribute == attribute and profile.share == evaluation.share
        ]
        chosen = next(profile for profile in own if profile.cell == evaluation.chosen)
        lines: dict[str, Sequence[Reading]] = {
            f"{chosen.best} (served best)": _readings(chosen.in_best),
            f"{chosen.worst} (served worst)": _readings(chosen.in_worst),
        }
        title = f"{chosen.cell} and supervised by layer, {attribute}"
        says = "CKA of the same layer of both, in each group."
        yield line_chart(lines, places, LineFrame(title, says, "layer", "CKA"))
        title = f"What differs by layer, {attribute}"
        says = "CKA with supervised in the group served best less that in the one served worst."
        differences: dict[str, Sequence[Reading]] = {
            profile.cell: _readings(profile.difference, ends=False) for profile in _widest(own)
        }
        yield line_chart(differences, places, LineFrame(title, says, "layer", "difference"))


def _widest(profiles: Sequence[Profile]) -> list[Profile]:
    """Return the profiles with the largest differences, in their order."""

    def size(profile: Profile) -> float:
        return sum(abs(layer.value) for layer in profile.difference if layer)

    widest = sorted(profiles, key=size, reverse=True)[:LINES]
    return [profile for profile in profiles if profile in widest]


def _readings(layers: Sequence[GridInterval | None], *, ends: bool = True) -> list[Reading]:
    return [
        Reading(None)
        if interval is None
        else Reading(interval.value, *((interval.low, interval.high) if ends else ()))
        for interval in layers
    ]


def _table(cells: Sequence[CellContrast]) -> Table:
    rows = tuple(
        (
            f"{with_share(contrast.cell, contrast.share)}, {contrast.attribute}",
            contrast.best,
            contrast.worst,
            plain(contrast.gap),
            _text(contrast.size),
            plain(contrast.by_chance),
            ", ".join(map(plain, contrast.by_seed)),
        )
        for contrast in cells
    )
    columns = ("Cell, attribute", "Best", "Worst", "AUC gap", "Size", "Permuted", "By seed")
    return Table("How far apart the two groups are", columns, rows)


def _text(interval: GridInterval) -> str:
    return text_of(Value(interval.value, interval.low, interval.high))
