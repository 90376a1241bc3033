"""Collapse of embeddings: nearly equal for all samples, or different in a few directions only."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def embedding_spread(embeddings: Tensor) -> float:
    """Return the spread of embeddings ``(n, D)``: from 0 (all are equal) to 1.

    The embeddings are scaled to length 1. The spread is √(Σ_j s_j²), with s_j the standard
    deviation of dimension j. It is near 1 if directions are spread evenly. It equals √D times the
    root mean square of the s_j; Chen and He (CVPR 2021, section 4.1) report the mean of the s_j.
    """
    unit = F.normalize(embeddings.double(), dim=1)
    return float(unit.var(dim=0, correction=0).sum().sqrt())


def effective_rank(embeddings: Tensor) -> float:
    """Return the number of directions in which embeddings ``(n, D)`` vary, from 1 to min(n, D).

    RankMe: exp(−Σ_k p_k log p_k), with p_k the k-th singular value divided by their sum.

    References
    ----------
    Garrido et al., RankMe: Assessing the Downstream Performance of Pretrained Self-Supervised
    Representations by Their Rank, ICML 2023, equation 1.
    """
    if not embeddings.isfinite().all():
        return math.nan
    values = torch.linalg.svdvals(embeddings.double())
    share = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
    return float(torch.special.entr(share).sum().exp())


LEAST_SPREAD = 0.05
LEAST_SHARE = 0.1
"""Embeddings have collapsed below this spread, or below this share of the untrained rank.

The limits lie between planted collapses (SimSiam without its stopped gradient, VICReg without its
variance term) and healthy runs of every objective, on phantoms: see the guide to self-supervision.
"""


@dataclass(frozen=True)
class Embeddings:
    """Spread and rank of the embeddings of some samples.

    Attributes
    ----------
    spread
        Their `embedding_spread`, from 0 (all are equal) to 1.
    rank
        Their `effective_rank`, at least 1.
    untrained_rank
        Their `effective_rank` before training.
    """

    spread: float
    rank: float
    untrained_rank: float = 1.0

    @property
    def collapsed(self) -> bool:
        """Whether they are nearly equal, or vary in far fewer directions than before training."""
        return self.spread < LEAST_SPREAD or self.rank < LEAST_SHARE * self.untrained_rank

    def __str__(self) -> str:
        """Return spread and effective rank as text."""
        return f"spread {self.spread:.2f}, effective rank {self.rank:.1f}"

    def sentences(self, encoder: str) -> Iterator[str]:
        """Yield a sentence if they have collapsed; ``encoder`` names the encoder in it."""
        if self.collapsed:
            yield (
                f"{encoder} has collapsed: its embeddings are nearly the same for all samples, or "
                f"lie in few directions (spread {self.spread:.3f}, at least {LEAST_SPREAD:g} is "
                f"usual; effective rank {self.rank:.1f}, {self.untrained_rank:.1f} before "
                "training). It has learnt little that distinguishes samples. Try a lower learning "
                "rate, more epochs, or another objective."
            )
