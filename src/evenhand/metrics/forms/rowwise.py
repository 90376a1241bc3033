"""Means of something that each row has by itself: a loss, an error, a hit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenhand.metrics.forms.additive import Additive
from evenhand.metrics.registry import Floats
from evenhand.metrics.scored import Scored


@dataclass(frozen=True, eq=False)
class Mean:
    """Sums and counts ``(b,)``."""

    total: Floats
    count: Floats

    @property
    def value(self) -> Floats:
        """The mean ``(b,)``; NaN without rows."""
        return self.total / self.count


def rowwise(value: Callable[[Scored], NDArray[Any]]) -> Additive:
    """Make the form whose summary is the mean of ``value(rows)``, values ``(n,)``."""
    return Additive(
        features=lambda rows: [value(rows), np.ones(len(rows), dtype=np.bool_)],
        summary=lambda sums: Mean(*sums.T),
    )
