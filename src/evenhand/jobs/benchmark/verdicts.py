"""The verdicts of a benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from evenhand.jobs.benchmark.comparing import DECISIONS, Result
from evenhand.jobs.benchmark.entries import ERM
from evenhand.metrics.recipes import RATES, Difference, is_auc_of_group, is_better, levelled_down
from evenhand.metrics.rows import EVERYBODY, Key, full_name
from evenhand.reporting.text.vocabulary import SIGNED, join_words, p_value_text, plain
from evenhand.reporting.verdicts import Verdict

FEW_SEEDS = "With one seed, this is about these models and not about the methods that trained them."

ALLOWED = 0.01
"""The largest allowed loss of a group's sensitivity or specificity by an adjustment."""

EXPLORATORY = "exploratory"
"""The word for results that the plan does not test."""

Kind = Literal["number", "decisions", "levelling"]


class Statement(NamedTuple):
    """A verdict, with its subject.

    Attributes
    ----------
    kind
        ``number``: all entries, compared by one number; ``decisions``: one entry that changes only
        decisions; ``levelling``: levelling down by one entry.
    key
        The number; None for levelling down.
    verdict
        The verdict.
    entry
        The name of the entry; None for statements about all entries.
    exploratory
        Whether the plan does not test it.
    """

    kind: Kind
    key: Key | None
    verdict: Verdict
    entry: str | None = None
    exploratory: bool = False


def make_statements(result: Result) -> list[Statement]:
    """Return every statement of the page; those about primary numbers come first."""
    keys = dict.fromkeys([*result.primary, *(difference.key for difference in result.differences)])
    across = [key for key in keys if key.attribute == EVERYBODY or key.group == EVERYBODY]
    return [
        *(statement for key in across for statement in _number_statements(result, key)),
        *_decision_statements(result),
        *_levelling_statements(result),
    ]


def number_name(key: Key) -> str:
    """Return the name of a number: ``auc_worst``, ``auc of old``.

    Examples
    --------
    >>> number_name(Key("age", "*", "auc", "worst")), number_name(Key("age", "old", "auc"))
    ('auc_worst', 'auc of old')
    """
    name = full_name(key.base, key.aggregate)
    return name if key.group == EVERYBODY else f"{name} of {key.group}"


def change_text(difference: Difference) -> str:
    """Return a difference with its corrected interval, as text."""
    if difference.value is None:
        return "undefined"
    interval = SIGNED.interval(difference.low, difference.high)
    return SIGNED.text(difference.value) + (f" ({interval})" if interval else "")


def _number_statements(result: Result, key: Key) -> Iterator[Statement]:
    """Yield the statements about one number: on planned differences, and on exploratory ones."""
    compared = [
        difference
        for difference in result.differences
        if difference.key == key and difference.recipe not in result.roles.decision_entries
    ]
    planned = [difference for difference in compared if result.is_planned(difference)]
    exploratory = [difference for difference in compared if not result.is_planned(difference)]
    if planned:
        yield Statement("number", key, _planned_verdict(result, key, planned))
    if exploratory:
        verdict = _exploratory_verdict(key, exploratory)
        yield Statement("number", key, verdict, exploratory=True)
    if key in result.primary and not compared:
        yield Statement("number", key, _untested_verdict(key))


def _topic(key: Key) -> str:
    return f"{number_name(key)} against {ERM}"


def _untested_verdict(key: Key) -> Verdict:
    """Return the verdict on a primary number that no entry can change."""
    text = (
        f"No entry is tested by {number_name(key)}: all entries change only decisions, which do "
        "not affect it. Give --primary equalized_odds_difference, or entries that are trained."
    )
    return Verdict(_topic(key), key.attribute, claim=False, text=text)


def _planned_verdict(result: Result, key: Key, planned: Sequence[Difference]) -> Verdict:
    """Return the verdict on one number: the better entries, or the detectable difference."""
    tested = [difference for difference in planned if difference.p_adjusted is not None]
    better = [difference for difference in tested if difference.better]
    worse = [difference for difference in tested if difference.better is False]
    loss = f" Shown to be worse than {ERM}: {_entries_text(worse)}." if worse else ""
    p = _smallest_p(tested)
    if better:
        gain = f"Shown to be better than {ERM}: {_entries_text(better)}."
        text = f"{gain} {_lost_groups_text(result, better)}{loss}"
        text += "" if result.seeds > 1 else f" {FEW_SEEDS}"
        return Verdict(_topic(key), key.attribute, claim=True, text=text, p_adjusted=p)
    text = f"None was shown to be better. {_detectable_text(tested)}{loss}"
    return Verdict(_topic(key), key.attribute, claim=False, text=text, p_adjusted=p)


def _smallest_p(tested: Sequence[Difference]) -> float | None:
    """Return the smallest p-value of the differences in the better direction."""
    values = [
        difference.p_adjusted
        for difference in tested
        if difference.p_adjusted is not None and is_better(difference.key, difference.value or 0.0)
    ]
    return min(values, default=None)


