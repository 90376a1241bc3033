"""What every estimator of curvature takes and gives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class GroupBatch:
    """Samples of every group that is compared, those of a group side by side."""

    inputs: Tensor  # (B, …) as the model takes them
    labels: Tensor  # (B,) int64
    rows: Mapping[str, slice]  # where each group's samples lie


Curvature = Callable[
    [nn.Module, Iterable[GroupBatch], Collection[str]], dict[str, dict[str, Tensor]]
]
"""From a model, batches and names of parameters to h: group → parameter → the second derivative of
the group's mean cross-entropy by each number in it, of the parameter's shape. Both groups are in
one pass. The model is put into evaluation mode and is otherwise left as it was.

Raises
------
EvenhandError
    The estimator cannot handle a layer that holds one of the parameters; the message names it.
"""

Estimator = Callable[[int, torch.Generator], Curvature]
"""Makes a curvature from a number of draws for each sample, and the generator that draws them;
estimators that draw nothing ignore both."""
