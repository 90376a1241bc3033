"""The cost of training a model: passes of samples through the network, and seconds.

A forward pass of a sample counts one, and forward and backward together count three, as if all
layers were tuned. Frozen layers cost less; only the seconds show this.
"""

from __future__ import annotations

import math
from pathlib import Path

from pydantic import BaseModel

from evenhand.files import read_json_record

TRAINED = 3
"""Passes of a training sample: one forward, and twice as much backward."""


class TrainingCost(BaseModel, frozen=True):
    """The cost of training a model; all 0 for models of versions that did not record it.

    Attributes
    ----------
    epochs
        The number of epochs.
    passes
        The passes of samples, as defined in this module.
    seconds
        The elapsed time.
    """

    epochs: int = 0
    passes: int = 0
    seconds: float = 0.0


def epoch_passes(trained: int, scored: int) -> int:
    """Return the passes of an epoch that trains on ``trained`` samples and scores ``scored``.

    Examples
    --------
    >>> epoch_passes(100, 20)
    320
    """
    return TRAINED * trained + scored


def equal_epochs(epochs: int, passes: int, epoch_passes: int) -> int:
    """Return the epochs that cost as much as ``epochs`` epochs and ``passes`` passes together.

    Examples
    --------
    >>> equal_epochs(20, 6400, epoch_passes(100, 20))
    40
    """
    return epochs + math.ceil(passes / epoch_passes)


def training_cost(folder: Path) -> TrainingCost:
    """Return the cost of training a saved model."""
    path = folder / "model.json"
    return read_json_record(_Saved, path).cost


class _Saved(BaseModel):
    cost: TrainingCost = TrainingCost()
