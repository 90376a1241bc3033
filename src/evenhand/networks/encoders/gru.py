"""A GRU for series with gaps, which reads values, masks and time since the last observation.

Unobserved values decay from the last observed value to the mean, as in the input of GRU-D (Che et
al., Sci. Rep. 8:6085, 2018, arXiv 1606.01865); the time since that observation is an input, too.
GRU-D's second decay, of the hidden state, is left out: on PhysioNet 2012 it did not raise the AUC
(``docs/guides/self_supervision.md``).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from evenhand.networks.encoders.layers import LayeredEncoder, steps_since_seen
from evenhand.networks.registry import register_series_encoder

WIDTH = 64  # of the embedded steps, of the hidden state and of the features
DROPOUT = 0.1
OUTPUT_DROPOUT = 0.3
HALF_LIFE = 12.0  # initial value: steps in which the distance from the mean halves


class FadingInput(nn.Module):
    """Decays unobserved values towards the mean, and maps each step to an embedding.

    Let x be the last observed value (0 is the mean), m the mask and δ the time since the last
    observation in steps. The network reads x · (m + (1 − m) γ), m and log(1 + δ), with
    γ = exp(−softplus(w) δ) and one w for each variable (Che et al. 2018, eqs. 10 and 11, with
    softplus instead of max(0, ·), whose gradient may vanish).
    """

    def __init__(self, variables: int) -> None:
        super().__init__()
        rate = math.log(2) / HALF_LIFE
        self.fading = nn.Parameter(torch.full((variables,), math.log(math.expm1(rate))))
        self.embed = nn.Linear(3 * variables, WIDTH)

    def forward(self, series: Tensor) -> Tensor:
        """Return embedded steps ``(B, T, D)`` of series ``(B, 2C, T)``: last values, then mask."""
        last_observed, observed = series.chunk(2, dim=1)
        since = steps_since_seen(observed)
        decayed = last_observed * torch.exp(
            -F.softplus(self.fading)[:, None] * since
        )  # γ = 1 if observed
        read = torch.cat([decayed, observed, since.log1p()], dim=1).transpose(1, 2)  # (B, T, 3C)
        return F.dropout(self.embed(read), DROPOUT, self.training)


class Recurrence(nn.Module):
    """A GRU over steps, equal to torch's, with its two projections as linear layers.

    Masks, the curvature of weights and ONNX export work on linear layers, not on ``nn.GRU``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(WIDTH, 3 * WIDTH)
        self.state = nn.Linear(WIDTH, 3 * WIDTH)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(WIDTH**-0.5), WIDTH**-0.5)

    def forward(self, steps: Tensor) -> Tensor:
        """Return the state after each step, ``(B, T, D)``, of steps ``(B, T, D)``."""
        state = torch.zeros_like(steps[:, 0])
        states = []
        for projected in self.step(steps).unbind(1):
            gates, new = projected.tensor_split((2 * WIDTH,), dim=1)
            state_gates, state_new = self.state(state).tensor_split((2 * WIDTH,), dim=1)
            reset, update = torch.sigmoid(gates + state_gates).chunk(2, dim=1)
            candidate = torch.tanh(new + reset * state_new)
            state = candidate + update * (state - candidate)
            states.append(state)
        return torch.stack(states, dim=1)


class Summary(nn.Module):
    """Summarises a series by its last state and the mean of all states."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, states: Tensor) -> Tensor:
        """Return features ``(B, D)`` of states ``(B, T, D)``."""
        both = torch.cat([states[:, -1], states.mean(dim=1)], dim=1)
        return F.dropout(self.mix(both).relu(), OUTPUT_DROPOUT, self.training)


class GruEncoder(LayeredEncoder):
    """An embedding of fading values, a GRU, and a summary of its states.

    ``forward`` takes ``(B, 2C, T)``, last observed values and then the mask, and returns
    ``(B, 64)``. T is any number of steps. Its layers and units are ``input``, ``recurrence`` and
    ``summary``.
    """

    head_hidden_size = WIDTH

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = FadingInput(channels // 2)
        self.recurrence = Recurrence()
        self.summary = Summary()

    def forward(self, series: Tensor) -> Tensor:
        """Return features ``(B, 64)`` of series ``(B, 2C, T)``."""
        features: Tensor = self.summary(self.recurrence(self.input(series)))
        return features


@register_series_encoder("gru")
def make_gru(channels: int, steps: int) -> GruEncoder:
    """Return a GRU that reads values, masks and time since last seen; old values decay."""
    return GruEncoder(channels)
