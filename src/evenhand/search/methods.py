"""Search spaces over mitigation methods, with their settings in declared ranges."""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from optuna.trial import BaseTrial

from evenhand.errors import EvenhandError
from evenhand.methods.ranges import OneOf, Setting, SettingRange
from evenhand.methods.registry import find_method, method_settings
from evenhand.search.spaces import Choice, Params, Space

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
