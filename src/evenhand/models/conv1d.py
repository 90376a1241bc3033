"""The 1-D convolutional encoder for series (Tang et al. 2020, arXiv 2011.11542)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

WIDTHS = (32, 64, 96)
KERNELS = (24, 16, 8)
DROPOUT = 0.1


class Conv1dEncoder(nn.Module):
    """Three convolutions over time with ReLU and dropout, then the maximum over time.

    ``forward`` takes ``(B, C, T)`` and returns ``(B, 96)``. Each convolution keeps the length;
    where its kernel is even, the odd zero is added at the end.
    """

    head_hidden_size = WIDTHS[-1]

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (channels, *WIDTHS)
        for number, kernel in enumerate(KERNELS):
            layer = ConvLayer(widths[number], widths[number + 1], kernel)
            self.add_module(f"conv{number + 1}", layer)

    def forward(self, series: Tensor) -> Tensor:
        """Return representations ``(B, 96)`` of series ``(B, C, T)``."""
        for layer in self.children():
            series = layer(series)
        return series.amax(dim=2)


class ConvLayer(nn.Module):
    """One convolution with ReLU and dropout, which stand still together when it is frozen."""

    def __init__(self, channels: int, width: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, channels, kernel))
        self.bias = nn.Parameter(torch.zeros(width))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, series: Tensor) -> Tensor:
        """Map ``(B, C, T)`` to ``(B, width, T)``."""
        before = (self.weight.shape[2] - 1) // 2
        padded = F.pad(series, (before, self.weight.shape[2] - 1 - before))
        return F.dropout(F.conv1d(padded, self.weight, self.bias).relu(), DROPOUT, self.training)


def hold_last(series: Tensor) -> Tensor:
    """Return what the encoder reads of standardised series ``(B, C, T)``, as ``(B, 2C, T)``.

    First the values: where nothing was observed (NaN), the last value that was, and 0, the
    training mean, before the first one. Then, for each of them, 1 where it was observed, else 0.
    """
    observed = ~series.isnan()
    step = torch.arange(series.shape[2], device=series.device)
    last = torch.where(observed, step, -1).cummax(dim=2).values  # (B, C, T)
    held = series.nan_to_num(0.0).gather(2, last.clamp(min=0)) * (last >= 0)
    return torch.cat([held, observed.to(series.dtype)], dim=1)
