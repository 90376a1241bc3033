"""The luck of a pruning: how much better the chosen step looks on the patients that chose it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from evenhand.errors import count_text
from evenhand.metrics import find_target
from evenhand.reporting.text.vocabulary import Scale, Term, term

Span = tuple[float, float | None, float | None]
"""A value, and the ends of its 95 % interval by patient; None where there is no interval."""


@dataclass(frozen=True)
class Luck:
    """Values of the chosen step on the patients that chose it, and on other patients.

    Attributes
    ----------
    metric, lower_is_better
        The number across groups by which the step was chosen, and its direction.
    how
        ``halves``: one half of the validation patients chose, the other half confirms. ``repeated
        halves``: all validation patients chose; the choice was repeated on random halves, and
        measured on the other halves. ``resamples``: the same with resamples (earlier versions).
    step, choosing, confirming
        The step, and the numbers of patients that chose and that confirm.
    chosen, confirmed
        The value of the step on the patients that chose, and its confirmed value.
    gain, confirmed_gain
        These values less the value of the unpruned model.
    luck
        The difference of the gains: how much better the gain looks on the patients that chose.
    """

    metric: str
    lower_is_better: bool
    how: Literal["halves", "repeated halves", "resamples"]
    step: int
    choosing: int
    confirming: int
    chosen: Span
    confirmed: Span
    gain: Span
    confirmed_gain: Span
    luck: Span


_REPEATED = {
    "repeated halves": "The choice was repeated on random halves of these patients, and each "
    "choice was measured on the other half, where it looks worse.",
    "resamples": "The choice was repeated in resamples of these patients, and each choice was "
    "measured on the patients outside the resample; in simulations this shows about half of the "
    "luck.",
}


def luck_sentences(luck: Luck) -> tuple[str, ...]:
    """Return sentences on the choice of the step, its confirmation, and the luck of the choice."""
    label, size = _term(luck).label, _text(luck, luck.luck)
    chosen = f"{label} {_text(luck, luck.chosen)}, a change of {_change(luck, luck.gain)}"
    confirmed = f"{_text(luck, luck.confirmed)}, a change of {_change(luck, luck.confirmed_gain)}"
    better = "less" if luck.lower_is_better else "more"
    if luck.how == "halves":
        return (
            f"Step {luck.step} was chosen on one half of the validation patients "
            f"({luck.choosing}): {chosen} by pruning ({better} is better).",
            f"The other half ({luck.confirming}) had no part in the choice: {confirmed}.",
            f"The change looks better by {size} on the patients that chose. The best of several "
            "steps tends to look better than it is; trust the other half and the test patients.",
        )
    return (
        f"Step {luck.step} was chosen on all {count_text(luck.choosing, 'validation patient')}, "
        f"who are too few for one half to choose and the other to confirm: {chosen} by pruning "
        f"({better} is better).",
        f"{_REPEATED[luck.how]} The estimated luck of the choice is {size}. Without it: "
        f"{confirmed}. The interval does not include the error of this estimate; trust the test "
        "patients.",
    )


def _term(luck: Luck) -> Term:
    """Return the words for the number across groups that the step was chosen by."""
    target = find_target(luck.metric)
    return term(target.metric.name, None if target.is_overall else target.aggregate)


def _text(luck: Luck, span: Span) -> str:
    """Return a value with its interval, if there is one."""
    return _shown(_term(luck).scale, span)


def _change(luck: Luck, span: Span) -> str:
    """Return a signed change with its interval."""
    return _shown(replace(_term(luck).scale, signed=True), span)


def _shown(scale: Scale, span: Span) -> str:
    ends = scale.interval(span[1], span[2])
    return f"{scale.text(span[0])} ({ends})" if ends else scale.text(span[0])
