"""The pruning loop, and its masks: compute saliency, remove what has the least, repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from evenhand.errors import EvenhandError, pick
from evenhand.networks.model import load_tensors, save_tensors

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


KINDS = ("conv", "linear", "head", "bias", "norm", "other")
IN_CHANNELS = ("conv", "linear", "head", "bias", "norm")
"""Kinds of parameters that are removed with a channel."""
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def parameter_kind(model: nn.Module, name: str, heads: Sequence[str] = ("head",)) -> str:
    """Return the kind of a parameter; ``heads`` are the modules of the task head.

    Kinds are ``head`` (of the task head), ``norm`` (of a normalisation layer), ``bias`` (of another
    layer), ``conv`` and ``linear`` (weights of such layers), and ``other`` (embeddings, tokens …).
    """
    owner, _, leaf = name.rpartition(".")
    layer = model.get_submodule(owner)
    if any(name.startswith(f"{head}.") for head in heads):
        return "head"
    if "norm" in type(layer).__name__.lower():
        return "norm"
    if leaf.endswith("bias"):
        return "bias"
    if isinstance(layer, _CONVOLUTIONS):
        return "conv"
    is_linear = isinstance(layer, nn.Linear | nn.MultiheadAttention) and leaf.endswith("weight")
    return "linear" if is_linear else "other"


def prunable_parameters(model: nn.Module, structure: str, kinds: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the parameters whose saliency is computed.

    If ``structure`` is ``"channel"``, these are all parameters that are removed with a channel;
    else the parameters of the given kinds.
    """
    return prunable(model, IN_CHANNELS if structure == "channel" else kinds)


def prunable(
    model: nn.Module, kinds: Sequence[str], heads: Sequence[str] = ("head",)
) -> tuple[str, ...]:
    """Return the names of the parameters of some kinds, in the model's order.

    ``heads`` are the modules of the task head.

    Raises
    ------
    EvenhandError
        If one of the kinds does not exist, or if the model has no parameter of these kinds.
    """
    for kind in kinds:
        pick("kind of parameter", kind, dict.fromkeys(KINDS))
    by_name = {name: parameter_kind(model, name, heads) for name, _ in model.named_parameters()}
    names = tuple(name for name, kind in by_name.items() if kind in kinds)
    if not names:
        raise EvenhandError(
            f"{' and '.join(kinds)} may be pruned, and the model has no parameter of these kinds; "
            f"it has: {', '.join(sorted(set(by_name.values())))}. Name other kinds with "
            "--prunable, or parameters with parameters=."
        )
    return names


M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class PruningState(Generic[M]):
    """A partly pruned model.

    Attributes
    ----------
    model
        The model.
    mask
        Mask of its weights; it also drops weights that an earlier pruning set to zero.
    left
        Number of prunable parameters that remain.
    total
        Number of prunable parameters in the unpruned model.
    origin
        Parameter → flat index of each of its weights in the unpruned model; empty unless channels
        were removed.
    """

    model: M
    mask: WeightMask
    left: int
    total: int
    origin: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def sparsity(self) -> float:
        """Share of the prunable parameters that are pruned, 0 … 1."""
        return 1 - self.left / self.total


Remove = Callable[[PruningState[M], Mapping[str, Tensor], int], PruningState[M]]
"""Function of a state, the saliency of each parameter and the number of parameters to remove.

It returns the next state, and does not change the state that it gets."""


@dataclass(frozen=True)
class Pace:
    """The share that each step removes, and the sparsity at which the pruning ends.

    Attributes
    ----------
    share
        Percent of the remaining parameters that a step removes.
    limit
        The highest sparsity in percent.
    """

    share: float
    limit: float

    def count(self, left: int, total: int) -> int:
        """Return how many parameters the next step removes; 0 once the limit is reached.

        Parameters
        ----------
        left, total
            Number of prunable parameters that remain, and in the unpruned model.

        Examples
        --------
        >>> Pace(share=10, limit=60).count(left=100, total=100)
        10
        """
        share = max(1, round(left * self.share / 100))
        return max(0, min(share, left - self.floor(total)))

    def floor(self, total: int) -> int:
        """Return how many parameters remain at the limit."""
        return total - round(total * self.limit / 100)

    def steps(self, left: int, total: int) -> int:
        """Return the number of steps to the limit."""
        number = 0
        while count := self.count(left, total):
            left, number = left - count, number + 1
        return number


def prune_steps(
    state: PruningState[M],
    score: Callable[[M, int], Mapping[str, Tensor]],
    remove: Remove[M],
    pace: Pace,
    *,
    first: int = 1,
) -> Iterator[PruningState[M]]:
    """Yield the state after each step of a pruning.

    The pruning ends at the limit. It also ends if a step can remove nothing, or only more than the
    limit allows (a channel may have many parameters); this step yields the state before it.

    Parameters
    ----------
    state
        The state before the first step.
    score
        Function of a network and the number of a step; it returns the saliency of the parameters.
    remove
        Function that removes the parameters of least saliency.
    pace
        How much each step removes.
    first
        The number of the first step.
    """
    number = first
    while count := pace.count(state.left, state.total):
        before = state
        state = remove(before, score(before.model, number), count)
        if state.left < pace.floor(before.total):
            state = before
        yield state
        if state.left == before.left:
            return
        number += 1
