"""VICReg (Bardes et al., ICLR 2022): views agree, dimensions vary and are uncorrelated."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from evenhand.pretraining.registry import register_ssl

INVARIANCE, VARIANCE, COVARIANCE = 25.0, 25.0, 1.0
SPREAD = 1.0  # standard deviation below which a dimension is penalised


@register_ssl("vicreg", widths=(256, 256, 256))
def vicreg(first: Tensor, second: Tensor) -> Tensor:
    """Make two views agree, and dimensions vary without correlation.

    The loss is 25 · s + 25 · (v + v') / 2 + 1 · (c + c'). s is the mean squared difference over
    samples and dimensions. v is the mean over dimensions of max(0, 1 − √(variance + 10⁻⁴)), and c
    the sum of the squared covariances off the diagonal, divided by D, both of the first views;
    v' and c' are those of the second views.

    Misleads with small batches: variances and covariances over few samples are noise.

    Parameters
    ----------
    first, second
        Projections ``(B, D)``, B at least 2.

    Notes
    -----
    The scaling is that of the authors' code. The paper's equations have the same weights 25, 25, 1,
    but s sums over dimensions (equation 5) and v is not halved (equation 6). In terms of these
    equations, the weights here are 25 / D, 12.5 and 1.

    References
    ----------
    Bardes, Ponce, LeCun, VICReg: Variance-Invariance-Covariance Regularization for
    Self-Supervised Learning, ICLR 2022, and its reference implementation.
    """
    first, second = first.float(), second.float()
    value = INVARIANCE * F.mse_loss(first, second)
    for views in (first, second):
        centred = views - views.mean(dim=0)
        deviation = (centred.square().sum(dim=0) / (len(views) - 1) + 1e-4).sqrt()
        value = value + VARIANCE / 2 * (SPREAD - deviation).relu().mean()
        covariance = centred.T @ centred / (len(views) - 1)
        off_diagonal = covariance.square().sum() - covariance.diagonal().square().sum()
        value = value + COVARIANCE * off_diagonal / views.shape[1]
    return value
