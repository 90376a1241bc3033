"""Domain-independent heads: one head for each group in training, their mean when scoring."""

from __future__ import annotations

from torch import Tensor

from evenhand.methods.arrays import Rows, require_labels
from evenhand.methods.base import TrainingMethod


class DomainIndependent(TrainingMethod):
    """Train a head of its own for each group, and score with the mean of their logits.

    The attribute is needed in training only. A row whose group is unknown trains the mean of the
    heads.

    Notes
    -----
    Wang et al. (CVPR 2020, arXiv 1911.11834), who add the heads' logits; the mean gives the same
    decisions and keeps the scale of a single head.
    """

    needs_attribute = True

    def check(self, rows: Rows) -> None:
        """Refuse groups that lack a label: their head could not learn it."""
        require_labels(rows, "domain-independent")

    def head_outputs(self, classes: int) -> int:
        """Return C numbers for each group."""
        return classes * len(self.known_cells().levels)

    def scored(self, outputs: Tensor) -> Tensor:
        """Return the mean over heads ``(B, C)`` of ``(B, K·C)``."""
        cells = self.known_cells()
        return outputs.view(len(outputs), len(cells.levels), cells.classes).mean(dim=1)

    def loss(
        self, logits: Tensor, features: Tensor | None, labels: Tensor, groups: Tensor
    ) -> Tensor:
        """Return the mean cross-entropy; each row is scored by the head of its group."""
        cells = self.known_cells()
        heads = logits.view(len(logits), len(cells.levels), cells.classes)
        own = heads.gather(1, groups.clamp(min=0)[:, None, None].expand(-1, 1, cells.classes))
        has_group = (groups >= 0)[:, None]
        return self.plain_loss(own[:, 0].where(has_group, heads.mean(dim=1)), labels)


METHOD = DomainIndependent
