"""The type of a search space."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from optuna.trial import BaseTrial

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
