"""Means of something that each row has by itself: a loss, an error, a hit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenhand.measure.forms.sums import by_patient
from evenhand.measure.registry import Floats, Form, Weights
from evenhand.measure.scored import Scored


@dataclass(frozen=True, eq=False)
class Mean:
    """Sums and counts ``(b,)``."""

    total: Floats
    count: Floats

    @property
    def value(self) -> Floats:
        """The mean ``(b,)``; NaN without rows."""
        return self.total / self.count


def rowwise(of: Callable[[Scored], NDArray[Any]]) -> Form:
    """Make the form whose summary is the mean of ``of(rows)``, values ``(n,)``."""

    def prepare(rows: Scored) -> Callable[[Weights], Mean]:
        total = by_patient(rows, of(rows)[:, None])
        count = by_patient(rows, np.ones((len(rows), 1), dtype=np.bool_))
        both = np.concatenate([total, count], axis=1)
        return lambda weights: Mean(*(weights.astype(np.float64) @ both).T)

    return prepare
