"""The sentences of the report: small functions that turn numbers into text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from evenhand.errors import count_text
from evenhand.metrics import CHANCE, DETECTABLE, find_metric
from evenhand.metrics.intervals import FEW, FEW_DRAWN
from evenhand.reporting.estimates import NO_VALUE, Estimate, Extremes, find_rows
from evenhand.reporting.text.vocabulary import (
    NBSP,
    display_name,
    first_upper,
    group_kind,
    hundredths,
    in_sentence,
    join_words,
    lower_first,
    model_at_sentence_start,
    out_of_hundred,
    p_value_text,
    plain,
    signed,
    term,
)

LEVEL = 0.95
"""The level of intervals whose row has none."""

OutcomeWord = Literal["better", "worse", "a trade", "levelled down", "a gap", "cannot tell"]
"""The outcome of an answer, as the report prints it."""


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
        return f"{display_name(attribute)} is {display_name(group)}"
    return " and ".join(f"{part} is {level}" for part, level in zip(parts, levels, strict=True))


def where_again(attribute: str, group: str) -> str:
    """Return a second group of the same attribute as a clause, without naming the attribute."""
    return where(attribute, group) if "*" in attribute or "|" in attribute else f"it is {group}"


def groups_sentence(worst: Estimate, best: Estimate, positive: str) -> str:
    """Return the sentence on a model's results in two groups, in counts out of a hundred."""
    in_worst, in_best = where(worst.attribute, worst.group), where_again(best.attribute, best.group)
    low, high = worst.value or 0.0, best.value or 0.0
    if worst.metric == "auc" and worst.positives is not None:
        return (
            f"Where {in_worst}, the model scores a {positive} case above another case "
            f"{out_of_hundred(low)} times in 100 (AUC {plain(low)}); where {in_best}, "
            f"{out_of_hundred(high)} times ({plain(high)})."
        )
    measured, at_worst = term(worst.metric), threshold_clause(worst)
    at_best = "" if worst.threshold == best.threshold else threshold_clause(best)
    if worst.metric in COUNTED:
        counted = COUNTED[worst.metric].format(count=out_of_hundred(low), positive=positive)
        return (
            f"Where {in_worst}, the model {counted}{at_worst}; where {in_best}, "
            f"{out_of_hundred(high)}{at_best}."
        )
    text = measured.scale.text
    return (
        f"Where {in_worst}, the {measured.label} is {text(low)}{at_worst}; where {in_best}, "
        f"{text(high)}{at_best}."
    )


COUNTED = {
    "sensitivity": "finds {count} of 100 {positive} cases",
    "specificity": "rightly clears {count} of 100 cases that are not {positive}",
    "accuracy": "is right in {count} of 100 cases",
}
"""Metrics of which a headline speaks in counts out of a hundred."""


def threshold_clause(row: Estimate) -> str:
    """Return the decision threshold of a number as a clause; empty if it needs none.

    Examples
    --------
    >>> threshold_clause(Estimate(base="sensitivity", threshold=0.4312))
    ' at the threshold 0.431'
    """
    return "" if row.threshold is None else f" at the threshold {row.threshold:.3g}"


def amount(value: float, metric: str, digits: int = 1) -> str:
    """Return a difference as text: in points for shares, else with three decimals.

    Examples
    --------
    >>> amount(0.23, "sensitivity", 0), amount(-0.042, "auc")
    ('23', '−0.042')
    """
    return plain(100 * value, digits) if term(metric).share else plain(value)


def interval(estimate: Estimate, metric: str, digits: int = 1) -> str:
    """Return the interval of a difference as text with its level; empty if there is none."""
    if estimate.low is None or estimate.high is None:
        return ""
    low, high = (amount(end, metric, digits) for end in (estimate.low, estimate.high))
    return f"{level(estimate)} interval {low} to {high}"


def level(estimate: Estimate) -> str:
    """Return the level of an interval as a percentage."""
    return f"{plain(100 * (estimate.level or LEVEL), 0)}{NBSP}%"


def gap_sentence(extremes: Extremes) -> str:
    """Return the sentence on the size of the gap between the worst and the best group."""
    gap, base = extremes.gap, extremes.worst.metric
    if gap is None:
        return "The gap was not measured."
    if gap.value is None:
        return f"The gap is undefined: {gap.undefined or NO_VALUE}."
    digits = _digits(extremes, gap)
    size = amount(gap.value, base, digits)
    unit = (" point" if size == "1" else " points") if term(base).share else ""
    within = interval(gap, base, digits)
    size = f"The gap is {size}{unit}"
    return f"{size} ({within})." if within else f"{size}."


