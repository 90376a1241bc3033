"""The section on groups: a forest plot for each metric, and the same numbers as a table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from evenhand.errors import count_text
from evenhand.metrics import EVERYBODY
from evenhand.reporting.charts.forest import Forest, ForestEntry, ForestFrame, forest
from evenhand.reporting.estimates import (
    NO_VALUE,
    Estimate,
    Estimates,
    Extremes,
    extremes,
    find_rows,
    first_row,
    is_unknown,
    names,
)
from evenhand.reporting.report import Report
from evenhand.reporting.section import section
from evenhand.reporting.text.sentences import explain_pictures, p_text
from evenhand.reporting.text.vocabulary import POINTS, CountedCases, Scale, display_name, term

DRAWN = 20
"""Largest number of groups in a picture; if there are more, it shows the worst groups."""

FOLDED = (
    "There are {count}; each picture shows the {drawn} groups with the worst values of its metric, "
    "and everyone. The table has all groups; metrics.json has all numbers."
)

LEADING = ("auc", "sensitivity", "specificity", "accuracy")
"""The metrics that are shown first; pictures of other metrics open at a click."""


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
    """The results of one model in the groups of one attribute.

    Attributes
    ----------
    model, attribute
        The model and the attribute.
    leading, further
        The pictures that are shown at once, and those that open at a click.
    columns, table
        The table of all groups and metrics.
    differences
        The pictures of the differences from the reference group.
    across
        The numbers across groups: name, groups, and value.
    folded
        A remark if there are too many groups to draw all, else "".
    """

    model: str
    attribute: str
    leading: tuple[Forest, ...]
    further: tuple[Forest, ...]
    columns: tuple[str, ...]
    table: tuple[TableRow, ...]
    differences: tuple[Forest, ...]
    across: tuple[tuple[str, str, GroupCell], ...]
    folded: str = ""


@dataclass(frozen=True)
class GroupsView:
    """The explanation of the pictures, and the groups under the main and the other models."""

    explanation: str
    main: tuple[GroupView, ...]
    others: tuple[GroupView, ...]


@section("report", "groups", "Groups", place=20)
def groups_view(report: Report) -> GroupsView | None:
    """Lay out every attribute under every model; None if the main model has no groups.

    Only the pictures of the first attribute explain their metric.
    """
    views = [
        (model, view)
        for model in report.models
        for attribute in report.attributes
        if (view := group_view(report.single, model, attribute, report.positive)) is not None
    ]
    main = [view for model, view in views if model == report.main_model]
    others = [view for model, view in views if model != report.main_model]
    if not main:
        return None
    first_view, *further = main
    return GroupsView(
        explain_pictures(report.single),
        (first_view, *map(_without_explanations, further)),
        tuple(map(_without_explanations, others)),
    )


def group_view(
    rows: Sequence[Estimate], model: str, attribute: str, positive: str
) -> GroupView | None:
    """Lay out the groups of an attribute under one model; None if there are none.

    Parameters
    ----------
    rows
        The rows of one split, without paired differences.
    model, attribute
        The model and the attribute.
    positive
        The word for a positive sample.
    """
    attribute_rows = find_rows(rows, model=model, attribute=attribute)
    members = Estimates(row for row in attribute_rows if row.group != EVERYBODY and row.is_of_group)
    if not members:
        return None
    count = len(names(members, "group"))
    metrics = leading_first(names(members, "metric"))
    leading = (metrics[0], *LEADING)
    plots = {metric: _plot(rows, attribute_rows, metric, positive) for metric in metrics}
    return GroupView(
        model=model,
        attribute=display_name(attribute),
        leading=tuple(plot for metric, plot in plots.items() if metric in leading),
        further=tuple(plot for metric, plot in plots.items() if metric not in leading),
        columns=tuple(term(metric).label for metric in metrics),
        table=_table(rows, members, metrics),
        differences=_differences(attribute_rows, metrics),
        across=_across([row for row in attribute_rows if not row.is_of_group]),
        folded=FOLDED.format(count=count_text(count, "group"), drawn=DRAWN)
        if count > DRAWN
        else "",
    )


def group_tables(report: Report) -> tuple[tuple[str, GroupView], ...]:
    """Lay out every attribute under every model and every difference of models, with captions."""
    pairs = dict.fromkeys((row.model, row.against) for row in report.reported)
    tables = []
    for model, against in pairs:
        rows = find_rows(report.reported, model=model, against=against)
        title = f"{model} − {against}" if against else model
        for attribute in report.attributes:
            view = group_view(rows, model, attribute, report.positive)
            if view is not None:
                caption = f"{view.attribute}: {title}" if len(pairs) > 1 else view.attribute
                tables.append((caption, view))
    return tuple(tables)


def served_worst(rows: Sequence[Estimate], metric: str) -> Sequence[Estimate]:
    """Return the rows of a metric to draw: at most `DRAWN`, with the worst values.

    The worst values are the lowest ones, or the highest ones if lower values are better. Undefined
    values and the unknown level come last.
    """
    if len(rows) <= DRAWN:
        return rows
    sign = -1 if term(metric).better == "lower" else 1
    ends = [math.inf if row.value is None else sign * row.value for row in rows]
    order = sorted(range(len(rows)), key=lambda index: (is_unknown(rows[index].group), ends[index]))
    return [rows[index] for index in order[:DRAWN]]


def _across(rows: Sequence[Estimate]) -> tuple[tuple[str, str, GroupCell], ...]:
    """Return the numbers across groups, at most `DRAWN` rows of each metric."""
    counts: Counter[str] = Counter()
    cells = []
    for row in rows:
        counts[row.metric] += 1
        if counts[row.metric] <= DRAWN:
            cells.append((row.term.label, _groups_text(row), _tested_cell(row)))
    return tuple(cells)


def everyone(rows: Sequence[Estimate], group_row: Estimate) -> Estimate | None:
    """Return the row about everybody with the model, metric and split of a row about a group."""
    return first_row(
        rows,
        model=group_row.model,
        metric=group_row.metric,
        split=group_row.split,
        attribute=EVERYBODY,
        against=group_row.against,
    )


def count_note(row: Estimate, counts: CountedCases, positive: str) -> str:
    """Return the counts of the cases that a metric is computed from, as text.

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


