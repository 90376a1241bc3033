"""Masked modelling of series: hidden spans and channels are restored where they were observed."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from evenhand.pretraining.learners import Batch, Encoder, Learner
from evenhand.pretraining.registry import SSLObjective, register_ssl

SPAN = 0.3  # mean share of the steps that are hidden in a channel, in one span
CHANNELS = 0.15  # share of the channels that are hidden whole
HIDDEN = 128  # width of the decoder


def masked_loss(predicted: Tensor, values: Tensor, hidden: Tensor) -> Tensor:
    """Return the mean square of the errors at the values that were observed and hidden.

    (1 / |M|) Σ_{(t, c)∈M} (x̂_{tc} − x_{tc})², with M what is hidden and was observed, of all
    samples; 0 where there is none.

    Parameters
    ----------
    predicted, values
        ``(B, C, T)``; NaN in the values where nothing was observed.
    hidden
        ``(B, C, T)``, True where a value was hidden.

    References
    ----------
    Zerveas et al., A Transformer-based Framework for Multivariate Time Series Representation
    Learning, KDD 2021, equation 3, here over observed values alone.
    """
    counted = hidden & ~values.isnan()
    errors = (predicted.float() - values.nan_to_num().float()).square() * counted
    return errors.sum() / counted.sum().clamp(min=1)


def hide(
    samples: Tensor, rng: Generator, *, span: float = SPAN, channels: float = CHANNELS
) -> Tensor:
    """Return what to hide of series ``(B, C, T)``: True in spans and in whole channels.

    Parameters
    ----------
    samples
        The series.
    rng
        A generator on their device.
    span
        Mean share of a channel's steps in its span, in [0, ½]; lengths are uniform from 0 to twice
        that, and each channel has a span of its own.
    channels
        Share of the channels that are hidden whole.
    """
    count, width, length = samples.shape
    drawn = torch.rand(count, width, 3, generator=rng, device=samples.device)
    size = 2 * span * drawn[:, :, :1]
    begin = (1 - size) * drawn[:, :, 1:2]
    place = (torch.arange(length, device=samples.device) + 0.5) / length
    return (drawn[:, :, 2:] < channels) | ((place >= begin) & (place < begin + size))


@register_ssl("masked", modality="series", views=1)
class Masked(Learner):
    """Restore hidden spans and channels of a series from its representation.

    What is hidden counts as not observed, so that the encoder cannot see it. The decoder gets the
    pooled representation, and so any encoder of series will do: each step's values are read off
    the representation and a learnt embedding of the step.

    Misleads by its loss: values that are restored well need not make features that tell the
    disease. Few observed values leave little to learn from.
    """

    def __init__(self, objective: SSLObjective, encoder: Encoder) -> None:
        super().__init__(objective, encoder)
        channels, steps = encoder.shape
        self.context = nn.Linear(encoder.width, HIDDEN)
        self.position = nn.Parameter(torch.empty(1, steps, HIDDEN))
        nn.init.trunc_normal_(self.position, std=0.5)
        self.mix = nn.Linear(HIDDEN, HIDDEN)
        self.predict = nn.Linear(HIDDEN, channels)

    def draw(self, samples: Tensor, rng: Generator) -> Batch:
        """Return what the encoder reads, the series, and what is hidden of it."""
        hidden = hide(samples, rng)
        return self.read(samples.masked_fill(hidden, torch.nan)), samples, hidden

    def forward(self, *batch: Tensor) -> Tensor:
        """Return the loss of series with what is hidden of them."""
        inputs, samples, hidden = batch
        return masked_loss(self.restore(self.embed(inputs)), samples, hidden)

    def restore(self, features: Tensor) -> Tensor:
        """Return series ``(B, C, T)`` from representations ``(B, D)``."""
        steps = (self.context(features)[:, None] + self.position).relu()
        restored: Tensor = self.predict(self.mix(steps).relu())
        return restored.movedim(1, 2)
