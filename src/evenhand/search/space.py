"""What a search chooses from."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from optuna.trial import BaseTrial

Choice = TypeVar("Choice", bound=Hashable)
"""What one trial tries; two trials of the same choice come out the same."""

Params = Mapping[str, int | float | str]
"""A trial's parameters in Optuna, by name."""


@dataclass(frozen=True)
class Space(Generic[Choice]):
    """A set of choices.

    Attributes
    ----------
    ask
        Asks a trial, new or finished, for its choice.
    size
        How many choices there are; infinite where a number is searched.
    first
        What is tried before anything else: where it comes from, and its parameters.
    """

    ask: Callable[[BaseTrial], Choice]
    size: float
    first: tuple[tuple[str, Params], ...] = ()
