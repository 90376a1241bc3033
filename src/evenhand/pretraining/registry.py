"""The register of SSL objectives, which loads nothing heavy: losses on two views by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from evenhand.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

Loss = Callable[["Tensor", "Tensor"], "Tensor"]
"""From projections ``(B, D)`` of the first and the second views of the same samples."""


@dataclass(frozen=True)
class SSLObjective:
    """How two views of each sample teach an encoder.

    Parameters
    ----------
    name
        What ``--method`` calls it.
    widths
        Of the layers of the projection head, which is thrown away afterwards.
    loss
        What is minimised.
    """

    name: str
    widths: tuple[int, ...]
    loss: Loss

    def head(self, features: int) -> nn.Sequential:
        """Return a fresh projection head on representations ``(B, features)``."""
        from torch import nn

        layers: list[nn.Module] = []
        for narrow, wide in pairwise((features, *self.widths)):
            layers += [nn.Linear(narrow, wide), nn.ReLU()]
        return nn.Sequential(*layers[:-1])


SSL_OBJECTIVES: Registry[SSLObjective] = Registry(
    "SSL objective", "pretraining/objectives", ("register_ssl",)
)
"""The SSL objectives by name."""


def register_ssl(name: str, widths: tuple[int, ...]) -> Callable[[Loss], Loss]:
    """Register the decorated loss as an SSL objective; its docstring's first line is the title.

    Parameters
    ----------
    name
        What ``--method`` calls it.
    widths
        Of the layers of the projection head.

    Raises
    ------
    EvenhandError
        The name is taken.

    Examples
    --------
    >>> @register_ssl("distance", widths=(32,))
    ... def distance(first, second):
    ...     "Mean squared distance of the two views."
    ...     return (first - second).square().mean()
    >>> SSL_OBJECTIVES.titles()["distance"]
    'Mean squared distance of the two views.'
    >>> SSL_OBJECTIVES.remove("distance")
    """

    def register(loss: Loss) -> Loss:
        title = (loss.__doc__ or "").partition("\n")[0]
        objective = SSLObjective(name, widths, loss)
        SSL_OBJECTIVES.add(name, objective, module=loss.__module__, title=title)
        return loss

    return register
