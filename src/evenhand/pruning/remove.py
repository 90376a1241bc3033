"""Removal of the parameters of least saliency: single weights or whole channels."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

from torch import Tensor

from evenhand.networks.model import Model
from evenhand.pruning.channels import remove_channels
from evenhand.pruning.loop import M, PruningState, Remove
from evenhand.pruning.masks import apply_mask, count_kept, prune_smallest


def remover(structure: str) -> Remove[Model]:
    """Return the function that prunes an Evenhand model by ``channel`` or ``weight``."""
    return remove_channels if structure == "channel" else remove_weights


def remove_weights(
    state: PruningState[M], scores: Mapping[str, Tensor], count: int
) -> PruningState[M]:
    """Return the state after the ``count`` weights of least saliency are set to zero."""
    mask = prune_smallest(scores, {name: state.mask[name] for name in scores}, count)
    model = deepcopy(state.model)
    apply_mask(model, mask)
    return PruningState(model, state.mask | mask, count_kept(mask), state.total)
