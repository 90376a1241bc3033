"""Where FairTune's search starts: from baselines that were tuned, and from known strategies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from evenhand.errors import EvenhandError
from evenhand.finetune.training import Task
from evenhand.models.masks import Mask, find_units
from evenhand.models.model import Model
from evenhand.models.strategies import strategy_mask
from evenhand.search.space import Space
from evenhand.search.study import ADOPTED
from evenhand.tune.contenders import rates_of
from evenhand.tune.settings import TuneSettings
from evenhand.tune.spaces import SPACES, Choice, known_masks, mask_family

KNOWN = ("head", "bitfit", "layernorm", "attention", "full")
"""Strategies whose masks a search tries first, where the family can express them.

They come in the order of what they cost: the first trials have few to be compared with, so they are
hardly ever stopped early, and the dearest one should have somebody to fall behind.
"""


@dataclass(frozen=True, eq=False)
class Tuned:
    """A baseline that is one mask, and what the search over its learning rate found."""

    name: str
    mask: Mask
    trials: Sequence[FrozenTrial]  # those that trained something
    rates: Sequence[float]  # of the trials
    best: float  # the learning rate of the best trial


@dataclass(frozen=True, eq=False)
class Start:
    """The space of FairTune's search, with what it tries first, and the trials that it adopts."""

    space: Space[Choice]
    adopted: tuple[FrozenTrial, ...]


def start_of(task: Task, settings: TuneSettings, tuned: Sequence[Tuned]) -> Start:
    """Return where FairTune's search starts.

    The trials of a baseline whose mask the family can write are its first trials. Where the family
    only comes near the mask (``full`` tunes the embedding of a ViT, too), the nearest one is tried
    first, at the baseline's best learning rate. Then come the other known strategies, at the middle
    of the rates.
    """
    model, rates = task.model(), rates_of(settings)
    family = mask_family(model.backbone, settings.family)
    space = partial(SPACES[settings.space], family, rates)
    masks = {one.name: one.mask for one in tuned}  # first, so that equal masks go by these names
    for name in KNOWN:
        if (mask := _known_mask(name, model)) is not None:
            masks.setdefault(name, mask)
    near = known_masks(family, {n: find_units(model.backbone, m) for n, m in masks.items()})
    always = frozenset(unit.name for unit in family.always)
    same = {
        one.name: one
        for one in tuned
        if one.name in near
        and _parameters(model, near[one.name] | always) == _parameters(model, one.mask)
    }
    best = {one.name: one.best for one in tuned}
    first = {
        name: Choice(near[name], best.get(name, rates.middle), rates.seed)
        for name in sorted(near.keys() - same.keys(), key=_cost)
    }
    adopted = (_adopted(one, near[one.name], space) for one in same.values())
    return Start(space(first), tuple(chain.from_iterable(adopted)))


def _adopted(
    tuned: Tuned, mask: Mask, space: Callable[[Mapping[str, Choice]], Space[Choice]]
) -> Iterator[FrozenTrial]:
    """Yield the trials of a baseline, written as trials of FairTune's space."""
    choices = {str(n): Choice(mask, rate, 0) for n, rate in enumerate(tuned.rates)}
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


def _cost(name: str) -> int:
    return KNOWN.index(name) if name in KNOWN else len(KNOWN)
