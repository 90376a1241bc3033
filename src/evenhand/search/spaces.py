"""Search spaces: masks of a family, flat or by stage, with a learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from types import MappingProxyType
from typing import Generic, TypeVar

from optuna.trial import BaseTrial
from torch import nn

from evenhand.errors import EvenhandError
from evenhand.masks.masks import Mask, find_units, listed_units
from evenhand.masks.units import Family, Unit, default_family, find_family
from evenhand.methods.ranges import Setting

AnyChoice = TypeVar("AnyChoice", bound=Hashable)
"""Type of the setting that a trial tries; two trials of the same choice give the same result."""

Params = Mapping[str, int | float | str]
"""A trial's parameters in Optuna, by name."""


@dataclass(frozen=True)
class Space(Generic[AnyChoice]):
    """A set of choices.

    Attributes
    ----------
    suggest
        Function that reads the choice of a finished trial, or draws that of a new one.
    size
        Number of choices; infinite if a real number is searched.
    first
        Choices to try first: for each, a label of its origin, and its trial parameters.
    """

    suggest: Callable[[BaseTrial], AnyChoice]
    size: float
    first: tuple[tuple[str, Params], ...] = ()


FIRST = "first"  # the parameter of a staged space that gives the first tuned stage


@dataclass(frozen=True)
class Choice:
    """The settings of one trial; two trials of the same choice give the same result."""

    mask: Mask
    lr: float
    seed: int  # of the head's initial weights, the order of samples, augmentation and dropout
    method: str = "erm"  # the mitigation method
    method_settings: tuple[tuple[str, Setting], ...] = ()  # its hyper-parameters, sorted by name


@dataclass(frozen=True)
class Rates:
    """The learning rates of a search, and the seed of all its fits."""

    low: float
    high: float
    seed: int

    def choice(self, trial: BaseTrial, mask: Mask) -> Choice:
        """Return a choice of a mask, with a learning rate that the trial suggests."""
        return Choice(mask, trial.suggest_float("lr", self.low, self.high, log=True), self.seed)

    @property
    def middle(self) -> float:
        """The geometric mean of the lowest and the highest rate."""
        # Rounding may put the root slightly outside the range.
        return min(max(math.sqrt(self.low * self.high), self.low), self.high)

    @property
    def size(self) -> float:
        """The number of possible rates: infinite, or 1 if the lowest is also the highest."""
        return math.inf if self.low < self.high else 1


def flat_space(family: Family, rates: Rates, starts: Mapping[str, Choice]) -> Space[Choice]:
    """Return the space of one bit per unit and a learning rate; trials begin with ``starts``."""
    always = _names(family.always)

    def suggest(trial: BaseTrial) -> Choice:
        bits = {unit.name: trial.suggest_int(unit.name, 0, 1) for unit in family.units}
        return rates.choice(trial, always.union(name for name, bit in bits.items() if bit))

    start_params = tuple(
        (
            origin,
            {unit.name: int(unit.name in choice.mask) for unit in family.units} | {"lr": choice.lr},
        )
        for origin, choice in starts.items()
    )
    return Space(suggest, 2.0 ** len(family.units) * rates.size, start_params)


def staged_space(family: Family, rates: Rates, starts: Mapping[str, Choice]) -> Space[Choice]:
    """Return a space that draws the first tuned stage, then a bit for each unit from that stage on.

    It has the same masks as `flat_space`, and exactly one set of parameters for each mask. The
    first tuned stage must have a tuned unit: if all its units but the last are frozen, the last is
    tuned without a bit. Stages are the depths of the family, numbered from 0 to n − 1; if the
    number drawn is n, no unit is tuned. Trials begin with ``starts``.
    """
    always = _names(family.always)
    stages = [tuple(units) for _, units in groupby(family.units, key=lambda unit: unit.depth)]

    def suggest(trial: BaseTrial) -> Choice:
        begin = trial.suggest_int(FIRST, 0, len(stages))
        tuned: set[str] = set()
        for stage in stages[begin:]:
            for unit in stage:
                implied = unit is stages[begin][-1] and not tuned
                if implied or trial.suggest_int(unit.name, 0, 1):
                    tuned.add(unit.name)
        return rates.choice(trial, always | tuned)

    start_params = tuple(
        (origin, _staged(stages, choice.mask) | {"lr": choice.lr})
        for origin, choice in starts.items()
    )
    return Space(suggest, 2.0 ** len(family.units) * rates.size, start_params)


