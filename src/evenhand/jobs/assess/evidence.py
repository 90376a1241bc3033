"""Stage 5 in the report: all cells side by side, and the chosen cell by group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from scipy.stats import spearmanr

from evenhand.errors import count_text
from evenhand.evaluation.requests import advice_of
from evenhand.jobs.assess.evaluation import Evaluation, Value
from evenhand.jobs.assess.settings import SUPERVISED, AssessSettings
from evenhand.metrics.rows import Key
from evenhand.reporting.charts.forest import Forest, ForestEntry, ForestFrame, forest
from evenhand.reporting.charts.linear_axis import PlotFrame
from evenhand.reporting.charts.scatter import Point, Scatter, scatter
from evenhand.reporting.estimates import Estimate
from evenhand.reporting.section import HiddenPart, Part, Table
from evenhand.reporting.text.vocabulary import PERCENT, PLAIN, SIGNED, join_words, plain, term

MOST_PLOTTED = 12  # cells in a plot; of more cells, only the best of each arm is plotted
FEWEST_GROUPS = 5  # for a correlation


def evidence_part(evaluation: Evaluation, settings: AssessSettings) -> Part:
    """Return the section about all cells, and about the chosen cell by group."""
    cells = _plotted_cells(evaluation)
    everybody = {cell: Value.of(evaluation.judged[cell].auc) for cell in cells}
    plots = [_plot(evaluation, "AUC", "*", everybody)]
    for attribute in evaluation.attributes:
        deviation = {cell: evaluation.deviation(cell, attribute) for cell in cells}
        plots.append(_plot(evaluation, f"Deviation from parity, {attribute}", attribute, deviation))
        odds = {
            cell: Value.of_size(evaluation.judged[cell].aaod[attribute])
            for cell in cells
            if attribute in evaluation.judged[cell].aaod
        }
        plots.append(
            _plot(evaluation, f"Average absolute odds difference, {attribute}", attribute, odds)
        )
    points = list(_size_points(evaluation))
    others = len(evaluation.judged) - len(cells)
    all_cells = Part(tables=(_cell_table(evaluation),))
    summary = f"Difference of every cell from supervised: {len(evaluation.judged) - 1} rows"
    hidden = (HiddenPart(summary, all_cells),) if others else ()
    sources = "patients and seeds" if evaluation.seeds > 1 else "patients"
    return Part(
        sentences=(
            "A lower deviation is fairer. Differences are paired, as both models score the same "
            f"patients; their intervals are over {sources}.",
            _references_text(evaluation),
            *(advice.why for advice in advice_of(settings)),
            _correlations_text(points),
        ),
        plots=tuple(plots),
        scatters=(_size_plot(points),),
        tables=(
            *_metric_tables(evaluation),
            _size_table(evaluation),
            _group_table(evaluation),
            *(() if hidden else all_cells.tables),
        ),
        hidden=hidden,
    )


def _plotted_cells(evaluation: Evaluation) -> tuple[str, ...]:
    """Return the cells to plot: all cells, or the best of each arm if there are many."""
    cells = tuple(evaluation.judged)
    return cells if len(cells) <= MOST_PLOTTED else tuple(evaluation.arms.values())


def value_text(value: Value, *, sign: bool = False) -> str:
    """Return a number with its interval as text; ``sign`` writes + before positive numbers."""
    if value.value is None:
        return "undefined"
    scale = SIGNED if sign else PLAIN
    ends = scale.interval(value.low, value.high)
    return scale.text(value.value) + (f" ({ends})" if ends else "")


def _references_text(evaluation: Evaluation) -> str:
    levels = [f"{level} ({name})" for name, level in evaluation.references.items()]
    return (
        f"The reference groups of ratios and odds differences: {join_words(levels)}."
        if levels
        else ""
    )


def _metric_tables(evaluation: Evaluation) -> Iterator[Table]:
    """Yield a table of metrics by group, for the chosen cell and for supervised."""
    keys = evaluation.judged[SUPERVISED].numbers
    metrics = tuple(dict.fromkeys(key.base for key in keys if key.attribute == "*"))
    groups = [("*", "*"), *evaluation.judged[SUPERVISED].by_group]
    for cell in (evaluation.chosen, SUPERVISED):
        numbers = evaluation.judged[cell].numbers
        rows = tuple(
            (
                "everybody" if group == "*" else f"{attribute}: {group}",
                *(value_text(Value.of(numbers[Key(attribute, group, name)])) for name in metrics),
            )
            for attribute, group in groups
        )
        if metrics:
            columns = ("Group", *(term(name).label for name in metrics))
            yield Table(f"By group, {cell}", columns, rows)


def _plot(
    evaluation: Evaluation, title: str, attribute: str, values: Mapping[str, Value]
) -> Forest:
    entries = [
        ForestEntry(
            cell,
            _estimate(evaluation, attribute, value),
            kind="everyone" if cell == SUPERVISED else "group",
        )
        for cell, value in values.items()
    ]
    return forest(entries, ForestFrame(title, "Mean over seeds, interval over patients."))


def _estimate(evaluation: Evaluation, attribute: str, value: Value) -> Estimate:
    size = evaluation.sizes[attribute, "*"]
    return Estimate(
        base="",
        attribute=attribute,
        value=value.value,
        low=value.low,
        high=value.high,
        n=size.n,
        patients=size.patients,
        positives=size.positives,
        undefined=None if value.value is not None else "a ratio has no value",
    )


def _distance_from_everybody(evaluation: Evaluation, cell: str, key: tuple[str, str]) -> Value:
    """Return a group's AUC minus that of everybody."""
    judged = evaluation.judged[cell]
    return Value.of(judged.by_group[key] - judged.auc)


