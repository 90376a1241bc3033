"""The start of FairTune's search: adopted trials of tuned baselines, and common strategies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from evenhand.errors import EvenhandError
from evenhand.experiments.task import Task
from evenhand.jobs.tune.contenders import AllowedMethods, fairtune_space, learning_rates
from evenhand.jobs.tune.settings import TuneSettings
from evenhand.masks.masks import Mask, find_units
from evenhand.masks.strategies import strategy_mask
from evenhand.networks.model import Model
from evenhand.search.spaces import Choice, Space, expressible_masks, mask_family
from evenhand.search.study import ADOPTED

FIRST_STRATEGIES = ("head", "bitfit", "layernorm", "attention", "full")
"""Strategies whose masks a search tries first, if the family can express them.

The cheapest comes first, because early trials have few trials to be compared with and are hardly
ever stopped early; the most expensive one comes last, when it can be stopped.
"""


@dataclass(frozen=True, eq=False)
class TunedBaseline:
    """A baseline that FairTune's search contains, with the trials of its own search.

    Attributes
    ----------
    name, mask
        The baseline.
    trials, choices
        The trials that trained a model, and the choice of each.
    best_rate
        The learning rate of the best trial.
    """

    name: str
    mask: Mask
    trials: Sequence[FrozenTrial]
    choices: Sequence[Choice]
    best_rate: float


@dataclass(frozen=True, eq=False)
class SearchStart:
    """The space of FairTune's search, with its first trials, and the trials that it adopts."""

    space: Space[Choice]
    adopted: tuple[FrozenTrial, ...]


def fairtune_start(
    task: Task, settings: TuneSettings, allowed: AllowedMethods, tuned: Sequence[TunedBaseline]
) -> SearchStart:
    """Return the start of FairTune's search.

    If only methods are searched, it adopts the trials of all baselines that it contains: each
    method with its default settings. If masks are searched, it adopts the trials of each baseline
    whose mask the family can express exactly. If the family can only approximate the mask (``full``
    also tunes the embedding of a ViT), it tries the nearest mask first, at the baseline's best
    learning rate. Then it tries the other common strategies at the middle learning rate, and each
    other method with its default settings and the largest mask.
    """
    space = partial(fairtune_space, task, settings, allowed)
    if settings.search == "methods":
        adopted = (_adopted_trials(baseline, baseline.mask, space) for baseline in tuned)
        return SearchStart(space({}), tuple(chain.from_iterable(adopted)))
    return _mask_search_start(task, settings, allowed, tuned)


def _mask_search_start(
    task: Task, settings: TuneSettings, allowed: AllowedMethods, tuned: Sequence[TunedBaseline]
) -> SearchStart:
    """Return the start of a search of masks."""
    model, rates = task.model(), learning_rates(settings)
    family = mask_family(model.backbone, settings.family)
    space = partial(fairtune_space, task, settings, allowed)
    masks = {baseline.name: baseline.mask for baseline in tuned}
    strategies = {
        name: masks.get(name) or _strategy_mask(name, model) for name in (*FIRST_STRATEGIES, *masks)
    }
    units = {n: find_units(model.backbone, m) for n, m in strategies.items() if m is not None}
    always = frozenset(unit.name for unit in family.always)
    exact_masks = {
        name: mask
        for name in masks
        for mask in expressible_masks(family, {name: units[name]}).values()
        if _parameters(model, mask | always) == _parameters(model, masks[name])
    }
    best_rates = {baseline.name: baseline.best_rate for baseline in tuned}
    first = {
        name: allowed.default.set(Choice(mask, best_rates.get(name, rates.middle), rates.seed))
        for name, mask in expressible_masks(family, units).items()
        if mask not in exact_masks.values()
    }
    largest = always.union(unit.name for unit in family.units)
    for method in allowed.methods:
        if method is not allowed.default:
            choice = Choice(largest, best_rates.get("full", rates.middle), rates.seed)
            first[method.name] = method.set(choice)
    adopted = (
        _adopted_trials(baseline, exact_masks[baseline.name], space)
        for baseline in tuned
        if baseline.name in exact_masks
    )
    return SearchStart(space(first), tuple(chain.from_iterable(adopted)))


def _adopted_trials(
    tuned: TunedBaseline, mask: Mask, space: Callable[[dict[str, Choice]], Space[Choice]]
) -> Iterator[FrozenTrial]:
    """Yield the trials of a baseline as trials of FairTune's space, where they have ``mask``."""
    choices = {str(n): replace(choice, mask=mask) for n, choice in enumerate(tuned.choices)}
    space_with_choices = space(choices)
    for trial, (_, params) in zip(tuned.trials, space_with_choices.first, strict=True):
        fixed = FixedTrial(dict(params))
        space_with_choices.suggest(fixed)  # sets the distributions of the trial
        yield create_trial(
            state=trial.state,
            values=trial.values if trial.state is TrialState.COMPLETE else None,
            params=dict(params),
            distributions=fixed.distributions,
            intermediate_values=trial.intermediate_values,
            user_attrs={
                "origin": tuned.name,
                ADOPTED: trial.number,
                "epochs": trial.user_attrs.get("epochs", 0),
            },
        )


def _strategy_mask(name: str, model: Model) -> Mask | None:
    """Return the mask of a strategy; None if the network lacks the layers that it tunes."""
    try:
        return strategy_mask(name, model)
    except EvenhandError:
        return None


def _parameters(model: Model, mask: Mask) -> set[int]:
    """Return the parameters that a mask tunes, by their ids."""
    return {id(p) for unit in find_units(model.backbone, mask) for p in unit.parameters}
