"""A learning curve on a page: sentences, charts and a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from evenhand.metrics.learning_curve import ALL, HALF, LearningCurve
from evenhand.metrics.parity import percentile_interval
from evenhand.metrics.recipes import Difference
from evenhand.metrics.rows import EVERYBODY, Key, full_name
from evenhand.reporting.charts.linear_axis import PlotFrame
from evenhand.reporting.charts.lines import LineChart, LineValue, XTick, line_chart
from evenhand.reporting.section import HiddenPart, Part, Table
from evenhand.reporting.text.vocabulary import SIGNED, plain, plain_or_undefined
from evenhand.reporting.verdicts import Verdict


def curve_part(curve: LearningCurve, served_worst: Mapping[str, str]) -> Part:
    """Return the part of a page about a learning curve.

    Parameters
    ----------
    curve
        The curve.
    served_worst
        By attribute: the group that the sentences are about, in addition to the group whose
        training patients are reduced.
    """
    sentences = [verdict.text for verdict in curve_verdicts(curve, served_worst)]
    table = HiddenPart(f"Every number of the curve: {curve.name}", Part(tables=(_table(curve),)))
    return Part(sentences=tuple(sentences), charts=tuple(_charts(curve)), hidden=(table,))


def curve_verdicts(curve: LearningCurve, served_worst: Mapping[str, str]) -> list[Verdict]:
    """Return the verdicts on a learning curve; they are exploratory and claim nothing.

    Parameters
    ----------
    curve, served_worst
        As for `curve_part`.
    """
    reduced = [curve.own] if curve.own in curve.keys else []
    worst = [Key(attribute, group, "auc") for attribute, group in served_worst.items()]
    return [
        Verdict(
            f"learning curve of {curve.name}: AUC of {key.group}, exploratory",
            key.attribute,
            claim=False,
            text=doubling_text(curve, key),
        )
        for key in dict.fromkeys((*reduced, *worst))
        if key is not None
    ]


def doubling_text(curve: LearningCurve, key: Key) -> str:
    """Return the sentence on how the last doubling of training patients changed a group's AUC."""
    change = curve.of_doubling(key)
    few, many = (f"{curve.patients[share]:,.0f}" for share in (HALF, ALL))
    whom = "all training patients" if curve.name == "everybody" else f"{curve.name} in training"
    start = f"From {few} to {many} patients ({whom}), the AUC of {key.group} ({key.attribute})"
    if change.value is None:
        return f"{start} is undefined."
    return f"{start} changed by {_with_interval(change)}: {_meaning(change)}"


def _meaning(change: Difference) -> str:
    if change.better:
        return (
            "more patients helped, and the curve still rises; another doubling usually gains less."
        )
    if change.better is False:
        return "more patients harmed this group."
    if change.p_adjusted is None:
        return "nothing was tested."
    if change.detectable is None:
        return "not shown to matter; with so few patients no possible change would have shown."
    return (
        f"not shown to matter; a change of {plain(change.detectable)} would have shown with "
        "power .8."
    )


def _with_interval(change: Difference) -> str:
    if change.value is None:
        return "undefined"
    interval = SIGNED.interval(change.low, change.high)
    return f"{SIGNED.text(change.value)} ({interval})" if interval else SIGNED.text(change.value)


def _charts(curve: LearningCurve) -> Iterator[LineChart]:
    """Yield a chart for each attribute: the AUC of its groups at each share."""
    ticks = [XTick(share, f"{share:.0%}") for share in curve.values]
    groups = [key for key in curve.keys if EVERYBODY not in (key.attribute, key.group)]
    for attribute in dict.fromkeys(key.attribute for key in groups):
        series = {
            key.group: [_value(curve, share, key) for share in curve.values]
            for key in groups
            if key.attribute == attribute
        }
        frame = PlotFrame(
            f"AUC of each group of {attribute}, with fewer patients: {curve.name}",
            "Mean over fits, with 95 % intervals of each point (bootstrap of patients).",
            f"Share of the training patients: {curve.name}",
            "AUC on test patients",
        )
        yield line_chart(series, ticks, frame)


def _value(curve: LearningCurve, share: float, key: Key) -> LineValue:
    mean = curve.values[share][key].mean(axis=0)
    low, high = percentile_interval(mean) or (None, None)
    return LineValue(None if mean[0] != mean[0] else float(mean[0]), low, high)


def _table(curve: LearningCurve) -> Table:
    shares = [f"{share:.0%}: {curve.patients[share]:,.0f} patients" for share in curve.values]
    columns = ("AUC", *shares, "From half to all")
    rows = [
        (
            _name(key),
            *(_mean(curve, share, key) for share in curve.values),
            _with_interval(curve.of_doubling(key)),
        )
        for key in curve.keys
    ]
    return Table(f"Learning curve: {curve.name}", columns, tuple(rows))


def _name(key: Key) -> str:
    if key.attribute == EVERYBODY:
        return EVERYBODY if key.aggregate is None else full_name(key.base, key.aggregate)
    number = full_name(key.base, key.aggregate) if key.group == EVERYBODY else key.group
    return f"{key.attribute}: {number}"


def _mean(curve: LearningCurve, share: float, key: Key) -> str:
    return plain_or_undefined(_value(curve, share, key).value)
