"""What training a model costs: passes of samples through the network, and seconds.

A sample that goes forward counts one pass, one that goes backward, too, counts three. So it is
counted as if everything were tuned; layers that stand still cost less, which the seconds show.
"""

from __future__ import annotations

import math
from pathlib import Path

from pydantic import BaseModel

from evenhand.files import checked, read_object

TRAINED = 3
"""Passes of a sample that is trained on: forward, and twice as much backward."""


class TrainingCost(BaseModel, frozen=True):
    """What training a model took; of earlier versions nothing is known.

    Attributes
    ----------
    epochs
        How many epochs it had.
    passes
        Of samples, forward and backward (see above).
    seconds
        Of the clock, on the machine as it was loaded.
    """

    epochs: int = 0
    passes: int = 0
    seconds: float = 0.0


def epoch_passes(trained: int, scored: int) -> int:
    """Return the passes of an epoch that trains on some samples and scores others.

    Examples
    --------
    >>> epoch_passes(100, 20)
    320
    """
    return TRAINED * trained + scored


def equal_epochs(epochs: int, passes: int, each: int) -> int:
    """Return the epochs that cost as much as so many epochs and so many passes before them.

    Examples
    --------
    >>> equal_epochs(20, 6400, epoch_passes(100, 20))
    40
    """
    return epochs + math.ceil(passes / each)


def cost_of(folder: Path) -> TrainingCost:
    """Return what training a saved model took."""
    path = folder / "model.json"
    return checked(_Saved, read_object(path), path).cost


class _Saved(BaseModel):
    cost: TrainingCost = TrainingCost()