def _share(evaluation: Evaluation, key: tuple[str, str]) -> float:
    return evaluation.sizes[key].n / evaluation.sizes["*", "*"].n


def _size_points(evaluation: Evaluation) -> Iterator[Point]:
    """Yield each group's share of the rows, and the distance of its AUC from everybody's."""
    for cell in (evaluation.chosen, SUPERVISED):
        for attribute, level in evaluation.judged[cell].by_group:
            difference = _distance_from_everybody(evaluation, cell, (attribute, level)).value
            if difference is not None:
                share = _share(evaluation, (attribute, level))
                yield Point(cell, f"{attribute}: {level}", share, abs(difference))


def _size_plot(points: list[Point]) -> Scatter:
    frame = PlotFrame(
        title="Deviation by size of the group",
        caption="By chance alone, smaller groups deviate more; the table has the intervals.",
        x_label="share of the test samples, %",
        y_label="distance of the group's AUC from everybody's",
    )
    return scatter(points, frame, PERCENT)


def _correlations_text(points: list[Point]) -> str:
    groups = len({point.name for point in points})
    if groups < FEWEST_GROUPS:
        return (
            f"{count_text(groups, 'group')}: too few to correlate their size with the distance of "
            f"their AUC from everybody's (at least {FEWEST_GROUPS} are needed)."
        )
    correlations = []
    for cell in dict.fromkeys(point.series for point in points):
        pairs = [(point.x, point.y) for point in points if point.series == cell]
        correlations.append(f"{plain(float(spearmanr(pairs).statistic), 2)} with {cell}")
    return (
        f"Spearman correlation, over {groups} groups, of a group's size with the distance of its "
        f"AUC from everybody's: {', '.join(correlations)}."
    )


def _group_table(evaluation: Evaluation) -> Table:
    pair, rows = (evaluation.chosen, SUPERVISED), []
    for key, change in evaluation.group_differences(evaluation.chosen).items():
        size = evaluation.sizes[key]
        values = [value_text(Value.of(evaluation.judged[cell].by_group[key])) for cell in pair]
        counts = (f"{size.n:,}", f"{size.positives:,}")
        rows.append((": ".join(key), *counts, *values, value_text(change.shown, sign=True)))
    return Table("AUC by group", ("Group", "Samples", "Positive", *pair, "Change"), tuple(rows))


def _size_table(evaluation: Evaluation) -> Table:
    pair, rows = (evaluation.chosen, SUPERVISED), []
    for key in evaluation.judged[SUPERVISED].by_group:
        texts = [
            value_text(_distance_from_everybody(evaluation, cell, key), sign=True) for cell in pair
        ]
        rows.append((": ".join(key), PERCENT.text(_share(evaluation, key)), *texts))
    columns = ("Group", "Share of the samples", *pair)
    return Table("AUC of each group minus that of everybody", columns, tuple(rows))


def _cell_table(evaluation: Evaluation) -> Table:
    attributes, rows = evaluation.attributes, []
    for cell in evaluation.judged:
        if cell != SUPERVISED:
            changes = [evaluation.auc_difference(cell)]
            for name in attributes:
                changes.append(evaluation.deviation_difference(cell, name))
                changes.append(evaluation.odds_difference(cell, name))
            rows.append((cell, *(value_text(change.shown, sign=True) for change in changes)))
    kinds = [f"{kind}, {name}" for name in attributes for kind in ("Deviation", "AAOD")]
    return Table("Difference of each cell from supervised", ("Cell", "AUC", *kinds), tuple(rows))
