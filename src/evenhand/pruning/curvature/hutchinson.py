"""The diagonal of the Hessian, by Hutchinson's estimator, and its noise."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import grad
from torch.nn.attention import SDPBackend, sdpa_kernel

from evenhand.networks.calling import Forward, call, logits_of, take_rows, with_gradients
from evenhand.pruning.curvature.loss import PLAIN, Loss
from evenhand.pruning.curvature.types import Curvature, GroupBatch
from evenhand.pruning.registry import register_estimator


@register_estimator("hutchinson", any_layer=True)
def hutchinson(draws: int, rng: torch.Generator, loss: Loss = PLAIN) -> Curvature:
    """Return the mean of z ⊙ Hz over random signs z (Bekas et al., Appl. Numer. Math. 2007).

    H is the Hessian of the loss. The estimator handles any layer. Its values may be negative. Each
    draw takes a second backward pass for each group. The estimate is noisy if the Hessian is far
    from diagonal; a log message gives the rank correlation of two halves of the draws, and how many
    draws are enough.
    """

    def curvature(
        model: nn.Module,
        batches: Iterable[GroupBatch],
        names: Collection[str],
        forward: Forward = call,
    ) -> dict[Any, dict[str, Tensor]]:
        model.eval()
        chosen = {name: p for name, p in model.named_parameters() if name in set(names)}
        sums: dict[Any, dict[str, Tensor]] = {}
        counts: dict[Any, Tensor | float] = {}
        step = thinning_step(chosen)
        halves: dict[Any, tuple[Tensor, Tensor]] = {}
        # Only the backend MATH can be differentiated twice.
        with with_gradients(chosen.values()), sdpa_kernel(SDPBackend.MATH):
            for group, inputs, labels in _by_group(batches):
                zeros = {name: torch.zeros_like(p) for name, p in chosen.items()}
                totals = sums.setdefault(group, zeros)
                logits = logits_of(model, inputs, forward)
                loss.check(model, logits, labels)
                weight = loss.weights(labels, logits.detach()).sum()
                counts[group] = counts.get(group, 0.0) + weight
                total = loss.losses(logits, labels).sum()
                if total.requires_grad:  # false if the loss depends on none of the parameters
                    first, second = _add(total, chosen, totals, draws, rng, step)
                    earlier = halves.get(group, (0.0, 0.0))
                    halves[group] = (earlier[0] + first, earlier[1] + second)
        logging.getLogger(__name__).warning(describe_noise(halves, draws))
        return {
            group: {name: total / (draws * counts[group]) for name, total in totals.items()}
            for group, totals in sums.items()
        }

    return curvature


def _by_group(batches: Iterable[GroupBatch]) -> Iterator[tuple[Any, Any, Tensor]]:
    """Yield the group, the inputs and the labels of each group in each batch."""
    for batch in batches:
        for group, rows in batch.rows.items():
            yield group, take_rows(batch.inputs, rows), batch.labels[rows]


def _add(
    loss: Tensor,
    parameters: Mapping[str, Tensor],
    into: dict[str, Tensor],
    draws: int,
    rng: torch.Generator,
    step: int,
) -> tuple[Tensor, Tensor]:
    """Add z ⊙ Hz of each draw to ``into``; return the sums of the two halves of the draws.

    The halves hold every ``step``-th number.
    """
    tensors = list(parameters.values())
    halves: list[list[Tensor]] = [[], []]
    first = grad(loss, tensors, create_graph=True, materialize_grads=True)
    for draw in range(draws):
        signs = [_signs(p, rng) for p in tensors]
        second = grad(first, tensors, signs, retain_graph=draw < draws - 1, materialize_grads=True)
        for total, sign, product in zip(into.values(), signs, second, strict=True):
            total.addcmul_(sign, product)
        if draw < draws - draws % 2:
            thin = [(sign * hz).flatten()[::step] for sign, hz in zip(signs, second, strict=True)]
            halves[draw % 2].append(torch.cat(thin))
    return _sum(halves[0], loss), _sum(halves[1], loss)


def _sum(terms: Sequence[Tensor], like: Tensor) -> Tensor:
    return torch.stack(list(terms)).sum(0) if terms else like.new_zeros(1)


def _signs(like: Tensor, rng: torch.Generator) -> Tensor:
    drawn = torch.randint(0, 2, like.shape, generator=rng, device=rng.device)
    return (2 * drawn - 1).to(like)


RELIABLE = 0.8  # rank correlation at which two estimates with equal draws count as reliable
MAX_COMPARED = 100_000  # parameters, evenly spaced


def thinning_step(parameters: Mapping[str, Tensor]) -> int:
    """Return the step that thins parameters to at most `MAX_COMPARED` numbers."""
    return sum(parameter.numel() for parameter in parameters.values()) // MAX_COMPARED + 1


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Return Spearman's correlation of two estimates ``(n,)``; NaN if one is constant."""
    ranks = torch.stack([half.argsort().argsort().double() for half in (first, second)])
    constant = any(bool((half == half[:1]).all()) for half in (first, second))
    return math.nan if constant else float(torch.corrcoef(ranks)[0, 1])


def draws_needed(agreement: float, draws: int, goal: float = RELIABLE) -> float:
    """Return the number of draws with which two estimates reach a rank correlation.

    Spearman-Brown formula: if two estimates correlate by r, two estimates from k times as many
    draws correlate by k r / (1 + (k - 1) r).

    Parameters
    ----------
    agreement
        Rank correlation of two halves of the draws.
    draws
        Number of draws of both halves together.
    goal
        The rank correlation to reach, above 0 and below 1.

    Examples
    --------
    >>> draws_needed(0.5, 2)
    4.0
    >>> draws_needed(0.0, 2)
    inf
    """
    if not agreement > 0:
        return math.inf
    return draws / 2 * (1 / agreement - 1) / (1 / goal - 1)


def describe_noise(halves: Mapping[Any, Sequence[Tensor]], draws: int) -> str:
    """Return a sentence on how well two halves of the draws agree in each group."""
    if draws < 2:
        return (
            "hutchinson: the noise of a single draw is unknown; with two or more (--draws 2), the "
            "agreement of their halves is shown."
        )
    agreements = {group: rank_correlation(*pair) for group, pair in halves.items()}
    correlations = ", ".join(f"{value:.2f} ({group})" for group, value in agreements.items())
    needed = max(draws_needed(value, draws) for value in agreements.values())
    enough = f"about {math.ceil(needed)} draws" if needed < math.inf else "infinitely many draws"
    return (
        f"hutchinson: the ranks of two halves of its {draws} draws correlate by {correlations}; "
        f"{enough} are needed for a correlation of {RELIABLE} (Spearman-Brown)."
    )
