"""The trials of a fit: a grid of learning rates, or a search of masks, methods and rates."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import TrialState

from evenhand.errors import EvenhandError
from evenhand.experiments.mitigation import Mitigation, build_mitigation
from evenhand.experiments.settings import GroupingSettings
from evenhand.experiments.task import Task
from evenhand.jobs.benchmark.entries import BOTH, Entry
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.masks.masks import Schedule, constant
from evenhand.masks.strategies import find_strategy
from evenhand.methods.registry import methods
from evenhand.networks.model import Model, build_model
from evenhand.search.spaces import (
    Choice,
    Rates,
    Space,
    flat_space,
    mask_family,
    searched_method,
    with_methods,
)


@dataclass(frozen=True, eq=False)
class Trial:
    """One trial of a fit.

    Attributes
    ----------
    number
        The number of the trial, from 0.
    lr
        The highest learning rate of the training.
    start
        Returns the untrained model and its schedule.
    mitigation
        The mitigation of the training; None for that of the task.
    """

    number: int
    lr: float
    start: Callable[[], tuple[Model, Schedule]]
    mitigation: Mitigation | None = None


def trial_rates(settings: BenchmarkSettings) -> list[float]:
    """Return the learning rates of each fit; for one trial, the geometric mean of both limits."""
    low, high = settings.lr_min, settings.lr_max
    if settings.trials == 1:
        return [math.sqrt(low * high)]
    return [float(rate) for rate in np.geomspace(low, high, settings.trials)]


def run_trials(
    task: Task,
    settings: BenchmarkSettings,
    entry: Entry,
    seed: int,
    score: Callable[[Trial], float],
    encoder: Path | None = None,
) -> list[tuple[float, float]]:
    """Score every trial of a fit, and return the learning rate and the value of each.

    Parameters
    ----------
    task
        The task of the entry in its fold.
    settings
        The settings of the benchmark.
    entry
        The entry.
    seed
        The seed of the fit.
    score
        Trains a trial, or reads its saved result, and returns its validation target. A search that
        continues after a kill draws the same trials again, because their values are the same.
    encoder
        The starting weights of every trial; None for those of the task.

    Returns
    -------
    list
        A pair for each trial; the value is NaN if the training diverged.
    """
    if entry.searches_masks:
        return _search(task, settings, entry, seed, score)

    def start() -> tuple[Model, Schedule]:
        return find_strategy(entry.strategy)(_model(task, seed, encoder), seed)

    trials = [Trial(number, lr, start) for number, lr in enumerate(trial_rates(settings))]
    return [(trial.lr, score(trial)) for trial in trials]


def search_space(task: Task, settings: BenchmarkSettings, entry: Entry, seed: int) -> Space[Choice]:
    """Return the space of a search; its first trial tunes the whole family, without a method.

    Raises
    ------
    EvenhandError
        If the network lacks the family.
    """
    family = mask_family(task.model(seed).backbone, "auto")
    rates = Rates(settings.lr_min, settings.lr_max, seed)
    all_units = frozenset(unit.name for unit in family.units)
    first = {"full": Choice(all_units, rates.middle, seed)}
    space = flat_space(family, rates, first)
    if entry.strategy != BOTH:
        return space
    allowed = [searched_method(name) for name in methods("training") if _allows(task, name)]
    return with_methods(space, allowed, first.values())


def _allows(task: Task, name: str) -> bool:
    """Return whether the training patients of a fold allow a method."""
    settings = task.settings
    assert isinstance(settings, GroupingSettings)
    try:
        build_mitigation(name, {}, settings, task.splits.train)
    except EvenhandError:
        return False
    return True


def _search(
    task: Task,
    settings: BenchmarkSettings,
    entry: Entry,
    seed: int,
    score: Callable[[Trial], float],
) -> list[tuple[float, float]]:
    """Search masks and learning rates, and for `BOTH` also methods."""
    space = search_space(task, settings, entry, seed)
    study = optuna.create_study(
        direction=task.targets[0].direction, sampler=optuna.samplers.TPESampler(seed=seed)
    )
    for _, params in space.first:
        study.enqueue_trial(dict(params))
    scored: list[tuple[float, float]] = []
    for number in range(settings.trials):
        optuna_trial = study.ask()
        choice = space.suggest(optuna_trial)
        trial = Trial(number, choice.lr, _start(task, choice, seed), _mitigation(task, choice))
        value = score(trial)
        if math.isfinite(value):
            study.tell(optuna_trial, value)
        else:
            study.tell(optuna_trial, state=TrialState.FAIL)
        scored.append((choice.lr, value))
    return scored


def _mitigation(task: Task, choice: Choice) -> Mitigation:
    settings = task.settings
    assert isinstance(settings, GroupingSettings)
    return build_mitigation(
        choice.method, dict(choice.method_settings), settings, task.splits.train
    )


def _start(task: Task, choice: Choice, seed: int) -> Callable[[], tuple[Model, Schedule]]:
    return lambda: (task.model(seed), constant(choice.mask))


def _model(task: Task, seed: int, encoder: Path | None) -> Model:
    """Return the untrained model of a fit, with the weights of an encoder if there is one."""
    if encoder is None:
        return task.model(seed)
    settings, classes = task.settings, task.splits.train.classes
    return build_model(settings.backbone, str(encoder), task.inputs, classes, seed, settings.head)


optuna.logging.set_verbosity(logging.WARNING)  # by default it logs every study