def _digits(extremes: Extremes, gap: Estimate) -> int:
    """Return the number of decimals of a gap in points.

    It is 0 if the rounded gap is the difference of the rounded values of the groups. Otherwise it
    is 1, or more if an end of the interval would be rounded to 0.
    """
    difference = abs(
        hundredths(extremes.best.value or 0.0) - hundredths(extremes.worst.value or 0.0)
    )
    least = 0 if plain(difference, 0) == plain(100 * (gap.value or 0.0), 0) else 1
    limits = [end for end in (gap.low, gap.high) if end]
    return next((n for n in range(least, 3) if all(round(100 * end, n) for end in limits)), 3)


def chance_sentence(extremes: Extremes) -> str:
    """Return the sentence on whether groups are shown to differ, with the detectable difference."""
    gap, are_two = extremes.gap, extremes.groups == 2
    groups = "two groups" if are_two else f"{extremes.groups} groups"
    if gap is None or gap.p_adjusted is None:
        return (
            f"{_untested_reason(extremes)}Without a test it is not known whether the {groups} "
            "differ."
        )
    if extremes.differs:
        whom = "The two groups" if are_two else f"At least two of the {groups}"
        return f"{whom} differ by more than chance explains ({p_text(gap)})."
    return (
        f"These data do not show that the {groups} differ in {in_sentence(extremes.worst.metric)} "
        f"({p_text(gap)}){_detectable_clause(extremes)}."
    )


def _detectable_clause(extremes: Extremes) -> str:
    """Return the clause on the smallest difference that would usually be detected; may be empty."""
    if extremes.detectable is None:
        return ""
    size = amount_with_unit(extremes.detectable, extremes.worst.metric)
    return f"; a difference of {size} {USUALLY}"


def _untested_reason(extremes: Extremes) -> str:
    """Return why a gap was not tested, and what to do if groups have too few patients."""
    gap = extremes.gap
    few = [row for row in (extremes.worst, extremes.best) if row.approximate]
    if not few or not find_metric(extremes.worst.metric).share:
        why = gap and (gap.approximate or gap.no_interval or gap.undefined)
        if not why:
            return ""
        too_few = "as some group has too few patients: " if why[0].isdigit() else ""
        return f"The gap was not tested ({too_few}{why}). "
    rare = " of its rarer class" if extremes.worst.metric == "auc" else ""
    counts = [f"{where(row.attribute, row.group)} ({row.approximate}{rare})" for row in few]
    return (
        f"The gap was not tested: its {in_sentence(extremes.worst.metric)} rests on too few "
        f"patients where {join_words(counts)}, and a test needs {FEW} in each group "
        f"({FEW_DRAWN} with percentile or BCa intervals). Add patients, or merge groups (--merge, "
        "--bins). "
    )


def has_interval_above_0(extremes: Extremes) -> bool:
    """Return whether the interval of a gap lies above 0 although no difference is shown."""
    gap = extremes.gap
    is_tested = gap is not None and gap.p_adjusted is not None
    is_above = gap is not None and gap.low is not None and gap.low > 0
    return is_tested and is_above and not extremes.differs


INTERVAL_ABOVE_0 = (
    "The interval of a gap may lie above 0 although no difference is shown: the interval is about "
    "this gap alone, and the corrected p-value accounts for all comparisons on this page."
)
USUALLY = f"would usually show (power 80{NBSP}%)"


def p_text(row: Estimate) -> str:
    """Return a corrected p-value as text, empty where there is none.

    Examples
    --------
    >>> p_text(Estimate(base="auc", aggregate="gap", p_adjusted=0.0312))
    'corrected p = 0.031'
    """
    return "" if row.p_adjusted is None else f"corrected p {p_value_text(row.p_adjusted)}"


def amount_with_unit(value: float, metric: str) -> str:
    """Return a difference as text with its unit."""
    return amount(value, metric) + (" points" if term(metric).share else "")


def signed_amount(difference: Estimate) -> str:
    """Return the difference of two models with its sign and unit."""
    return signed(amount_with_unit(difference.value or 0.0, difference.base))


def interval_or_reason(difference: Estimate) -> str:
    """Return the interval of a difference as text, or why there is none."""
    reason = difference.no_interval
    without = f"no interval: {reason}" if reason else "no interval was given"
    return interval(difference, difference.base) or without


