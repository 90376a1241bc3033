"""The report's section on adjustments: their fits, their needs and their guarantees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scipy.special import expit

from evenhand.errors import count_text
from evenhand.jobs.adjust.adjustment import Adjustment
from evenhand.methods.afterwards.dfr import LastLayer
from evenhand.methods.afterwards.multicalibrate import Multicalibrated, SegmentTest
from evenhand.methods.afterwards.recalibrate import Recalibrated
from evenhand.methods.afterwards.thresholds import Aim, GroupThreshold, Thresholds
from evenhand.methods.attribute_free import AttributeFree
from evenhand.metrics import CLAIM, EVERYBODY
from evenhand.reporting.estimates import Estimate, Estimates, first_row
from evenhand.reporting.section import Part, Table
from evenhand.reporting.text.vocabulary import display_name, first_upper, p_value_text, plain
from evenhand.reporting.verdicts import Verdict

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


def fit_sentences(fit: object, by: str) -> tuple[str, ...]:
    """Return sentences about a fit to the groups of an attribute ``by``."""
    if isinstance(fit, AttributeFree):
        return (_inferred_sentence(fit, by),)
    if isinstance(fit, Recalibrated):
        return tuple(_slope_sentences(fit, by))
    return (_layer_sentence(fit),) if isinstance(fit, LastLayer) else ()


def promise_sentences(fit: object, by: str, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return sentences about the sensitivity that a fit guarantees, or why it guarantees none.

    Only thresholds with the aim ``minimum-sensitivity`` have such sentences.
    """
    if not isinstance(fit, Thresholds | AttributeFree) or fit.aim != "minimum-sensitivity":
        return ()
    confidence = float(settings.get("confidence", 0.95))
    if fit.broken:
        return tuple(
            _broken_sentence(level, by, fit.groups[level], fit.value, confidence)
            for level in fit.broken
        )
    return (
        f"With {confidence:.0%} confidence the sensitivity among new patients is at least "
        f"{fit.value:g} in every group of {by} at once. This holds if the validation "
        "patients chose nothing else: neither weights nor an epoch.",
    )


def _inferred_sentence(fit: AttributeFree, by: str) -> str:
    right = ", ".join(f"{share:.0%} where {by} is {level}" for level, share in fit.right.items())
    return f"The group is inferred from the model's features, correctly for {right}."


def _broken_sentence(
    level: str, by: str, group: GroupThreshold, value: float, confidence: float
) -> str:
    return (
        f"Where {by} is {level}, no threshold can guarantee a sensitivity of {value:g} with "
        f"{confidence:.0%} confidence: this needs at least "
        f"{count_text(group.needed or 0, 'positive patient')}, and validation has "
        f"{group.positives}. The threshold of this group is the highest that detects all its "
        "positive patients."
    )


def _slope_sentences(fit: Recalibrated, by: str) -> Iterator[str]:
    falling = [level for level, line in fit.groups.items() if line.slope <= 0]
    if falling:
        yield (
            f"Where {by} is {', '.join(falling)}, the slope is not above 0: the scores rank these "
            "patients no better than chance, and recalibration reverses their order."
        )


def _layer_sentence(fit: LastLayer) -> str:
    return (
        f"The last layer was fitted with an inverse L1 penalty of {fit.strength:g}, chosen by the "
        "worst group's accuracy. Validation rows are scored by layers that were fitted to "
        "other patients. Fitting on balanced rows makes every class equally frequent; the scores "
        "were shifted back to the prevalence of the validation rows. Within a group with another "
        "prevalence they are still shifted: --method recalibrate repairs that."
    )
