"""Masks: which units of a backbone may change, and how the rest stands still."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from dataclasses import dataclass

from torch import nn

from evenhand.errors import UnknownNameError
from evenhand.masks.units import Unit, all_units, parts
from evenhand.networks.model import Model

Mask = frozenset[str]
"""Names of the units that may change; the head always may."""


@dataclass(frozen=True)
class Schedule:
    """What may change in each epoch, and how fast."""

    masks: Callable[[int], Mask]
    """The mask of each epoch, counted from 0."""
    decay: float = 1.0
    """Factor on the learning rate for each depth below the head."""

    def __call__(self, epoch: int) -> Mask:
        """Return the mask of an epoch."""
        return self.masks(epoch)

    def reach(self, epochs: int) -> Mask:
        """Return everything that may change in one of the first epochs."""
        return frozenset().union(*map(self.masks, range(epochs)))


def constant(mask: Mask) -> Schedule:
    """Return the schedule that has the same mask in every epoch."""
    return Schedule(lambda epoch: mask)


def full_mask(backbone: nn.Module) -> Mask:
    """Return the mask under which everything may change."""
    return frozenset(unit.name for unit in parts(backbone))


def listed_units(text: str) -> Mask:
    """Return the names that a text lists, joined by commas."""
    return frozenset(filter(None, map(str.strip, text.split(","))))


def find_units(backbone: nn.Module, names: Mask) -> tuple[Unit, ...]:
    """Return the units of those names.

    Raises
    ------
    UnknownNameError
        The backbone lacks some of them; the message names them all, with the nearest that it has.
    """
    units = all_units(backbone)
    unknown = sorted(names - units.keys())
    if unknown:
        near = [m for name in unknown for m in difflib.get_close_matches(name, units, n=1)]
        meant = f" Did you mean {', '.join(near)}?" if near else ""
        raise UnknownNameError(
            f"the backbone has no unit {', '.join(map(repr, unknown))}.{meant} "
            "`evenhand units BACKBONE` lists those that it has."
        )
    return tuple(units[name] for name in sorted(names))


def set_trainable(model: Model, mask: Mask) -> None:
    """Let the head and the units in the mask ask for gradients, and nothing else.

    Raises
    ------
    UnknownNameError
        The backbone lacks a unit of the mask.
    """
    chosen = {id(p) for unit in find_units(model.backbone, mask) for p in unit.parameters}
    freeze_others(model, chosen | set(map(id, model.head.parameters())))


def freeze_others(module: nn.Module, chosen: Collection[int]) -> None:
    """Let those parameters of a network ask for gradients whose identity is among the chosen."""
    for parameter in module.parameters():
        parameter.requires_grad_(id(parameter) in chosen)


def train_mode(module: nn.Module) -> None:
    """Put a network into training mode where it may change, into evaluation mode elsewhere.

    A module trains (drops out, updates running statistics) only when all of its parameters do;
    a module without parameters goes with the one that holds it. So a batch normalisation whose
    bias alone is tuned keeps its statistics, and everything that is frozen stands still.
    """
    module.eval()
    _train_what_may_change(module)


def _train_what_may_change(module: nn.Module) -> None:
    tuned = [parameter.requires_grad for parameter in module.parameters()]
    if tuned and all(tuned):
        module.train()
    elif any(tuned):
        for child in module.children():
            _train_what_may_change(child)
