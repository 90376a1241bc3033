"""What encoders of series have in common."""

from __future__ import annotations

from torch import nn


class SeriesEncoder(nn.Module):
    """Maps series ``(B, 2C, T)``, held values and whether they were observed, to features."""

    head_hidden_size: int  # D of the features (B, D)


class LayeredEncoder(SeriesEncoder):
    """An encoder of series whose children are its layers, one after the other.

    Each child is a unit of its own depth, from 1 at the input up, and reads nothing but what the
    one before it returns.
    """


def depth_of_layer(row: LayeredEncoder, layer: str) -> int:
    """Return the depth of a layer, from 1 at the input up."""
    return [name for name, _ in row.named_children()].index(layer) + 1
