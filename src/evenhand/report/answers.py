"""The answer in words: what the report says before it shows anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from evenhand.report.estimates import EVERYONE, Estimate, find, first
from evenhand.report.forest import extreme, is_unknown
from evenhand.report.numbers import whole
from evenhand.report.terms import model_name, shown, split_across, term
from evenhand.report.words import (
    apart,
    detectable_sentence,
    gap_sentence,
    groups_sentence,
    overlap_sentence,
    paired_sentence,
    verdict,
    where,
)

Tone = Literal["found", "better", "worse", "open"]
CHIPS: Mapping[Tone, str] = {
    "found": "a gap",
    "better": "better",
    "worse": "worse",
    "open": "cannot tell",
}
IN_WORDS = ("sensitivity", "auc", "accuracy")


@dataclass(frozen=True)
class Dots:
    """A hundred cases, so many of them found."""

    name: str
    found: int


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
    tone
        What kind of answer it is; never told by colour alone.
    dots
        Two groups as a hundred cases each, empty when the metric is no share of positives.
    """

    topic: str
    headline: str
    details: tuple[str, ...]
    tone: Tone
    dots: tuple[Dots, ...] = ()

    @property
    def chip(self) -> str:
        """The tone in words."""
        return CHIPS[self.tone]


def strategy_answers(rows: Sequence[Estimate], chosen: str | None) -> tuple[Answer, ...]:
    """Say for each comparison of the chosen model's worst group whether it does better.

    ``rows`` are of one split; paired differences among them have ``against``.
    """
    told = [
        row
        for row in rows
        if row.against and row.model == chosen and split_across(row.metric)[1] == "worst"
    ]
    return tuple(_strategy_answer(rows, row) for row in told)


def group_answer(
    rows: Sequence[Estimate], model: str, attribute: str, positive: str
) -> Answer | None:
    """Say how a model serves the groups of an attribute, None when it has no such rows."""
    here = [row for row in find(rows, model=model, attribute=attribute) if not row.against]
    members = [row for row in here if row.group != EVERYONE and not is_unknown(row.group)]
    if not members:
        return None
    for metric in IN_WORDS:
        told = [row for row in members if row.metric == metric and row.value is not None]
        if len(told) > 1:
            return _told(here, told, positive)
    return Answer(
        topic=shown(attribute),
        headline=f"Nothing can be said about {shown(attribute)}: "
        "fewer than two groups have a number to compare.",
        details=tuple(_why(members)),
        tone="open",
    )


def detectable_details(detectable: Sequence[tuple[str, str, float]]) -> tuple[str, ...]:
    """Say how large a gap could be seen at all, one sentence per (attribute, metric, gap)."""
    return tuple(detectable_sentence(*one) for one in detectable)


def _strategy_answer(rows: Sequence[Estimate], difference: Estimate) -> Answer:
    one = first(
        rows, model=difference.model, against=None, attribute=difference.attribute,
        group=EVERYONE, metric=difference.metric,
    )  # fmt: skip
    other = first(
        rows, model=difference.against, against=None, attribute=difference.attribute,
        group=EVERYONE, metric=difference.metric,
    )  # fmt: skip
    side = verdict(difference)
    better = term(difference.metric).better
    tone: Tone = "open" if side == "open" else "better" if side == better else "worse"
    return Answer(
        topic=f"{model_name(difference.model)} or {model_name(difference.against or '')}?",
        headline=_strategy_headline(one, other, difference),
        details=(paired_sentence(difference),),
        tone=tone,
    )


def _strategy_headline(one: Estimate | None, other: Estimate | None, difference: Estimate) -> str:
    base, _ = split_across(difference.metric)
    known, by = term(base), shown(difference.attribute)
    if one is None or other is None or one.value is None or other.value is None:
        return f"The worst {by} group's {known.label} is not known for both models."
    return (
        f"For its worst {by} group, {model_name(one.model)} reaches {known.label} "
        f"{known.show(one.value)}; {model_name(other.model)} reaches {known.show(other.value)}."
    )


def _told(here: Sequence[Estimate], told: Sequence[Estimate], positive: str) -> Answer:
    known, metric, attribute = term(told[0].metric), told[0].metric, told[0].attribute
    worst = extreme(told, known)
    if worst is None:
        return Answer(
            topic=shown(attribute),
            headline=f"All groups of {shown(attribute)} have the same {known.label}.",
            details=(),
            tone="open",
        )
    best = max((row for row in told if row is not worst), key=lambda row: row.value or 0.0)
    gap = first(here, group=EVERYONE, metric=f"{metric}_gap")
    details = [] if gap is None else [gap_sentence(gap)]
    found = apart(worst, best)
    details.append(overlap_sentence(worst, best))
    return Answer(
        topic=shown(attribute),
        headline=groups_sentence(worst, best, positive),
        details=tuple(details),
        tone="found" if found else "open",
        dots=_dots(worst, best) if metric == "sensitivity" else (),
    )


def _dots(*groups: Estimate) -> tuple[Dots, ...]:
    return tuple(Dots(shown(row.group), int(whole(row.value or 0.0))) for row in groups)


def _why(members: Sequence[Estimate]) -> list[str]:
    reasons = dict.fromkeys(
        f"Where {where(row.attribute, row.group)}: {row.undefined}."
        for row in members
        if row.undefined
    )
    return list(reasons)
