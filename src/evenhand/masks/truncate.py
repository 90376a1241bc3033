"""Cut a backbone at a depth: the lower part returns activations, from which the upper continues."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from evenhand.masks.masks import Mask, find_units
from evenhand.masks.units import EMBEDDING, module_depths, parts


@dataclass(frozen=True, eq=False)
class Truncation:
    """The part of a backbone from a depth on."""

    depth: int
    upper: nn.Module
    """Network from the activations at the cut to features; it shares the backbone's modules."""


class _CutReached(Exception):  # noqa: N818  (not an error)
    """Ends a forward pass at the cut; its argument is the activations."""


def first_depth(backbone: nn.Module, mask: Mask) -> int:
    """Return the lowest depth that a mask tunes; for an empty mask, the last depth plus one."""
    after_all = parts(backbone)[-1].depth + 1
    return min((unit.depth for unit in find_units(backbone, mask)), default=after_all)


def truncate_at(backbone: nn.Module, depth: int, sample: Tensor) -> Truncation | None:
    """Cut a backbone at a depth, or at the nearest lower depth where a cut is exact.

    The upper part is the same network with everything below the cut replaced by the identity. This
    is exact only for a chain of modules. So a cut is tested on a sample: both parts together must
    give the features of the whole network, and nothing below the cut may be trainable.

    Parameters
    ----------
    backbone
        The network, in evaluation mode; its trainable parameters require a gradient.
    depth
        The lowest depth that belongs to the upper part.
    sample
        A small batch of the backbone's inputs.

    Returns
    -------
    Truncation or None
        None if nothing lies below the depth, or if no cut is exact.
    """
    for start in range(depth, EMBEDDING, -1):
        truncation = Truncation(start, upper_part(backbone, start))
        if _is_exact(backbone, truncation, sample):
            return truncation
    return None


def activations_at(network: nn.Module, backbone: nn.Module, depth: int, inputs: Tensor) -> Tensor:
    """Return the activations at a depth of the backbone.

    Parameters
    ----------
    network
        The backbone, or the upper part of it from a lower cut.
    backbone
        The whole backbone.
    depth
        The depth at which the forward pass stops.
    inputs
        Inputs of ``network``: samples, or activations at its cut.
    """
    if depth > parts(backbone)[-1].depth:
        features: Tensor = network(inputs)
        return features
    above = _topmost(backbone, lambda level: level >= depth)
    hooks = [backbone.get_submodule(name).register_forward_pre_hook(_stop) for name in above]
    try:
        out: Tensor = network(inputs)
    except _CutReached as reached:
        out = reached.args[0]
    finally:
        for hook in hooks:
            hook.remove()
    return out


def _stop(module: nn.Module, inputs: tuple[Any, ...]) -> None:
    raise _CutReached(inputs[0])


def _is_exact(backbone: nn.Module, truncation: Truncation, sample: Tensor) -> bool:
    whole = backbone(sample)
    try:
        activations = activations_at(backbone, backbone, truncation.depth, sample)
        split = truncation.upper(activations)
    except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        return False  # the upper part needs a module below the cut
    same = split.shape == whole.shape and torch.allclose(split, whole, rtol=1e-4, atol=1e-5)
    return same and not activations.requires_grad


def upper_part(backbone: nn.Module, depth: int) -> nn.Module:
    """Return a copy of the backbone with identities in place of all modules below a depth.

    The copy shares the other modules with the backbone.
    """
    if depth > parts(backbone)[-1].depth:
        return nn.Identity()
    removed = _topmost(backbone, lambda level: level < depth)
    upper = _without(backbone, "", removed)
    if hasattr(upper, "_pos_embed"):  # timm's ViT adds it in a method, between two modules
        vars(upper)["_pos_embed"] = _identity
    return upper


def _identity(tokens: Tensor) -> Tensor:
    return tokens


def _without(module: nn.Module, name: str, removed: set[str]) -> nn.Module:
    """Return a module with identities in place of removed ones; only changed parts are copied."""
    inside = {key: f"{name}.{key}".removeprefix(".") for key in module._modules}
    if not any(f"{out}.".startswith(f"{path}.") for path in inside.values() for out in removed):
        return module
    shallow = copy.copy(module)
    shallow._modules = {
        key: nn.Identity() if path in removed else _without(module._modules[key], path, removed)  # type: ignore[arg-type]
        for key, path in inside.items()
    }
    return shallow


def _topmost(backbone: nn.Module, matches: Callable[[int], bool]) -> set[str]:
    """Return the largest modules that lie wholly at depths that match."""
    depths = module_depths(backbone)
    mixed = {""}  # the backbone itself, and every module that holds one at another depth
    for name, depth in depths.items():
        if not matches(depth):
            path = name
            while path:
                mixed.add(path)
                path = path.rpartition(".")[0]
    return {name for name in depths if name not in mixed and name.rpartition(".")[0] in mixed}
