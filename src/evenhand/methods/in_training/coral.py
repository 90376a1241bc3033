"""Conditional CORAL: within a label, equal mean and covariance of features in all groups.

Misleads if only the gap is read: a strong penalty closes it by serving every group worse. With few
rows of a label and group in a batch, the penalty is noise.
"""

from __future__ import annotations

from itertools import combinations
from types import MappingProxyType

from torch import Tensor

from evenhand.methods.arrays import Rows, require_labels
from evenhand.methods.base import NotNegative, TrainingMethod
from evenhand.methods.ranges import Between

LEAST = 2
"""Smallest number of rows of a label and group in a batch for mean and covariance."""


class Coral(TrainingMethod):
    """Penalise features whose distribution, within a label, differs between groups.

    Parameters
    ----------
    strength
        Factor of the penalty; 0 is empirical risk minimisation. Covariances of the few rows of a
        label and group in a batch are noisy, and a large factor makes a model worse for everybody.

    Notes
    -----
    Sun & Saenko (ECCV 2016 workshops, arXiv 1607.01719), applied within each label: matching all
    rows of a group would also remove information about a label that is correlated with the group.
    For each label and each pair of groups with at least two rows in the batch, the penalty is the
    mean squared difference of the means, plus the mean squared difference of the covariances.
    Features are first divided by the square root of their mean variance; otherwise shrinking them
    would lower the penalty.
    """

    needs_attribute = True
    needs_features = True
    ranges = MappingProxyType({"strength": Between(0.03, 10.0)})

    def __init__(self, strength: NotNegative = 1.0) -> None:
        super().__init__()
        self.strength = strength

    def check(self, rows: Rows) -> None:
        """Raise EvenhandError if a group has fewer than two rows of a label: nothing to match."""
        require_labels(rows, "coral", LEAST)

    def loss(
        self, logits: Tensor, features: Tensor | None, labels: Tensor, groups: Tensor
    ) -> Tensor:
        """Return the mean cross-entropy and the penalty of a batch."""
        plain = self.plain_loss(logits, labels)
        if not self.strength:
            return plain
        features, labels = self.check_features(features, labels), labels.long()
        codes = self.check_codes(groups, labels)
        return plain + self.strength * conditional_coral(features, labels, codes)


def conditional_coral(features: Tensor, labels: Tensor, groups: Tensor) -> Tensor:
    """Return the distance of the groups' features ``(B, D)`` within each label, a scalar.

    Examples
    --------
    >>> import torch
    >>> same = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(2, 1)
    >>> float(conditional_coral(same, torch.zeros(4, dtype=int), torch.tensor([0, 0, 1, 1])))
    0.0
    """
    scaled = features / features.var(dim=0).mean().clamp(min=1e-12).sqrt()
    total, pairs = features.new_zeros(()), 0
    for label in sorted(set(labels.tolist())):
        has_label = labels == label
        moments = [
            _moments(scaled[has_label & (groups == group)])
            for group in sorted(set(groups[has_label & (groups >= 0)].tolist()))
        ]
        for first, second in combinations([m for m in moments if m is not None], 2):
            total = total + (first[0] - second[0]).square().mean()
            total = total + (first[1] - second[1]).square().mean()
            pairs += 1
    return total / max(1, pairs)


def _moments(rows: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return mean ``(D,)`` and covariance ``(D, D)`` of rows; None for too few rows."""
    if len(rows) < LEAST:
        return None
    mean = rows.mean(dim=0)
    centred = rows - mean
    return mean, centred.T @ centred / (len(rows) - 1)


METHOD = Coral
