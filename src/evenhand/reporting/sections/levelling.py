"""Gains and losses of each group under a model, and the verdict on levelling down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evenhand.metrics import EVERYBODY
from evenhand.reporting.estimates import Estimate, find_rows, first_row, is_unknown
from evenhand.reporting.text.sentences import (
    amount,
    interval_or_reason,
    paired_chip,
    signed_amount,
    where,
)
from evenhand.reporting.text.vocabulary import (
    display_name,
    group_kind,
    in_sentence,
    join_words,
    model_at_sentence_start,
    p_value_text,
    signed,
    term,
)
from evenhand.reporting.verdicts import Verdict


@dataclass(frozen=True)
class GroupChange:
    """A group under two models: the difference, and the value under the reference model."""

    difference: Estimate
    reference: Estimate | None


@dataclass(frozen=True)
class Changes:
    """The changes of the groups of one attribute, from a reference model to another model.

    Attributes
    ----------
    model, against, attribute, metric
        The model, the reference model, the attribute and the metric.
    groups
        The groups with their changes, in order.
    worst
        The row of the group that the reference model serves worst: on validation rows if there are
        any, else on the reported rows. None if no group has a value.
    """

    model: str
    against: str
    attribute: str
    metric: str
    groups: tuple[GroupChange, ...]
    worst: Estimate | None

    @property
    def losses(self) -> tuple[Estimate, ...]:
        """The differences of the groups that are shown to lose."""
        rows = (change.difference for change in self.groups)
        return tuple(row for row in rows if paired_chip(row) == "worse")

    @property
    def worst_is_better(self) -> bool:
        """Whether the group that the reference model serves worst is shown to gain."""
        rows = [change.difference for change in self.groups]
        return self.worst is not None and any(
            row.group == self.worst.group and paired_chip(row) == "better" for row in rows
        )

    @property
    def levelled_down(self) -> bool:
        """Whether a group is shown to lose, and the worst group is not shown to gain."""
        return self.worst is not None and bool(self.losses) and not self.worst_is_better


def group_changes(
    rows: Sequence[Estimate],
    validation: Sequence[Estimate],
    pair: tuple[str, str],
    attribute: str,
    metric: str,
) -> Changes | None:
    """Return the changes of the groups between two models; None if there are no differences.

    Parameters
    ----------
    rows
        The rows of the reported split.
    validation
        The rows of the validation split; may be empty.
    pair
        The model and the reference model.
    attribute, metric
        The attribute and the metric.
    """
    model, against = pair
    paired = find_rows(rows, model=model, against=against, attribute=attribute, metric=metric)
    groups = tuple(
        GroupChange(row, first_row(rows, model=against, against=None, attribute=attribute,
                          group=row.group, metric=metric))
        for row in paired
        if row.group != EVERYBODY
    )  # fmt: skip
    if not groups:
        return None
    wanted = {"model": against, "against": None, "attribute": attribute, "metric": metric}
    worst = _worst(find_rows(validation, **wanted)) or _worst(find_rows(rows, **wanted))
    return Changes(model, against, attribute, metric, groups, worst)


def _worst(rows: Sequence[Estimate]) -> Estimate | None:
    """Return the row of the group with the worst value.

    None if no group has a value, or if neither direction of the metric is better.
    """
    groups = [
        row
        for row in rows
        if row.group != EVERYBODY and not is_unknown(row.group) and row.compared
        if row.value is not None
    ]
    better = groups[0].term.better if groups else "neither"
    if better == "neither":
        return None
    pick = min if better == "higher" else max
    return pick(groups, key=lambda row: row.value or 0.0)


def levelling_verdict(change: Changes) -> Verdict | None:
    """Return the verdict on levelling down, None if no group has a value."""
    if change.worst is None:
        return None
    return Verdict(
        about=f"levelling down: {change.model} against {change.against}",
        attribute=change.attribute,
        claim=change.levelled_down,
        text=_levelling_sentence(change, change.worst),
        p_adjusted=min(
            (row.p_adjusted for row in change.losses if row.p_adjusted is not None), default=None
        ),
    )


def _levelling_sentence(change: Changes, worst: Estimate) -> str:
    model, reference, attribute = (
        model_at_sentence_start(change.model),
        change.against,
        change.attribute,
    )
    data = "on validation" if worst.split == "val" else "in these data"
    worst_group = (
        f"the group that {reference} serves worst {data} ({where(attribute, worst.group)})"
    )
    if not change.losses:
        return (
            f"Against {reference}, no {group_kind(attribute)} is shown to lose "
            f"{in_sentence(change.metric)}."
        )
    lost = join_words([where(row.attribute, row.group) for row in change.losses])
    if change.levelled_down:
        return (
            f"Levelled down: {model} serves patients worse than {reference} where {lost}, while "
            f"{worst_group} is not shown to be served better."
        )
    return (
        f"{model} serves patients worse than {reference} where {lost}; as {worst_group} is served "
        "better, this is a trade-off, not levelling down."
    )


@dataclass(frozen=True)
class GainsTable:
    """The gains and losses of each group under a model, as a table with sentences below it."""

    model: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    sentences: tuple[str, ...]


def gains_tables(
    rows: Sequence[Estimate],
    validation: Sequence[Estimate],
    attributes: Sequence[str],
    metric: str,
) -> tuple[GainsTable, ...]:
    """Return a table of gains and losses for each pair of models; its first row is everybody."""
    paired = [row for row in rows if row.against and row.metric == metric]
    pairs = dict.fromkeys((row.model, row.against or "") for row in paired)
    return tuple(_table(rows, validation, pair, attributes, metric) for pair in pairs)


def _table(
    rows: Sequence[Estimate],
    validation: Sequence[Estimate],
    pair: tuple[str, str],
    attributes: Sequence[str],
    metric: str,
) -> GainsTable:
    """Return the table of gains and losses of a pair of models."""
    changes = [
        change
        for name in (EVERYBODY, *attributes)
        if (change := _changes_of(rows, validation, pair, name, metric)) is not None
    ]
    verdicts = [levelling_verdict(change) for change in changes if change.attribute != EVERYBODY]
    return GainsTable(
        model=pair[0],
        title=f"{term(metric).label}: {pair[0]} − {pair[1]}",
        columns=("Group", "Patients", pair[1], "Difference (interval)", "p, corrected", ""),
        rows=tuple(_cells(group) for change in changes for group in change.groups),
        sentences=tuple(verdict.text for verdict in verdicts if verdict is not None),
    )


def _changes_of(
    rows: Sequence[Estimate],
    validation: Sequence[Estimate],
    pair: tuple[str, str],
    attribute: str,
    metric: str,
) -> Changes | None:
    """Return the changes of the groups of an attribute, or of everybody."""
    if attribute != EVERYBODY:
        return group_changes(rows, validation, pair, attribute, metric)
    wanted = {"attribute": EVERYBODY, "metric": metric}
    row = first_row(rows, model=pair[0], against=pair[1], **wanted)
    if row is None:
        return None
    reference = first_row(rows, model=pair[1], against=None, **wanted)
    return Changes(*pair, EVERYBODY, metric, (GroupChange(row, reference),), None)


def _cells(change: GroupChange) -> tuple[str, ...]:
    row, reference = change.difference, change.reference
    name = (
        "everyone"
        if row.attribute == EVERYBODY
        else f"{display_name(row.attribute)}: {display_name(row.group)}"
    )
    value = None if reference is None else reference.value
    if row.value is None:
        return name, f"{row.patients:,}", "", row.undefined or "undefined", "", ""
    p = "" if row.p_adjusted is None else p_value_text(row.p_adjusted).removeprefix("= ")
    return (
        name,
        f"{row.patients:,}",
        "" if value is None else row.term.scale.text(value),
        _difference(row),
        p,
        paired_chip(row) if row.p_adjusted is not None else "not tested",
    )


def _difference(row: Estimate) -> str:
    """Return a difference with its interval, or with the reason why it has none."""
    if row.low is None or row.high is None:
        return f"{signed_amount(row)} ({interval_or_reason(row)})"
    ends = (signed(amount(end, row.metric)) for end in (row.low, row.high))
    return f"{signed_amount(row)} ({' to '.join(ends)})"
