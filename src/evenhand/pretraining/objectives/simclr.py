"""SimCLR (Chen et al., ICML 2020): contrast of the two views of a sample with all other views."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from evenhand.pretraining.registry import register_ssl

TEMPERATURE = 0.1


@register_ssl("simclr", widths=(256, 128, 50))
def nt_xent(first: Tensor, second: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Pick, for each view, the other view of the same sample among all views of the batch.

    The loss (NT-Xent) is the mean over all 2B views i, with p the other view of the same sample, of
    −log( exp(cos(z_i, z_p) / τ) / Σ_{k≠i} exp(cos(z_i, z_k) / τ) ).

    Misleads if a batch has similar samples: those of the same disease or patient are also pushed
    apart.

    Parameters
    ----------
    first, second
        Projections ``(B, D)`` of the first and of the second view of each sample.
    temperature
        τ > 0. A lower τ gives more weight to the views most similar to view i.

    References
    ----------
    Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, ICML
    2020, equation 1.
    """
    views = F.normalize(torch.cat([first, second]).float(), dim=1)  # (2B, D)
    similarity = views @ views.T / temperature
    similarity.fill_diagonal_(-torch.inf)  # no view is its own partner
    partner = torch.arange(len(views), device=views.device).roll(len(first))
    return F.cross_entropy(similarity, partner)
