"""The noise of an estimate from random draws, by the agreement of two halves of the draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

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
