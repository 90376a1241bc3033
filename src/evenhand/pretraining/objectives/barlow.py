"""Barlow Twins (Zbontar et al., ICML 2021): each dimension correlates with itself only."""

from __future__ import annotations

from torch import Tensor

from evenhand.pretraining.registry import register_ssl

REDUNDANCY = 5.1e-3  # λ, the weight of correlations between different dimensions
EPSILON = 1e-5


@register_ssl("barlow", widths=(256, 256, 256), norm=True)
def barlow_twins(first: Tensor, second: Tensor, redundancy: float = REDUNDANCY) -> Tensor:
    """Make each dimension agree between two views and be uncorrelated with all other dimensions.

    The loss is Σ_i (1 − C_ii)² + λ Σ_i Σ_{j≠i} C_ij², with C ``(D, D)`` the correlation over the
    batch of the first views' dimensions with the second views' dimensions.

    Misleads with small batches: correlations over few samples are noise.

    Parameters
    ----------
    first, second
        Projections ``(B, D)``, B at least 2.
    redundancy
        λ ≥ 0. A larger λ makes dimensions less correlated.

    References
    ----------
    Zbontar et al., Barlow Twins: Self-Supervised Learning via Redundancy Reduction, ICML 2021,
    equations 1 and 2. The standard deviation over the batch has the divisor B, not B − 1.
    """
    correlation = _standardise(first.float()).T @ _standardise(second.float()) / len(first)
    diagonal = correlation.diagonal()
    others = correlation.square().sum() - diagonal.square().sum()
    return (1 - diagonal).square().sum() + redundancy * others


def _standardise(views: Tensor) -> Tensor:
    centred = views - views.mean(dim=0)
    return centred / (centred.square().mean(dim=0) + EPSILON).sqrt()
