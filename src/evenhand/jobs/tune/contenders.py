"""What competes in a search: FairTune's choice, and each baseline over its learning rate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from evenhand.errors import EvenhandError
from evenhand.experiments.mitigation import build_mitigation
from evenhand.experiments.task import Task
from evenhand.jobs.finetune.job import model_name
from evenhand.jobs.tune.settings import TuneSettings
from evenhand.masks.masks import Mask, Schedule, constant
from evenhand.masks.strategies import find_strategy, strategy_mask
from evenhand.methods.registry import methods
from evenhand.networks.model import Model
from evenhand.search.methods import (
    SearchedMethod,
    fixed_method,
    searched_method,
    with_methods,
)
from evenhand.search.space import Space
from evenhand.search.spaces import SPACES, Choice, Rates, mask_family, rate_space

FAIRTUNE = "fairtune"


@dataclass(frozen=True)
class Contender:
    """One thing that is searched."""

    name: str
    space: Space[Choice]
    mask: Mask | None = None
    """The mask of a baseline that FairTune's search contains, so that FairTune may choose it."""

    @property
    def confirmation(self) -> str:
        """The name of the study that confirms its best."""
        return f"{self.name} confirmed"


@dataclass(frozen=True, eq=False)
class Allowed:
    """The methods that FairTune chooses from.

    Attributes
    ----------
    methods
        One where the method is no part of the search.
    refused
        Methods that were not asked for by name and that the data do not allow, with the reason.
    """

    methods: tuple[SearchedMethod, ...]
    refused: dict[str, str]

    @property
    def plain(self) -> SearchedMethod:
        """The method that known masks are tried with: ERM where it is one of them."""
        return next((method for method in self.methods if method.name == "erm"), self.methods[0])


def allowed_methods(task: Task, settings: TuneSettings) -> Allowed:
    """Return what FairTune chooses a method from.

    Raises
    ------
    EvenhandError
        A method that was named does not exist, or the data do not allow it; or there is no choice.
    """
    if settings.is_fixed:
        return Allowed((fixed_method(settings.fixed_method),), {})
    allowed, refused = [], {}
    for text in settings.method or methods("training"):
        method = searched_method(text)
        try:
            needed = build_mitigation(method.name, method.fixed, settings, task.splits.train).groups
        except EvenhandError as error:
            if settings.method:
                raise
            refused[method.name] = str(error)
        else:
            allowed.append((method, needed is not None))
    if settings.method_attribute is not None and not any(needs for _, needs in allowed):
        raise EvenhandError(
            f"--method-attribute {settings.method_attribute}: none of the methods needs an "
            "attribute. Leave it out, or name a method that needs one."
        )
    chosen = tuple(method for method, _ in allowed)
    if len(chosen) == 1 and not chosen[0].ranges:
        raise EvenhandError(
            f"--search {settings.search}: {chosen[0].name} is the only method, and nothing of it "
            "is searched. Name several with --method, or give --search masks."
        )
    return Allowed(chosen, refused)


def contenders(task: Task, settings: TuneSettings, allowed: Allowed) -> tuple[Contender, ...]:
    """Return FairTune, whose first trials are not set yet, and the baselines.

    Raises
    ------
    EvenhandError
        The backbone lacks the family, a unit, or what a strategy tunes; there is no such
        strategy; or one is given twice.
    """
    fairtune = Contender(FAIRTUNE, fairtune_space(task, settings, allowed, {}))
    strategies_by_name: dict[str, str] = {}
    for strategy in settings.baseline:
        name = model_name(strategy)
        if other := strategies_by_name.get(name):
            raise EvenhandError(
                f"--baseline {other} and --baseline {strategy} are the same; give it once."
            )
        strategies_by_name[name] = strategy
    strategies = [
        _strategy(task, settings, allowed, strategy) for strategy in strategies_by_name.values()
    ]
    if settings.search != "methods":
        return fairtune, *strategies
    return fairtune, *strategies, *_of_methods(task, settings, allowed, strategies_by_name)


def fairtune_space(
    task: Task, settings: TuneSettings, allowed: Allowed, first: dict[str, Choice]
) -> Space[Choice]:
    """Return what FairTune chooses from; it tries ``first`` first."""
    rates = rates_of(settings)
    if settings.search == "methods":
        space = rate_space(_reach(task, settings, settings.strategy), rates, first)
    else:
        family = mask_family(task.model().backbone, settings.family)
        space = SPACES[settings.space](family, rates, first)
    return with_methods(space, allowed.methods, first.values())


def rates_of(settings: TuneSettings) -> Rates:
    """Return the learning rates that every contender is searched over."""
    return Rates(settings.lr_min, settings.lr_max, settings.seed)


def untrained(
    task: Task, settings: TuneSettings, name: str, choice: Choice
) -> tuple[Model, Schedule]:
    """Return the untrained model of what a contender of that name chose, and its schedule."""
    model = task.model(choice.seed)
    if name == FAIRTUNE and settings.search != "methods":
        return model, constant(choice.mask)
    strategies = {model_name(strategy): strategy for strategy in settings.baseline}
    return find_strategy(strategies.get(name, settings.strategy))(model, choice.seed)


def _strategy(task: Task, settings: TuneSettings, allowed: Allowed, strategy: str) -> Contender:
    """Return a strategy as a baseline, trained by the fixed method (ERM where one is chosen)."""
    method = fixed_method(settings.fixed_method)
    reach = _reach(task, settings, strategy)
    space = with_methods(rate_space(reach, rates_of(settings)), [method])
    by_it = method.name in {method.name for method in allowed.methods}
    if settings.search != "methods":
        mask = strategy_mask(strategy, task.model())
    else:
        mask = reach if model_name(strategy) == model_name(settings.strategy) else None
    return Contender(model_name(strategy), space, mask if by_it else None)


def _of_methods(
    task: Task, settings: TuneSettings, allowed: Allowed, strategies_by_name: dict[str, str]
) -> Iterator[Contender]:
    """Yield each method with its default settings as a baseline, on the given strategy."""
    reach = _reach(task, settings, settings.strategy)
    rates = rate_space(reach, rates_of(settings))
    for method in allowed.methods:
        name = model_name(settings.strategy, method.name)
        if name not in strategies_by_name:  # else it is the strategy by ERM
            yield Contender(name, with_methods(rates, [method.by_default]), reach)


def _reach(task: Task, settings: TuneSettings, strategy: str) -> Mask:
    _, schedule = find_strategy(strategy)(task.model(), settings.seed)
    return schedule.reach(settings.epochs)
