"""Views: random augmentations of each sample, as batch operations."""

from __future__ import annotations

from collections.abc import Callable

from torch import Generator, Tensor

from evenhand.networks.inputs import Inputs, SeriesInputs
from evenhand.pretraining.views.images import view_images
from evenhand.pretraining.views.series import view_series

View = Callable[[Tensor, Generator], Tensor]
"""Function of a batch and a generator on its device; it returns one view of each sample."""

__all__ = ["View", "view_images", "view_of", "view_series"]


def view_of(inputs: Inputs) -> View:
    """Return the function that draws views, for a model's kind of inputs."""
    return view_series if isinstance(inputs, SeriesInputs) else view_images
