"""The register of strategies, which loads nothing heavy: rules for fine-tuning by name."""

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

Make = Callable[["Model", str, int], tuple["Model", "Schedule"]]
"""From a model, what stands behind the strategy's name (the K of ``last-K``) and a seed to the
model to train and its schedule."""

Rule = Callable[["Model", str], "Mask"]
"""From a model and what stands behind the name to a mask for all epochs."""

M = TypeVar("M", bound=Make)
R = TypeVar("R", bound=Rule)


@dataclass(frozen=True)
class NamedStrategy:
    """A strategy that goes by a name.

    Attributes
    ----------
    name, usage
        Its name, and how what follows the name is written (``-K``).
    form
        The same as a regular expression.
    make
        What it does.
    rule
        Where it is one mask for all epochs, and changes nothing else, the function of that mask.
    """

    name: str
    usage: str
    form: str
    make: Make
    rule: Rule | None = None

    def argument(self, text: str) -> str | None:
        """Return what stands behind the name in a text; None where it is not written so."""
        rest = text.removeprefix(self.name)
        return rest[1:] if text.startswith(self.name) and re.fullmatch(self.form, rest) else None

    def is_meant(self, text: str) -> bool:
        """Whether a text begins as this strategy does, however it goes on."""
        rest = text.removeprefix(self.name)
        return text.startswith(self.name) and (not rest or rest[0] in ":-")


STRATEGIES: Registry[NamedStrategy] = Registry(
    "strategy", "masks/strategies", ("register_strategy",)
)
"""The strategies by the word that their names begin with."""


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
        What its name begins with (``last``).
    usage
        How what follows the name is written, for help and messages (``-K``).
    form
        The same as a regular expression that begins with ``:`` or ``-`` (``-[0-9]+``).
    gives
        ``"mask"``: the function returns one mask for all epochs, from the model and the text
        behind the name, and search may choose it. ``"schedule"``: it returns the model to train
        and its schedule, and gets a seed, too.

    Raises
    ------
    EvenhandError
        The name is taken, or the form could be part of a name.

    Examples
    --------
    >>> @register_strategy("nothing", gives="mask")
    ... def nothing(model, argument):
    ...     "Tunes the head alone."
    ...     return frozenset()
    >>> STRATEGIES.remove("nothing")
    """
    if form and not re.match(r"\(?[:-]", form):
        raise EvenhandError(f"strategy {name}: its form {form!r} has to begin with : or -.")

    def register(function: Any) -> Any:
        make = _constant(function) if gives == "mask" else function
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


def _constant(rule: Rule) -> Make:
    def make(model: Model, argument: str, _: int) -> tuple[Model, Schedule]:
        from evenhand.masks.masks import constant

        return model, constant(rule(model, argument))

    return make


def strategy_of(text: str) -> tuple[NamedStrategy, str] | None:
    """Return the strategy that a text names, and what stands behind the name; None if it has none.

    Raises
    ------
    EvenhandError
        What stands behind the name is not written as the strategy wants it.
    """
    meant = [strategy for strategy in STRATEGIES.values() if strategy.is_meant(text)]
    for strategy in sorted(meant, key=lambda strategy: -len(strategy.name)):
        if (argument := strategy.argument(text)) is not None:
            return strategy, argument
    # A dash may be part of another name (norm-attn-mlp), a colon is part of none.
    written = [
        strategy for strategy in meant if strategy.usage or text.startswith(f"{strategy.name}:")
    ]
    if written:
        strategy = max(written, key=lambda strategy: len(strategy.name))
        raise EvenhandError(f"strategy {text!r}: it is written {strategy.name}{strategy.usage}.")
    return None
