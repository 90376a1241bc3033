"""The section on groups: a forest plot per metric, and the same numbers as a table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from evenhand.metrics import EVERYBODY
from evenhand.reporting.charts.forest import Forest, Line, Look, forest
from evenhand.reporting.estimates import Estimate, Estimates, find, first, names
from evenhand.reporting.report import Report
from evenhand.reporting.section import section
from evenhand.reporting.text.numbers import POINTS, Scale, count_text
from evenhand.reporting.text.sentences import p_text, reading
from evenhand.reporting.text.vocabulary import CountedCases, shown, term
from evenhand.reporting.text.worst_best import Extremes, extremes, is_unknown

DRAWN = 20
"""Most groups that a picture shows; where there are more, it shows those served worst."""

FOLDED = (
    "There are {count}: each picture shows the {drawn} that are served worst by its metric, and "
    "everyone. The table has all groups; metrics.json has all numbers."
)

LEADING = ("auc", "sensitivity", "specificity", "accuracy")


@dataclass(frozen=True)
class GroupCell:
    """One number of a table: its text, its interval, or the reason why it is undefined."""

    value: str
    interval: str
    reason: str


@dataclass(frozen=True)
class TableRow:
    """The counts and numbers of one group."""

    name: str
    n: int
    patients: int
    positives: int | None
    cells: tuple[GroupCell, ...]


@dataclass(frozen=True)
class GroupView:
    """What one model does in the groups of one attribute."""

    model: str
    attribute: str
    leading: tuple[Forest, ...]
    further: tuple[Forest, ...]
    columns: tuple[str, ...]
    table: tuple[TableRow, ...]
    differences: tuple[Forest, ...]
    across: tuple[tuple[str, str, GroupCell], ...]
    folded: str = ""
    """A remark, where there are too many groups to draw all."""


@dataclass(frozen=True)
class GroupsView:
    """The groups under the main model, and under the others."""

    reading: str
    main: tuple[GroupView, ...]
    others: tuple[GroupView, ...]


@section("report", "groups", "Groups", place=20)
def groups_view(report: Report) -> GroupsView | None:
    """Lay out every attribute under every model; None where the main model has no groups."""
    views = [
        (model, view)
        for model in report.models
        for attribute in report.attributes
        if (view := group_view(report.single, model, attribute, report.positive)) is not None
    ]
    main = tuple(view for model, view in views if model == report.main_model)
    others = tuple(view for model, view in views if model != report.main_model)
    return GroupsView(reading(report.single), main, others) if main else None


def group_view(
    rows: Sequence[Estimate], model: str, attribute: str, positive: str
) -> GroupView | None:
    """Lay out the groups of an attribute under one model, None when there are none.

    Parameters
    ----------
    rows
        The rows of one split, no paired differences among them.
    model, attribute
        Which rows are shown.
    positive
        What a positive sample is, in a word.
    """
    own = find(rows, model=model, attribute=attribute)
    members = Estimates(row for row in own if row.group != EVERYBODY and row.of_group)
    if not members:
        return None
    count = len(names(members, "group"))
    metrics = leading_first(names(members, "metric"))
    leading = (metrics[0], *LEADING)
    plots = {metric: _plot(rows, own, metric, positive) for metric in metrics}
    return GroupView(
        model=model,
        attribute=shown(attribute),
        leading=tuple(plot for metric, plot in plots.items() if metric in leading),
        further=tuple(plot for metric, plot in plots.items() if metric not in leading),
        columns=tuple(term(metric).label for metric in metrics),
        table=_table(rows, members, metrics),
        differences=_differences(own, metrics),
        across=_across([row for row in own if not row.of_group]),
        folded=FOLDED.format(count=count_text(count, "group"), drawn=DRAWN)
        if count > DRAWN
        else "",
    )


def group_tables(report: Report) -> tuple[tuple[str, GroupView], ...]:
    """Lay out every attribute under every model and every difference of two, with its caption."""
    pairs = dict.fromkeys((row.model, row.against) for row in report.reported)
    tables = []
    for model, against in pairs:
        rows = find(report.reported, model=model, against=against)
        whose = f"{model} − {against}" if against else model
        for attribute in report.attributes:
            view = group_view(rows, model, attribute, report.positive)
            if view is not None:
                caption = f"{view.attribute}: {whose}" if len(pairs) > 1 else view.attribute
                tables.append((caption, view))
    return tuple(tables)


def served_worst(rows: Sequence[Estimate], metric: str) -> Sequence[Estimate]:
    """Return the rows of one metric to draw, at most `DRAWN`: those of the groups served worst.

    These are the lowest values, or the highest where less is better; undefined values and the
    unknown level come last.
    """
    if len(rows) <= DRAWN:
        return rows
    sign = -1 if term(metric).better == "lower" else 1
    ends = [math.inf if row.value is None else sign * row.value for row in rows]
    kept = sorted(
        range(len(rows)), key=lambda position: (is_unknown(rows[position].group), ends[position])
    )[:DRAWN]
    return [rows[position] for position in kept]


def _across(rows: Sequence[Estimate]) -> tuple[tuple[str, str, GroupCell], ...]:
    """Return the numbers across groups, at most `DRAWN` rows of each metric."""
    counts: Counter[str] = Counter()
    cells = []
    for row in rows:
        counts[row.metric] += 1
        if counts[row.metric] <= DRAWN:
            cells.append((row.term.label, _of_whom(row), _tested(row)))
    return tuple(cells)


def everyone(rows: Sequence[Estimate], like: Estimate) -> Estimate | None:
    """Return the row about everybody that goes with a row about a group."""
    return first(
        rows, model=like.model, metric=like.metric, split=like.split, attribute=EVERYBODY,
        against=like.against,
    )  # fmt: skip


def count_note(row: Estimate, counts: CountedCases, positive: str) -> str:
    """Return the cases that a metric is computed from, in words.

    Examples
    --------
    >>> row = Estimate(base="auc", value=0.8, n=412, patients=380, positives=61)
    >>> count_note(row, "both", "malignant"), count_note(row, "negatives", "malignant")
    ('61 malignant of 412', '351 not malignant')
    """
    if row.positives is None or counts == "samples":
        return count_text(row.n, "sample")
    if counts == "both":
        return f"{row.positives:,} {positive} of {row.n:,}"
    if counts == "positives":
        return f"{row.positives:,} {positive}"
    return f"{row.n - row.positives:,} not {positive}"


def _differences(own: Sequence[Estimate], metrics: Sequence[str]) -> tuple[Forest, ...]:
    """Lay out the signed differences from the reference, one picture per metric."""
    plots = []
    for metric in metrics:
        differences = _farthest(find(own, base=metric, aggregate="difference"))
        if differences:
            lines = [
                Line(f"{shown(row.group)} − {shown(row.reference or '')}", row)
                for row in differences
            ]
            base = differences[0].term
            scale = replace(base.scale, signed=True)
            look = Look(base.label, "", scale, 0.0, "no difference")
            plots.append(forest(lines, look))
    return tuple(plots)


def _farthest(rows: Sequence[Estimate]) -> Sequence[Estimate]:
    """Return the differences to draw, at most `DRAWN`: the largest, in the order of the groups."""
    if len(rows) <= DRAWN:
        return rows
    size = [-1.0 if row.value is None else abs(row.value) for row in rows]
    kept = sorted(range(len(rows)), key=lambda position: -size[position])[:DRAWN]
    return [rows[position] for position in sorted(kept)]


def _of_whom(row: Estimate) -> str:
    if row.group == EVERYBODY:
        return "all groups"
    return f"{shown(row.group)} against {shown(row.reference or 'the reference')}"


def leading_first(metrics: Sequence[str]) -> tuple[str, ...]:
    """Put what people read most first, after a metric that was asked for before all others."""
    given_first = metrics[:1] if metrics[0] not in LEADING else ()
    ordered = (*(m for m in LEADING if m in metrics), *(m for m in metrics if m not in LEADING))
    return tuple(dict.fromkeys((*given_first, *ordered)))


def _plot(rows: Sequence[Estimate], own: Sequence[Estimate], metric: str, positive: str) -> Forest:
    lines = group_lines(own, metric, positive)
    overall = everyone(rows, lines[0].estimate)
    if overall is not None:
        lines.insert(0, everyone_line(overall, positive))
    return forest(lines, group_look(metric, overall, positive))


def group_lines(own: Sequence[Estimate], metric: str, positive: str) -> list[Line]:
    """Return a line for each group of an attribute under one model, the unknown level last.

    Parameters
    ----------
    own
        The rows of the attribute under the model.
    metric
        What is shown; the groups that it is worst in, where there are more than `DRAWN`.
    positive
        What a positive sample is, in a word.
    """
    measured = term(metric)
    members = [row for row in find(own, metric=metric) if row.group != EVERYBODY]
    ends = extremes(own, metric)
    tag = "lowest" if measured.better == "higher" else "highest"
    return [
        Line(
            shown(row.group),
            row,
            count_note(row, measured.counts, positive),
            _kind(row, ends),
            tag if ends and row is ends.worst else "",
        )
        for row in sorted(served_worst(members, metric), key=lambda row: is_unknown(row.group))
    ]


def everyone_line(overall: Estimate, positive: str) -> Line:
    """Return the line of everybody."""
    note = count_note(overall, overall.term.counts, positive)
    return Line("everyone", overall, note, "everyone")


def group_look(metric: str, overall: Estimate | None, positive: str) -> Look:
    """Return how a metric is drawn by group; everybody's value is the line through all rows."""
    measured = term(metric)
    return Look(
        measured.label,
        measured.says.format(positive=positive),
        measured.scale,
        None if overall is None else overall.value,
        "everyone",
        measured.limits,
    )