def apart_sentence(extremes: Extremes) -> str:
    """Return the sentence on a gap that is shown in another metric than that of the headline."""
    worst, best = extremes.worst, extremes.best
    measured, gap = term(worst.metric), extremes.gap
    within = interval(gap, worst.metric, max(1, _digits(extremes, gap))) if gap else ""
    unit = " points" if measured.share and within else ""
    return (
        f"In {in_sentence(worst.metric)}, too, the groups differ by more than chance explains: "
        f"{measured.scale.text(worst.value or 0.0)} where {where(worst.attribute, worst.group)}, "
        f"{measured.scale.text(best.value or 0.0)} where {where_again(best.attribute, best.group)} "
        f"(the gap's {within}{unit}; {p_text(gap) if gap else ''})."
    )


def no_gap_sentence(ends: Extremes) -> str:
    """Return the sentence on another metric than that of the headline, if no gap is shown in it."""
    text = ends.worst.term.scale.text
    low, high = sorted(row.value or 0.0 for row in (ends.worst, ends.best))
    p = p_text(ends.gap) if ends.gap else ""
    outcome = f"({p}){_detectable_clause(ends)}" if p else "(not tested)"
    return (
        f"No gap is shown in {in_sentence(ends.worst.metric)}: lowest {text(low)}, "
        f"highest {text(high)} {outcome}."
    )


def strategy_sentence(paired: Sequence[Estimate]) -> str:
    """Return the answer to whether a model serves its worst group better than other models.

    Parameters
    ----------
    paired
        Differences of ``<metric>_worst`` on the same patients: the model less each other model.
    """
    whom, by = paired[0].model, group_kind(paired[0].attribute)
    sides: dict[OutcomeWord, list[str]] = {"better": [], "worse": [], "cannot tell": []}
    for row in paired:
        sides[paired_chip(row)].append(row.against or "")
    clauses = [
        f"{side} than {join_words(sides[side])}" for side in ("better", "worse") if sides[side]
    ]
    unsure = join_words(sides["cannot tell"], "or")
    if not clauses:
        return (
            f"These data do not show that {whom} serves its worst-served {by} better or worse than "
            f"{unsure}."
        )
    doubt = (
        f"; these data do not show whether it does better or worse than {unsure}" if unsure else ""
    )
    subject = model_at_sentence_start(whom)
    return f"{subject} serves its worst-served {by} {join_words(clauses, 'but')}{doubt}."


SIZES: Mapping[OutcomeWord, str] = {"better": "smaller", "worse": "larger"}


def spread_sentence(paired: Sequence[Estimate]) -> str:
    """Return the answer to whether a difference across groups is smaller than in other models.

    Parameters
    ----------
    paired
        Paired differences of the number across groups: the model less each other model.
    """
    label = lower_first(paired[0].term.label)
    sides: dict[OutcomeWord, list[str]] = {"better": [], "worse": [], "cannot tell": []}
    for row in paired:
        sides[paired_chip(row)].append(row.against or "")
    unsure = join_words(sides["cannot tell"], "or")
    clauses = [
        f"{word} than that of {join_words(sides[side])}"
        for side, word in SIZES.items()
        if sides[side]
    ]
    subject = f"the {label} of {paired[0].model}"
    if not clauses:
        return f"These data do not show that {subject} is smaller or larger than that of {unsure}."
    doubt = f"; for {unsure}, these data do not show which is smaller" if unsure else ""
    return f"{first_upper(subject)} is {join_words(clauses, 'but')}{doubt}."


def detectable_group_sentences(
    rows: Sequence[Estimate], paired: Sequence[Estimate]
) -> tuple[str, ...]:
    """Return sentences on the detectable difference of a group, where no difference is shown.

    Parameters
    ----------
    rows
        The rows of one split.
    paired
        Differences of ``<metric>_worst``: the model less each other model.
    """
    sentences = []
    for row in paired:
        pair = {"model": row.model, "against": row.against, "attribute": row.attribute}
        detectable_rows = find_rows(rows, **pair, base=row.base, aggregate=DETECTABLE)
        largest = max(
            (estimate.value for estimate in detectable_rows if estimate.value is not None),
            default=0.0,
        )
        if largest > 0 and paired_chip(row) == "cannot tell":
            size = amount_with_unit(largest, row.base)
            group = f"{'an' if row.attribute[:1] in 'aeiou' else 'a'} {group_kind(row.attribute)}"
            sentences.append(f"Against {row.against}, a difference of {size} in {group} {USUALLY}.")
    return tuple(sentences)


