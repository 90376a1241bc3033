"""What a benchmark says in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from evenhand.jobs.benchmark.comparing import DECISIONS, Result
from evenhand.jobs.benchmark.entries import ERM
from evenhand.metrics.recipes import (
    RATES,
    Difference,
    is_auc_of_group,
    is_better,
    levelled_down,
)
from evenhand.metrics.rows import EVERYBODY, Key, full_name
from evenhand.reporting.text.numbers import Scale, listed, p_value, plain
from evenhand.reporting.verdicts import Verdict

CHANGE = Scale(signed=True)
FEW_SEEDS = "With one seed this speaks of these models, not of the methods that trained them."


ALLOWED = 0.01
"""By how much an entry that moves decisions may lower a group's sensitivity or specificity."""

EXPLORATORY = "exploratory"
"""What everything is called that the plan does not test."""

Kind = Literal["number", "exploratory", "decisions", "levelling"]


class Statement(NamedTuple):
    """A verdict, what kind it is of, and the number that it is about, where it is about one."""

    kind: Kind
    key: Key | None
    verdict: Verdict


def statements_of(result: Result) -> list[Statement]:
    """Return every statement of the page: first the numbers that decide."""
    keys = dict.fromkeys([*result.primary, *(difference.key for difference in result.differences)])
    shown = [key for key in keys if key.attribute == EVERYBODY or key.group == EVERYBODY]
    numbers = [statement for key in shown for statement in _of_number(result, key)]
    levelling = (Statement("levelling", None, verdict) for verdict in _levelling(result))
    return [*numbers, *decision_statements(result), *levelling]


def number_name(key: Key) -> str:
    """Return what a number is called: ``auc_worst``, ``auc of old``.

    Examples
    --------
    >>> number_name(Key("age", "*", "auc", "worst")), number_name(Key("age", "old", "auc"))
    ('auc_worst', 'auc of old')
    """
    name = full_name(key.base, key.aggregate)
    return name if key.group == EVERYBODY else f"{name} of {key.group}"


def about_number(name: str) -> str:
    """Return what the verdict on a number is about, as its record says it."""
    return f"{name} against {ERM}"


def change_text(difference: Difference) -> str:
    """Return a difference with its corrected interval."""
    if difference.value is None:
        return "undefined"
    interval = CHANGE.interval(difference.low, difference.high)
    return (
        f"{CHANGE.text(difference.value)} ({interval})"
        if interval
        else CHANGE.text(difference.value)
    )


def _of_number(result: Result, key: Key) -> Iterator[Statement]:
    """Yield what is said of one number: of the entries that the plan tests, and of the others."""
    differences = [difference for difference in result.differences if difference.key == key]
    compared = [
        difference for difference in differences if difference.recipe not in result.roles.apart
    ]
    planned = [difference for difference in compared if result.is_planned(difference)]
    others = [difference for difference in compared if not result.is_planned(difference)]
    if planned:
        yield Statement("number", key, _planned(result, key, planned))
    if others:
        yield Statement("exploratory", key, _exploratory(key, others))
    if key in result.primary and not compared:
        yield Statement("number", key, _untested(key))


def _untested(key: Key) -> Verdict:
    """Return that no entry can change the number that decides."""
    text = (
        f"No entry is tested by {number_name(key)}: all of them move decisions alone, and leave it "
        "as it is. Give --primary equalized_odds_difference, or entries that are trained."
    )
    return Verdict(about_number(number_name(key)), key.attribute, claim=False, text=text)


def _planned(result: Result, key: Key, planned: Sequence[Difference]) -> Verdict:
    """Return who is better in one number, or how large a difference would have shown."""
    tested = [difference for difference in planned if difference.p_adjusted is not None]
    better = [difference for difference in tested if difference.better]
    worse = [difference for difference in tested if difference.better is False]
    loss = f" Shown to be worse than {ERM}: {_named(worse)}." if worse else ""
    about, p = about_number(number_name(key)), _smallest_p(tested)
    if better:
        text = f"Shown to be better than {ERM}: {_named(better)}. {_cost(result, better)}{loss}"
        text += "" if result.seeds > 1 else f" {FEW_SEEDS}"
        return Verdict(about, key.attribute, claim=True, text=text, p_adjusted=p)
    text = f"None was shown to be better. {_detectable(tested)}{loss}"
    return Verdict(about, key.attribute, claim=False, text=text, p_adjusted=p)


def _smallest_p(tested: Sequence[Difference]) -> float | None:
    """Return the smallest p-value of the differences that point to an entry that is better."""
    values = [
        difference.p_adjusted
        for difference in tested
        if difference.p_adjusted is not None and is_better(difference.key, difference.value or 0.0)
    ]
    return min(values, default=None)


