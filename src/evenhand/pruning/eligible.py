"""What may be pruned, as a rule over the kinds of parameters."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from evenhand.errors import EvenhandError, pick

KINDS = ("conv", "linear", "head", "bias", "norm", "other")
IN_CHANNELS = ("conv", "linear", "head", "bias", "norm")
"""Kinds of parameters that go with a channel."""
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def kind_of(model: nn.Module, name: str) -> str:
    """Return what a parameter is.

    ``head`` is everything in the task head, ``norm`` everything in a normalisation, ``bias`` any
    other bias; ``conv`` and ``linear`` are weights of such layers, ``other`` is what remains:
    embeddings, tokens, factors.
    """
    owner, _, own = name.rpartition(".")
    layer = model.get_submodule(owner)
    if owner.partition(".")[0] == "head":
        return "head"
    if "norm" in type(layer).__name__.lower():
        return "norm"
    if own.endswith("bias"):
        return "bias"
    if isinstance(layer, _CONVOLUTIONS):
        return "conv"
    return "linear" if isinstance(layer, nn.Linear) else "other"


def prunable_parameters(model: nn.Module, structure: str, kinds: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the parameters whose saliency counts.

    Where whole channels go (``structure`` is ``"channel"``), these are all that go with a channel;
    else those of the given kinds.
    """
    return prunable(model, IN_CHANNELS if structure == "channel" else kinds)


def prunable(model: nn.Module, kinds: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the parameters of some kinds, in the model's order.

    Raises
    ------
    EvenhandError
        There is no such kind, or the model has nothing of these kinds.
    """
    for kind in kinds:
        pick("kind of parameter", kind, dict.fromkeys(KINDS))
    names = tuple(name for name, _ in model.named_parameters() if kind_of(model, name) in kinds)
    if not names:
        there = sorted({kind_of(model, name) for name, _ in model.named_parameters()})
        raise EvenhandError(
            f"--prunable {' '.join(kinds)}: the model has nothing of these kinds; it has: "
            f"{', '.join(there)}."
        )
    return names