def overall_cost_sentence(overall: Sequence[Estimate]) -> str:
    """Return the sentence on models that serve everybody better, empty if there is none.

    Parameters
    ----------
    overall
        Differences of a metric of everybody: the model less each other model.
    """
    better = [row.against or "" for row in overall if paired_chip(row) == "worse"]
    return f" It serves everybody together worse than {join_words(better)}." if better else ""


def models_sentence(rows: Sequence[Estimate]) -> str:
    """Return the sentence with a number of several models: of everybody, or across groups."""
    example, measured = rows[0], rows[0].base_term
    whom = f"the worst {group_kind(example.attribute)}" if example.aggregate else "everybody"
    label = f"{measured.label} of {whom}"
    is_fairness = not example.is_of_group and example.aggregate is None
    if example.aggregate not in (None, "worst") or is_fairness:
        label = example.term.label
    text = example.term.scale.text
    values = [
        f"{row.model} {'undefined' if row.value is None else text(row.value)}" for row in rows
    ]
    return f"{label}: {join_words(values)}."


def paired_sentence(difference: Estimate) -> str:
    """Return the sentence on a paired difference, ``model`` less ``against``, with its outcome."""
    other = difference.against or ""
    if difference.value is None:
        return f"Against {other}: undefined, {difference.undefined or NO_VALUE}."
    certainty = "; ".join(filter(None, (interval_or_reason(difference), p_text(difference))))
    return f"Against {other}: {signed_amount(difference)} ({certainty}): {paired_chip(difference)}."


def group_sentence(difference: Estimate) -> str:
    """Return the sentence on a paired difference in one group."""
    text = paired_sentence(difference)
    place = where(difference.attribute, difference.group)
    return f"Where {place}, {text[0].lower()}{text[1:]}"


def paired_chip(difference: Estimate) -> OutcomeWord:
    """Return the outcome of a paired difference for its first model.

    It is ``better`` or ``worse`` if a difference is claimed (see `Estimate.is_claimed`) and the
    metric has a better direction, else ``cannot tell``.
    """
    better = difference.term.better
    if not difference.is_claimed or not difference.value or better == "neither":
        return "cannot tell"
    return "better" if (difference.value > 0) == (better == "higher") else "worse"


def chance_remark(auc: Estimate) -> str | None:
    """Return a remark on an AUC of everybody that is not shown to be better than chance, or None.

    The corrected p-value tests an AUC of .5. Without a p-value the interval decides.
    """
    if auc.value is None or auc.low is None or auc.high is None:
        return None
    if auc.low > CHANCE if auc.p_adjusted is None else auc.is_claimed and auc.value > CHANCE:
        return None
    is_worse = auc.is_claimed and auc.value < CHANCE
    verb = "is worse than" if is_worse else "is not shown to be better than"
    joined = "; ".join(filter(None, (interval(auc, auc.metric), p_text(auc))))
    return (
        f"{model_at_sentence_start(auc.model)} {verb} chance: the AUC of everybody is "
        f"{plain(auc.value)} ({joined}). The results of such a model by group mean little."
    )


NO_SPLIT = "(the predictions name no split)"


def introduction(rows: Sequence[Estimate], split: str | None, patient: str, positive: str) -> str:
    """Return the sentence on the reported samples; ``split`` is None if the data have no splits."""
    if not rows:
        return "This report has no numbers."
    largest = max(rows, key=lambda row: row.n)
    whom = {None: NO_SPLIT, "test": "of the test split", "val": "of the validation split"}
    people = f"{count_text(largest.n, 'sample')} from {count_text(largest.patients, patient)}"
    all_of = "all " if split is None else ""
    of_split = "" if split == "all" else f" {whom.get(split, f'of the split {split}')}"
    text = f"Measured on {all_of}{people}{of_split}"
    if largest.positives is None:
        return f"{text}."
    return f"{text}, {largest.positives:,} of the samples {positive}."


def explain_pictures(rows: Sequence[Estimate]) -> str:
    """Return the explanation of the pictures of groups."""
    levels = [level(row) for row in rows if row.has_interval]
    mark = "Each mark is the value of a group; the diamond and the dashed line are everyone."
    if not levels:
        return mark
    return (
        f"{mark} The line through a mark is its {levels[0]} interval: a long line means few "
        "patients, not bad results."
    )
