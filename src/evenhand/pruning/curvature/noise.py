"""How noisy an estimate from random draws is: the agreement of two halves of its draws."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

RELIABLE = 0.8  # rank correlation with another estimate of as many draws
PLACES = 100_000  # numbers that are compared at most, evenly spread


def thinned(parameters: Mapping[str, Tensor]) -> int:
    """Return the step at which parameters are read, so that few enough numbers are compared."""
    return sum(parameter.numel() for parameter in parameters.values()) // PLACES + 1


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Return Spearman's correlation of two estimates ``(n,)``; nan where one is constant."""
    ranks = torch.stack([half.argsort().argsort().double() for half in (first, second)])
    constant = any(bool((half == half[:1]).all()) for half in (first, second))
    return math.nan if constant else float(torch.corrcoef(ranks)[0, 1])


def draws_needed(agreement: float, draws: int, wanted: float = RELIABLE) -> float:
    """Return how many draws bring the agreement of two estimates to what is wanted.

    By the Spearman-Brown formula: k times the draws of which halves agree by r agree by
    k r / (1 + (k - 1) r).

    Parameters
    ----------
    agreement
        Rank correlation of two halves of the draws.
    draws
        How many draws both halves have together.
    wanted
        The agreement that is wanted, above 0 and below 1.

    Examples
    --------
    >>> draws_needed(0.5, 2)
    4.0
    >>> draws_needed(0.0, 2)
    inf
    """
    if not agreement > 0:
        return math.inf
    return draws / 2 * (1 / agreement - 1) / (1 / wanted - 1)


def describe_noise(halves: Mapping[Any, Sequence[Tensor]], draws: int) -> str:
    """Return a sentence on the agreement of two halves of the draws in each group."""
    if draws < 2:
        return (
            "hutchinson: one draw says nothing of its own noise; from two draws on (--draws 2), "
            "the agreement of their halves is shown."
        )
    agreements = {group: rank_correlation(*pair) for group, pair in halves.items()}
    each = ", ".join(f"{value:.2f} ({group})" for group, value in agreements.items())
    needed = max(draws_needed(value, draws) for value in agreements.values())
    enough = f"about {math.ceil(needed)} draws" if needed < math.inf else "no number of draws"
    return (
        f"hutchinson: the ranks of two halves of its {draws} draws correlate by {each}; {enough} "
        f"would bring two estimates to {RELIABLE} (Spearman-Brown)."
    )


def report_noise(halves: Mapping[Any, Sequence[Tensor]], draws: int) -> None:
    """Log the noise of an estimate."""
    logging.getLogger(__name__).warning(describe_noise(halves, draws))
