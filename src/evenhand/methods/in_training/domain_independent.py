"""Domain-independent heads: one head for each group in training, their mean when scoring.

Misleads if a group is small: its head learns from few rows.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from evenhand.errors import EvenhandError
from evenhand.methods.arrays import Rows, require_labels
from evenhand.methods.base import TrainingMethod


class DomainIndependent(TrainingMethod):
    """Train one head for each group, and score with the mean of the heads' logits.

    The attribute is needed in training only. A row whose group is unknown trains the mean of the
    heads.

    Notes
    -----
    Wang et al. (CVPR 2020, arXiv 1911.11834) sum the heads' logits. The mean gives the same
    decisions and keeps the scale of a single head. In the loss, ``priors`` are added to a head's
    outputs: the logarithms of the shares of the classes in its group. Without them, a head would
    use features of the group to learn how frequent each class is there, and this would distort its
    scores for other groups. In scoring, the mean of these logarithms over the groups is added.
    """

    needs_attribute = True

    def __init__(self) -> None:
        super().__init__()
        self.priors = torch.zeros(0)  # (K, C)

    def check(self, rows: Rows) -> None:
        """Raise EvenhandError if a group lacks a label: its head could not learn it."""
        require_labels(rows, "domain-independent")
        cells = self.training_groups()
        by_level = [rows.labels[rows.groups == level] for level in cells.levels]
        counts = np.stack([np.bincount(labels, minlength=cells.classes) for labels in by_level])
        priors = np.log(counts / counts.sum(axis=1, keepdims=True))
        self.priors = torch.from_numpy(priors - priors[:, :1]).float()

    def head_outputs(self, classes: int) -> int:
        """Return the number of outputs: C for each group."""
        return classes * len(self.training_groups().levels)

    def prior_shift(self) -> Tensor:
        """Return the mean over groups of each class's log-share ``(C,)``, minus that of class 0."""
        return self.priors.mean(dim=0)

    def scored(self, outputs: Tensor) -> Tensor:
        """Return logits ``(B, C)``: the mean over heads of ``(B, K·C)``, plus the mean priors."""
        return self._heads(outputs).mean(dim=1) + self.prior_shift().to(outputs)

    def loss(
        self, logits: Tensor, features: Tensor | None, labels: Tensor, groups: Tensor
    ) -> Tensor:
        """Return the mean cross-entropy; each row is scored by the head of its group."""
        labels = self.check_batch(logits, labels)
        heads = self._heads(logits) + self.priors.to(logits)
        codes = self.check_codes(groups, labels)
        index = codes.clamp(min=0)[:, None, None].expand(-1, 1, heads.shape[2])
        group_logits = heads.gather(1, index)[:, 0]
        has_group = (codes >= 0)[:, None]
        return self.plain_loss(group_logits.where(has_group, heads.mean(dim=1)), labels)

    def _heads(self, outputs: Tensor) -> Tensor:
        """Return the logits of each group's head ``(B, K, C)``."""
        cells = self.training_groups()
        levels, classes = len(cells.levels), cells.classes
        if outputs.ndim != 2 or outputs.shape[1] != levels * classes:
            raise EvenhandError(
                f"domain-independent got logits of shape {tuple(outputs.shape)}; give {levels} × "
                f"{classes} columns, the classes of each group side by side. "
                f"head_outputs({classes}) returns the number of outputs that the head needs."
            )
        return outputs.view(len(outputs), levels, classes)


METHOD = DomainIndependent
