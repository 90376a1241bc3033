"""The register of curvature estimators, which loads nothing heavy: second derivatives by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from evenhand.registry import Registry

if TYPE_CHECKING:
    from evenhand.pruning.curvature.types import Curvature, Estimator

E = TypeVar("E", bound=Callable[..., Any])


@dataclass(frozen=True)
class NamedEstimator:
    """An estimator of curvature that goes by a name; calling it makes a curvature.

    Attributes
    ----------
    name
        What ``--estimator`` calls it.
    make
        The estimator itself.
    any_layer
        Whether it handles any layer. Others are tried on a few samples before a pruning begins,
        and ``--search`` chooses among them alone.
    """

    name: str
    make: Estimator
    any_layer: bool = False

    def __call__(self, *arguments: Any, **more: Any) -> Curvature:
        """Make a curvature, as the estimator does."""
        return self.make(*arguments, **more)


ESTIMATORS: Registry[NamedEstimator] = Registry(
    "estimator", "pruning/curvature", ("register_estimator",)
)
"""The estimators by name."""


def register_estimator(name: str, *, any_layer: bool = False) -> Callable[[E], E]:
    """Register the decorated function as an estimator; its docstring's first line is the title.

    Parameters
    ----------
    name
        What ``--estimator`` calls it.
    any_layer
        As in `NamedEstimator`.

    Raises
    ------
    EvenhandError
        The name is taken.

    Examples
    --------
    >>> @register_estimator("ones", any_layer=True)
    ... def ones(draws, rng, loss=None):
    ...     "Every second derivative is 1: pruning by magnitude."
    ...     return lambda model, batches, names, forward=None: {}
    >>> ESTIMATORS["ones"].any_layer
    True
    >>> ESTIMATORS.remove("ones")
    """

    def register(function: E) -> E:
        title = (function.__doc__ or "").partition("\n")[0]
        estimator = NamedEstimator(name, function, any_layer)
        ESTIMATORS.add(name, estimator, module=function.__module__, title=title)
        return function

    return register


def find_estimator(name: str) -> NamedEstimator:
    """Return an estimator by its name.

    Raises
    ------
    UnknownNameError
        There is none; the message lists those that there are.
    """
    return ESTIMATORS.find(name)
