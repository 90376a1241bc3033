"""The report's section on adjustments: their fits, their needs and their guarantees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from scipy.special import expit

from evenhand.jobs.adjust.adjustment import Adjustment
from evenhand.methods.afterwards.multicalibrate import Multicalibrated, SegmentTest
from evenhand.methods.afterwards.recalibrate import Recalibrated
from evenhand.methods.afterwards.thresholds import Aim, GroupThreshold, Thresholds
from evenhand.methods.attribute_free import AttributeFree
from evenhand.metrics import CLAIM, EVERYBODY
from evenhand.reporting.estimates import Estimate, Estimates, first_row
from evenhand.reporting.part import Part, Table
from evenhand.reporting.text.numbers import p_value_text, plain
from evenhand.reporting.text.vocabulary import display_name, first_upper
from evenhand.reporting.verdicts import Verdict
from evenhand.wording import count_text

EODDS = "equalized_odds_difference"
NEEDED = {"yes": "yes", "inferred": "no, inferred", "no": "no"}


def adjustment_part(
    adjustments: Mapping[str, Adjustment], rows: Estimates, attributes: Sequence[str]
) -> Part:
    """Return the section about the adjusted models.

    Parameters
    ----------
    adjustments
        The adjustments, by the model's name on the page.
    rows
        The estimates of the reported split, with the same names.
    attributes
        The attributes that the report compares.
    """
    sentences = [
        f"{first_upper(name)}: {sentence}"
        for name, adjustment in adjustments.items()
        for sentence in (*adjustment.promises, *adjustment.sentences)
    ]
    tables = [_methods_table(adjustments), *_equalised_odds_table(adjustments, rows, attributes)]
    for name, adjustment in adjustments.items():
        tables += _fit_tables(name, adjustment)
    return Part(sentences=tuple(sentences), tables=tuple(tables))


def promise_verdicts(adjustments: Mapping[str, Adjustment]) -> tuple[Verdict, ...]:
    """Return a verdict for each model whose thresholds aim to guarantee a sensitivity.

    Its claim is true if they do in every group.
    """
    return tuple(
        Verdict(
            f"promise of {name}",
            adjustment.by[0],
            not adjustment.fit.broken,
            " ".join(adjustment.promises),
        )
        for name, adjustment in adjustments.items()
        if isinstance(adjustment.fit, Thresholds | AttributeFree) and adjustment.promises
    )


def _methods_table(adjustments: Mapping[str, Adjustment]) -> Table:
    rows = (
        (
            name,
            adjustment.text,
            " and ".join(map(display_name, adjustment.by)),
            f"{count_text(adjustment.rows, 'validation row')}, "
            f"{count_text(adjustment.patients, 'patient')}",
            NEEDED[adjustment.attribute],
        )
        for name, adjustment in adjustments.items()
    )
    return Table(
        "Methods",
        ("Model", "Method", "Groups of", "Fitted on", "Attribute needed at test time"),
        tuple(rows),
    )


def _equalised_odds_table(
    adjustments: Mapping[str, Adjustment], rows: Estimates, attributes: Sequence[str]
) -> Iterator[Table]:
    """Yield a table of equalised odds before and after; nothing if they were not measured."""
    cells = []
    for attribute in attributes:
        key = {"attribute": attribute, "group": EVERYBODY, "metric": EODDS}
        for name in adjustments:
            paired = next((row for row in rows.where(model=name, **key) if row.against), None)
            after = first_row(rows, model=name, against=None, **key)
            if paired is None or after is None:
                continue
            before = first_row(rows, model=paired.against, against=None, **key)
            cells.append(
                (f"{display_name(attribute)}, {name}", *map(_value_text, (before, after, paired)))
            )
    if cells:
        yield Table(
            "Equalised-odds difference: the larger of the gaps in sensitivity and specificity",
            ("Attribute and model", "Before (interval)", "After (interval)", "After − before"),
            tuple(cells),
        )


def _value_text(row: Estimate | None) -> str:
    if row is None or row.value is None:
        return (row and row.undefined) or "undefined"
    if row.low is None or row.high is None:
        return plain(row.value)
    return f"{plain(row.value)} ({plain(row.low)} to {plain(row.high)})"


def _fit_tables(name: str, adjustment: Adjustment) -> list[Table]:
    fit = adjustment.fit
    if isinstance(fit, Thresholds | AttributeFree):
        cuts = (
            {level: chosen.threshold for level, chosen in fit.groups.items()}
            if isinstance(fit, Thresholds)
            else {level: float(expit(cut)) for level, cut in fit.cuts.items()}
        )
        return [_thresholds_table(name, adjustment.by[0], fit.aim, fit.groups, cuts)]
    if isinstance(fit, Recalibrated):
        lines = {**fit.groups, "everybody": fit.pooled}
        rows = tuple(
            (display_name(level), plain(line.slope), plain(line.intercept))
            for level, line in lines.items()
        )
        title = f"{first_upper(name)}: new log-odds are slope × old + intercept"
        return [
            Table(title, (first_upper(display_name(adjustment.by[0])), "Slope", "Intercept"), rows)
        ]
    if isinstance(fit, Multicalibrated) and adjustment.checks:
        return [_segments_table(name, *adjustment.checks)]
    return []


def _thresholds_table(
    name: str, by: str, aim: Aim, groups: Mapping[str, GroupThreshold], cuts: Mapping[str, float]
) -> Table:
    rows = tuple(
        (
            display_name(level),
            plain(cuts[level]),
            f"{group.positives:,}",
            plain(group.achieved),
            _promise(group),
        )
        for level, group in groups.items()
    )
    benefit = aim == "net-benefit"
    columns = (
        first_upper(display_name(by)),
        "Threshold",
        "Positive rows" if benefit else "Positive patients",
        "Net benefit on validation" if benefit else "Sensitivity on validation",
        "Promised for new patients",
    )
    return Table(f"{first_upper(name)}: {aim.replace('-', ' ')}", columns, rows)


def _promise(group: GroupThreshold) -> str:
    if group.promised is None or group.bound is None:
        return "nothing: this aim has no bound"
    if group.promised:
        return f"at least {plain(group.bound)}"
    return f"nothing: it takes {count_text(group.needed or 0, 'positive patient')}"


def _segments_table(
    name: str, before: Sequence[SegmentTest], after: Sequence[SegmentTest]
) -> Table:
    rows = tuple(
        (old.segment, f"{old.patients:,}", *_error(old), *_error(new))
        for old, new in zip(before, after, strict=True)
    )
    return Table(
        f"{first_upper(name)}: calibration of the test patients by segment. The error is mean "
        "label − mean score; p is corrected over the segments",
        ("Segment", "Patients", "Error before", "p", "Error after", "p"),
        rows,
    )


def _error(test: SegmentTest) -> tuple[str, str]:
    p = p_value_text(test.p_adjusted).removeprefix("= ")
    mark = " *" if test.p_adjusted <= CLAIM else ""
    return f"{test.error:+.3f} ± {test.standard_error:.3f}", p + mark
