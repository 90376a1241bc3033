"""The 1-D convolutional encoder for series (Tang et al. 2020, arXiv 2011.11542)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import skip_init

from evenhand.networks.encoders.layers import LayeredEncoder
from evenhand.networks.registry import register_series_encoder

WIDTHS = (32, 64, 96)
KERNELS = (24, 16, 8)
DROPOUT = 0.1


class PaddedConv1d(nn.Conv1d):
    """A convolution that keeps the length; for an even kernel, the extra zero is at the end."""

    def padded(self, series: Tensor) -> Tensor:
        """Return series ``(B, C, T)`` with zeros at both ends for the kernel."""
        around = self.kernel_size[0] - 1
        return F.pad(series, (around // 2, around - around // 2))

    def forward(self, series: Tensor) -> Tensor:
        """Return ``(B, C', T)`` of series ``(B, C, T)``."""
        return super().forward(self.padded(series))


class Conv1dEncoder(LayeredEncoder):
    """Three convolutions over time with ReLU and dropout, then the maximum over time.

    ``forward`` takes ``(B, C, T)`` and returns ``(B, 96)``. Each convolution keeps the length.
    """

    head_hidden_size = WIDTHS[-1]

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (channels, *WIDTHS)
        for number, kernel in enumerate(KERNELS):
            layer = skip_init(PaddedConv1d, *widths[number : number + 2], kernel)  # type: ignore[no-untyped-call]
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
            self.add_module(f"conv{number + 1}", layer)

    def forward(self, series: Tensor) -> Tensor:
        """Return representations ``(B, 96)`` of series ``(B, C, T)``."""
        for layer in self.children():
            # in the part above a frozen prefix, identities replace the frozen convolutions
            series = convolve(layer, series) if isinstance(layer, PaddedConv1d) else layer(series)
        return series.amax(dim=2)


def convolve(layer: PaddedConv1d, series: Tensor) -> Tensor:
    """Return a convolution of series with ReLU and, in training mode, dropout; T is unchanged."""
    return F.dropout(layer(series).relu(), DROPOUT, layer.training)


@register_series_encoder("conv1d")
def make_conv1d(channels: int, steps: int) -> Conv1dEncoder:
    """Return three convolutions over time, and the maximum over time."""
    return Conv1dEncoder(channels)