def _differences(rows: Sequence[Estimate], metrics: Sequence[str]) -> tuple[Forest, ...]:
    """Lay out the signed differences from the reference, a picture for each metric."""
    plots = []
    for metric in metrics:
        differences = _largest_differences(find_rows(rows, base=metric, aggregate="difference"))
        if differences:
            entries = [
                ForestEntry(f"{display_name(row.group)} − {display_name(row.reference or '')}", row)
                for row in differences
            ]
            base = differences[0].term
            scale = replace(base.scale, signed=True)
            frame = ForestFrame(base.label, "", scale, 0.0, "no difference")
            plots.append(forest(entries, frame))
    return tuple(plots)


def _largest_differences(rows: Sequence[Estimate]) -> Sequence[Estimate]:
    """Return the largest differences, at most `DRAWN`, in the order of the groups."""
    if len(rows) <= DRAWN:
        return rows
    size = [-1.0 if row.value is None else abs(row.value) for row in rows]
    largest = sorted(range(len(rows)), key=lambda index: -size[index])[:DRAWN]
    return [rows[index] for index in sorted(largest)]


def _groups_text(row: Estimate) -> str:
    """Return the groups that a number across groups is about."""
    if row.group == EVERYBODY:
        return "all groups"
    return f"{display_name(row.group)} against {display_name(row.reference or 'the reference')}"


def leading_first(metrics: Sequence[str]) -> tuple[str, ...]:
    """Return metrics in the order of the page: `LEADING` first.

    If the first requested metric is not among `LEADING` it comes before them.
    """
    requested_first = metrics[:1] if metrics[0] not in LEADING else ()
    leading = (name for name in LEADING if name in metrics)
    return tuple(dict.fromkeys((*requested_first, *leading, *metrics)))


def _without_explanations(view: GroupView) -> GroupView:
    """Return a view whose pictures do not explain their metric."""
    return replace(
        view,
        leading=tuple(replace(plot, caption="") for plot in view.leading),
        further=tuple(replace(plot, caption="") for plot in view.further),
    )


