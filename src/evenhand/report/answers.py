"""The answer in words: what the report says before it shows anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from evenhand.report.estimates import EVERYONE, Estimate, find, first, names
from evenhand.report.extremes import Extremes, extremes, is_unknown
from evenhand.report.numbers import hundredths, listed
from evenhand.report.terms import first_upper, is_of_group, opening, shown, term
from evenhand.report.words import (
    Outcome,
    apart_sentence,
    chance_sentence,
    cost_sentence,
    gap_sentence,
    group_sentence,
    groups_sentence,
    models_sentence,
    paired_chip,
    paired_sentence,
    strategy_sentence,
    where,
)

PICKED = "The worst group is picked from the same data, which biases this where groups are close."
IN_WORDS = ("sensitivity", "auc", "accuracy")
BESIDE = ("auc", "specificity")
"""Looked at, too, where the metric that is told leaves open whether groups differ."""


@dataclass(frozen=True)
class Dots:
    """A hundred cases, so many of them found."""

    name: str
    found: int
    counted: str  # "7 of 9"; empty where nobody has counted


@dataclass(frozen=True)
class Answer:
    """One thing that the report can say, or say that it cannot.

    Attributes
    ----------
    topic
        What it is about, in a few words.
    headline
        The sentence that a reader takes away.
    details
        Sentences on how sure that is.
    outcome
        The answer in a word or two.
    dots
        Two groups as a hundred cases each, empty when the metric is no share of positives.
    """

    topic: str
    headline: str
    details: tuple[str, ...]
    outcome: Outcome
    dots: tuple[Dots, ...] = ()


def strategy_answer(
    rows: Sequence[Estimate], model: str, attribute: str, metric: str
) -> Answer | None:
    """Say whether a model serves its worst group better than the models it is held against.

    Parameters
    ----------
    rows
        The rows of one split, paired differences among them.
    model, attribute
        Which model's worst group of which attribute.
    metric
        What it is served by (``"auc"``).

    Returns
    -------
    Answer or None
        None when the model is held against no other.
    """
    told = find(rows, attribute=attribute, group=EVERYONE, metric=f"{metric}_worst")
    paired = [row for row in told if row.model == model and row.against]
    if not paired:
        return None
    everybody = find(rows, attribute=EVERYONE, group=EVERYONE, metric=metric)
    overall = [row for row in everybody if row.model == model and row.against]
    others = [row.against or "" for row in paired]
    groups = find(rows, model=model, attribute=attribute, metric=metric, compared=True)
    changed = [row for row in groups if row.against and row.group != EVERYONE]
    return Answer(
        topic=f"{opening(model)} or {listed(others, 'or')}, by {shown(attribute)}?",
        headline=strategy_sentence(paired) + cost_sentence(overall),
        details=(
            *_side_by_side(told, paired),
            *(_side_by_side(everybody, overall) if overall else ()),
            *(group_sentence(row) for row in changed if paired_chip(row) != "cannot tell"),
            PICKED,
        ),
        outcome=_least([paired_chip(row) for row in paired]),
    )


def _side_by_side(rows: Sequence[Estimate], paired: Sequence[Estimate]) -> tuple[str, ...]:
    """Say what one number is under each model, and how the first one's differs from the others'."""
    models = (paired[0].model, *names(paired, "against"))
    held = [first(rows, model=name, against=None) for name in models]
    return (
        models_sentence([row for row in held if row is not None]),
        *map(paired_sentence, paired),
    )


def group_answer(
    rows: Sequence[Estimate], model: str, attribute: str, positive: str
) -> Answer | None:
    """Say how a model serves the groups of an attribute, None when it has no such rows."""
    here = find(rows, model=model, attribute=attribute, against=None)
    members = [row for row in here if row.group != EVERYONE and not is_unknown(row.group)]
    if not members:
        return None
    for metric in _order(names(members, "metric")):
        if found := extremes(here, metric):
            others = (extremes(here, other) for other in BESIDE)
            return _told(found, [one for one in others if one is not None], positive)
    return Answer(
        topic=first_upper(shown(attribute)),
        headline=f"Nothing can be said about {shown(attribute)}: {_why_nothing(members)}.",
        details=tuple(_why(members)),
        outcome="cannot tell",
    )


def _why_nothing(members: Sequence[Estimate]) -> str:
    """Return why no group of an attribute is worse served than another."""
    compared = [row for row in members if row.compared and is_of_group(row.metric)]
    if len(names(compared, "group")) < 2:
        return "there are no two groups to compare"
    judged = [row for row in compared if term(row.metric).better != "neither"]
    if not judged:
        labels = [term(metric).label for metric in names(compared, "metric")]
        return f"there is no better or worse in {listed(labels)}"
    defined = Counter(row.metric for row in judged if row.value is not None)
    if max(defined.values(), default=0) < 2:
        return "there are no two groups whose numbers are defined"
    return "the numbers of all groups are equal"


def _order(metrics: Sequence[str]) -> tuple[str, ...]:
    """Return metrics as they are told: cases found before an AUC, else what was asked for first."""
    told = IN_WORDS if metrics[0] == "auc" else ()
    return tuple(dict.fromkeys((*told, *metrics)))


def _told(found: Extremes, others: Sequence[Extremes], positive: str) -> Answer:
    """Tell the groups by one metric, and by others where these alone tell them apart."""
    beside = [] if found.apart else [apart_sentence(one) for one in others if one.apart]
    return Answer(
        topic=first_upper(shown(found.worst.attribute)),
        headline=groups_sentence(found.worst, found.best, positive),
        details=(gap_sentence(found), chance_sentence(found), *beside),
        outcome="a gap" if found.apart or beside else "cannot tell",
        dots=_dots(found.worst, found.best) if found.worst.metric == "sensitivity" else (),
    )


def _least(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the least favourable outcome: better only when every comparison is."""
    order: tuple[Outcome, ...] = ("worse", "cannot tell", "better")
    return min(outcomes, key=order.index)


def _dots(*groups: Estimate) -> tuple[Dots, ...]:
    return tuple(
        Dots(
            shown(row.group),
            hundredths(row.value or 0.0),
            f"{round((row.value or 0.0) * row.positives)} of {row.positives:,}"
            if row.positives
            else "",
        )
        for row in groups
    )


def _why(members: Sequence[Estimate]) -> list[str]:
    reasons = dict.fromkeys(
        f"Where {where(row.attribute, row.group)}: {row.undefined}."
        for row in members
        if row.undefined
    )
    return list(reasons)
