"""What a step takes out, by the name of the structure."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

from torch import Tensor

from evenhand.networks.model import Model
from evenhand.pruning.channels import remove_channels
from evenhand.pruning.masks import apply_mask, count_kept, prune_smallest
from evenhand.pruning.state import M, PruningState, Remove


def remover(structure: str) -> Remove[Model]:
    """Return how what counts least is taken out of one of Evenhand's models."""
    return remove_channels if structure == "channel" else remove_weights


def remove_weights(
    state: PruningState[M], scores: Mapping[str, Tensor], count: int
) -> PruningState[M]:
    """Zero the numbers of least saliency."""
    kept = prune_smallest(scores, {name: state.kept[name] for name in scores}, count)
    model = deepcopy(state.model)
    apply_mask(model, kept)
    return PruningState(model, state.kept | kept, count_kept(kept), state.total)
