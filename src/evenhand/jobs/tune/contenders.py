"""What competes in a search: FairTune's masks, and each baseline over its learning rate."""

from __future__ import annotations

from dataclasses import dataclass

from evenhand.errors import EvenhandError
from evenhand.experiments.task import Task
from evenhand.jobs.finetune.job import model_name
from evenhand.jobs.tune.settings import TuneSettings
from evenhand.masks.masks import Mask, Schedule, constant
from evenhand.masks.strategies import find_strategy, strategy_mask
from evenhand.networks.model import Model
from evenhand.search.space import Space
from evenhand.search.spaces import SPACES, Choice, Rates, mask_family, rate_space

FAIRTUNE = "fairtune"


@dataclass(frozen=True)
class Contender:
    """One thing that is searched."""

    name: str
    space: Space[Choice]
    mask: Mask | None = None
    """The mask of a baseline that is a single mask, so that FairTune may choose it; else None."""

    @property
    def confirmation(self) -> str:
        """The name of the study that confirms its best."""
        return f"{self.name} confirmed"


def contenders(task: Task, settings: TuneSettings) -> tuple[Contender, ...]:
    """Return FairTune, whose first trials are not set yet, and the baselines.

    Raises
    ------
    EvenhandError
        The backbone lacks the family, a unit, or what a strategy tunes; there is no such
        strategy; or one is given twice.
    """
    rates = rates_of(settings)
    family = mask_family(task.model().backbone, settings.family)
    searches = [Contender(FAIRTUNE, SPACES[settings.space](family, rates, {}))]
    given: dict[str, str] = {}
    for strategy in settings.baseline:
        baseline = _baseline(task, strategy, settings.epochs, rates)
        if other := given.get(baseline.name):
            raise EvenhandError(
                f"--baseline {other} and --baseline {strategy} are the same; give it once."
            )
        given[baseline.name] = strategy
        searches.append(baseline)
    return tuple(searches)


def rates_of(settings: TuneSettings) -> Rates:
    """Return the learning rates that every contender is searched over."""
    return Rates(settings.lr_min, settings.lr_max, settings.seed)


def untrained(
    task: Task, settings: TuneSettings, name: str, choice: Choice
) -> tuple[Model, Schedule]:
    """Return the untrained model of what a contender of that name chose, and its schedule."""
    model = task.model(choice.seed)
    if name == FAIRTUNE:
        return model, constant(choice.mask)
    strategies = {model_name(strategy): strategy for strategy in settings.baseline}
    return find_strategy(strategies[name])(model, choice.seed)


def _baseline(task: Task, name: str, epochs: int, rates: Rates) -> Contender:
    _, schedule = find_strategy(name)(task.model(), rates.seed)
    space = rate_space(schedule.reach(epochs), rates)
    return Contender(model_name(name), space, strategy_mask(name, task.model()))
