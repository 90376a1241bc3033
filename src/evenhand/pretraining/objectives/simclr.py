"""SimCLR (Chen et al., ICML 2020): each view is to find its partner among all other views."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from evenhand.pretraining.registry import register_ssl

TEMPERATURE = 0.1


@register_ssl("simclr", widths=(256, 128, 50))
def nt_xent(first: Tensor, second: Tensor) -> Tensor:
    """Return NT-Xent: cross-entropy of finding the partner by cosine, mean over all 2B views."""
    views = F.normalize(torch.cat([first, second]).float(), dim=1)  # (2B, D)
    alike = views @ views.T / TEMPERATURE
    alike.fill_diagonal_(-torch.inf)  # no view is its own partner
    partner = torch.arange(len(views), device=views.device).roll(len(first))
    return F.cross_entropy(alike, partner)
