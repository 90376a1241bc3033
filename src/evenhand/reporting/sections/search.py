"""The section on a search: the trials as pictures and as a table, and the results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evenhand.files import finite_or_none
from evenhand.metrics import Target
from evenhand.reporting.charts.linear_axis import Axis, Ticks, axis_over, labelled_ticks
from evenhand.reporting.charts.scatter import Tradeoff, is_complete, tradeoffs
from evenhand.reporting.report import Report, Search
from evenhand.reporting.search_record import StudyRecord
from evenhand.reporting.section import section
from evenhand.reporting.sections.findings import Findings, findings
from evenhand.reporting.text.vocabulary import PLAIN, plain


@dataclass(frozen=True)
class TrialPoint:
    """A trial in the pictures and in the table.

    Attributes
    ----------
    number, state, adopted, origin, value, lr, mask, method
        The number of the trial, and the texts of its cells.
    x, x_lr, y
        Its positions by number, by learning rate and by value, in percent from the top left; None
        where undefined.
    chosen
        Whether it is marked as chosen.
    """

    number: int
    state: str
    adopted: str
    origin: str
    value: str
    lr: str
    mask: str
    method: str
    x: float | None
    x_lr: float | None
    y: float | None
    chosen: bool


@dataclass(frozen=True)
class BestStep:
    """A step of the line of the best value so far: from ``x`` to ``until``, then to ``y_next``."""

    x: float
    until: float
    y: float
    y_next: float


@dataclass(frozen=True)
class History:
    """The pictures of one target of a study, by trial and by learning rate."""

    target: str
    better: str
    points: tuple[TrialPoint, ...]
    steps: tuple[BestStep, ...]
    y_ticks: Ticks
    x_ticks: Ticks
    lr_ticks: Ticks


@dataclass(frozen=True)
class StudyView:
    """The content of the section for one study; the counts are numbers of trials."""

    study: str
    finished: int
    pruned: int
    repeated: int
    failed: int
    adopted: int
    histories: tuple[History, ...]
    tradeoffs: tuple[Tradeoff, ...]
    findings: Findings


@section("report", "search", "The search", place=80)
def search_section(report: Report) -> tuple[StudyView, ...]:
    """Lay out the search of a report; empty without a search."""
    return () if report.search is None else search_views(report.search)


def search_views(search: Search) -> tuple[StudyView, ...]:
    """Lay out each study of a search, in their order."""
    return tuple(_view(study, search) for study in search.studies)


def _view(study: StudyRecord, search: Search) -> StudyView:
    """Lay out a study."""
    trials = search.trials
    if study.name:
        trials = trials[trials["study"] == study.name]
    records = trials.sort_values("number").to_dict("records")
    states = [str(row["state"]) for row in records]
    counted = {state: states.count(state) for state in ("complete", "pruned", "repeated")}
    return StudyView(
        study=study.name,
        finished=counted["complete"],
        pruned=counted["pruned"],
        repeated=counted["repeated"],
        failed=len(states) - sum(counted.values()),
        adopted=sum(finite_or_none(row.get("adopted")) is not None for row in records),
        histories=tuple(
            _history(records, target, _marked_trial(study, records, target))
            for target in search.targets
        ),
        tradeoffs=tradeoffs(records, search.targets, study.trial),
        findings=findings(study, search.targets),
    )


def _history(records: Sequence[Mapping[Any, Any]], target: Target, chosen: int | None) -> History:
    """Lay out the pictures of a target; the chosen trial is marked."""
    values = [value for row in records if (value := finite_or_none(row[target.name])) is not None]
    rates = [rate for row in records if (rate := finite_or_none(row.get("lr"))) is not None]
    x = axis_over([row["number"] for row in records])
    y = axis_over(values)
    lr = _log_axis(rates)
    return History(
        target=target.label,
        better="higher" if target.maximise else "lower",
        points=tuple(_point(row, target, (x, y, lr), row["number"] == chosen) for row in records),
        steps=_steps(records, x, y, target),
        y_ticks=labelled_ticks(y, PLAIN, from_top=True),
        x_ticks=tuple(
            (x.position(tick), plain(tick, 0)) for tick in x.ticks if float(tick).is_integer()
        ),
        lr_ticks=tuple((lr.position(tick), _power_of_ten(tick)) for tick in lr.ticks),
    )


def _marked_trial(
    study: StudyRecord, records: Sequence[Mapping[Any, Any]], target: Target
) -> int | None:
    """Return the trial to mark: the chosen trial, or the best one if nothing was chosen yet."""
    is_chosen = study.chosen is not None or study.trial is not None
    return study.trial if is_chosen else _best_trial(records, target)


def _best_trial(records: Sequence[Mapping[Any, Any]], target: Target) -> int | None:
    """Return the number of the complete trial with the best value, None without one."""
    completed = [row for row in records if is_complete(row, target.name)]
    if not completed:
        return None
    sign = 1.0 if target.maximise else -1.0
    return int(max(completed, key=lambda row: sign * float(row[target.name]))["number"])


def _point(
    row: Mapping[Any, Any], target: Target, axes: tuple[Axis, Axis, Axis], chosen: bool
) -> TrialPoint:
    """Lay out a trial."""
    x, y, lr = axes
    value, rate = finite_or_none(row[target.name]), finite_or_none(row.get("lr"))
    mask, origin = row.get("mask"), str(row.get("origin", "sampler"))
    repeats, adopted = finite_or_none(row.get("repeats")), finite_or_none(row.get("adopted"))
    return TrialPoint(
        number=int(row["number"]),
        state=str(row["state"]) if repeats is None else f"repeats trial {repeats:.0f}",
        adopted="" if adopted is None else f"trial {adopted:.0f} of the baseline",
        origin="" if origin == "sampler" else origin,
        value="" if value is None else plain(value),
        lr="" if rate is None else f"{rate:.2g}",
        mask=mask if isinstance(mask, str) else "",
        method=f"{row.get('method', '')} {row.get('method_settings', '')}".strip(),
        x=x.position(row["number"]),
        x_lr=None if rate is None else lr.position(math.log10(rate)),
        y=None if value is None else y.from_top(value),
        chosen=chosen,
    )


def _steps(
    records: Sequence[Mapping[Any, Any]], x: Axis, y: Axis, target: Target
) -> tuple[BestStep, ...]:
    """Return the steps of the line of the best value so far."""
    jumps: list[tuple[float, float]] = []
    for row in records:
        if not is_complete(row, target.name):
            continue
        value = float(row[target.name])
        best = jumps[-1][1] if jumps else None
        if best is None or (value > best if target.maximise else value < best):
            jumps.append((float(row["number"]), value))
    if not jumps:
        return ()
    ends = [*jumps[1:], (float(records[-1]["number"]), jumps[-1][1])]
    return tuple(
        BestStep(x.position(start), x.position(end), y.from_top(value), y.from_top(after))
        for (start, value), (end, after) in zip(jumps, ends, strict=True)
    )


def _log_axis(rates: Sequence[float]) -> Axis:
    """Return an axis of the decimal logarithms of rates, with a tick at each power of ten."""
    logs = [math.log10(rate) for rate in rates if rate > 0] or [-4.0]
    low, high = math.floor(min(logs)), math.ceil(max(logs))
    high = max(high, low + 1)
    return Axis(low - 0.06, high + 0.06, tuple(float(k) for k in range(low, high + 1)))


def _power_of_ten(exponent: float) -> str:
    superscript = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{superscript}"
