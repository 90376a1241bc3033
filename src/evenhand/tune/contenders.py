"""What competes in a search: FairTune's masks, and each baseline over its learning rate."""

from __future__ import annotations

from dataclasses import dataclass

from evenhand.errors import EvenhandError
from evenhand.finetune.job import model_name
from evenhand.finetune.training import Task
from evenhand.models.masks import Mask, Schedule, constant, find_units
from evenhand.models.model import Model
from evenhand.models.strategies import find_strategy
from evenhand.models.units import Unit
from evenhand.search.space import Space
from evenhand.tune.settings import TuneSettings
from evenhand.tune.spaces import (
    SPACES,
    Choice,
    Rates,
    known_masks,
    mask_family,
    rate_space,
)

FAIRTUNE = "fairtune"
KNOWN = ("head", "bitfit", "layernorm", "attention", "full")
"""Strategies whose masks a search tries first, where the family can express them.

They come in the order of what they cost: the first trials have few to be compared with, so they are
hardly ever stopped early, and the dearest one should have somebody to fall behind.
"""


@dataclass(frozen=True)
class Contender:
    """One thing that is searched."""

    name: str
    space: Space[Choice]

    @property
    def confirmation(self) -> str:
        """The name of the study that confirms its best."""
        return f"{self.name} confirmed"


def contenders(task: Task, settings: TuneSettings) -> tuple[Contender, ...]:
    """Return FairTune and the baselines.

    Raises
    ------
    EvenhandError
        The backbone lacks the family, a unit, or what a strategy tunes; there is no such
        strategy; or one is given twice.
    """
    rates = Rates(settings.lr_min, settings.lr_max, settings.seed)
    found = [_fairtune(task, settings, rates)]
    given: dict[str, str] = {}
    for strategy in settings.baseline:
        baseline = _baseline(task, strategy, settings.epochs, rates)
        if other := given.get(baseline.name):
            raise EvenhandError(
                f"--baseline {other} and --baseline {strategy} are the same; give it once."
            )
        given[baseline.name] = strategy
        found.append(baseline)
    return tuple(found)


def untrained(
    task: Task, settings: TuneSettings, name: str, choice: Choice
) -> tuple[Model, Schedule]:
    """Return the untrained model of what a contender of that name chose, and its schedule."""
    model = task.model(choice.seed)
    if name == FAIRTUNE:
        return model, constant(choice.mask)
    strategies = {model_name(strategy): strategy for strategy in settings.baseline}
    return find_strategy(strategies[name])(model, choice.seed)


def _fairtune(task: Task, settings: TuneSettings, rates: Rates) -> Contender:
    model = task.model()
    family = mask_family(model.backbone, settings.family)
    space = SPACES[settings.space](family, rates, known_masks(family, _known_units(model)))
    return Contender(FAIRTUNE, space)


def _known_units(model: Model) -> dict[str, tuple[Unit, ...]]:
    found = {}
    for name in KNOWN:
        try:
            mask: Mask = find_strategy(name)(model, 0)[1](0)
        except EvenhandError:  # the network has nothing that it could tune
            continue
        found[name] = find_units(model.backbone, mask)
    return found


def _baseline(task: Task, name: str, epochs: int, rates: Rates) -> Contender:
    _, schedule = find_strategy(name)(task.model(), rates.seed)
    return Contender(model_name(name), rate_space(schedule.reach(epochs), rates))