def _kind(row: Estimate, ends: Extremes | None) -> str:
    """Return how a row is drawn; the worst group stands out only where chance cannot explain it."""
    if is_unknown(row.group):
        return "unknown"
    return "worst" if ends and row is ends.worst and ends.apart else "group"


def _table(
    rows: Sequence[Estimate], members: Sequence[Estimate], metrics: Sequence[str]
) -> tuple[TableRow, ...]:
    of_metrics = (first(members, metric=metric) for metric in metrics)
    overall_of = (None if row is None else everyone(rows, row) for row in of_metrics)
    overall = [row for row in overall_of if row is not None]
    blocks: dict[str, dict[str, Estimate]] = {EVERYBODY: {row.metric: row for row in overall}}
    for row in members:
        blocks.setdefault(row.group, {}).setdefault(row.metric, row)
    order = sorted(blocks, key=is_unknown)
    return tuple(_table_row(blocks[group], metrics) for group in order if blocks[group])


def _table_row(block: Mapping[str, Estimate], metrics: Sequence[str]) -> TableRow:
    some = next(iter(block.values()))
    cells = tuple(_cell(block.get(metric)) for metric in metrics)
    name = "everyone" if some.group == EVERYBODY else shown(some.group)
    return TableRow(name, some.n, some.patients, some.positives, cells)


def _tested(row: Estimate) -> GroupCell:
    """Return a number across groups, with the p-value of its test of no difference."""
    cell = _cell(row)
    if row.p_adjusted is None:
        return cell
    return replace(cell, interval="; ".join(filter(None, (cell.interval, p_text(row)))))


def _cell(row: Estimate | None) -> GroupCell:
    if row is None:
        return GroupCell("not computed", "", "")
    if row.value is None:
        return GroupCell("undefined", "", row.undefined or "no value was given")
    scale = _scale(row)
    return GroupCell(scale.text(row.value), scale.interval(row.low, row.high), "")


def _scale(row: Estimate) -> Scale:
    """Return how a number is printed; a difference of two models has a sign, of shares points."""
    measured = row.term
    if row.against is None:
        return measured.scale
    return replace(POINTS if measured.share else measured.scale, signed=True)
