"""The trials of a fit: learning rates on a grid, or masks with learning rates, searched."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.trial import TrialState

from evenhand.experiments.task import Task
from evenhand.jobs.benchmark.entries import Entry
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.masks.masks import Schedule, constant
from evenhand.masks.strategies import find_strategy
from evenhand.networks.model import Model
from evenhand.search.spaces import Choice, Rates, flat_space, mask_family


@dataclass(frozen=True, eq=False)
class Trial:
    """What one trial of a fit trains.

    Attributes
    ----------
    number
        From 0.
    lr
        The highest learning rate.
    start
        Returns the untrained model, and what it may change.
    """

    number: int
    lr: float
    start: Callable[[], tuple[Model, Schedule]]


def rates_of(settings: BenchmarkSettings) -> list[float]:
    """Return the learning rates of every fit; one alone is the geometric mean of the ends."""
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
) -> list[tuple[float, float]]:
    """Score every trial of a fit, and return its learning rate and value, NaN where it diverged.

    Parameters
    ----------
    score
        Trains a trial, or reads what it gave before a kill, and returns its validation target. A
        search that goes on with the values of its first trials draws the same trials again.
    """
    if entry.searches_masks:
        return _searched(task, settings, seed, score)

    def start() -> tuple[Model, Schedule]:
        return find_strategy(entry.strategy)(task.model(seed), seed)

    trials = [Trial(number, lr, start) for number, lr in enumerate(rates_of(settings))]
    return [(one.lr, score(one)) for one in trials]


def _searched(
    task: Task, settings: BenchmarkSettings, seed: int, score: Callable[[Trial], float]
) -> list[tuple[float, float]]:
    """Search masks and learning rates; the first trial tunes the whole family."""
    family = mask_family(task.model(seed).backbone, "auto")
    rates = Rates(settings.lr_min, settings.lr_max, seed)
    everything = frozenset(unit.name for unit in family.units)
    space = flat_space(family, rates, {"full": Choice(everything, rates.middle, seed)})
    study = optuna.create_study(
        direction=task.targets[0].direction, sampler=optuna.samplers.TPESampler(seed=seed)
    )
    for _, params in space.first:
        study.enqueue_trial(dict(params))
    scored: list[tuple[float, float]] = []
    for number in range(settings.trials):
        asked = study.ask()
        choice = space.ask(asked)
        value = score(Trial(number, choice.lr, _start(task, choice, seed)))
        if math.isfinite(value):
            study.tell(asked, value)
        else:
            study.tell(asked, state=TrialState.FAIL)
        scored.append((choice.lr, value))
    return scored


def _start(task: Task, choice: Choice, seed: int) -> Callable[[], tuple[Model, Schedule]]:
    return lambda: (task.model(seed), constant(choice.mask))


optuna.logging.set_verbosity(logging.WARNING)  # it would name every study
