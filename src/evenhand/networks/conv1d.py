"""The 1-D convolutional encoder for series (Tang et al. 2020, arXiv 2011.11542)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import skip_init

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
            layer = skip_init(nn.Conv1d, *widths[number : number + 2], kernel)  # type: ignore[no-untyped-call]
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
            self.add_module(f"conv{number + 1}", layer)

    def forward(self, series: Tensor) -> Tensor:
        """Return representations ``(B, 96)`` of series ``(B, C, T)``."""
        for layer in self.children():
            series = convolve(layer, series)  # type: ignore[arg-type]
        return series.amax(dim=2)


def convolve(layer: nn.Conv1d, series: Tensor) -> Tensor:
    """Return a convolution of series, as long as they, with ReLU; a frozen one drops nothing."""
    kernel = layer.kernel_size[0]
    before = (kernel - 1) // 2
    padded = F.pad(series, (before, kernel - 1 - before))
    return F.dropout(layer(padded).relu(), DROPOUT, layer.training)


def hold_last(series: Tensor) -> Tensor:
    """Return what the encoder reads of standardised series ``(B, C, T)``, as ``(B, 2C, T)``.

    First the values: where nothing was observed (NaN), the last value that was, and 0, the
    training mean, before the first one. Then, for each of them, 1 where it was observed, else 0.
    """
    missing = series.isnan()
    held = [torch.zeros_like(series[:, :, 0])]
    for now, absent in zip(series.unbind(2), missing.unbind(2), strict=True):
        held.append(torch.where(absent, held[-1], now))
    return torch.cat([torch.stack(held[1:], dim=2), (~missing).to(series.dtype)], dim=1)
