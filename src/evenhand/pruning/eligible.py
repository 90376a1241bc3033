"""What may be pruned, as a rule over the kinds of parameters."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from evenhand.errors import EvenhandError, pick

KINDS = ("conv", "linear", "head", "bias", "norm", "other")
IN_CHANNELS = ("conv", "linear", "head", "bias", "norm")
"""Kinds of parameters that go with a channel."""
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def kind_of(model: nn.Module, name: str, heads: Sequence[str] = ("head",)) -> str:
    """Return what a parameter is; ``heads`` are the modules of the task head.

    ``head`` is everything in the task head, ``norm`` everything in a normalisation, ``bias`` any
    other bias; ``conv`` and ``linear`` are weights of such layers, ``other`` is what remains:
    embeddings, tokens, factors.
    """
    owner, _, own = name.rpartition(".")
    layer = model.get_submodule(owner)
    if any(name.startswith(f"{head}.") for head in heads):
        return "head"
    if "norm" in type(layer).__name__.lower():
        return "norm"
    if own.endswith("bias"):
        return "bias"
    if isinstance(layer, _CONVOLUTIONS):
        return "conv"
    linear = isinstance(layer, nn.Linear | nn.MultiheadAttention) and own.endswith("weight")
    return "linear" if linear else "other"


def prunable_parameters(model: nn.Module, structure: str, kinds: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the parameters whose saliency counts.

    Where whole channels go (``structure`` is ``"channel"``), these are all that go with a channel;
    else those of the given kinds.
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
        There is no such kind, or the model has nothing of these kinds.
    """
    for kind in kinds:
        pick("kind of parameter", kind, dict.fromkeys(KINDS))
    by_name = {name: kind_of(model, name, heads) for name, _ in model.named_parameters()}
    names = tuple(name for name, kind in by_name.items() if kind in kinds)
    if not names:
        raise EvenhandError(
            f"{' and '.join(kinds)} may be pruned, and the model has nothing of these kinds; it "
            f"has: {', '.join(sorted(set(by_name.values())))}. Name other kinds with --prunable, "
            "or parameters with parameters=."
        )
    return names
