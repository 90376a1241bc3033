"""What a step takes out, by the name of the structure."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

from torch import Tensor

from evenhand.pruning.channels import remove_channels
from evenhand.pruning.masks import apply_mask, count_kept, prune_smallest
from evenhand.pruning.state import Remove, State


def remover(structure: str) -> Remove:
    """Return how what counts least is taken out."""
    return {"weight": remove_weights, "channel": remove_channels}[structure]


def remove_weights(state: State, scores: Mapping[str, Tensor], count: int) -> State:
    """Zero the numbers of least saliency."""
    found = prune_smallest(scores, {name: state.kept[name] for name in scores}, count)
    model = deepcopy(state.model)
    apply_mask(model, found)
    return State(model, state.kept | found, count_kept(found), state.total)
