"""The metrics by name. A new one is a function with one decorator line."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from evenhand.errors import EvenhandError
from evenhand.metrics.scored import Scored
from evenhand.registry import Registry, blamed, caution_in

Floats = NDArray[np.float64]
Weights = NDArray[np.uint8]
"""``(b, P)``: how often each of b resamples draws each patient."""

MetricDirection = Literal["higher", "lower", "ideal", "none"]
"""What is better: higher, lower, nearer to the ideal; or the metric only describes."""

ClassHandling = Literal["two", "macro", "any"]
"""Two classes only; one-vs-rest mean for more; or the metric itself takes any number."""

MetricInput = Literal["score", "decision", "label"]
Requirement = Literal["positives", "negatives", "flagged", "unflagged"]

SampleView = Callable[[NDArray[np.bool_], NDArray[np.bool_]], NDArray[np.bool_]]
"""Maps masks ``(n,)`` of the positives and of the group's own samples to that of those to use."""

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
    class_value
        For more than two classes, the value of each class against the rest, of which the mean is
        taken; None where that is ``value``.
    view
        Which samples of all compared groups the metric uses; None: the group's own.
    no_interval
        Why it has no interval, or None.
    caution
        When it misleads, or "".
    """

    name: str
    title: str
    direction: MetricDirection
    ideal: float | None
    needs: MetricInput
    requires: tuple[Requirement, ...]
    classes: ClassHandling
    share: bool
    source: str
    form: Form
    value: Callable[[Any], Floats]
    class_value: Callable[[Any], Floats] | None = None
    view: SampleView | None = None
    no_interval: str | None = None
    caution: str = ""

    def of_one_class(self) -> Metric:
        """Return the metric of one class against the rest, for the mean over classes."""
        return self if self.class_value is None else replace(self, value=self.class_value)


METRICS: Registry[Metric] = Registry("metric")
"""The metrics by name."""


def register_metric(
    direction: MetricDirection,
    *,
    ideal: float | None,
    needs: MetricInput,
    source: str,
    form: Form | None = None,
    requires: tuple[Requirement, ...] = (),
    classes: ClassHandling = "macro",
    share: bool = True,
    at: float | None = None,
    class_value: Callable[[Any], Floats] | None = None,
    view: SampleView | None = None,
    no_interval: str | None = None,
) -> Callable[[F], F]:
    """Register the decorated function as the metric of its name.

    It gets the summary that ``form`` makes and returns one value for each resample, NaN where the
    metric is undefined. The first line of its docstring is the metric's title, and a paragraph
    that begins with "Misleads" its caution. With ``at``, a number from 0 to 1, the function gets
    that number as well, by this name; ``name[0.95]`` is then the same metric at another.

    Parameters
    ----------
    direction, ideal, needs, requires, classes, share, source, class_value, view, no_interval
        As in `Metric`.
    form
        By default ``looped``, whose summary calls any function of labels, scores and decisions
        once for each resample. The other forms of `evenhand.metrics.forms` are faster: they do all
        resamples at once.
    at
        The number that the metric is at by default.

    Raises
    ------
    EvenhandError
        The name is taken.
    """

    def register(function: F) -> F:
        from evenhand.metrics.forms import looped

        name, title = function.__name__, _title(function, at)
        own = blamed(function, "metric")
        value = own if at is None else partial(own, at=at)
        metric = Metric(
            name, title, direction, ideal, needs, requires, classes, share, source, form or looped,
            value, class_value, view, no_interval, caution_in(function.__doc__),
        )  # fmt: skip
        METRICS.add(name, metric, module=function.__module__, title=title)
        return function

    return register


metric = register_metric  # its name in earlier versions


def find_metric(name: str) -> Metric:
    """Return a metric by its name, such as ``auc`` or ``sensitivity_at_specificity[0.95]``.

    Raises
    ------
    EvenhandError
        There is none (the message lists those that there are), it takes no number in brackets, or
        the number does not lie between 0 and 1.
    """
    base, bracket, text = name.partition("[")
    metric = METRICS.find(base)
    if not bracket:
        return metric
    if not isinstance(metric.value, partial):
        raise EvenhandError(f"{name!r}: {base} takes no number in brackets.")
    try:
        number = float(text.removesuffix("]"))
    except ValueError:
        number = math.nan
    if not 0 < number < 1 or not text.endswith("]"):
        raise EvenhandError(f"{name!r}: write a number between 0 and 1, as in {base}[0.95].")
    function = metric.value.func
    return replace(
        metric, name=name, title=_title(function, number), value=partial(function, at=number)
    )


def is_metric(name: str) -> bool:
    """Return whether a name is that of a metric, at whatever number.

    Examples
    --------
    >>> is_metric("net_benefit_at[0.2]"), is_metric("net_benefit_at[0.2]_gap")
    (True, False)
    """
    base, bracket, number = name.partition("[")
    return base in METRICS and (not bracket or number.endswith("]"))


def _title(function: Callable[..., Any], at: float | None) -> str:
    """Return the first line of a docstring, with the number that the metric is at."""
    return (function.__doc__ or "").partition("\n")[0].replace("{at}", f"{at}")
