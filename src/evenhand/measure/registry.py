"""The metrics by name. A new one is a function with one decorator line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from evenhand.errors import pick
from evenhand.measure.scored import Scored

Floats = NDArray[np.float64]
Weights = NDArray[np.uint8]
"""``(b, P)``: how often each of b resamples draws each patient."""

Direction = Literal["higher", "lower", "ideal", "none"]
"""What is better: higher, lower, nearer to the ideal; or the metric only describes."""

Classes = Literal["two", "macro", "any"]
"""Two classes only; one-vs-rest mean for more; or the metric itself takes any number."""

Need = Literal["score", "decision", "label"]
Requirement = Literal["positives", "negatives", "flagged", "unflagged"]

F = TypeVar("F", bound=Callable[..., Any])


class Form(Protocol):
    """What metrics of one kind share: a summary of the rows, computed for many resamples at once.

    A form is compared by identity; all metrics of one form use one summary.
    """

    def __call__(self, rows: Scored) -> Callable[[Weights], Any]:
        """Prepare rows, and return the function from weights ``(b, P)`` to their summary."""
        ...


@dataclass(frozen=True, eq=False)
class Metric:
    """A number about one group.

    Attributes
    ----------
    name, title
        What rows call it; one line that says what it is.
    direction, ideal
        Which way is better, and the value of a perfect model (None where there is none).
    needs
        Whether it is computed from scores, decisions or labels alone.
    requires
        Rows without which it is undefined.
    classes
        What it does with more than two classes.
    share
        Whether its values are shares, 0 … 1.
    source
        Where the definition comes from.
    form, value
        The summary that it is computed from, and the function from summary to values ``(b,)``.
    """

    name: str
    title: str
    direction: Direction
    ideal: float | None
    needs: Need
    requires: tuple[Requirement, ...]
    classes: Classes
    share: bool
    source: str
    form: Form
    value: Callable[[Any], Floats]


METRICS: dict[str, Metric] = {}


def metric(
    direction: Direction,
    *,
    ideal: float | None,
    needs: Need,
    form: Form,
    source: str,
    requires: tuple[Requirement, ...] = (),
    classes: Classes = "macro",
    share: bool = True,
) -> Callable[[F], F]:
    """Register the decorated function as the metric of its name.

    It gets the summary that ``form`` makes and returns one value for each resample, NaN where the
    metric is undefined. The first line of its docstring is the metric's title.
    """

    def register(function: F) -> F:
        name, title = function.__name__, (function.__doc__ or "").partition("\n")[0]
        METRICS[name] = Metric(
            name, title, direction, ideal, needs, requires, classes, share, source, form, function
        )
        return function

    return register


def find_metric(name: str) -> Metric:
    """Return a metric by its name.

    Raises
    ------
    UnknownNameError
        There is none; the message lists those that there are.
    """
    return pick("metric", name, METRICS)
