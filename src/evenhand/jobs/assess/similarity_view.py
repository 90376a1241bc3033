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
from evenhand.reporting.sections.assessment import Fold, Part, Table
from evenhand.reporting.text.numbers import PLAIN, p_value, plain
from evenhand.wording import counted

LINES = 6
"""Cells whose differences are drawn in one chart, at most."""


def grid_part(grid: GridSimilarity, evaluation: Evaluation, unit: str) -> Part:
    """Show how far apart groups are over the grid, and whether that goes with gaps in AUC."""
    resting = f"{counted(grid.patients, f'validation {unit}')} and {counted(grid.seeds, 'seed')}"
    cells = len({(one.cell, one.share) for one in grid.cells})
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


def _of_attribute(one: AttributeContrast) -> str:
    return (
        f"{one.attribute}: best and worst served group are apart by {_text(one.size)}, permuted "
        f"groups by {plain(one.by_chance)} (p {p_value(one.p)}); gap in AUC {plain(one.gap)}."
    )


def _of_ratio(one: Ratio) -> str:
    pair = f"{one.attribute}, which has the larger gap in AUC, over {one.over}"
    if one.ratio is None:
        return f"How many times further apart, {pair}: no ratio, as {one.reason}."
    return f"How many times further apart, {pair}: {_text(one.ratio)}."


def _of_correlation(one: CorrelationRecord) -> str:
    where = "over attributes and cells" if one.attribute == "*" else f"{one.attribute}, over cells"
    points = counted(one.points, "point")
    if one.correlation is None or one.p is None:
        return f"Rank correlation of size with gap in AUC, {where}: {points}, too few or all alike."
    return (
        f"Rank correlation of size with gap in AUC, {where}: {_text(one.correlation)}, "
        f"p {p_value(one.p)} ({points}, which are not independent: patients and seeds are drawn "
        "again for the interval, groups permuted for p)."
    )


def _scatter(cells: Sequence[CellContrast]) -> Scatter:
    points = [
        Point(one.attribute, with_share(one.cell, one.share), abs(one.gap), one.size.value)
        for one in cells
    ]
    title = "Differences of layers and of performance"
    says = "One point for each cell and attribute, mean over seeds."
    up = "mean |difference of CKA|, best and worst served"
    return scatter(points, Frame(title, says, "gap in AUC", up, PLAIN))


def _charts(grid: GridSimilarity, evaluation: Evaluation) -> Iterator[LineChart]:
    """Yield, by attribute, the chosen cell by layer in both groups, and how cells differ."""
    places = [Place(float(number), name) for number, name in enumerate(grid.layers)]
    for attribute in dict.fromkeys(one.attribute for one in grid.profiles):
        own = [
            one
            for one in grid.profiles
            if one.attribute == attribute and one.share == evaluation.share
        ]
        chosen = next(one for one in own if one.cell == evaluation.chosen)
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
            one.cell: _readings(one.difference, ends=False) for one in _widest(own)
        }
        yield line_chart(differences, places, LineFrame(title, says, "layer", "difference"))


def _widest(profiles: Sequence[Profile]) -> list[Profile]:
    """Return the profiles with the largest differences, in their order."""

    def size(one: Profile) -> float:
        return sum(abs(layer.value) for layer in one.difference if layer)

    widest = sorted(profiles, key=size, reverse=True)[:LINES]
    return [one for one in profiles if one in widest]


def _readings(layers: Sequence[GridInterval | None], *, ends: bool = True) -> list[Reading]:
    return [
        Reading(None) if one is None else Reading(one.value, *((one.low, one.high) if ends else ()))
        for one in layers
    ]


def _table(cells: Sequence[CellContrast]) -> Table:
    rows = tuple(
        (
            f"{with_share(one.cell, one.share)}, {one.attribute}",
            one.best,
            one.worst,
            plain(one.gap),
            _text(one.size),
            plain(one.by_chance),
            ", ".join(map(plain, one.by_seed)),
        )
        for one in cells
    )
    columns = ("Cell, attribute", "Best", "Worst", "AUC gap", "Size", "Permuted", "By seed")
    return Table("How far apart the two groups are", columns, rows)


def _text(one: GridInterval) -> str:
    return text_of(Value(one.value, one.low, one.high))
