"""The base classes of encoders of series."""

from __future__ import annotations

from torch import nn


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
