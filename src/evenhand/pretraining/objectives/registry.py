"""The register of methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]
"""From projections ``(B, D)`` of the first and the second views of the same samples."""


@dataclass(frozen=True)
class Method:
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
        layers: list[nn.Module] = []
        for narrow, wide in pairwise((features, *self.widths)):
            layers += [nn.Linear(narrow, wide), nn.ReLU()]
        return nn.Sequential(*layers[:-1])


METHODS: dict[str, Method] = {}


def method(name: str, widths: tuple[int, ...]) -> Callable[[Loss], Loss]:
    """Register a loss as the method of that name."""

    def register(loss: Loss) -> Loss:
        METHODS[name] = Method(name, widths, loss)
        return loss

    return register
