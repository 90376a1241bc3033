"""The base classes of encoders of series, and the observations that they read."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SeriesEncoder(nn.Module):
    """Maps series ``(B, 2C, T)``, held values and whether they were observed, to features."""

    head_hidden_size: int  # D of the features (B, D)


class LayeredEncoder(SeriesEncoder):
    """An encoder of series whose children are its layers, one after the other.

    Each child is a unit; its depth is 1 at the input and increases by 1. Its only input is the
    output of the child before it.
    """


def depth_of_layer(encoder: LayeredEncoder, layer: str) -> int:
    """Return the depth of a layer; 1 is at the input."""
    return [name for name, _ in encoder.named_children()].index(layer) + 1


def hold_last(series: Tensor) -> Tensor:
    """Return held values and masks ``(B, 2C, T)`` of standardised series ``(B, C, T)``.

    The first C channels are values: a missing value (NaN) is replaced by the last observed one, or
    by 0, the training mean, before the first observation. The other C channels are 1 if the value
    was observed, else 0.
    """
    missing = series.isnan()
    held = [torch.zeros_like(series[:, :, 0])]
    for now, absent in zip(series.unbind(2), missing.unbind(2), strict=True):
        held.append(torch.where(absent, held[-1], now))
    return torch.cat([torch.stack(held[1:], dim=2), (~missing).to(series.dtype)], dim=1)


def steps_since_seen(observed: Tensor) -> Tensor:
    """Return the number of steps since each variable was last observed, at each step.

    Parameters
    ----------
    observed
        ``(B, C, T)``, 1 if a value was observed, else 0.

    Returns
    -------
    Tensor
        ``(B, C, T)``: 0 if the value was observed, else the steps since the last observation.
        Before the first observation it is 1 at the first step, 2 at the second, and so on.

    Examples
    --------
    >>> steps_since_seen(torch.tensor([[[0.0, 1.0, 0.0, 0.0, 1.0]]])).tolist()
    [[[1.0, 0.0, 1.0, 2.0, 0.0]]]
    """
    since = [torch.zeros_like(observed[:, :, 0])]
    for current in observed.unbind(2):  # a loop, because ONNX lacks torch.cummax
        since.append((since[-1] + 1) * (1 - current))
    return torch.stack(since[1:], dim=2)
