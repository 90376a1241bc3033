"""What a benchmark says in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from evenhand.jobs.benchmark.analysis import Result
from evenhand.jobs.benchmark.entries import ERM
from evenhand.metrics.recipes import Difference, is_auc_of_group, levelled_down
from evenhand.metrics.rows import EVERYBODY, Key, full_name
from evenhand.reporting.text.numbers import Scale, listed, p_value, plain
from evenhand.reporting.verdicts import Verdict

CHANGE = Scale(signed=True)
FEW_SEEDS = "With one seed this speaks of these models, not of the methods that trained them."


class Statement(NamedTuple):
    """A verdict, and the number that it is about; None where it says that an entry levels down."""

    key: Key | None
    verdict: Verdict


def statements_of(result: Result) -> list[Statement]:
    """Return every statement of the page: first the numbers that decide."""
    keys = dict.fromkeys([*result.primary, *(one.key for one in result.differences)])
    shown = [key for key in keys if key.attribute == EVERYBODY or key.group == EVERYBODY]
    numbers = [Statement(key, _of_number(result, key)) for key in shown]
    return [*numbers, *(Statement(None, verdict) for verdict in _levelling(result))]


def number_name(key: Key) -> str:
    """Return what a number is called: ``auc_worst``, ``auc of old``.

    Examples
    --------
    >>> number_name(Key("age", "*", "auc", "worst")), number_name(Key("age", "old", "auc"))
    ('auc_worst', 'auc of old')
    """
    name = full_name(key.base, key.aggregate)
    return name if key.group == EVERYBODY else f"{name} of {key.group}"


def change_text(one: Difference) -> str:
    """Return a difference with its corrected interval."""
    if one.value is None:
        return "undefined"
    interval = CHANGE.interval(one.low, one.high)
    return f"{CHANGE.text(one.value)} ({interval})" if interval else CHANGE.text(one.value)


def _of_number(result: Result, key: Key) -> Verdict:
    """Return what is said of one number: who is better, or how large a difference would show."""
    of = [one for one in result.differences if one.key == key]
    tested = [one for one in of if one.p_adjusted is not None]
    better = [one for one in tested if one.better]
    p = min((one.p_adjusted for one in tested if one.p_adjusted is not None), default=None)
    about = f"{number_name(key)} against {ERM}"
    if better:
        names = [f"{one.recipe} ({change_text(one)}, p {_p(one)})" for one in better]
        text = f"Shown to be better than {ERM}: {listed(names)}. {_cost(result, better)}"
        text += "" if result.seeds > 1 else f" {FEW_SEEDS}"
        return Verdict(about, key.attribute, claim=True, text=text, p_adjusted=p)
    text = f"None was shown to be better. {_detectable(tested)}"
    return Verdict(about, key.attribute, claim=False, text=text, p_adjusted=p)


def _cost(result: Result, better: Sequence[Difference]) -> str:
    """Say which groups are shown to lose AUC under entries that are better in something else."""
    losses = [
        f"{loss.key.group} ({loss.key.attribute}) under {one.recipe}, {change_text(loss)}"
        for one in better
        for loss in result.of_recipe(one.recipe)
        if loss.better is False and is_auc_of_group(loss.key)
    ]
    return f"AUC is lost in {listed(losses)}." if losses else "No group is shown to lose AUC."


def _detectable(tested: Sequence[Difference]) -> str:
    sizes = [one.detectable for one in tested if one.detectable is not None]
    if not sizes:
        return "No difference could be tested."
    low, high = plain(min(sizes)), plain(max(sizes))
    each = low if low == high else f"{low} to {high}, by entry,"
    return f"A difference of {each} would have shown with power .8."


def _levelling(result: Result) -> Iterator[Verdict]:
    for name in result.values:
        for attribute in dict.fromkeys(key.attribute for key in result.values[ERM]):
            worst = result.worst.get(attribute)
            lost = levelled_down(result.of_recipe(name), attribute, worst)
            if lost:
                served = (
                    f"{worst}, the group that {ERM} serves worst on validation" if worst else ""
                )
                text = (
                    f"{name} levels down: {served or 'no group'} is not shown to be served better, "
                    f"and AUC is lost in {listed(list(lost))}."
                )
                yield Verdict(f"{name}: levelling down", attribute, claim=True, text=text)


def _p(one: Difference) -> str:
    return "" if one.p_adjusted is None else p_value(one.p_adjusted)
