"""Collapse: embeddings that are nearly the same for all samples, or differ in a few directions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def spread(embeddings: Tensor) -> float:
    """Return how far embeddings ``(n, D)`` of length 1 lie apart: 0 where all are the same, to 1.

    √(Σ_j s_j²), with s_j the standard deviation of dimension j of embeddings of length 1. It is
    √D times the root mean square of the s_j, of which Chen and He (CVPR 2021, section 4.1) show
    the mean, and near 1 where directions are spread evenly.
    """
    unit = F.normalize(embeddings.double(), dim=1)
    return float(unit.var(dim=0, correction=0).sum().sqrt())


def effective_rank(embeddings: Tensor) -> float:
    """Return in how many directions embeddings ``(n, D)`` lie, from 1 to min(n, D).

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
"""Embeddings are called collapsed below that spread, or below that share of the untrained rank.

Chosen between planted collapses (SimSiam without its stopped gradient, VICReg without its variance
term) and healthy runs of every objective, on phantoms: see the guide to self-supervision.
"""


@dataclass(frozen=True)
class Embeddings:
    """What the embeddings of samples are, as `spread` and `effective_rank` say it.

    Parameters
    ----------
    spread
        From 0 (all the same) to 1.
    rank
        In how many directions they lie, from 1.
    untrained_rank
        In how many they lay before training.
    """

    spread: float
    rank: float
    untrained_rank: float = 1.0

    @property
    def collapsed(self) -> bool:
        """Whether they are nearly the same for all samples, or lie in much fewer directions."""
        return self.spread < LEAST_SPREAD or self.rank < LEAST_SHARE * self.untrained_rank

    def __str__(self) -> str:
        """Return both measures."""
        return f"spread {self.spread:.2f}, effective rank {self.rank:.1f}"

    def sentences(self, what: str) -> Iterator[str]:
        """Say that they have collapsed, where they have; ``what`` names the encoder."""
        if self.collapsed:
            yield (
                f"{what} has collapsed: its embeddings are nearly the same for all samples, or lie "
                f"in few directions (spread {self.spread:.3f}, at least {LEAST_SPREAD:g} is usual; "
                f"effective rank {self.rank:.1f}, {self.untrained_rank:.1f} before training). It "
                "has learnt little to tell samples apart. Try a lower learning rate, more epochs, "
                "or another objective."
            )
