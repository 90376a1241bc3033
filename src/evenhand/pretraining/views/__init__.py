"""Views: what is drawn at random of each sample, anew for each view, as batch operations."""

from __future__ import annotations

from collections.abc import Callable

from torch import Generator, Tensor

from evenhand.networks.inputs import Inputs, SeriesInputs
from evenhand.pretraining.views.images import view_images
from evenhand.pretraining.views.series import view_series

View = Callable[[Tensor, Generator], Tensor]
"""From a batch and a generator on its device to one view of each sample."""

__all__ = ["View", "view_images", "view_of", "view_series"]


def view_of(inputs: Inputs) -> View:
    """Return how views of such samples are drawn."""
    return view_series if isinstance(inputs, SeriesInputs) else view_images
