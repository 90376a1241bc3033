"""The registry of fine-tuning strategies by name; importing it loads no heavy library."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from evenhand.errors import EvenhandError
from evenhand.registry import Registry

if TYPE_CHECKING:
    from evenhand.masks.masks import Mask, Schedule
    from evenhand.networks.model import Model

MakeStrategy = Callable[["Model", str, int], tuple["Model", "Schedule"]]
"""Function of a model, the strategy's argument (the K of ``last-K``) and a seed.

It returns the model to train and its schedule."""

MaskRule = Callable[["Model", str], "Mask"]
"""Function of a model and the strategy's argument; it returns one mask for all epochs."""

M = TypeVar("M", bound=MakeStrategy)
R = TypeVar("R", bound=MaskRule)


@dataclass(frozen=True)
class NamedStrategy:
    """A registered strategy.

    Attributes
    ----------
    name
        The beginning of its name (``last``).
    usage
        The syntax of its argument, for help and messages (``-K``).
    form
        The syntax of its argument as a regular expression.
    make
        The function that returns the model to train and its schedule.
    rule
        The function that returns the mask, if the strategy is one mask for all epochs; else None.
    """

    name: str
    usage: str
    form: str
    make: MakeStrategy
    rule: MaskRule | None = None

    def argument(self, text: str) -> str | None:
        """Return the argument in a text such as ``last-3``; None if the text does not match."""
        suffix = text.removeprefix(self.name)
        matches = text.startswith(self.name) and re.fullmatch(self.form, suffix)
        return suffix[1:] if matches else None

    def begins(self, text: str) -> bool:
        """Whether a text begins with the name; the argument may be missing or malformed."""
        suffix = text.removeprefix(self.name)
        return text.startswith(self.name) and (not suffix or suffix[0] in ":-")


STRATEGIES: Registry[NamedStrategy] = Registry(
    "strategy", "masks/strategies", ("register_strategy",)
)
"""The strategies by the beginning of their names (``last`` for ``last-K``)."""


@overload
def register_strategy(
    name: str, usage: str = ..., form: str = ..., *, gives: Literal["mask"]
) -> Callable[[R], R]: ...
@overload
def register_strategy(
    name: str, usage: str = ..., form: str = ..., *, gives: Literal["schedule"] = ...
) -> Callable[[M], M]: ...
def register_strategy(
    name: str, usage: str = "", form: str = "", *, gives: str = "schedule"
) -> Callable[[Any], Any]:
    """Register the decorated function as a strategy; its docstring's first line is the title.

    Parameters
    ----------
    name
        The beginning of its name (``last``).
    usage
        The syntax of its argument, for help and messages (``-K``).
    form
        The syntax of its argument as a regular expression that begins with ``:`` or ``-``
        (``-[0-9]+``).
    gives
        ``"mask"``: the function takes the model and the argument, and returns one mask for all
        epochs; a search may choose it. ``"schedule"``: the function takes the model, the argument
        and a seed, and returns the model to train and its schedule.

    Raises
    ------
    EvenhandError
        If the name is taken, or if the form begins with neither ``:`` nor ``-``.

    Examples
    --------
    >>> @register_strategy("nothing", gives="mask")
    ... def nothing(model, argument):
    ...     "Tunes the head alone."
    ...     return frozenset()
    >>> STRATEGIES.remove("nothing")
    """
    if form and not re.match(r"\(?[:-]", form):
        raise EvenhandError(f"strategy {name}: form={form!r} must begin with : or -.")

    def register(function: Any) -> Any:
        make = _make_constant(function) if gives == "mask" else function
        rule = function if gives == "mask" else None
        title = (function.__doc__ or "").partition("\n")[0]
        strategy = NamedStrategy(name, usage, form, make, rule)
        STRATEGIES.add(
            name,
            strategy,
            module=function.__module__,
            title=title,
            usage=usage,
            doc=function.__doc__ or "",
        )
        return function

    return register


def _make_constant(rule: MaskRule) -> MakeStrategy:
    def make(model: Model, argument: str, _: int) -> tuple[Model, Schedule]:
        from evenhand.masks.masks import constant

        return model, constant(rule(model, argument))

    return make


def strategy_of(text: str) -> tuple[NamedStrategy, str] | None:
    """Return the strategy that a text names, and its argument; None if the text names none.

    Raises
    ------
    EvenhandError
        If the argument does not have the strategy's form.
    """
    candidates = [strategy for strategy in STRATEGIES.values() if strategy.begins(text)]
    for strategy in sorted(candidates, key=lambda strategy: -len(strategy.name)):
        if (argument := strategy.argument(text)) is not None:
            return strategy, argument
    # A dash may belong to another name (norm-attn-mlp); a colon belongs to none.
    malformed = [
        strategy
        for strategy in candidates
        if strategy.usage or text.startswith(f"{strategy.name}:")
    ]
    if malformed:
        strategy = max(malformed, key=lambda strategy: len(strategy.name))
        raise EvenhandError(f"strategy {text!r}: write it as {strategy.name}{strategy.usage}.")
    return None
