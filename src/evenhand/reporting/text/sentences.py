"""The sentences of the report: small pure functions from numbers to plain language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from evenhand.metrics import CHANCE, DETECTABLE, find_metric
from evenhand.metrics.intervals import FEW, FEW_DRAWN
from evenhand.reporting.estimates import Estimate, find
from evenhand.reporting.text.numbers import (
    NBSP,
    count_text,
    hundredths,
    listed,
    p_value,
    plain,
    signed,
    whole,
)
from evenhand.reporting.text.vocabulary import (
    first_upper,
    group_kind,
    lower_first,
    opening,
    shown,
    term,
)
from evenhand.reporting.text.worst_best import Extremes

LEVEL = 0.95
"""The level of intervals whose row does not say it."""

OutcomeWord = Literal["better", "worse", "a trade", "levelled down", "a gap", "cannot tell"]
"""What an answer comes to, as the report prints it."""


def where(attribute: str, group: str) -> str:
    """Return a group as a clause.

    Examples
    --------
    >>> where("age", "60+"), where("sex*age", "female*60+"), where("sex|site=A", "female")
    ('age is 60+', 'sex is female and age is 60+', 'sex is female and site is A')
    """
    attribute, within, control = attribute.partition("|")
    if within:
        return f"{where(attribute, group)} and {control.replace('=', ' is ', 1)}"
    parts, levels = attribute.split("*"), group.split("*")
    if len(parts) != len(levels):
        return f"{shown(attribute)} is {shown(group)}"
    return " and ".join(f"{part} is {level}" for part, level in zip(parts, levels, strict=True))


def again(attribute: str, group: str) -> str:
    """Return a second group of the same attribute as a clause, without naming it twice."""
    return where(attribute, group) if "*" in attribute or "|" in attribute else f"it is {group}"


def groups_sentence(worst: Estimate, best: Estimate, positive: str) -> str:
    """Say what the model does in two groups, in counts out of a hundred."""
    in_worst, in_best = where(worst.attribute, worst.group), again(best.attribute, best.group)
    low, high = worst.value or 0.0, best.value or 0.0
    if worst.metric == "auc" and worst.positives is not None:
        return (
            f"Where {in_worst}, the model scores a {positive} case above another case "
            f"{whole(low)} times in 100 (AUC {plain(low)}); where {in_best}, {whole(high)} times "
            f"({plain(high)})."
        )
    if worst.metric == "sensitivity":
        return (
            f"Where {in_worst}, the model finds {whole(low)} of 100 {positive} cases; "
            f"where {in_best}, {whole(high)}."
        )
    if worst.metric == "accuracy":
        return (
            f"Where {in_worst}, the model is right in {whole(low)} of 100 cases; "
            f"where {in_best}, in {whole(high)}."
        )
    measured = term(worst.metric)
    text = measured.scale.text
    return f"Where {in_worst}, the {measured.label} is {text(low)}; where {in_best}, {text(high)}."


def amount(value: float, metric: str, digits: int = 1) -> str:
    """Return a difference as people say it: points for shares, three decimals for the rest.

    Examples
    --------
    >>> amount(0.23, "sensitivity", 0), amount(-0.042, "auc")
    ('23', '−0.042')
    """
    return plain(100 * value, digits) if term(metric).share else plain(value)


def interval(estimate: Estimate, metric: str, digits: int = 1) -> str:
    """Return the interval of a difference in words, with its level; empty without one."""
    if estimate.low is None or estimate.high is None:
        return ""
    low, high = (amount(end, metric, digits) for end in (estimate.low, estimate.high))
    return f"{level(estimate)} interval {low} to {high}"


def level(estimate: Estimate) -> str:
    """Return the level of an interval as a percentage."""
    return f"{plain(100 * (estimate.level or LEVEL), 0)}{NBSP}%"


def gap_sentence(extremes: Extremes) -> str:
    """Say how large the gap between the worst and the best group is, with its interval."""
    gap, base = extremes.gap, extremes.worst.metric
    if gap is None:
        return "The gap was not measured."
    if gap.value is None:
        return f"The gap is undefined: {gap.undefined or 'no value was given'}."
    digits = _digits(extremes, gap)
    size = amount(gap.value, base, digits)
    unit = (" point" if size == "1" else " points") if term(base).share else ""
    within = interval(gap, base, digits)
    size = f"The gap is {size}{unit}"
    return f"{size} ({within})." if within else f"{size}."


def _digits(extremes: Extremes, gap: Estimate) -> int:
    """Return the number of decimals with which a gap is shown, in points.

    0 where the rounded gap is the difference of the groups' rounded values; else 1, or more where
    an end of the interval would be rounded to 0.
    """
    difference = abs(
        hundredths(extremes.best.value or 0.0) - hundredths(extremes.worst.value or 0.0)
    )
    least = 0 if plain(difference, 0) == plain(100 * (gap.value or 0.0), 0) else 1
    limits = [end for end in (gap.low, gap.high) if end]
    return next((n for n in range(least, 3) if all(round(100 * end, n) for end in limits)), 3)


def chance_sentence(extremes: Extremes) -> str:
    """Say whether groups are shown to differ, and how large a difference would usually show."""
    gap, two = extremes.gap, extremes.groups == 2
    pair = "two groups" if two else f"{extremes.groups} groups"
    if gap is None or gap.p_adjusted is None:
        return (
            f"{_untested_reason(extremes)}Without a test nobody can tell whether the {pair} differ."
        )
    if extremes.apart:
        whom = "The two groups" if two else f"At least two of the {pair}"
        return f"{whom} differ by more than chance explains ({p_text(gap)})."
    base = extremes.worst.metric
    reach = ""
    if extremes.detectable is not None:
        reach = f"; a difference of {amount_with_unit(extremes.detectable, base)} {USUALLY}"
    return (
        f"These data do not show that the {pair} differ in {_named(base)} ({p_text(gap)}){reach}."
    )


def _untested_reason(extremes: Extremes) -> str:
    """Say which of the two groups rest on too few patients for a test, and what would do."""
    gap = extremes.gap
    few = [row for row in (extremes.worst, extremes.best) if row.approximate]
    if not few or not find_metric(extremes.worst.metric).share:
        why = gap and (gap.approximate or gap.no_interval or gap.undefined)
        return f"The gap was not tested ({why}). " if why else ""
    rare = " of its rarer class" if extremes.worst.metric == "auc" else ""
    counts = [f"{where(row.attribute, row.group)} ({row.approximate}{rare})" for row in few]
    return (
        f"The gap was not tested: its {_named(extremes.worst.metric)} rests on too few patients "
        f"where {listed(counts)}, and a test needs {FEW} in each group "
        f"({FEW_DRAWN} with percentile or BCa intervals). Add patients, or join groups (--merge, "
        "--bins). "
    )


def alone_sentence(extremes: Extremes) -> str:
    """Say why an interval may lie above 0 where no difference is shown; else return ""."""
    gap = extremes.gap
    above = gap is not None and gap.low is not None and gap.low > 0
    tested = gap is not None and gap.p_adjusted is not None
    return ALONE if above and tested and not extremes.apart else ""


ALONE = (
    "The interval lies above 0 because it is of this gap alone; the corrected p counts how many "
    "gaps were looked at, of which the largest are large by chance."
)
USUALLY = f"would usually show (power 80{NBSP}%)"


def p_text(row: Estimate) -> str:
    """Return a corrected p-value in words, empty where there is none.

    Examples
    --------
    >>> p_text(Estimate(base="auc", aggregate="gap", p_adjusted=0.0312))
    'corrected p = 0.031'
    """
    return "" if row.p_adjusted is None else f"corrected p {p_value(row.p_adjusted)}"


def amount_with_unit(value: float, metric: str) -> str:
    """Return a difference as people say it, with its unit."""
    return amount(value, metric) + (" points" if term(metric).share else "")


def signed_amount(difference: Estimate) -> str:
    """Return the difference of two models with its sign and unit."""
    return signed(amount_with_unit(difference.value or 0.0, difference.base))


def interval_or_reason(difference: Estimate) -> str:
    """Return the interval of a difference as text, or why there is none."""
    reason = difference.no_interval
    without = f"no interval: {reason}" if reason else "no interval was given"
    return interval(difference, difference.base) or without


def _named(metric: str) -> str:
    """Return what a metric is called within a sentence."""
    label = term(metric).label
    return label if label.isupper() else label.lower()


def apart_sentence(extremes: Extremes) -> str:
    """Say that groups differ in a metric, beside another one in which nobody can tell."""
    worst, best = extremes.worst, extremes.best
    measured, gap = term(worst.metric), extremes.gap
    within = interval(gap, worst.metric, max(1, _digits(extremes, gap))) if gap else ""
    unit = " points" if measured.share and within else ""
    return (
        f"In {_named(worst.metric)} the groups do differ by more than chance explains: "
        f"{measured.scale.text(worst.value or 0.0)} where {where(worst.attribute, worst.group)}, "
        f"{measured.scale.text(best.value or 0.0)} where {again(best.attribute, best.group)} "
        f"(the gap's {within}{unit}; {p_text(gap) if gap else ''})."
    )


def strategy_sentence(paired: Sequence[Estimate]) -> str:
    """Say which models a model serves its worst group better than; the answer of a comparison.

    Parameters
    ----------
    paired
        Differences of one ``<metric>_worst`` on the same patients, the model minus each other.
    """
    whom, by = paired[0].model, group_kind(paired[0].attribute)
    sides: dict[OutcomeWord, list[str]] = {"better": [], "worse": [], "cannot tell": []}
    for row in paired:
        sides[paired_chip(row)].append(row.against or "")
    clauses = [f"{s} than {listed(sides[s])}" for s in ("better", "worse") if sides[s]]
    unsure = listed(sides["cannot tell"], "or")
    if not clauses:
        return (
            f"These data do not show that {whom} serves its worst {by} better or worse than "
            f"{unsure}."
        )
    doubt = f"; better or worse than {unsure}, these data do not show" if unsure else ""
    subject = opening(whom)
    return f"{subject} serves its worst {by} {listed(clauses, 'but')}{doubt}."


SIZES: Mapping[OutcomeWord, str] = {"better": "smaller", "worse": "larger"}


def smaller_sentence(paired: Sequence[Estimate]) -> str:
    """Say which models a model's difference across groups is smaller than; the answer to that.

    Parameters
    ----------
    paired
        Differences of one difference across groups, the model minus each other.
    """
    what = lower_first(paired[0].term.label)
    sides: dict[OutcomeWord, list[str]] = {"better": [], "worse": [], "cannot tell": []}
    for row in paired:
        sides[paired_chip(row)].append(row.against or "")
    unsure = listed(sides["cannot tell"], "or")
    clauses = [
        f"{word} than that of {listed(sides[side])}" for side, word in SIZES.items() if sides[side]
    ]
    subject = f"the {what} of {paired[0].model}"
    if not clauses:
        return f"These data do not show that {subject} is smaller or larger than that of {unsure}."
    doubt = f"; for {unsure}, these data do not show which is smaller" if unsure else ""
    return f"{first_upper(subject)} is {listed(clauses, 'but')}{doubt}."


def usual_sentences(rows: Sequence[Estimate], paired: Sequence[Estimate]) -> tuple[str, ...]:
    """Say how large a group's difference would usually show, where no difference is shown.

    Parameters
    ----------
    rows
        The rows of one split.
    paired
        Differences of one ``<metric>_worst``, the model minus each other.
    """
    sentences = []
    for row in paired:
        pair = {"model": row.model, "against": row.against, "attribute": row.attribute}
        shown_by = find(rows, **pair, base=row.base, aggregate=DETECTABLE)
        reach = max(
            (estimate.value for estimate in shown_by if estimate.value is not None), default=0.0
        )
        if reach > 0 and paired_chip(row) == "cannot tell":
            size = amount_with_unit(reach, row.base)
            who = f"{'an' if row.attribute[:1] in 'aeiou' else 'a'} {group_kind(row.attribute)}"
            sentences.append(f"Against {row.against}, a difference of {size} in {who} {USUALLY}.")
    return tuple(sentences)


def overall_cost_sentence(overall: Sequence[Estimate]) -> str:
    """Say which models a model serves everybody together worse than; empty where there is none.

    Parameters
    ----------
    overall
        Differences of one metric of everybody, the model minus each other.
    """
    better = [row.against or "" for row in overall if paired_chip(row) == "worse"]
    return f" It serves everybody together worse than {listed(better)}." if better else ""


def models_sentence(rows: Sequence[Estimate]) -> str:
    """Say how several models serve everybody or, by ``<metric>_worst``, their worst group."""
    some, measured = rows[0], rows[0].base_term
    whom = f"the {group_kind(some.attribute)} served worst" if some.aggregate else "everybody"
    what = f"{measured.label} of {whom}"
    if some.aggregate not in (None, "worst") or (not some.of_group and some.aggregate is None):
        what = some.term.label
    text = some.term.scale.text
    values = [
        f"{row.model} {'undefined' if row.value is None else text(row.value)}" for row in rows
    ]
    return f"{what}: {listed(values)}."


def paired_sentence(difference: Estimate) -> str:
    """Say how much one model differs from another on the same patients, and which is better.

    The row is a paired difference, ``model`` minus ``against``.
    """
    other = difference.against or ""
    if difference.value is None:
        return f"Against {other}: undefined, {difference.undefined or 'no value was given'}."
    certainty = "; ".join(filter(None, (interval_or_reason(difference), p_text(difference))))
    return f"Against {other}: {signed_amount(difference)} ({certainty}): {paired_chip(difference)}."


def group_sentence(difference: Estimate) -> str:
    """Say the same of one group."""
    text = paired_sentence(difference)
    place = where(difference.attribute, difference.group)
    return f"Where {place}, {text[0].lower()}{text[1:]}"


def paired_chip(difference: Estimate) -> OutcomeWord:
    """Say in a word or two how the first model of a paired difference comes out.

    It is better or worse where a difference is claimed (see `Estimate.claimed`), in a metric with
    better and worse.
    """
    better = difference.term.better
    if not difference.claimed or not difference.value or better == "neither":
        return "cannot tell"
    return "better" if (difference.value > 0) == (better == "higher") else "worse"


def chance_remark(auc: Estimate) -> str | None:
    """Say that everybody's AUC is not shown to be better than chance; None where it is shown.

    The corrected p-value tests an AUC of .5. Without one the interval decides whether the remark
    is made.
    """
    if auc.value is None or auc.low is None or auc.high is None:
        return None
    surely = auc.low > CHANCE if auc.p_adjusted is None else auc.claimed and auc.value > CHANCE
    if surely:
        return None
    worse = auc.claimed and auc.value < CHANCE
    return (
        f"{opening(auc.model)} {'does worse than' if worse else 'cannot be told from'} chance: the "
        f"AUC of everybody is {plain(auc.value)} ({interval(auc, auc.metric)}). What such a model "
        "does by group says little."
    )


def detectable_sentence(attribute: str, metric: str, gap: float) -> str:
    """Say how large a gap would have to be for this test set to show it."""
    unit = " points" if term(metric).share else ""
    return (
        f"A gap in {term(metric).label} by {shown(attribute)} smaller than "
        f"{amount(gap, metric)}{unit} would usually go unseen in a test set of this size."
    )


NO_SPLIT = "(the predictions name no split)"


def lede(rows: Sequence[Estimate], split: str | None, patient: str, positive: str) -> str:
    """Say on whom the numbers were made; ``split`` is None where the data name none."""
    if not rows:
        return "This report has no numbers."
    largest = max(rows, key=lambda row: row.n)
    whom = {None: NO_SPLIT, "test": "of the test split", "val": "of the validation split"}
    people = f"{count_text(largest.n, 'sample')} from {count_text(largest.patients, patient)}"
    every = "all " if split is None else ""
    whose = "" if split == "all" else f" {whom.get(split, f'of the split {split}')}"
    text = f"Measured on {every}{people}{whose}"
    if largest.positives is None:
        return f"{text}."
    return f"{text}, {largest.positives:,} of the samples {positive}."


def reading(rows: Sequence[Estimate]) -> str:
    """Say how the pictures of groups are read."""
    levels = [level(row) for row in rows if row.has_interval]
    mark = "Each mark is the value of a group; the diamond and the dashed line are everyone."
    if not levels:
        return mark
    return (
        f"{mark} The line through a mark is its {levels[0]} interval: a long one means few "
        "patients, not bad service."
    )
