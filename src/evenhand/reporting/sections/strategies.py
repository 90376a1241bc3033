"""The section on models side by side: numbers of each model, paired differences, groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from evenhand.metrics import EVERYBODY, leading_metric
from evenhand.reporting.charts.forest import Forest, ForestEntry, ForestFrame, forest
from evenhand.reporting.estimates import Estimate, Estimates, find_rows, is_unknown, names
from evenhand.reporting.report import Report
from evenhand.reporting.section import section
from evenhand.reporting.sections.levelling import GainsTable, gains_tables
from evenhand.reporting.text.sentences import paired_chip
from evenhand.reporting.text.vocabulary import display_name, term

SUMMED_UP = ("worst", "gap")


@dataclass(frozen=True)
class StrategyComparison:
    """A comparison of several models on the same patients.

    Attributes
    ----------
    plots
        A picture for each number: overall, worst group, gap.
    by_group
        A picture for each attribute: the leading metric of every group under every model.
    gains
        The gains and losses of each group, a table for each pair of models.
    paired
        The differences between two models in the leading metric, with their outcomes.
    paired_further
        The differences between two models in the other metrics.
    """

    plots: tuple[Forest, ...]
    by_group: tuple[Forest, ...]
    gains: tuple[GainsTable, ...]
    paired: tuple[Forest, ...]
    paired_further: tuple[Forest, ...]


def _title(report: Report) -> str:
    """Return the title; the models of a run that chose one are strategies."""
    is_choice = report.chosen and report.pruning is None and report.adjusted is None
    return f"{'Strategies' if is_choice else 'Models'} side by side"


@section("report", "strategies", _title, place=50)
def strategies_view(report: Report) -> StrategyComparison | None:
    """Lay out the models of a report side by side; None if there is only one model."""
    validation = find_rows(report.estimates, split="val")
    view = comparison(report.reported, report.attributes, report.chosen, validation, report.judged)
    return view and replace(view, gains=_without_answers(view.gains, report.answered_models))


def _without_answers(
    tables: Sequence[GainsTable], answered: Sequence[str]
) -> tuple[GainsTable, ...]:
    """Return tables without the sentences that the answers at the top of the page contain."""
    return tuple(
        replace(table, sentences=()) if table.model in answered else table for table in tables
    )


def comparison(
    rows: Sequence[Estimate],
    attributes: Sequence[str],
    chosen: str | None,
    validation: Sequence[Estimate] = (),
    judged: Mapping[str, Sequence[str]] | None = None,
) -> StrategyComparison | None:
    """Lay out several models side by side on one split; None if there is only one model.

    Parameters
    ----------
    rows
        The rows of the split.
    attributes
        The attributes in their order.
    chosen
        The chosen model, or None.
    validation
        Rows of the validation split, which decide the group that a model serves worst.
    judged
        By model: the metrics that it is compared by; by default the leading metric.
    """
    single = find_rows(rows, against=None)
    models = names(single, "model")
    if len(models) < 2:
        return None
    metric = metric_of_comparison(single)
    paired = [row for row in rows if row.against and row.attribute == EVERYBODY]
    of_group = Estimates(row for row in paired if row.is_of_group)
    others = [name for name in names(of_group, "metric") if name != metric]
    plots = [_by_model(single, EVERYBODY, metric, None, chosen)]
    for attribute in attributes:
        plots += [_by_model(single, attribute, metric, kind, chosen) for kind in SUMMED_UP]
    return StrategyComparison(
        plots=tuple(plot for plot in plots if plot.rows),
        by_group=tuple(
            plot for name in attributes if (plot := _by_group(single, name, metric, chosen)).rows
        ),
        gains=_gains(rows, validation, attributes, metric, judged or {}),
        paired=_paired(rows, attributes, metric),
        paired_further=tuple(plot for other in others for plot in _paired(rows, attributes, other)),
    )


def _gains(
    rows: Sequence[Estimate],
    validation: Sequence[Estimate],
    attributes: Sequence[str],
    metric: str,
    judged: Mapping[str, Sequence[str]],
) -> tuple[GainsTable, ...]:
    """Return the tables of gains and losses of each pair, in the metrics that it is judged by."""
    pairs = dict.fromkeys((row.model, row.against) for row in rows if row.against)
    return tuple(
        table
        for model, against in pairs
        for name in judged.get(model) or (metric,)
        for table in gains_tables(
            [row for row in rows if row.against in (None, against) and row.metric == name
             and (row.model == model or not row.against)],
            validation, attributes, name,
        )
    )  # fmt: skip


def metric_of_comparison(rows: Sequence[Estimate]) -> str:
    """Return the metric that the models of some rows are compared by (see `leading_metric`)."""
    return leading_metric(names([row for row in rows if row.is_of_group], "metric"))


def _by_model(
    rows: Sequence[Estimate], attribute: str, metric: str, kind: str | None, chosen: str | None
) -> Forest:
    """Draw a number of everybody or across groups, a line for each model."""
    numbers = find_rows(rows, attribute=attribute, group=EVERYBODY, base=metric, aggregate=kind)
    entries = [ForestEntry(row.model, row, kind=_kind(row.model, chosen)) for row in numbers]
    return forest(entries, forest_frame(attribute, metric, kind))


def _by_group(rows: Sequence[Estimate], attribute: str, metric: str, chosen: str | None) -> Forest:
    """Draw a metric of each group, a line for each model."""
    group_rows = Estimates(
        row
        for row in find_rows(rows, attribute=attribute, metric=metric)
        if row.group != EVERYBODY and not is_unknown(row.group)
    )
    entries = [
        ForestEntry(
            row.model,
            row,
            kind=_kind(row.model, chosen),
            section=display_name(group),
        )
        for group in names(group_rows, "group")
        for row in find_rows(group_rows, group=group)
    ]
    return forest(entries, forest_frame(attribute, metric))


def _kind(model: str, chosen: str | None) -> str:
    """Return the kind of mark of a model; the chosen model stands out."""
    if chosen is None:
        return "group"
    return "chosen" if model == chosen else "other"


def forest_frame(attribute: str, metric: str, kind: str | None = None) -> ForestFrame:
    """Return the labels, scale and limits of a plot of one metric."""
    measured = term(metric, kind)
    by = "of everyone" if attribute == EVERYBODY else f"by {display_name(attribute)}"
    return ForestFrame(f"{measured.label} {by}", "", measured.scale, limits=measured.limits)


def _paired(rows: Sequence[Estimate], attributes: Sequence[str], metric: str) -> tuple[Forest, ...]:
    """Draw the differences between models in a metric, a picture for each pair of models."""
    differences = [
        row
        for row in find_rows(rows, base=metric)
        if row.against and row.aggregate in (None, *SUMMED_UP)
    ]
    pairs = dict.fromkeys((row.model, row.against) for row in differences)
    return tuple(
        forest(
            [
                _paired_entry(row)
                for attribute in (EVERYBODY, *attributes)
                for row in find_rows(differences, model=model, against=against, attribute=attribute)
            ],
            ForestFrame(
                f"{model} − {against or ''}",
                f"Difference in {term(metric).label}. Zero is no difference.",
                replace(term(metric, "gap").scale, signed=True),
                0.0,
                "no difference",
            ),
        )
        for model, against in pairs
    )


def _paired_entry(row: Estimate) -> ForestEntry:
    """Return the entry of a difference between two models, with its outcome."""
    across = {"worst": "worst group", "gap": "gap"}
    name = across[row.aggregate] if row.aggregate else display_name(row.group)
    everyone = row.attribute == EVERYBODY
    return ForestEntry(
        name="everyone" if everyone else name,
        estimate=row,
        note="" if row.p_adjusted is None else paired_chip(row),
        kind="everyone" if everyone else "unknown" if is_unknown(row.group) else "group",
        section="" if everyone else f"by {display_name(row.attribute)}",
    )
