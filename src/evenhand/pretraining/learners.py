"""What trains an encoder without labels: the encoder, the heads on it, and the loss of a batch."""

from __future__ import annotations

from collections.abc import Callable
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
    """A network to pre-train, and how samples get into it.

    Parameters
    ----------
    network
        It gives representations ``(B, width)``.
    width
        Of a representation.
    shape
        Of a sample: ``(3, H, W)`` of images in [0, 1], ``(C, T)`` of standardised series.
    view
        It draws a view of each sample.
    read
        From such samples, or views of them, to what the network takes.
    modality
        Of the samples.
    samples
        How many there are to train on.
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
        view, read = view_of(inputs), model.readable
        return cls(model.backbone, width, inputs.shape, view, read, modality, samples)


Batch = tuple[Tensor, ...]
"""What a step learns from, ready for the network: views, or samples with what is masked."""


class Learner(nn.Module):
    """An encoder with a projection head: the base class of SSL objectives.

    A subclass has ``forward``, the loss of a batch as `draw` makes it. What it adds as modules
    and buffers is trained where it requires a gradient, and saved and resumed with the rest;
    nothing but the encoder is kept when training ends.

    Parameters
    ----------
    objective
        What was registered.
    encoder
        The network, which is trained in place.
    """

    def __init__(self, objective: SSLObjective, encoder: Encoder) -> None:
        super().__init__()
        self.objective = objective
        self.encoder = encoder.network
        self.projector: nn.Module = objective.head(encoder.width)
        self._view, self.read = encoder.view, encoder.read

    def draw(self, samples: Tensor, rng: Generator) -> Batch:
        """Return two views of each sample, ``(2B, …)``, the first ones before the second ones."""
        views = torch.cat([self._view(samples, rng), self._view(samples, rng)])
        return (self.read(views),)

    def embed(self, inputs: Tensor) -> Tensor:
        """Return what is looked at for collapse: projections ``(B, D)`` of what the encoder reads.

        They are representations where there is no projection head.
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
        """Follow a step of the optimizer; ``progress`` is the share of all steps taken, to 1."""


class LossLearner(Learner):
    """An objective that is no more than a loss on projections of two views."""

    def forward(self, *batch: Tensor) -> Tensor:
        """Return the loss of two views."""
        loss = self.objective.loss
        assert loss is not None
        return loss(*self.project(*batch))


def perceptron(
    features: int, widths: tuple[int, ...], *, norm: bool = False, norm_last: bool = False
) -> nn.Sequential:
    """Return linear layers with ReLU between them; the identity where there are no widths.

    Parameters
    ----------
    features
        Width of the input.
    widths
        Of the layers.
    norm
        Whether batch normalisation comes before each ReLU.
    norm_last
        Whether the output has batch normalisation, without weights.
    """
    layers: list[nn.Module] = []
    for narrow, wide in pairwise((features, *widths)):
        layers += [nn.Linear(narrow, wide, bias=not norm)]
        layers += [nn.BatchNorm1d(wide)] if norm else []
        layers += [nn.ReLU()]
    layers = layers[: -2 if norm else -1]
    if norm_last:
        layers.append(nn.BatchNorm1d(widths[-1], affine=False))
    return nn.Sequential(*layers)