def _exploratory_verdict(key: Key, exploratory: Sequence[Difference]) -> Verdict:
    """Return the verdict on differences that the plan does not test; it claims nothing."""
    better = [difference for difference in exploratory if difference.better]
    shown = f"better than {ERM} are {_entries_text(better)}" if better else "none is better"
    text = (
        f"Exploratory, as the plan does not test it: {shown}, corrected over exploratory "
        "differences only. Only a new benchmark, whose plan tests the difference, can show it."
    )
    return Verdict(f"{_topic(key)}, {EXPLORATORY}", key.attribute, claim=False, text=text)


def _entries_text(differences: Sequence[Difference]) -> str:
    return join_words(
        [
            f"{difference.recipe} ({change_text(difference)}, p {_p_text(difference)})"
            for difference in differences
        ]
    )


def _decision_statements(result: Result) -> Iterator[Statement]:
    """Yield a statement on each entry that changes only decisions, for each attribute.

    It claims an improvement if equalised odds is shown to be better, and no group's sensitivity or
    specificity falls by more than `ALLOWED`.
    """
    for name in result.values:
        for difference in result.of_recipe(name) if name in result.roles.decision_entries else ():
            if difference.key.base == DECISIONS:
                yield Statement(
                    "decisions",
                    difference.key,
                    _decision_verdict(result, difference),
                    entry=name,
                    exploratory=not result.is_planned(difference),
                )


def _decision_verdict(result: Result, difference: Difference) -> Verdict:
    attribute = difference.key.attribute
    rates = [
        rate
        for rate in result.of_recipe(difference.recipe)
        if rate.key.base in RATES and rate.key.attribute == attribute and rate.value is not None
    ]
    lowest = min(rates, key=lambda rate: rate.value or 0.0, default=None)
    about = f"{difference.recipe}: decisions"
    name, change = number_name(difference.key), change_text(difference)
    change = f"equalised odds ({name}) changes by {change}, p {_p_text(difference)}"
    costs_too_much = lowest is not None and (lowest.value or 0.0) < -ALLOWED
    cost = _rate_text(lowest)
    if not result.is_planned(difference):
        text = f"Exploratory, as the plan does not test it: {change}. {cost}"
        return Verdict(f"{about}, {EXPLORATORY}", attribute, claim=False, text=text)
    p = difference.p_adjusted
    if not difference.better:
        text = f"Not shown to be better: {change}. {_detectable_text([difference])} {cost}"
        return Verdict(about, attribute, claim=False, text=text, p_adjusted=p)
    head = "Better, at a price" if costs_too_much else "Shown to be better"
    text = f"{head}: {change}. {cost}"
    return Verdict(about, attribute, claim=not costs_too_much, text=text, p_adjusted=p)


def _rate_text(lowest: Difference | None) -> str:
    """Return a sentence about the rate of a group that falls most."""
    if lowest is None:
        return "No rate of a group is defined."
    change = f"the {lowest.key.base} of {lowest.key.group} changes by {change_text(lowest)}"
    if (lowest.value or 0.0) < -ALLOWED:
        return f"It costs too much: {change}, and at most {plain(ALLOWED)} may be lost."
    is_certain = lowest.low is not None and lowest.low >= -ALLOWED
    doubt = "" if is_certain else f", but a loss above {plain(ALLOWED)} is not excluded"
    return f"No rate of a group falls by more than {plain(ALLOWED)}: {change}{doubt}."


def _lost_groups_text(result: Result, better: Sequence[Difference]) -> str:
    """Return a sentence about the groups that are shown to lose AUC under better entries."""
    losses = [
        f"{loss.key.group} ({loss.key.attribute}) under {difference.recipe}, {change_text(loss)}"
        for difference in better
        for loss in result.of_recipe(difference.recipe)
        if loss.better is False and is_auc_of_group(loss.key)
    ]
    return f"AUC is lost in {join_words(losses)}." if losses else "No group is shown to lose AUC."


def _detectable_text(tested: Sequence[Difference]) -> str:
    sizes = [difference.detectable for difference in tested if difference.detectable is not None]
    if not sizes:
        if any(difference.p_adjusted is not None for difference in tested):
            return "With so few patients, even the largest possible difference would not show."
        return "No difference could be tested."
    low, high = plain(min(sizes)), plain(max(sizes))
    size = low if low == high else f"{low} to {high}, by entry,"
    return f"A difference of {size} would have shown with power .8."


def _levelling_statements(result: Result) -> Iterator[Statement]:
    """Yield a statement on each entry that levels down, for each attribute."""
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
                gain = (
                    f"{worst}, the group that {ERM} serves worst on validation, is not shown"
                    if worst
                    else "no group is shown"
                )
                text = (
                    f"{name} levels down: {gain} to be served better, and AUC is lost in "
                    f"{join_words(list(lost))}."
                )
                planned = all(map(result.is_planned, filter(_is_shown, groups)))
                about = f"{name}: levelling down" + ("" if planned else f", {EXPLORATORY}")
                verdict = Verdict(about, attribute, claim=planned, text=text)
                yield Statement("levelling", None, verdict, entry=name, exploratory=not planned)


def _is_shown(difference: Difference) -> bool:
    return difference.better is not None


def _p_text(difference: Difference) -> str:
    return "" if difference.p_adjusted is None else p_value_text(difference.p_adjusted)
