"""Series that a dataset of Python code gives, an array ``(time, variables)`` each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np

from evenhand.cohort.cohort import UnreadableError, Values
from evenhand.errors import EvenhandError

KEYS = ("series", "values", "signal", "x")
"""Where a mapping has its series."""


@dataclass(frozen=True, eq=False)
class SeriesItems:
    """The series of a dataset, by its positions as text.

    Attributes
    ----------
    dataset
        Gives item k by ``dataset[k]``; one thread at a time asks it.
    series
        From an item to its array.
    variables
        What each column of an array is.
    """

    dataset: Any
    series: Callable[[Any], Any]
    variables: tuple[str, ...]
    lock: Lock = field(default_factory=Lock)

    @property
    def ids(self) -> Sequence[str]:
        """Every position."""
        return tuple(map(str, range(len(self.dataset))))

    def steps(self) -> int:
        """Return how long the first series is, which all are to be."""
        return len(self("0")) if self.ids else 0

    def load(self, steps: int, sample_id: str) -> Values:
        """Return one series ``(steps, V)``, NaN where nothing was observed.

        Raises
        ------
        UnreadableError
            If the series has another length, or is not a series (see `as_series`).
        """
        values = self(sample_id)
        if len(values) != steps:
            raise UnreadableError(
                f"item {sample_id} of the dataset has {len(values)} time steps, not {steps} as "
                "item 0 has. Bring all to one length, with NaN where nothing was observed."
            )
        return values

    def __call__(self, sample_id: str) -> Values:
        """Return one series, of any length."""
        try:
            with self.lock:
                item = self.series(self.dataset[int(sample_id)])
            return as_series(item, self.variables)
        except (EvenhandError, OSError, ValueError, TypeError) as error:
            raise UnreadableError(f"item {sample_id} of the dataset: {error}") from error


def first_series(item: Any) -> Any:
    """Return the series of an item: the first of a tuple, or a mapping's by its usual names.

    Raises
    ------
    EvenhandError
        If a mapping has none of these names.

    Examples
    --------
    >>> first_series(("values", 1)), first_series({"series": "values", "label": 1})
    ('values', 'values')
    """
    return sample_in(item, "series", KEYS, (tuple,))


def sample_in(item: Any, kind: str, keys: Sequence[str], first_of: tuple[type[Any], ...]) -> Any:
    """Return the sample of an item of a dataset.

    Parameters
    ----------
    item
        What the dataset yields: the sample alone, or with its label and more.
    kind
        The noun for the sample, and the argument that names the way to it.
    keys
        Where a mapping has it.
    first_of
        Types of which the first entry is the sample.

    Raises
    ------
    EvenhandError
        If a mapping has none of the keys.
    """
    if isinstance(item, Mapping):
        names = [name for name in keys if name in item]
        if not names:
            raise EvenhandError(
                f"it has {', '.join(map(repr, item))} and none of {', '.join(keys)}; say where its "
                f"{kind} is: {kind}=lambda item: item[…]."
            )
        return item[names[0]]
    return item[0] if isinstance(item, first_of) else item


def as_series(item: Any, variables: Sequence[str]) -> Values:
    """Return a series as people hold it as float32 ``(T, V)``.

    Parameters
    ----------
    item
        An array, a tensor or a data frame ``(T, V)``, or ``(T,)`` of one variable; NaN where
        nothing was observed.
    variables
        The V names.

    Raises
    ------
    EvenhandError
        If the array has another shape, holds infinite values, or holds no observation.

    Examples
    --------
    >>> as_series([[1, None], [2, 3]], ("pulse", "lactate")).tolist()
    [[1.0, nan], [2.0, 3.0]]
    """
    raw = item.detach().cpu() if hasattr(item, "detach") else item
    values = np.asarray(raw, np.float32)
    if values.ndim == 1 and len(variables) == 1:
        values = values[:, None]
    if values.ndim != 2 or values.shape[1] != len(variables) or not len(values):
        raise EvenhandError(
            f"an array of the shape {values.shape} is no series of {len(variables)} variables "
            f"({', '.join(variables)}): give (time, variables), NaN where nothing was observed."
        )
    infinite = np.isinf(values)
    if infinite.any():
        step, place = np.argwhere(infinite)[0]
        raise EvenhandError(
            f"{variables[place]!r} is infinite at step {step}; give NaN where nothing was observed."
        )
    if np.isnan(values).all():
        raise EvenhandError("nothing was observed in it: every value is NaN.")
    return values
