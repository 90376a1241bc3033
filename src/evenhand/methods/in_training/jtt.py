"""Just train twice: errors of a first, short training get more weight in the second.

Misleads if labels are wrong: rows with wrong labels are errors of the first training, and get the
weight. Too large a weight reverses the gap.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from evenhand.errors import EvenhandError
from evenhand.methods.base import Positive, TrainingMethod
from evenhand.methods.ranges import Between
from evenhand.tables.arrays import as_array


class Jtt(TrainingMethod):
    """Give more weight to the training rows that a first model classified wrongly.

    Parameters
    ----------
    weight
        Weight of a wrongly classified row; other rows have weight 1. With 1 the method is empirical
        risk minimisation.
    wrong
        ``(n,)``, whether the first model was wrong on each training row (`wrong_rows`).

    Notes
    -----
    Liu et al. (ICML 2021, arXiv 2107.09044). The first model is trained for few epochs and scores
    all training rows once, in evaluation mode and without augmentation; the second starts from
    the same initial weights. No attribute is needed in training, only to choose ``weight``. Too
    large a weight reverses the gap. Rows with wrong labels get more weight, too.
    """

    trains_twice = True
    ranges = MappingProxyType({"weight": Between(1.5, 20.0)})

    def __init__(self, weight: Positive = 6.0, *, wrong: ArrayLike) -> None:
        super().__init__()
        values = as_array(wrong)
        if values.ndim != 1 or values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
            raise EvenhandError(
                f"jtt: wrong is {values.shape} of {values.dtype}; give True or False for each "
                "training row."
            )
        self.weight, self.wrong = weight, values.astype(bool)

    def epoch(self, groups: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.intp]:
        """Return the training rows of one epoch.

        Wrong rows are drawn ``weight`` times as often as others; the epoch keeps its length.
        """
        if len(self.wrong) != len(groups):
            raise EvenhandError(
                f"jtt got {len(self.wrong)} values of `wrong` for {len(groups)} training rows; "
                "give one for each row."
            )
        if self.weight == 1:
            return super().epoch(groups, rng)
        chance = np.where(self.wrong, self.weight, 1.0)
        return rng.choice(len(groups), len(groups), p=chance / chance.sum())


def wrong_rows(outputs: Tensor, labels: Tensor) -> NDArray[np.bool_]:
    """Return whether the class with the highest logit differs from the label, ``(n,)``.

    Examples
    --------
    >>> import torch
    >>> wrong_rows(torch.tensor([[2.0, 1.0], [2.0, 1.0]]), torch.tensor([0, 1]))
    array([False,  True])
    """
    wrong: NDArray[np.bool_] = (outputs.argmax(dim=1) != labels).cpu().numpy()
    return wrong


METHOD = Jtt
