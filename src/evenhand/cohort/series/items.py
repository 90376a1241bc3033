"""Read series from a Python dataset whose items hold an array ``(time, variables)``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np

from evenhand.cohort.cohort import UnreadableError, Values
from evenhand.errors import EvenhandError

KEYS = ("series", "values", "signal", "x")
"""The usual keys of the series in a mapping."""


@dataclass(frozen=True, eq=False)
class SeriesItems:
    """Reads the series of a dataset; a sample's id is its position as text.

    Attributes
    ----------
    dataset
        Returns item k as ``dataset[k]``; only one thread at a time reads it.
    series
        Function from an item to its array.
    variables
        The names of the columns of an array.
    """

    dataset: Any
    series: Callable[[Any], Any]
    variables: tuple[str, ...]
    lock: Lock = field(default_factory=Lock)

    @property
    def ids(self) -> Sequence[str]:
        """All positions, as text."""
        return tuple(map(str, range(len(self.dataset))))

    def steps(self) -> int:
        """Return the length of the first series, which all series must have."""
        return len(self("0")) if self.ids else 0

    def load(self, steps: int, sample_id: str) -> Values:
        """Return one series ``(steps, V)``, NaN for values that were not observed.

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
        """Return one series of any length."""
        try:
            with self.lock:
                item = self.series(self.dataset[int(sample_id)])
            return as_series(item, self.variables)
        except (EvenhandError, OSError, ValueError, TypeError) as error:
            raise UnreadableError(f"item {sample_id} of the dataset: {error}") from error


def first_series(item: Any) -> Any:
    """Return the series of an item: the first element of a tuple, or a mapping's by a usual key.

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
        An item of the dataset: the sample alone, or a container with the sample and its label.
    kind
        The kind of sample, ``image`` or ``series``: the argument with which the user reads it.
    keys
        The usual keys of the sample in a mapping.
    first_of
        Types of containers whose first element is the sample.

    Raises
    ------
    EvenhandError
        If a mapping has none of the keys.
    """
    if isinstance(item, Mapping):
        names = [name for name in keys if name in item]
        if not names:
            raise EvenhandError(
                f"it has {', '.join(map(repr, item))} and none of {', '.join(keys)}; give a "
                f"function that reads its {kind}: {kind}=lambda item: item[…]."
            )
        return item[names[0]]
    return item[0] if isinstance(item, first_of) else item


def as_series(item: Any, variables: Sequence[str]) -> Values:
    """Return a series of any usual form as float32 ``(T, V)``.

    Parameters
    ----------
    item
        An array, a tensor or a data frame ``(T, V)``, or ``(T,)`` for one variable; NaN for values
        that were not observed.
    variables
        The names of the V variables.

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
        step, column = np.argwhere(infinite)[0]
        raise EvenhandError(
            f"{variables[column]!r} is infinite at step {step}; give NaN for values that were not "
            "observed."
        )
    if np.isnan(values).all():
        raise EvenhandError("nothing was observed in it: every value is NaN.")
    return values
