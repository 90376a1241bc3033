"""Search spaces of masks, flat or by stage, and of mitigation methods, with learning rates."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from types import MappingProxyType
from typing import Generic, TypeVar, cast

from optuna.trial import BaseTrial
from torch import nn

from evenhand.errors import EvenhandError
from evenhand.masks.masks import Mask, find_units, listed_units
from evenhand.masks.units import Family, Unit, default_family, find_family
from evenhand.methods.ranges import OneOf, Setting, SettingRange
from evenhand.methods.registry import find_method, method_settings

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


METHOD = "method"  # the parameter that names the method, if there are several


@dataclass(frozen=True)
class SearchedMethod:
    """A method that a search may choose, with fixed and searched settings.

    Attributes
    ----------
    name
        Name of the method.
    fixed
        Setting → value, for settings that are not searched.
    ranges
        Setting → range, for settings that are searched; a trial calls them ``NAME.SETTING``.
    defaults
        Setting → default value, for settings that are searched.
    """

    name: str
    fixed: Mapping[str, Setting]
    ranges: Mapping[str, SettingRange]
    defaults: Mapping[str, Setting]

    @property
    def size(self) -> float:
        """Number of combinations of the searched settings."""
        counts = (len(r.values) if isinstance(r, OneOf) else math.inf for r in self.ranges.values())
        return math.prod(counts)

    @property
    def by_default(self) -> SearchedMethod:
        """The method with each searched setting fixed at its default."""
        return SearchedMethod(self.name, {**self.fixed, **self.defaults}, {}, {})

    def suggest(self, trial: BaseTrial) -> dict[str, Setting]:
        """Return the settings that a trial suggests."""
        ranges = self.ranges.items()
        drawn = {setting: _suggested(trial, f"{self.name}.{setting}", r) for setting, r in ranges}
        return {**self.fixed, **drawn}

    def set(self, choice: Choice) -> Choice:
        """Return a choice with this method; searched settings have their defaults."""
        return by_method(choice, self.name, {**self.fixed, **self.defaults})

    def params(self, choice: Choice) -> Params | None:
        """Return the trial parameters that give a choice's method and settings; None if none do."""
        settings = dict(choice.method_settings)
        searched = {setting: value for setting, value in settings.items() if setting in self.ranges}
        fixed = {setting: value for setting, value in settings.items() if setting not in searched}
        fits = all(searched.get(setting) in allowed for setting, allowed in self.ranges.items())
        if choice.method != self.name or fixed != self.fixed or not fits:
            return None
        return {f"{self.name}.{setting}": value for setting, value in searched.items()}


def searched_method(text: str) -> SearchedMethod:
    """Return the method that a text names; settings in the text are fixed, all others searched.

    Parameters
    ----------
    text
        ``NAME`` or ``NAME:SETTING=VALUE,…``.

    Raises
    ------
    EvenhandError
        If no method or setting has that name, if a value has the wrong type, or if the range of a
        setting does not contain its default.

    Examples
    --------
    >>> searched_method("group-dro:adjustment=1").fixed, list(searched_method("group-dro").ranges)
    ({'adjustment': 1.0}, ['rate'])
    """
    name, chosen = method_settings(text, computed=("wrong",))
    kind = find_method(name, "training").load()
    ranges = {setting: r for setting, r in kind.ranges.items() if setting not in chosen}
    signature = inspect.signature(kind).parameters
    defaults = {setting: signature[setting].default for setting in ranges}
    for setting, allowed in ranges.items():
        if defaults[setting] not in allowed:
            raise EvenhandError(
                f"method {name}: the default of {setting}, {defaults[setting]!r}, lies outside its "
                f"range {allowed}, so no search can try it. Widen the range in the method's class."
            )
    return SearchedMethod(name, chosen, ranges, defaults)


def fixed_method(text: str) -> SearchedMethod:
    """Return the method that a text names, with none of its settings searched."""
    return SearchedMethod(*method_settings(text, computed=("wrong",)), {}, {})


def with_methods(
    space: Space[Choice], methods: Sequence[SearchedMethod], first: Collection[Choice] = ()
) -> Space[Choice]:
    """Return a space whose choices also have one of several methods.

    Parameters
    ----------
    space
        The space of masks and learning rates.
    methods
        At least one method; no two have the same name.
    first
        The choices that ``space`` tries first, in their order; they are tried with their own
        methods. If empty, their methods are drawn.
    """
    names = [method.name for method in methods]
    by_name = dict(zip(names, methods, strict=True))

    def suggest(trial: BaseTrial) -> Choice:
        several = len(names) > 1
        name = str(trial.suggest_categorical(METHOD, names)) if several else names[0]
        return by_method(space.suggest(trial), name, by_name[name].suggest(trial))

    parts = [method_params(choice, methods) for choice in first] or [{}] * len(space.first)
    start_params = tuple(
        (origin, {**params, **more})
        for (origin, params), more in zip(space.first, parts, strict=True)
    )
    return Space(suggest, space.size * sum(method.size for method in methods), start_params)


def method_params(choice: Choice, methods: Sequence[SearchedMethod]) -> Params:
    """Return the trial parameters that give a choice's method in a space of some methods.

    They are empty if no method of the space matches the choice.
    """
    for method in methods:
        params = method.params(choice)
        if params is not None:
            return {METHOD: method.name, **params} if len(methods) > 1 else params
    return {}


def by_method(choice: Choice, name: str, settings: Mapping[str, Setting]) -> Choice:
    """Return a choice with another method."""
    return replace(choice, method=name, method_settings=tuple(sorted(settings.items())))


def _suggested(trial: BaseTrial, name: str, allowed: SettingRange) -> Setting:
    if isinstance(allowed, OneOf):
        return cast(Setting, trial.suggest_categorical(name, list(allowed.values)))
    return trial.suggest_float(name, allowed.low, allowed.high, log=True)
