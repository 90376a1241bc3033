"""Means of something that each row has by itself: a loss, an error, a hit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evenhand.measure.forms.sums import patient_sums
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


def rowwise(of: Callable[[Scored], Floats]) -> Form:
    """Make the form whose summary is the mean of ``of(rows)``, values ``(n,)``."""

    def prepare(rows: Scored) -> Callable[[Weights], Mean]:
        sums = patient_sums(rows, np.stack([of(rows), np.ones(len(rows))], axis=1))
        return lambda weights: Mean(*sums(weights).T)

    return prepare
