"""Masked modelling of series: a decoder restores hidden spans and channels."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from evenhand.pretraining.learners import Encoder, Learner, LearnerBatch
from evenhand.pretraining.registry import SSLObjective, register_ssl

SPAN = 0.3  # mean share of a channel's steps that are hidden, in one span
CHANNELS = 0.15  # share of the channels that are hidden as a whole
DECODER_WIDTH = 128  # width of the decoder


def masked_loss(predicted: Tensor, values: Tensor, hidden: Tensor) -> Tensor:
    """Return the mean squared error at the observed values that are hidden.

    The loss is (1 / |M|) Σ_{(t, c)∈M} (x̂_{tc} − x_{tc})², with M the hidden observed values of all
    samples; 0 if there are none.

    Parameters
    ----------
    predicted, values
        Predicted and true series ``(B, C, T)``; NaN in ``values`` where nothing was observed.
    hidden
        ``(B, C, T)``, True where a value is hidden.

    References
    ----------
    Zerveas et al., A Transformer-based Framework for Multivariate Time Series Representation
    Learning, KDD 2021, equation 3, restricted to observed values.
    """
    counted = hidden & ~values.isnan()
    errors = (predicted.float() - values.nan_to_num().float()).square() * counted
    return errors.sum() / counted.sum().clamp(min=1)


def draw_hidden(
    samples: Tensor, rng: Generator, *, span: float = SPAN, channels: float = CHANNELS
) -> Tensor:
    """Return which values of series to hide, ``(B, C, T)``: True in spans and in whole channels.

    Parameters
    ----------
    samples
        The series ``(B, C, T)``.
    rng
        A generator on their device.
    span
        Mean share of a channel's steps in its hidden span, in [0, ½]. Each channel has its own
        span; its length is uniform from 0 to twice the mean.
    channels
        Share of the channels that are hidden as a whole.
    """
    count, width, length = samples.shape
    # Size and begin of a span, and the time of a step, are shares of the length.
    drawn = torch.rand(count, width, 3, generator=rng, device=samples.device)
    size = 2 * span * drawn[:, :, :1]
    begin = (1 - size) * drawn[:, :, 1:2]
    time = (torch.arange(length, device=samples.device) + 0.5) / length
    return (drawn[:, :, 2:] < channels) | ((time >= begin) & (time < begin + size))


@register_ssl("masked", modality="series", views=1)
class Masked(Learner):
    """Restore hidden spans and channels of a series from its representation.

    Hidden values are marked as not observed, so the encoder cannot see them. The decoder predicts
    each step's values from the pooled representation and a learnt embedding of the step; so it
    works with any encoder of series.

    Misleads if it is judged by its loss: features that restore values well need not distinguish
    diseases. With few observed values there is little to learn from.
    """

    def __init__(self, objective: SSLObjective, encoder: Encoder) -> None:
        super().__init__(objective, encoder)
        channels, steps = encoder.shape
        self.context = nn.Linear(encoder.width, DECODER_WIDTH)
        self.position = nn.Parameter(torch.empty(1, steps, DECODER_WIDTH))
        nn.init.trunc_normal_(self.position, std=0.5)
        self.mix = nn.Linear(DECODER_WIDTH, DECODER_WIDTH)
        self.predict = nn.Linear(DECODER_WIDTH, channels)

    def draw(self, samples: Tensor, rng: Generator) -> LearnerBatch:
        """Return the encoder's inputs, the series, and which values are hidden."""
        hidden = draw_hidden(samples, rng)
        return self.read(samples.masked_fill(hidden, torch.nan)), samples, hidden

    def forward(self, *batch: Tensor) -> Tensor:
        """Return the loss of a batch from `draw`."""
        inputs, samples, hidden = batch
        return masked_loss(self.restore(self.embed(inputs)), samples, hidden)

    def restore(self, features: Tensor) -> Tensor:
        """Return series ``(B, C, T)`` from representations ``(B, D)``."""
        steps = (self.context(features)[:, None] + self.position).relu()
        restored: Tensor = self.predict(self.mix(steps).relu())
        return restored.movedim(1, 2)
