"""What is not on the page: numbers that are undefined, and samples and groups that are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evenhand.metrics import EVERYBODY
from evenhand.reporting.estimates import Estimate
from evenhand.reporting.report import Report
from evenhand.reporting.section import section
from evenhand.reporting.text.numbers import listed
from evenhand.reporting.text.vocabulary import shown


@dataclass(frozen=True)
class Gone:
    """Numbers that are undefined for one reason in one group."""

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
    """What is undefined and what is left out; whether the table must name the split."""

    numbers: tuple[Gone, ...]
    left_out: tuple[str, ...]
    has_several_splits: bool


@section("report", "undefined", "What is not here", place=100)
def undefined_view(report: Report) -> UndefinedView | None:
    """Gather what a report lacks, None where it lacks nothing."""
    numbers, splits = undefined(report.estimates), {row.split for row in report.estimates}
    if not numbers and not report.left_out:
        return None
    return UndefinedView(numbers, tuple(report.left_out), len(splits) > 1)


def undefined(rows: Sequence[Estimate]) -> tuple[Gone, ...]:
    """Gather what is undefined: one entry for each group and reason, with the metrics it struck."""
    struck: dict[tuple[str, str, str, str, str], list[Estimate]] = {}
    for row in rows:
        if row.value is None and not row.against:
            reason = row.undefined or "no value was given"
            key = (row.model, row.split, row.attribute, row.group, reason)
            struck.setdefault(key, []).append(row)
    return tuple(_gone(rows_gone) for rows_gone in struck.values())


def _gone(rows: Sequence[Estimate]) -> Gone:
    row = rows[0]
    metrics = list(dict.fromkeys(estimate.base_term.label for estimate in rows))
    return Gone(
        model=row.model,
        split=row.split,
        attribute="any" if row.attribute == EVERYBODY else shown(row.attribute),
        group=_group(row),
        metrics=listed(metrics),
        reason=row.undefined or "no value was given",
        n=row.n,
        patients=row.patients,
        positives=row.positives,
    )


def _group(row: Estimate) -> str:
    if row.group != EVERYBODY:
        return shown(row.group)
    return "everyone" if row.attribute == EVERYBODY else "across groups"
