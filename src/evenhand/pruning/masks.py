"""Masks of weights: which weights are kept, and how pruned weights stay zero."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from evenhand.networks.checkpoints import load_tensors, save_tensors

WeightMask = dict[str, Tensor]
"""Parameter that may be pruned → boolean tensor of its shape, true for each weight that is kept."""


def keep_all(model: nn.Module, names: Sequence[str]) -> WeightMask:
    """Return the mask that keeps all weights of some parameters."""
    return {name: torch.ones_like(model.get_parameter(name), dtype=torch.bool) for name in names}


def prune_smallest(saliency: Mapping[str, Tensor], mask: WeightMask, count: int) -> WeightMask:
    """Return a mask that also drops the ``count`` weights of least saliency among those kept."""
    flat = torch.cat([saliency[name].flatten().float().cpu() for name in mask]).numpy()
    keep = torch.cat([tensor.flatten().cpu() for tensor in mask.values()]).numpy()
    candidates = np.where(keep, flat, np.inf)
    if count:
        keep[np.argpartition(candidates, count - 1)[:count]] = False
    parts = torch.split(torch.from_numpy(keep), [tensor.numel() for tensor in mask.values()])
    return {
        name: part.view(tensor.shape).to(tensor.device)
        for (name, tensor), part in zip(mask.items(), parts, strict=True)
    }


def apply_mask(model: nn.Module, mask: WeightMask) -> None:
    """Set the weights that the mask drops to zero."""
    with torch.no_grad():
        for name, tensor in mask.items():
            model.get_parameter(name).masked_fill_(~tensor.to(model.get_parameter(name).device), 0)


@contextmanager
def freeze_zeros(model: nn.Module, mask: WeightMask) -> Iterator[None]:
    """Set the gradients of the weights that the mask drops to zero while the block runs.

    Under AdamW, a weight that is zero and has only zero gradients stays zero, bit for bit.
    """
    with ExitStack() as stack:
        for name, tensor in mask.items():
            parameter = model.get_parameter(name)
            was_trainable = parameter.requires_grad
            parameter.requires_grad_(True)  # torch allows hooks only on trainable parameters
            handle = parameter.register_hook(_masking(tensor))  # type: ignore[no-untyped-call]
            parameter.requires_grad_(was_trainable)
            stack.callback(handle.remove)
        yield


def _masking(tensor: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda grad: grad.masked_fill(~tensor.to(grad.device), 0)


def count_kept(mask: WeightMask) -> int:
    """Return how many weights a mask keeps."""
    return sum(int(tensor.sum()) for tensor in mask.values())


def save_mask(path: Path, mask: WeightMask) -> None:
    """Write a mask as safetensors, one boolean tensor under each parameter's name."""
    save_tensors(path, mask)


def load_mask(path: Path) -> WeightMask:
    """Return the mask in a file."""
    return load_tensors(path)
