"""Masks of weights: which are kept, and how the others stay zero."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from evenhand.networks.checkpoints import load_tensors, save_tensors

Kept = dict[str, Tensor]
"""For each parameter that may be pruned, a boolean tensor of its shape: true where it is kept."""


def keep_all(model: nn.Module, names: Sequence[str]) -> Kept:
    """Return the mask that keeps every number of some parameters."""
    return {name: torch.ones_like(model.get_parameter(name), dtype=torch.bool) for name in names}


def prune_smallest(saliency: Mapping[str, Tensor], kept: Kept, count: int) -> Kept:
    """Return the mask that drops, of what a mask keeps, the ``count`` numbers of least saliency."""
    flat = torch.cat([saliency[name].flatten().float().cpu() for name in kept]).numpy()
    alive = torch.cat([mask.flatten().cpu() for mask in kept.values()]).numpy()
    ranked = np.where(alive, flat, np.inf)
    if count:
        alive[np.argpartition(ranked, count - 1)[:count]] = False
    parts = torch.split(torch.from_numpy(alive), [mask.numel() for mask in kept.values()])
    return {
        name: part.view(mask.shape).to(mask.device)
        for (name, mask), part in zip(kept.items(), parts, strict=True)
    }


def apply_mask(model: nn.Module, kept: Kept) -> None:
    """Set what the mask drops to zero."""
    with torch.no_grad():
        for name, mask in kept.items():
            model.get_parameter(name).masked_fill_(~mask.to(model.get_parameter(name).device), 0)


@contextmanager
def zeros_kept(model: nn.Module, kept: Kept) -> Iterator[None]:
    """Let no training move what the mask drops, while the block runs.

    A number that is zero and never gets a gradient stays zero under AdamW, bit for bit.
    """
    with ExitStack() as stack:
        for name, mask in kept.items():
            parameter = model.get_parameter(name)
            was_trainable = parameter.requires_grad
            parameter.requires_grad_(True)  # a hook can be put on no other
            handle = parameter.register_hook(_masking(mask))  # type: ignore[no-untyped-call]
            parameter.requires_grad_(was_trainable)
            stack.callback(handle.remove)
        yield


def _masking(kept: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda grad: grad.masked_fill(~kept.to(grad.device), 0)


def count_kept(kept: Kept) -> int:
    """Return how many numbers a mask keeps."""
    return sum(int(mask.sum()) for mask in kept.values())


def save_mask(path: Path, kept: Kept) -> None:
    """Write a mask as safetensors, one boolean tensor under each parameter's name."""
    save_tensors(path, kept)


def load_mask(path: Path) -> Kept:
    """Return the mask in a file."""
    return load_tensors(path)
