"""Base classes of SSL objectives: encoder, projection head, momentum teacher, loss of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn

from evenhand.networks.inputs import SeriesInputs
from evenhand.networks.model import Model
from evenhand.pretraining.registry import Modality, SSLObjective
from evenhand.pretraining.views import View, view_of


@dataclass(frozen=True, eq=False)
class Encoder:
    """A network to pre-train, with the views and the inputs of its samples.

    Attributes
    ----------
    network
        The network; it returns representations ``(B, width)``.
    width
        Width of a representation.
    shape
        Shape of a sample: ``(3, H, W)`` for images in [0, 1], ``(C, T)`` for standardised series.
    view
        Function that draws a view of each sample.
    read
        Function of samples or views; it returns the network's inputs.
    modality
        Modality of the samples.
    samples
        Number of training samples.
    """

    network: nn.Module
    width: int
    shape: tuple[int, ...]
    view: View
    read: Callable[[Tensor], Tensor]
    modality: Modality
    samples: int

    @classmethod
    def of_model(cls, model: Model, samples: int) -> Encoder:
        """Return the backbone of a model as an encoder."""
        inputs, width = model.spec.inputs, int(model.backbone.head_hidden_size)  # type: ignore[arg-type]
        modality: Modality = "series" if isinstance(inputs, SeriesInputs) else "images"
        view, read = view_of(inputs), model.backbone_inputs
        return cls(model.backbone, width, inputs.shape, view, read, modality, samples)


LearnerBatch = tuple[Tensor, ...]
"""Tensors of a training step: views of samples, or samples and their masks."""


class Learner(nn.Module):
    """An encoder with a projection head: the base class of SSL objectives.

    A subclass defines ``forward``, the loss of a batch from `draw`. Its own modules and buffers are
    saved and resumed with the encoder, and trained if they require a gradient. After training, only
    the encoder is kept.

    Parameters
    ----------
    objective
        The registered objective.
    encoder
        The encoder; its network is trained in place.
    """

    def __init__(self, objective: SSLObjective, encoder: Encoder) -> None:
        super().__init__()
        self.objective = objective
        self.encoder = encoder.network
        self.projector: nn.Module = objective.head(encoder.width)
        self._view, self.read = encoder.view, encoder.read

    def draw(self, samples: Tensor, rng: Generator) -> LearnerBatch:
        """Return two views of each sample, ``(2B, …)``: all first views, then all second views."""
        views = torch.cat([self._view(samples, rng), self._view(samples, rng)])
        return (self.read(views),)

    def embed(self, inputs: Tensor) -> Tensor:
        """Return the projections ``(B, D)`` of inputs, which are also checked for collapse.

        Without a projection head they are the representations.
        """
        out: Tensor = self.projector(self.encoder(inputs))
        return out

    def project(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Return the projections of the first and of the second views, in one pass."""
        first, second = self.embed(views).chunk(2)
        return first, second

    def forward(self, *batch: Tensor) -> Tensor:
        """Return the loss of a batch."""
        raise NotImplementedError

    def after_step(self, progress: float) -> None:
        """Update the learner after an optimizer step; ``progress`` is the share of steps done."""


class LossLearner(Learner):
    """An objective that is only a loss on the projections of two views."""

    def forward(self, *batch: Tensor) -> Tensor:
        """Return the loss of two views of each sample."""
        loss = self.objective.loss
        assert loss is not None
        return loss(*self.project(*batch))


def perceptron(
    features: int, widths: tuple[int, ...], *, norm: bool = False, norm_last: bool = False
) -> nn.Sequential:
    """Return linear layers with ReLU between them; the identity if ``widths`` is empty.

    Parameters
    ----------
    features
        Width of the input.
    widths
        Widths of the layers' outputs.
    norm
        Whether batch normalisation comes before each ReLU.
    norm_last
        Whether the output has batch normalisation, without weights.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise((features, *widths)):
        layers += [nn.Linear(inputs, outputs, bias=not norm)]
        layers += [nn.BatchNorm1d(outputs)] if norm else []
        layers += [nn.ReLU()]
    layers = layers[: -2 if norm else -1]
    if norm_last:
        layers.append(nn.BatchNorm1d(widths[-1], affine=False))
    return nn.Sequential(*layers)


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
