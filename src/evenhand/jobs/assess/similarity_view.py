"""Stage 4 for the whole grid in the report: sentences, charts by layer, and a hidden table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evenhand.errors import count_text
from evenhand.jobs.assess.evaluation import Evaluation, Value
from evenhand.jobs.assess.evidence import value_text
from evenhand.jobs.assess.grid import with_share
from evenhand.jobs.assess.similarity_grid_record import (
    AttributeContrast,
    CellContrast,
    CorrelationRecord,
    GridInterval,
    GridSimilarity,
    Profile,
    Ratio,
)
from evenhand.reporting.charts.linear_axis import PlotFrame
from evenhand.reporting.charts.lines import LineChart, LineValue, XTick, line_chart
from evenhand.reporting.charts.scatter import Point, Scatter, scatter
from evenhand.reporting.section import HiddenPart, Part, Table
from evenhand.reporting.text.vocabulary import p_value_text, plain

LINES = 6
"""The largest number of cells in a chart of differences."""


def grid_part(grid: GridSimilarity, evaluation: Evaluation, unit: str) -> Part:
    """Return the section about differences in CKA between groups, and their relation to AUC."""
    basis = (
        f"{count_text(grid.patients, f'validation {unit}')} and {count_text(grid.seeds, 'seed')}"
    )
    cells = len({(contrast.cell, contrast.share) for contrast in grid.cells})
    return Part(
        sentences=(
            "Every cell is compared with supervised with the same labels and seed "
            f"({count_text(cells, 'pair')}): their CKA in the group that both serve best, and in "
            "the group that both serve worst. Size is the mean of |difference of CKA| between the "
            f"two groups, over pairs of layers. All cells have the same {basis}; intervals are "
            f"over these. Permuting the groups within each label ({grid.permutations} times) gives "
            "the size by chance. These results describe the grid: p-values are not corrected, and "
            "no verdict rests on them.",
            *map(_attribute_text, grid.attributes),
            *map(_ratio_text, grid.ratios),
            *map(_correlation_text, grid.correlations),
            *(f"{name}: {reason}." for name, reason in grid.left_out.items()),
        ),
        scatters=(_scatter(grid.cells),) if grid.cells else (),
        charts=tuple(_charts(grid, evaluation)),
        hidden=(
            HiddenPart(f"Every cell: {len(grid.cells)} rows", Part(tables=(_table(grid.cells),))),
        ),
    )


def _attribute_text(contrast: AttributeContrast) -> str:
    by_chance = f"{plain(contrast.by_chance)} (p {p_value_text(contrast.p)})"
    return (
        f"{contrast.attribute}: size {_interval_text(contrast.size)} between the best and the "
        f"worst served group, {by_chance} between permuted groups; gap in AUC "
        f"{plain(contrast.gap)}."
    )


def _ratio_text(ratio: Ratio) -> str:
    pair = f"{ratio.attribute}, which has the larger gap in AUC, to {ratio.over}"
    if ratio.ratio is None:
        return f"Ratio of sizes, {pair}: undefined, as {ratio.reason}."
    return f"Ratio of sizes, {pair}: {_interval_text(ratio.ratio)}."


def _correlation_text(record: CorrelationRecord) -> str:
    scope = (
        "over attributes and cells"
        if record.attribute == "*"
        else f"{record.attribute}, over cells"
    )
    title = f"Rank correlation of size with gap in AUC, {scope}"
    points = count_text(record.points, "point")
    if record.correlation is None or record.p is None:
        return f"{title}: undefined, as {points} are too few or all equal."
    return (
        f"{title}: {_interval_text(record.correlation)}, p {p_value_text(record.p)} ({points}, "
        "which are not independent: the interval resamples patients and seeds, and p permutes "
        "groups)."
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
    caption = "One point for each cell and attribute, mean over seeds."
    y_label = "mean |difference of CKA|, best and worst served"
    return scatter(points, PlotFrame(title, caption, "gap in AUC", y_label))


def _charts(grid: GridSimilarity, evaluation: Evaluation) -> Iterator[LineChart]:
    """Yield two charts by attribute: CKA of the chosen cell by layer, and differences of cells."""
    ticks = [XTick(float(number), name) for number, name in enumerate(grid.layers)]
    for attribute in dict.fromkeys(profile.attribute for profile in grid.profiles):
        profiles = [
            profile
            for profile in grid.profiles
            if profile.attribute == attribute and profile.share == evaluation.share
        ]
        chosen = next(profile for profile in profiles if profile.cell == evaluation.chosen)
        lines: dict[str, Sequence[LineValue]] = {
            f"{chosen.best} (served best)": _line_values(chosen.in_best),
            f"{chosen.worst} (served worst)": _line_values(chosen.in_worst),
        }
        title = f"{chosen.cell} and supervised by layer, {attribute}"
        caption = "CKA of the same layer of both models, in each group."
        yield line_chart(lines, ticks, PlotFrame(title, caption, "layer", "CKA"))
        title = f"Differences by layer, {attribute}"
        caption = "CKA with supervised in the group served best minus CKA in that served worst."
        differences: dict[str, Sequence[LineValue]] = {
            profile.cell: _line_values(profile.difference, ends=False)
            for profile in _largest(profiles)
        }
        yield line_chart(differences, ticks, PlotFrame(title, caption, "layer", "difference"))


def _largest(profiles: Sequence[Profile]) -> list[Profile]:
    """Return the profiles with the largest differences, in their given order."""

    def size(profile: Profile) -> float:
        return sum(abs(layer.value) for layer in profile.difference if layer)

    largest = sorted(profiles, key=size, reverse=True)[:LINES]
    return [profile for profile in profiles if profile in largest]


def _line_values(layers: Sequence[GridInterval | None], *, ends: bool = True) -> list[LineValue]:
    return [
        LineValue(None)
        if interval is None
        else LineValue(interval.value, *((interval.low, interval.high) if ends else ()))
        for interval in layers
    ]


def _table(cells: Sequence[CellContrast]) -> Table:
    rows = tuple(
        (
            f"{with_share(contrast.cell, contrast.share)}, {contrast.attribute}",
            contrast.best,
            contrast.worst,
            plain(contrast.gap),
            _interval_text(contrast.size),
            plain(contrast.by_chance),
            ", ".join(map(plain, contrast.by_seed)),
        )
        for contrast in cells
    )
    columns = ("Cell, attribute", "Best", "Worst", "AUC gap", "Size", "Permuted", "By seed")
    return Table("Difference in CKA between the two groups", columns, rows)


def _interval_text(interval: GridInterval) -> str:
    return value_text(Value(interval.value, interval.low, interval.high))