def _staged(stages: list[tuple[Unit, ...]], mask: Mask) -> dict[str, int | float]:
    """Return the parameters of a mask in the staged space."""
    tuned = [any(unit.name in mask for unit in stage) for stage in stages]
    begin = tuned.index(True) if any(tuned) else len(stages)
    params: dict[str, int | float] = {FIRST: begin}
    for stage in stages[begin:]:
        params |= {unit.name: int(unit.name in mask) for unit in stage}
    if any(tuned) and not mask.intersection(_names(stages[begin][:-1])):
        del params[stages[begin][-1].name]
    return params


SPACES: Mapping[str, Callable[[Family, Rates, Mapping[str, Choice]], Space[Choice]]] = {
    "flat": flat_space,
    "staged": staged_space,
}


def rate_space(
    mask: Mask, rates: Rates, starts: Mapping[str, Choice] = MappingProxyType({})
) -> Space[Choice]:
    """Return the space of one mask and a searched learning rate.

    Trials begin with the learning rates of ``starts``.
    """
    start_params = tuple((origin, {"lr": choice.lr}) for origin, choice in starts.items())
    return Space(lambda trial: rates.choice(trial, mask), rates.size, start_params)


def repeat_space(choices: Mapping[int, Choice], seeds: Collection[int]) -> Space[Choice]:
    """Return the space that combines each choice, by its trial's number, with each fresh seed."""

    def suggest(trial: BaseTrial) -> Choice:
        number = trial.suggest_categorical("trial", list(choices))
        seed = trial.suggest_categorical("seed", list(seeds))
        return replace(choices[int(number)], seed=int(seed))

    start_params = tuple(
        (f"trial {number}", {"trial": number, "seed": seed}) for number in choices for seed in seeds
    )
    return Space(suggest, len(start_params), start_params)


def mask_family(backbone: nn.Module, text: str) -> Family:
    """Return the family that a text names: a name, ``auto``, or a list of units.

    Raises
    ------
    EvenhandError
        If the backbone lacks the family or a unit, or if two of the units overlap.
    """
    if text == "auto":
        return default_family(backbone)
    if "." not in text and "," not in text:
        return find_family(backbone, text)
    units = find_units(backbone, listed_units(text))
    owner: dict[int, str] = {}
    for unit in units:
        for parameter in unit.parameters:
            other = owner.setdefault(id(parameter), unit.name)
            if other != unit.name:
                raise EvenhandError(
                    f"--family: units {other} and {unit.name} overlap; name only one of them."
                )
    return Family("units", tuple(sorted(units, key=lambda unit: unit.depth)))


def expressible_masks(family: Family, masks: Mapping[str, Iterable[Unit]]) -> dict[str, Mask]:
    """Return, by name, the masks that a family can express, each mask once.

    Units outside the family are ignored, so every family can express the full mask.
    """
    covered = {id(p) for unit in family.units for p in unit.parameters}
    origins: dict[Mask, str] = {}
    for origin, units in masks.items():
        tuned = {id(p) for unit in units for p in unit.parameters} & covered
        inside = [unit for unit in family.units if {id(p) for p in unit.parameters} <= tuned]
        if {id(p) for unit in inside for p in unit.parameters} == tuned:
            origins.setdefault(_names(inside), origin)
    return {origin: mask for mask, origin in origins.items()}


def _names(units: Iterable[Unit]) -> Mask:
    return frozenset(unit.name for unit in units)
