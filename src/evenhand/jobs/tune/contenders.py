"""The contenders of a search: FairTune, and each baseline over its learning rate."""

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
from evenhand.search.spaces import (
    SPACES,
    Choice,
    Rates,
    SearchedMethod,
    Space,
    fixed_method,
    mask_family,
    rate_space,
    searched_method,
    with_methods,
)

FAIRTUNE = "fairtune"
"""The name of the contender whose masks or methods are searched."""


@dataclass(frozen=True)
class Contender:
    """FairTune or a baseline, with the space of its search.

    Attributes
    ----------
    name
        The name of its study and of its model.
    space
        The choices of its search.
    mask
        The mask of a baseline that FairTune's search contains, so that FairTune may choose it; None
        for FairTune, and for a baseline outside its search.
    """

    name: str
    space: Space[Choice]
    mask: Mask | None = None

    @property
    def confirmation(self) -> str:
        """The name of the study that trains the best trials again."""
        return f"{self.name} confirmed"


@dataclass(frozen=True, eq=False)
class AllowedMethods:
    """The methods that FairTune chooses from.

    Attributes
    ----------
    methods
        The methods; a single one if methods are not searched.
    refused
        The reason for each method that the user did not name and that the data do not allow.
    """

    methods: tuple[SearchedMethod, ...]
    refused: dict[str, str]

    @property
    def default(self) -> SearchedMethod:
        """The method of the first trials: ERM if it is allowed, else the first method."""
        return next((method for method in self.methods if method.name == "erm"), self.methods[0])


def allowed_methods(task: Task, settings: TuneSettings) -> AllowedMethods:
    """Return the methods that FairTune chooses from.

    Raises
    ------
    EvenhandError
        If a named method does not exist, the data do not allow it, or there is nothing to choose.
    """
    if settings.is_fixed:
        return AllowedMethods((fixed_method(settings.fixed_method),), {})
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
            f"--search {settings.search}: {chosen[0].name} is the only method, and none of its "
            "settings is searched. Name several with --method, or give --search masks."
        )
    return AllowedMethods(chosen, refused)


def contenders(
    task: Task, settings: TuneSettings, allowed: AllowedMethods
) -> tuple[Contender, ...]:
    """Return FairTune, without its first trials, and then the baselines.

    Raises
    ------
    EvenhandError
        If the backbone lacks the family, a unit or the layers of a strategy, or a strategy is
        unknown or given twice.
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
        _strategy_baseline(task, settings, allowed, strategy)
        for strategy in strategies_by_name.values()
    ]
    if settings.search != "methods":
        return fairtune, *strategies
    return fairtune, *strategies, *_method_baselines(task, settings, allowed, strategies_by_name)


def fairtune_space(
    task: Task, settings: TuneSettings, allowed: AllowedMethods, first: dict[str, Choice]
) -> Space[Choice]:
    """Return the space of FairTune's search, whose first trials are the choices ``first``."""
    rates = learning_rates(settings)
    if settings.search == "methods":
        space = rate_space(_reached_mask(task, settings, settings.strategy), rates, first)
    else:
        family = mask_family(task.model().backbone, settings.family)
        space = SPACES[settings.space](family, rates, first)
    return with_methods(space, allowed.methods, first.values())


def learning_rates(settings: TuneSettings) -> Rates:
    """Return the learning rates of every contender's search."""
    return Rates(settings.lr_min, settings.lr_max, settings.seed)


def make_untrained(
    task: Task, settings: TuneSettings, name: str, choice: Choice
) -> tuple[Model, Schedule]:
    """Return the untrained model and the schedule of a choice of the contender ``name``."""
    model = task.model(choice.seed)
    if name == FAIRTUNE and settings.search != "methods":
        return model, constant(choice.mask)
    strategies = {model_name(strategy): strategy for strategy in settings.baseline}
    return find_strategy(strategies.get(name, settings.strategy))(model, choice.seed)


def _strategy_baseline(
    task: Task, settings: TuneSettings, allowed: AllowedMethods, strategy: str
) -> Contender:
    """Return a strategy as a baseline, with the fixed method, or ERM if methods are searched."""
    method = fixed_method(settings.fixed_method)
    reached = _reached_mask(task, settings, strategy)
    space = with_methods(rate_space(reached, learning_rates(settings)), [method])
    is_allowed = method.name in {method.name for method in allowed.methods}
    if settings.search != "methods":
        mask = strategy_mask(strategy, task.model())
    else:
        mask = reached if model_name(strategy) == model_name(settings.strategy) else None
    return Contender(model_name(strategy), space, mask if is_allowed else None)


def _method_baselines(
    task: Task, settings: TuneSettings, allowed: AllowedMethods, strategies_by_name: dict[str, str]
) -> Iterator[Contender]:
    """Yield a baseline for each method, with its default settings, on the searched strategy."""
    reached = _reached_mask(task, settings, settings.strategy)
    rates = rate_space(reached, learning_rates(settings))
    for method in allowed.methods:
        name = model_name(settings.strategy, method.name)
        if name not in strategies_by_name:  # ERM has the name of its strategy, a baseline already
            yield Contender(name, with_methods(rates, [method.by_default]), reached)


def _reached_mask(task: Task, settings: TuneSettings, strategy: str) -> Mask:
    """Return all units that a strategy tunes in some epoch."""
    _, schedule = find_strategy(strategy)(task.model(), settings.seed)
    return schedule.reach(settings.epochs)
