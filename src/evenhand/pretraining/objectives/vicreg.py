"""VICReg (Bardes et al., ICLR 2022): views agree, dimensions vary and do not repeat each other."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from evenhand.pretraining.registry import register_ssl

INVARIANCE, VARIANCE, COVARIANCE = 25.0, 25.0, 1.0
SPREAD = 1.0  # the standard deviation that each dimension is to have at least


@register_ssl("vicreg", widths=(256, 256, 256))
def vicreg(first: Tensor, second: Tensor) -> Tensor:
    """Return 25 × invariance + 25 × variance + covariance, as in the paper's equation 6."""
    first, second = first.float(), second.float()
    value = INVARIANCE * F.mse_loss(first, second)
    for views in (first, second):
        centred = views - views.mean(dim=0)
        deviation = (centred.square().sum(dim=0) / (len(views) - 1) + 1e-4).sqrt()
        value = value + VARIANCE / 2 * (SPREAD - deviation).relu().mean()
        covariance = centred.T @ centred / (len(views) - 1)
        apart = covariance.square().sum() - covariance.diagonal().square().sum()
        value = value + COVARIANCE * apart / views.shape[1]
    return value