def _exploratory(key: Key, others: Sequence[Difference]) -> Verdict:
    """Return what entries show that the plan does not test: it claims nothing."""
    better = [difference for difference in others if difference.better]
    about = f"{number_name(key)} against {ERM}, {EXPLORATORY}"
    shown = f"better than {ERM} are {_named(better)}" if better else "none is better"
    text = (
        f"Exploratory, as the plan does not test it: {shown}, corrected among what is exploratory "
        "alone. Only a new benchmark, planned for it, can show it."
    )
    return Verdict(about, key.attribute, claim=False, text=text)


def _named(better: Sequence[Difference]) -> str:
    return listed(
        [
            f"{difference.recipe} ({change_text(difference)}, p {_p(difference)})"
            for difference in better
        ]
    )


def decision_statements(result: Result) -> Iterator[Statement]:
    """Yield what is said of each entry that moves decisions alone, for each attribute.

    It is good where equalised odds is shown to be better, and where no group's sensitivity or
    specificity fell by more than `ALLOWED`.
    """
    for name in result.values:
        for difference in result.of_recipe(name) if name in result.roles.apart else ():
            if difference.key.base == DECISIONS:
                yield Statement("decisions", difference.key, _of_decisions(result, difference))


def _of_decisions(result: Result, difference: Difference) -> Verdict:
    attribute = difference.key.attribute
    rates = [
        rate
        for rate in result.of_recipe(difference.recipe)
        if rate.key.base in RATES and rate.key.attribute == attribute and rate.value is not None
    ]
    lowest = min(rates, key=lambda rate: rate.value or 0.0, default=None)
    about = f"{difference.recipe}: decisions"
    changed = f"equalised odds ({number_name(difference.key)}) changes by"
    change = f"{changed} {change_text(difference)}, p {_p(difference)}"
    lost = lowest is not None and (lowest.value or 0.0) < -ALLOWED
    price = _price(lowest)
    if not result.is_planned(difference):
        text = f"Exploratory, as the plan does not test it: {change}. {price}"
        return Verdict(f"{about}, {EXPLORATORY}", attribute, claim=False, text=text)
    if not difference.better:
        text = f"Not shown to be better: {change}. {_detectable([difference])} {price}"
        return Verdict(about, attribute, claim=False, text=text, p_adjusted=difference.p_adjusted)
    head = "Better, at a price" if lost else "Shown to be better"
    text = f"{head}: {change}. {price}"
    return Verdict(about, attribute, claim=not lost, text=text, p_adjusted=difference.p_adjusted)


def _price(lowest: Difference | None) -> str:
    """Say how far the rate of a group falls that falls most."""
    if lowest is None:
        return "No rate of a group is defined."
    what = f"the {lowest.key.base} of {lowest.key.group} changes by {change_text(lowest)}"
    if (lowest.value or 0.0) < -ALLOWED:
        return f"It costs too much: {what}, where {plain(ALLOWED)} may be lost."
    sure = lowest.low is not None and lowest.low >= -ALLOWED
    rest = "" if sure else f", so that a loss above {plain(ALLOWED)} is not excluded"
    return f"No rate of a group falls by more than {plain(ALLOWED)}: {what}{rest}."


def _cost(result: Result, better: Sequence[Difference]) -> str:
    """Say which groups are shown to lose AUC under entries that are better in something else."""
    losses = [
        f"{loss.key.group} ({loss.key.attribute}) under {difference.recipe}, {change_text(loss)}"
        for difference in better
        for loss in result.of_recipe(difference.recipe)
        if loss.better is False and is_auc_of_group(loss.key)
    ]
    return f"AUC is lost in {listed(losses)}." if losses else "No group is shown to lose AUC."


def _detectable(tested: Sequence[Difference]) -> str:
    sizes = [difference.detectable for difference in tested if difference.detectable is not None]
    if not sizes:
        if any(difference.p_adjusted is not None for difference in tested):
            return "So few patients would not have shown even the largest possible difference."
        return "No difference could be tested."
    low, high = plain(min(sizes)), plain(max(sizes))
    each = low if low == high else f"{low} to {high}, by entry,"
    return f"A difference of {each} would have shown with power .8."


def _levelling(result: Result) -> Iterator[Verdict]:
    for name in result.values:
        for attribute in dict.fromkeys(key.attribute for key in result.values[ERM]):
            worst = result.worst.get(attribute)
            groups = [
                difference
                for difference in result.of_recipe(name)
                if difference.key.attribute == attribute
            ]
            lost = levelled_down(groups, attribute, worst)
            if lost:
                served = (
                    f"{worst}, the group that {ERM} serves worst on validation" if worst else ""
                )
                text = (
                    f"{name} levels down: {served or 'no group'} is not shown to be served better, "
                    f"and AUC is lost in {listed(list(lost))}."
                )
                planned = all(map(result.is_planned, filter(_is_shown, groups)))
                about = f"{name}: levelling down" + ("" if planned else f", {EXPLORATORY}")
                yield Verdict(about, attribute, claim=planned, text=text)


def _is_shown(difference: Difference) -> bool:
    return difference.better is not None


def _p(difference: Difference) -> str:
    return "" if difference.p_adjusted is None else p_value(difference.p_adjusted)
