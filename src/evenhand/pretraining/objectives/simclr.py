"""SimCLR (Chen et al., ICML 2020): each view is to find its partner among all other views."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from evenhand.pretraining.registry import register_ssl

TEMPERATURE = 0.1


@register_ssl("simclr", widths=(256, 128, 50))
def nt_xent(first: Tensor, second: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Let each view find its partner among all other views.

    NT-Xent: the mean over all 2B views i, with partner p, of
    −log( exp(cos(z_i, z_p) / τ) / Σ_{k≠i} exp(cos(z_i, z_k) / τ) ).

    Misleads where batches hold samples that are alike: those of the same disease or patient are
    pushed apart, too.

    Parameters
    ----------
    first, second
        Projections ``(B, D)``.
    temperature
        τ, above 0. A lower one gives more weight to the views that are most like i.

    References
    ----------
    Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, ICML
    2020, equation 1.
    """
    views = F.normalize(torch.cat([first, second]).float(), dim=1)  # (2B, D)
    alike = views @ views.T / temperature
    alike.fill_diagonal_(-torch.inf)  # no view is its own partner
    partner = torch.arange(len(views), device=views.device).roll(len(first))
    return F.cross_entropy(alike, partner)
