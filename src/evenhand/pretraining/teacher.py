"""A momentum teacher: a copy of the student that follows it slowly; and its momentum schedule."""

from __future__ import annotations

import math
from copy import deepcopy

import torch
from torch import Tensor, nn


def momentum_at(start: float, progress: float) -> float:
    """Return a teacher's momentum: the share of its weights that a step keeps.

    It rises from m_0 to 1: m = 1 − (1 − m_0) (cos(π k / K) + 1) / 2 after k of K steps.

    Parameters
    ----------
    start
        m_0, in [0, 1).
    progress
        k / K, in [0, 1].

    References
    ----------
    Grill et al., Bootstrap Your Own Latent, NeurIPS 2020, section 3.2.

    Examples
    --------
    >>> [round(momentum_at(0.9, progress), 3) for progress in (0, 0.5, 1)]
    [0.9, 0.95, 1.0]
    """
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2


class Teacher(nn.Module):
    """A copy of a sequence of modules, without gradients.

    After each step, its weights are ξ ← m ξ + (1 − m) θ, with θ the student's weights and m from
    `momentum_at`. It has its own running statistics. It is saved with the learner, but not with the
    encoder.

    Parameters
    ----------
    students
        The modules, in the order in which they run.
    start
        The momentum of the first step, in [0, 1).
    """

    def __init__(self, *students: nn.Module, start: float) -> None:
        super().__init__()
        self.copies = nn.Sequential(*(deepcopy(student) for student in students))
        self.copies.requires_grad_(False)
        self.start = start

    @torch.no_grad()
    def forward(self, views: Tensor) -> Tensor:
        """Return the copy's output for views."""
        out: Tensor = self.copies(views)
        return out

    @torch.no_grad()
    def follow(self, *students: nn.Module, progress: float) -> None:
        """Move the weights towards those of the students, which are the copied modules."""
        weights: list[Tensor] = list(self.copies.parameters())
        goals: list[Tensor] = [
            parameter for student in students for parameter in student.parameters()
        ]
        torch._foreach_lerp_(weights, goals, 1 - momentum_at(self.start, progress))
