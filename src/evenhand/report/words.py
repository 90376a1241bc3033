"""The sentences of the report: small pure functions from numbers to plain language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from evenhand.report.estimates import Estimate
from evenhand.report.numbers import NBSP, counted, plain, signed, whole
from evenhand.report.terms import model_name, shown, split_across, term

Verdict = Literal["higher", "lower", "open"]


def verdict(estimate: Estimate) -> Verdict:
    """Return which side of zero an interval lies on; ``open`` when it holds zero or is missing."""
    if estimate.low is None or estimate.high is None:
        return "open"
    if estimate.low > 0:
        return "higher"
    return "lower" if estimate.high < 0 else "open"


def where(attribute: str, group: str) -> str:
    """Return a group as a clause.

    Examples
    --------
    >>> where("age", "60+"), where("sex*age", "female*60+")
    ('age is 60+', 'sex is female and age is 60+')
    """
    parts, levels = attribute.split("*"), group.split("*")
    if len(parts) != len(levels):
        return f"{shown(attribute)} is {shown(group)}"
    return " and ".join(f"{part} is {level}" for part, level in zip(parts, levels, strict=True))


def again(attribute: str, group: str) -> str:
    """Return a second group of the same attribute as a clause, without naming it twice."""
    return where(attribute, group) if "*" in attribute else f"it is {group}"


def groups_sentence(worst: Estimate, best: Estimate, positive: str) -> str:
    """Say what the model does in two groups, in counts out of a hundred."""
    here, there = where(worst.attribute, worst.group), again(best.attribute, best.group)
    low, high = worst.value or 0.0, best.value or 0.0
    if worst.metric == "sensitivity":
        return (
            f"Where {here}, the model finds {whole(low)} of 100 {positive} cases; "
            f"where {there}, {whole(high)}."
        )
    if worst.metric == "accuracy":
        return (
            f"Where {here}, the model is right in {whole(low)} of 100 cases; "
            f"where {there}, in {whole(high)}."
        )
    name, show = term(worst.metric).label, term(worst.metric).show
    return f"Where {here}, the {name} is {show(low)}; where {there}, {show(high)}."


def amount(value: float, metric: str) -> str:
    """Return a difference as people say it: points for shares, decimals for the rest.

    Examples
    --------
    >>> amount(0.23, "sensitivity"), amount(-0.042, "auc")
    ('23', '−0.042')
    """
    if not term(metric).share:
        return plain(value)
    sign = -1 if value < 0 else 1
    return plain(sign * float(whole(abs(value))), 0)


def interval(estimate: Estimate, metric: str) -> str:
    """Return the interval of a difference in words, with its level; empty without one."""
    if estimate.low is None or estimate.high is None:
        return ""
    ends = f"{amount(estimate.low, metric)} to {amount(estimate.high, metric)}"
    return f"{level(estimate)} interval {ends}"


def level(estimate: Estimate) -> str:
    """Return the level of an interval as a percentage."""
    return f"{plain(100 * estimate.level, 0)}{NBSP}%"


def gap_sentence(gap: Estimate) -> str:
    """Say how large a gap between groups is, with its interval or why there is none."""
    base, _ = split_across(gap.metric)
    if gap.value is None:
        return f"The gap is undefined: {gap.undefined or 'no value was given'}."
    unit = " points" if term(base).share else ""
    within = interval(gap, base)
    return f"The gap is {amount(gap.value, base)}{unit}" + (f" ({within})." if within else ".")


def apart(one: Estimate, other: Estimate) -> bool:
    """Return whether the intervals of two groups leave a space between them."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.high < other.low or other.high < one.low


def overlap_sentence(one: Estimate, other: Estimate) -> str:
    """Say whether two groups differ by more than chance, from their own intervals."""
    if not (one.has_interval and other.has_interval):
        return "Without intervals nobody can tell whether that is more than chance."
    if apart(one, other):
        return "The intervals of the two groups lie apart: chance alone hardly explains that."
    return "The intervals of the two groups overlap: this test set cannot tell whether they differ."


def paired_sentence(difference: Estimate) -> str:
    """Say whether one model does better than another on the same patients.

    The row is a paired difference, ``model`` minus ``against``.
    """
    one, other = model_name(difference.model), model_name(difference.against or "")
    known = term(difference.metric)
    name = f"{known.label[0].lower()}{known.label[1:]}"
    if difference.metric == known.label or known.label.isupper():
        name = known.label
    if difference.attribute != "*":
        name = f"{name} by {shown(difference.attribute)}"
    if difference.value is None:
        reason = difference.undefined or "no value was given"
        return f"{one} and {other} cannot be compared in {name}: {reason}."
    by = signed(amount(difference.value, difference.metric))
    within = interval(difference, difference.metric)
    size = f"{one} minus {other} in {name}: {by}" + (f" ({within})" if within else "")
    return f"{size}. {paired_verdict(difference)}"


def paired_verdict(difference: Estimate) -> str:
    """Say which of two models is better, or that nobody can tell."""
    one, other = model_name(difference.model), model_name(difference.against or "")
    side = verdict(difference)
    if side == "open":
        return "The interval holds zero: this test set cannot tell which is better."
    better = term(difference.metric).better
    if better == "nearer":
        return "The interval leaves out zero: the two differ."
    winner, loser = (one, other) if side == better else (other, one)
    return f"The interval leaves out zero: {winner} is better than {loser}."


def paired_chip(difference: Estimate) -> str:
    """Say in a word or two how a paired difference came out."""
    side, better = verdict(difference), term(difference.metric).better
    if side == "open":
        return "cannot tell"
    if better == "nearer":
        return "different"
    return "better" if side == better else "worse"


def detectable_sentence(attribute: str, metric: str, gap: float) -> str:
    """Say how large a gap would have to be for this test set to show it."""
    unit = " points" if term(metric).share else ""
    return (
        f"A gap in {term(metric).label} by {shown(attribute)} smaller than "
        f"{amount(gap, metric)}{unit} would usually go unseen in a test set of this size."
    )


def lede(rows: Sequence[Estimate], split: str, patient: str, positive: str) -> str:
    """Say on whom the numbers were made."""
    if not rows:
        return "This report has no numbers."
    largest = max(rows, key=lambda row: row.n)
    whom = {"test": "of the test split", "val": "of the validation split", "all": ""}
    people = f"{counted(largest.n, 'sample')} from {counted(largest.patients, patient)}"
    text = f"Measured on {people} {whom.get(split, f'of the split {split}')}".rstrip()
    if largest.positives is None:
        return f"{text}."
    return f"{text}, {largest.positives:,} of the samples {positive}."


def reading(rows: Sequence[Estimate]) -> str:
    """Say how the pictures of groups are read."""
    levels = [level(row) for row in rows if row.has_interval]
    line = f"the line is its {levels[0]} interval" if levels else "there are no intervals"
    return (
        f"Each mark is a group's value and {line}; the diamond and the dashed line are everyone. "
        "Wide intervals mean few patients, not bad service."
    )
