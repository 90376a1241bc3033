"""What a search chooses from: mitigation methods, and their settings in declared ranges."""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from optuna.trial import BaseTrial

from evenhand.errors import EvenhandError
from evenhand.methods.ranges import OneOf, Range, Setting
from evenhand.methods.registry import find_method, method_settings
from evenhand.search.space import Params, Space
from evenhand.search.spaces import Choice

METHOD = "method"  # the parameter that names the method, where there are several


@dataclass(frozen=True)
class SearchedMethod:
    """A method that may be chosen.

    Attributes
    ----------
    name
        The method.
    fixed
        The settings that every trial has.
    ranges
        The settings that are searched; their parameters are called ``NAME.SETTING``.
    defaults
        What the searched settings are by default.
    """

    name: str
    fixed: Mapping[str, Setting]
    ranges: Mapping[str, Range]
    defaults: Mapping[str, Setting]

    @property
    def size(self) -> float:
        """How many ways to set it there are."""
        counts = (len(r.values) if isinstance(r, OneOf) else math.inf for r in self.ranges.values())
        return math.prod(counts)

    @property
    def by_default(self) -> SearchedMethod:
        """The method with the default of each searched setting, of which nothing is searched."""
        return SearchedMethod(self.name, {**self.fixed, **self.defaults}, {}, {})

    def ask(self, trial: BaseTrial) -> dict[str, Setting]:
        """Ask a trial for the settings."""
        ranges = self.ranges.items()
        drawn = {setting: _drawn(trial, f"{self.name}.{setting}", r) for setting, r in ranges}
        return {**self.fixed, **drawn}

    def set(self, choice: Choice) -> Choice:
        """Return a choice by this method, whose searched settings have their defaults."""
        return by_method(choice, self.name, {**self.fixed, **self.defaults})

    def params(self, choice: Choice) -> Params | None:
        """Return the parameters that write the method of a choice; None where none can."""
        settings = dict(choice.method_settings)
        searched = {setting: value for setting, value in settings.items() if setting in self.ranges}
        rest = {setting: value for setting, value in settings.items() if setting not in searched}
        fits = all(searched.get(setting) in allowed for setting, allowed in self.ranges.items())
        if choice.method != self.name or rest != self.fixed or not fits:
            return None
        return {f"{self.name}.{setting}": value for setting, value in searched.items()}


def searched_method(text: str) -> SearchedMethod:
    """Return the method that a text names: what it sets is given, the rest is searched.

    Parameters
    ----------
    text
        ``NAME`` or ``NAME:SETTING=VALUE,…``.

    Raises
    ------
    EvenhandError
        There is no such method or setting, a value has the wrong type, or the range of a setting
        lacks its default.

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
                f"range {allowed}, so that no search can try it. Widen the range in its class."
            )
    return SearchedMethod(name, chosen, ranges, defaults)


def fixed_method(text: str) -> SearchedMethod:
    """Return the method that a text names, of which nothing is searched."""
    return SearchedMethod(*method_settings(text, computed=("wrong",)), {}, {})


def with_methods(
    space: Space[Choice], methods: Sequence[SearchedMethod], first: Collection[Choice] = ()
) -> Space[Choice]:
    """Return a space whose choices have one of several methods, too.

    Parameters
    ----------
    space
        What else is chosen.
    methods
        At least one; no two of one name.
    first
        The choices that ``space`` tries first, in their order: their methods are written, too.
        Without them, the methods of what is tried first are drawn.
    """
    names = [method.name for method in methods]
    by_name = dict(zip(names, methods, strict=True))

    def ask(trial: BaseTrial) -> Choice:
        several = len(names) > 1
        name = str(trial.suggest_categorical(METHOD, names)) if several else names[0]
        return by_method(space.ask(trial), name, by_name[name].ask(trial))

    parts = [method_params(choice, methods) for choice in first] or [{}] * len(space.first)
    written = tuple(
        (origin, {**params, **more})
        for (origin, params), more in zip(space.first, parts, strict=True)
    )
    return Space(ask, space.size * sum(method.size for method in methods), written)


def method_params(choice: Choice, methods: Sequence[SearchedMethod]) -> Params:
    """Return the parameters that write the method of a choice in a space of some methods.

    They are none where no method of the space can be set so.
    """
    for method in methods:
        params = method.params(choice)
        if params is not None:
            return {METHOD: method.name, **params} if len(methods) > 1 else params
    return {}


def by_method(choice: Choice, name: str, settings: Mapping[str, Setting]) -> Choice:
    """Return a choice with another method."""
    return replace(choice, method=name, method_settings=tuple(sorted(settings.items())))


def _drawn(trial: BaseTrial, name: str, allowed: Range) -> Setting:
    if isinstance(allowed, OneOf):
        return cast(Setting, trial.suggest_categorical(name, list(allowed.values)))
    return trial.suggest_float(name, allowed.low, allowed.high, log=True)
