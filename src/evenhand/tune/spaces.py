"""What a search chooses: a mask and a learning rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from optuna.trial import BaseTrial

from evenhand.models.masks import Mask
from evenhand.models.units import Family


@dataclass(frozen=True)
class Choice:
    """What one trial tries."""

    mask: Mask
    lr: float


Space = Callable[[BaseTrial], Choice]
"""Asks a trial for its choice; a parameter's name in Optuna is the unit's name, or ``lr``."""


def mask_space(family: Family, lr: tuple[float, float]) -> Space:
    """Return FairTune's space: one bit per unit of a family, and the learning rate."""
    always = frozenset(unit.name for unit in family.always)

    def space(trial: BaseTrial) -> Choice:
        bits = {unit.name: trial.suggest_int(unit.name, 0, 1) for unit in family.units}
        mask = always.union(name for name, bit in bits.items() if bit)
        return Choice(mask, trial.suggest_float("lr", *lr, log=True))

    return space


def rate_space(mask: Mask, lr: tuple[float, float]) -> Space:
    """Return a baseline's space: its mask is given, and only the learning rate is searched."""
    return lambda trial: Choice(mask, trial.suggest_float("lr", *lr, log=True))
