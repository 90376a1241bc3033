"""What zeroing each parameter would cost: the error change of each group, and their balance."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from torch import Tensor

Named = Mapping[str, Tensor]


def error_change(theta: Named, curvature: Named) -> dict[str, Tensor]:
    """Return the predicted change of a group's error when each parameter is zeroed, ½ h θ².

    It is the second-order term at a minimum, where the gradient vanishes; what zeroing two
    parameters changes beyond the sum of both is neglected (Optimal Brain Damage, LeCun et al.
    1989).
    """
    return {name: theta[name].square() * h / 2 for name, h in curvature.items()}


def saliency(
    theta: Named,
    curvature: Mapping[Any, Named],
    unprivileged: Hashable,
    betas: Mapping[Any, float],
) -> dict[str, Tensor]:
    """Return s = ½ θ² (h_u - Σ_g β_g h_g); the smallest are pruned first (arXiv 2203.02110).

    Parameters
    ----------
    theta
        The parameters.
    curvature
        Group → parameter → h.
    unprivileged
        The group u whose error is to be kept.
    betas
        β_g of each privileged group g; with all of them 0 this is Optimal Brain Damage on u.
    """
    balance = {name: h.clone() for name, h in curvature[unprivileged].items()}
    for group, beta in betas.items():
        for name, h in curvature[group].items():
            balance[name].sub_(h, alpha=beta)
    return error_change(theta, balance)
