"""The registry of metrics. A metric is a function with one decorator."""

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
from evenhand.registry import Registry, caution_in, name_in_errors

Floats = NDArray[np.float64]
Weights = NDArray[np.uint8]
"""``(b, P)``: how often each of b resamples draws each patient."""

MetricDirection = Literal["higher", "lower", "ideal", "none"]
"""Which values are better: higher, lower, nearer to the ideal; ``"none"``: no value is better."""

ClassHandling = Literal["two", "macro", "any"]
"""How a metric handles classes: two classes only; as a one-vs-rest mean if there are more than two
(macro); or any number of classes."""

MetricInput = Literal["score", "decision", "label"]
Requirement = Literal["positives", "negatives", "flagged", "unflagged"]

SampleView = Callable[[NDArray[np.bool_], NDArray[np.bool_]], NDArray[np.bool_]]
"""Function of the masks ``(n,)`` of the positives and of the group's samples; returns the mask of
the samples that the metric uses."""

F = TypeVar("F", bound=Callable[..., Any])


class Form(Protocol):
    """A summary of rows that several metrics are computed from, for many resamples at once.

    Forms are compared by identity. All metrics with the same form share one summary.
    """

    def __call__(self, rows: Scored) -> Callable[[Weights], Any]:
        """Prepare rows, and return the function that summarises them for weights ``(b, P)``."""
        ...


@dataclass(frozen=True, eq=False)
class Metric:
    """A number about one group.

    Attributes
    ----------
    name, title
        Its name in metric rows, and a one-line description.
    direction, ideal
        Which values are better, and the value of a perfect model (None if there is none).
    needs
        Whether it is computed from scores, from decisions, or from labels alone.
    requires
        The kinds of rows without which it is undefined.
    classes
        How it handles more than two classes.
    share
        Whether its values are shares, 0 … 1.
    source
        Where the definition comes from.
    form, value
        The form of the summary, and the function of the summary that returns values ``(b,)``.
    class_value
        For more than two classes: the function that returns the value of one class against the
        rest, which the mean is taken over. None if it is ``value``.
    view
        Chooses the samples of all compared groups that the metric uses; None for the samples of
        the group.
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
        """Return the metric of one class against the rest."""
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
    """Register the decorated function as a metric, under the function's name.

    The function gets the summary of ``form`` and returns one value for each resample, NaN where
    the metric is undefined. The first line of its docstring is the title. A paragraph of it that
    begins with "Misleads" is the caution. With ``at``, a number between 0 and 1, the function gets
    this number as the keyword ``at``; ``name[0.95]`` is the same metric with .95 instead.

    Parameters
    ----------
    direction, ideal, needs, requires, classes, share, source, class_value, view, no_interval
        As in `Metric`.
    form
        By default ``looped``, whose summary calls any function of labels, scores and decisions
        once for each resample. The other forms of `evenhand.metrics.forms` are faster, because
        they compute all resamples at once.
    at
        The default of the number in brackets; None if the metric takes none.

    Raises
    ------
    EvenhandError
        If the name is taken.
    """

    def register(function: F) -> F:
        from evenhand.metrics.forms import looped

        name, title = function.__name__, _title(function, at)
        checked = name_in_errors(function, "metric")
        value = checked if at is None else partial(checked, at=at)
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
        If there is no such metric (the message lists all metrics), if it takes no number in
        brackets, or if the number is not between 0 and 1.
    """
    base, bracket, text = name.partition("[")
    metric = METRICS.find(base)
    if not bracket:
        return metric
    if not isinstance(metric.value, partial):
        raise EvenhandError(f"{name!r}: {base} takes no number in brackets; write {base}.")
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
    """Return whether a name is that of a metric, with or without a number in brackets.

    Examples
    --------
    >>> is_metric("net_benefit_at[0.2]"), is_metric("net_benefit_at[0.2]_gap")
    (True, False)
    """
    base, bracket, number = name.partition("[")
    return base in METRICS and (not bracket or number.endswith("]"))


def _title(function: Callable[..., Any], at: float | None) -> str:
    """Return the first line of a docstring, with the metric's number in place of ``{at}``."""
    return (function.__doc__ or "").partition("\n")[0].replace("{at}", f"{at}")
