"""The registry of curvature estimators by name; importing it loads no heavy library."""

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
    """An estimator of curvature with its name; calling it returns a curvature function.

    Attributes
    ----------
    name
        Its name in ``--estimator``.
    make
        The registered function, which returns a curvature function.
    any_layer
        Whether it handles any layer. If not, it is checked on two samples before a pruning begins,
        and ``--search`` may choose it.
    """

    name: str
    make: Estimator
    any_layer: bool = False

    def __call__(self, *arguments: Any, **more: Any) -> Curvature:
        """Return the estimator's curvature function."""
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
        Its name in ``--estimator``.
    any_layer
        As in `NamedEstimator`.

    Raises
    ------
    EvenhandError
        If the name is taken.

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
        If no estimator has that name; the message lists the names.
    """
    return ESTIMATORS.find(name)
