"""The start of FairTune's search: trials of tuned baselines, and known strategies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from evenhand.errors import EvenhandError
from evenhand.experiments.task import Task
from evenhand.jobs.tune.contenders import Allowed, fairtune_space, rates_of
from evenhand.jobs.tune.settings import TuneSettings
from evenhand.masks.masks import Mask, find_units
from evenhand.masks.strategies import strategy_mask
from evenhand.networks.model import Model
from evenhand.search.space import Space
from evenhand.search.spaces import Choice, expressible_masks, mask_family
from evenhand.search.study import ADOPTED

KNOWN = ("head", "bitfit", "layernorm", "attention", "full")
"""Strategies whose masks a search tries first, where the family can express them.

The cheapest comes first: the first trials have few others to be compared with and are hardly ever
stopped early, while the most expensive one can be.
"""


@dataclass(frozen=True, eq=False)
class Tuned:
    """A baseline that FairTune's search contains, and what its own search found."""

    name: str
    mask: Mask
    trials: Sequence[FrozenTrial]  # those that trained something
    choices: Sequence[Choice]  # of the trials
    best: float  # the learning rate of the best trial


@dataclass(frozen=True, eq=False)
class Start:
    """The space of FairTune's search, with what it tries first, and the trials that it adopts."""

    space: Space[Choice]
    adopted: tuple[FrozenTrial, ...]


def start_of(task: Task, settings: TuneSettings, allowed: Allowed, tuned: Sequence[Tuned]) -> Start:
    """Return where FairTune's search starts.

    Where methods alone are searched, the trials of the baselines that it contains are its first
    trials: each method with its default settings. Where masks are, the trials of a baseline whose
    mask the family can write are. Where the family only comes near the mask (``full`` tunes the
    embedding of a ViT, too), the nearest one is tried first, at the baseline's best learning rate.
    Then come the other known strategies, at the middle of the rates, and each other method with its
    default settings and the largest mask.
    """
    space = partial(fairtune_space, task, settings, allowed)
    if settings.search == "methods":
        adopted = (_adopted(contender, contender.mask, space) for contender in tuned)
        return Start(space({}), tuple(chain.from_iterable(adopted)))
    return _start_of_masks(task, settings, allowed, tuned)


def _start_of_masks(
    task: Task, settings: TuneSettings, allowed: Allowed, tuned: Sequence[Tuned]
) -> Start:
    """Return where a search of masks starts."""
    model, rates = task.model(), rates_of(settings)
    family = mask_family(model.backbone, settings.family)
    space = partial(fairtune_space, task, settings, allowed)
    masks = {contender.name: contender.mask for contender in tuned}
    baselines = {name: masks.get(name) or _known_mask(name, model) for name in (*KNOWN, *masks)}
    units = {n: find_units(model.backbone, m) for n, m in baselines.items() if m is not None}
    always = frozenset(unit.name for unit in family.always)
    written = {
        name: mask
        for name in masks
        for mask in expressible_masks(family, {name: units[name]}).values()
        if _parameters(model, mask | always) == _parameters(model, masks[name])
    }
    best = {contender.name: contender.best for contender in tuned}
    first = {
        name: allowed.plain.set(Choice(mask, best.get(name, rates.middle), rates.seed))
        for name, mask in expressible_masks(family, units).items()
        if mask not in written.values()
    }
    largest = always.union(unit.name for unit in family.units)
    for method in allowed.methods:
        if method is not allowed.plain:
            choice = Choice(largest, best.get("full", rates.middle), rates.seed)
            first[method.name] = method.set(choice)
    adopted = (
        _adopted(contender, written[contender.name], space)
        for contender in tuned
        if contender.name in written
    )
    return Start(space(first), tuple(chain.from_iterable(adopted)))


def _adopted(
    tuned: Tuned, mask: Mask, space: Callable[[dict[str, Choice]], Space[Choice]]
) -> Iterator[FrozenTrial]:
    """Yield the trials of a baseline, written as trials of FairTune's space."""
    choices = {str(n): replace(choice, mask=mask) for n, choice in enumerate(tuned.choices)}
    written = space(choices)
    for trial, (_, params) in zip(tuned.trials, written.first, strict=True):
        fixed = FixedTrial(dict(params))
        written.ask(fixed)
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


def _known_mask(name: str, model: Model) -> Mask | None:
    """Return the mask of a known strategy, None where the network has nothing that it tunes."""
    try:
        return strategy_mask(name, model)
    except EvenhandError:
        return None


def _parameters(model: Model, mask: Mask) -> set[int]:
    """Return the parameters that a mask tunes, by their ids."""
    return {id(p) for unit in find_units(model.backbone, mask) for p in unit.parameters}
