"""The section on what is missing: undefined numbers, and samples and groups that are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evenhand.metrics import EVERYBODY
from evenhand.reporting.estimates import NO_VALUE, Estimate
from evenhand.reporting.report import Report
from evenhand.reporting.section import section
from evenhand.reporting.text.vocabulary import display_name, join_words


@dataclass(frozen=True)
class UndefinedRow:
    """Metrics that are undefined in a group for the same reason."""

    model: str
    split: str
    attribute: str
    group: str
    metrics: str
    reason: str
    n: int
    patients: int
    positives: int | None


@dataclass(frozen=True)
class UndefinedView:
    """Undefined numbers, what is left out, and whether the table must name the split."""

    numbers: tuple[UndefinedRow, ...]
    left_out: tuple[str, ...]
    has_several_splits: bool


@section("report", "undefined", "Undefined and left out", place=100)
def undefined_view(report: Report) -> UndefinedView | None:
    """Return the undefined numbers and what is left out of a report; None if there is neither."""
    numbers, splits = undefined(report.estimates), {row.split for row in report.estimates}
    if not numbers and not report.left_out:
        return None
    return UndefinedView(numbers, tuple(report.left_out), len(splits) > 1)


def undefined(rows: Sequence[Estimate]) -> tuple[UndefinedRow, ...]:
    """Return the undefined numbers of single models, a row for each group and reason."""
    by_reason: dict[tuple[str, str, str, str, str], list[Estimate]] = {}
    for row in rows:
        if row.value is None and not row.against:
            reason = row.undefined or NO_VALUE
            key = (row.model, row.split, row.attribute, row.group, reason)
            by_reason.setdefault(key, []).append(row)
    return tuple(map(_undefined_row, by_reason.values()))


def _undefined_row(rows: Sequence[Estimate]) -> UndefinedRow:
    row = rows[0]
    metrics = list(dict.fromkeys(estimate.base_term.label for estimate in rows))
    return UndefinedRow(
        model=row.model,
        split=row.split,
        attribute="any" if row.attribute == EVERYBODY else display_name(row.attribute),
        group=_group(row),
        metrics=join_words(metrics),
        reason=row.undefined or NO_VALUE,
        n=row.n,
        patients=row.patients,
        positives=row.positives,
    )


def _group(row: Estimate) -> str:
    if row.group != EVERYBODY:
        return display_name(row.group)
    return "everyone" if row.attribute == EVERYBODY else "across groups"
