"""Masks: the units of a backbone that may change; all others are frozen."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from dataclasses import dataclass

from torch import nn

from evenhand.errors import UnknownNameError
from evenhand.masks.units import Unit, all_units, parts
from evenhand.networks.model import Model

Mask = frozenset[str]
"""Names of the units that may change; the head may always change."""


@dataclass(frozen=True)
class Schedule:
    """The mask of each epoch, and the decay of the learning rate with depth."""

    masks: Callable[[int], Mask]
    """Function of an epoch, counted from 0; it returns the mask of that epoch."""
    decay: float = 1.0
    """Factor on the learning rate for each depth below the head."""

    def __call__(self, epoch: int) -> Mask:
        """Return the mask of an epoch."""
        return self.masks(epoch)

    def reach(self, epochs: int) -> Mask:
        """Return all units that may change in the first ``epochs`` epochs."""
        return frozenset().union(*map(self.masks, range(epochs)))


def constant(mask: Mask) -> Schedule:
    """Return the schedule with the same mask in every epoch."""
    return Schedule(lambda epoch: mask)


def full_mask(backbone: nn.Module) -> Mask:
    """Return the mask of all units."""
    return frozenset(unit.name for unit in parts(backbone))


def listed_units(text: str) -> Mask:
    """Return the names in a comma-separated text."""
    return frozenset(filter(None, map(str.strip, text.split(","))))


def find_units(backbone: nn.Module, names: Mask) -> tuple[Unit, ...]:
    """Return the units with the given names.

    Raises
    ------
    UnknownNameError
        If the backbone lacks some of them; the message lists them and the most similar units.
    """
    units = all_units(backbone)
    unknown = sorted(names - units.keys())
    if unknown:
        near = [n for name in unknown for n in difflib.get_close_matches(name, units, n=1)]
        meant = f" Did you mean {', '.join(near)}?" if near else ""
        raise UnknownNameError(
            f"the backbone has no unit {', '.join(map(repr, unknown))}.{meant} "
            "`evenhand units BACKBONE` lists its units."
        )
    return tuple(units[name] for name in sorted(names))


def set_trainable(model: Model, mask: Mask) -> None:
    """Make the head and the units in the mask trainable, and freeze everything else.

    Raises
    ------
    UnknownNameError
        If the backbone lacks a unit of the mask.
    """
    chosen = {id(p) for unit in find_units(model.backbone, mask) for p in unit.parameters}
    freeze_others(model, chosen | set(map(id, model.head.parameters())))


def freeze_others(module: nn.Module, chosen: Collection[int]) -> None:
    """Make the parameters whose ``id`` is in ``chosen`` trainable, and freeze all others."""
    for parameter in module.parameters():
        parameter.requires_grad_(id(parameter) in chosen)


def train_mode(module: nn.Module) -> None:
    """Put the trainable modules into training mode, and all others into evaluation mode.

    A module is in training mode (dropout, running statistics) only if all of its parameters are
    trainable; a module without parameters has the mode of its parent. So a batch normalisation
    keeps its statistics if only its bias is trainable, and frozen modules do not change.
    """
    module.eval()
    _train_tunable(module)


def _train_tunable(module: nn.Module) -> None:
    trainable = [parameter.requires_grad for parameter in module.parameters()]
    if trainable and all(trainable):
        module.train()
    elif any(trainable):
        for child in module.children():
            _train_tunable(child)