def _plot(
    rows: Sequence[Estimate], attribute_rows: Sequence[Estimate], metric: str, positive: str
) -> Forest:
    """Draw everybody and each group of an attribute in one metric."""
    entries = group_entries(attribute_rows, metric, positive)
    overall = everyone(rows, entries[0].estimate)
    if overall is not None:
        entries.insert(0, everyone_entry(overall, positive))
    return forest(entries, group_frame(metric, overall, positive))


def group_entries(rows: Sequence[Estimate], metric: str, positive: str) -> list[ForestEntry]:
    """Return an entry for each group of an attribute under one model, the unknown level last.

    Parameters
    ----------
    rows
        The rows of the attribute under the model.
    metric
        The metric; if there are more than `DRAWN` groups, only those with the worst values.
    positive
        The word for a positive sample.
    """
    measured = term(metric)
    members = [row for row in find_rows(rows, metric=metric) if row.group != EVERYBODY]
    ends = extremes(rows, metric)
    tag = "lowest" if measured.better == "higher" else "highest"
    return [
        ForestEntry(
            display_name(row.group),
            row,
            count_note(row, measured.counts, positive),
            _kind(row, ends),
            tag if ends and row is ends.worst else "",
        )
        for row in sorted(served_worst(members, metric), key=lambda row: is_unknown(row.group))
    ]


def everyone_entry(overall: Estimate, positive: str) -> ForestEntry:
    """Return the entry of everybody."""
    note = count_note(overall, overall.term.counts, positive)
    return ForestEntry("everyone", overall, note, "everyone")


def group_frame(metric: str, overall: Estimate | None, positive: str) -> ForestFrame:
    """Return the frame of a plot of a metric by group, with a line at everybody's value."""
    measured = term(metric)
    return ForestFrame(
        measured.label,
        measured.meaning.format(positive=positive),
        measured.scale,
        None if overall is None else overall.value,
        "everyone",
        measured.limits,
    )


def _kind(row: Estimate, ends: Extremes | None) -> str:
    """Return the kind of mark of a row; the worst group is marked only if a gap is claimed."""
    if is_unknown(row.group):
        return "unknown"
    return "worst" if ends and row is ends.worst and ends.differs else "group"


def _table(
    rows: Sequence[Estimate], members: Sequence[Estimate], metrics: Sequence[str]
) -> tuple[TableRow, ...]:
    """Return a table row for everybody and for each group, the unknown level last."""
    examples = (first_row(members, metric=metric) for metric in metrics)
    overall = (None if row is None else everyone(rows, row) for row in examples)
    by_group: dict[str, dict[str, Estimate]] = {
        EVERYBODY: {row.metric: row for row in overall if row is not None}
    }
    for row in members:
        by_group.setdefault(row.group, {}).setdefault(row.metric, row)
    order = sorted(by_group, key=is_unknown)
    return tuple(_table_row(by_group[group], metrics) for group in order if by_group[group])


def _table_row(by_metric: Mapping[str, Estimate], metrics: Sequence[str]) -> TableRow:
    """Return the table row of a group, given its rows by metric."""
    example = next(iter(by_metric.values()))
    cells = tuple(_cell(by_metric.get(metric)) for metric in metrics)
    name = "everyone" if example.group == EVERYBODY else display_name(example.group)
    return TableRow(name, example.n, example.patients, example.positives, cells)


def _tested_cell(row: Estimate) -> GroupCell:
    """Return the cell of a number across groups, with its p-value."""
    cell = _cell(row)
    if row.p_adjusted is None:
        return cell
    return replace(cell, interval="; ".join(filter(None, (cell.interval, p_text(row)))))


def _cell(row: Estimate | None) -> GroupCell:
    if row is None:
        return GroupCell("not computed", "", "")
    if row.value is None:
        return GroupCell("undefined", "", row.undefined or NO_VALUE)
    scale = _scale(row)
    return GroupCell(scale.text(row.value), scale.interval(row.low, row.high), "")


def _scale(row: Estimate) -> Scale:
    """Return the format of a number; a difference of two models has a sign, and points as unit."""
    measured = row.term
    if row.against is None:
        return measured.scale
    return replace(POINTS if measured.share else measured.scale, signed=True)
