"""The parameters that may be pruned, by their kinds."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from evenhand.errors import EvenhandError, pick

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
