"""Barlow Twins (Zbontar et al., ICML 2021): dimensions of two views correlate each with itself."""

from __future__ import annotations

from torch import Tensor

from evenhand.pretraining.registry import register_ssl

REDUNDANCY = 5.1e-3  # lambda, the weight of what dimensions repeat of each other
EPSILON = 1e-5


@register_ssl("barlow", widths=(256, 256, 256), norm=True)
def barlow_twins(first: Tensor, second: Tensor, redundancy: float = REDUNDANCY) -> Tensor:
    """Make each dimension agree between the views, and repeat no other one.

    With C the correlation ``(D, D)`` of the dimensions of the first views with those of the
    second, over the batch, the loss is Σ_i (1 − C_ii)² + λ Σ_i Σ_{j≠i} C_ij².

    Misleads where batches are small: correlations over few samples are noise.

    Parameters
    ----------
    first, second
        Projections ``(B, D)``, B at least 2.
    redundancy
        λ, at least 0. A larger one makes dimensions repeat each other less.

    References
    ----------
    Zbontar et al., Barlow Twins: Self-Supervised Learning via Redundancy Reduction, ICML 2021,
    equations 1 and 2. The standard deviation is that of the batch, divided by B.
    """
    correlation = _standardised(first.float()).T @ _standardised(second.float()) / len(first)
    diagonal = correlation.diagonal()
    others = correlation.square().sum() - diagonal.square().sum()
    return (1 - diagonal).square().sum() + redundancy * others


def _standardised(views: Tensor) -> Tensor:
    centred = views - views.mean(dim=0)
    return centred / (centred.square().mean(dim=0) + EPSILON).sqrt()
