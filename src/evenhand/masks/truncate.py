"""A network in two parts: what lies below a depth, and the rest, which shares its modules."""

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
    """A backbone without what lies below a depth."""

    depth: int
    rest: nn.Module
    """Takes activations at the cut and returns features; its modules are the backbone's own."""


class _Reached(Exception):  # noqa: N818  (no error: it carries the activations out)
    """A forward pass has come to the cut."""


def first_depth(backbone: nn.Module, mask: Mask) -> int:
    """Return the lowest depth that a mask lets change; one behind the last for the empty mask."""
    behind = parts(backbone)[-1].depth + 1
    return min((unit.depth for unit in find_units(backbone, mask)), default=behind)


def cut_at(backbone: nn.Module, depth: int, sample: Tensor) -> Truncation | None:
    """Cut a backbone at a depth, or at the nearest below it where both parts make up the whole.

    The rest is the same network with everything below the cut replaced by the identity. That it
    gives what the whole network gives, and that nothing below the cut may change, is tried on a
    sample, since not every network is a chain.

    Parameters
    ----------
    backbone
        In evaluation mode; what may change requires a gradient.
    depth
        The lowest depth that belongs to the rest.
    sample
        A small batch as the backbone reads it.

    Returns
    -------
    Cut or None
        None where there is nothing below the depth, or no cut is exact.
    """
    for start in range(depth, EMBEDDING, -1):
        cut = Truncation(start, rest_behind(backbone, start))
        if _exact(backbone, cut, sample):
            return cut
    return None


def below(network: nn.Module, backbone: nn.Module, depth: int, inputs: Tensor) -> Tensor:
    """Return the activations that a forward pass brings to a depth of the backbone.

    ``network`` is the backbone, or the rest of it behind a lower cut, with inputs to match.
    """
    if depth > parts(backbone)[-1].depth:
        features: Tensor = network(inputs)
        return features
    beyond = _topmost(backbone, lambda level: level >= depth)
    hooks = [backbone.get_submodule(name).register_forward_pre_hook(_stop) for name in beyond]
    try:
        out: Tensor = network(inputs)
    except _Reached as reached:
        out = reached.args[0]
    finally:
        for hook in hooks:
            hook.remove()
    return out


def _stop(module: nn.Module, inputs: tuple[Any, ...]) -> None:
    raise _Reached(inputs[0])


def _exact(backbone: nn.Module, cut: Truncation, sample: Tensor) -> bool:
    whole = backbone(sample)
    try:
        activations = below(backbone, backbone, cut.depth, sample)
        split = cut.rest(activations)
    except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        return False  # something in the rest cannot do without what was taken out
    same = split.shape == whole.shape and torch.allclose(split, whole, rtol=1e-4, atol=1e-5)
    return same and not activations.requires_grad


def rest_behind(backbone: nn.Module, depth: int) -> nn.Module:
    """Return a copy of the backbone's skeleton, with identities for what lies below a depth."""
    if depth > parts(backbone)[-1].depth:
        return nn.Identity()
    gone = _topmost(backbone, lambda level: level < depth)
    rest = _without(backbone, "", gone)
    if hasattr(rest, "_pos_embed"):  # timm's ViT adds it in a method, between two modules
        vars(rest)["_pos_embed"] = _same
    return rest


def _same(tokens: Tensor) -> Tensor:
    return tokens


def _without(module: nn.Module, name: str, gone: set[str]) -> nn.Module:
    inside = {key: f"{name}.{key}".removeprefix(".") for key in module._modules}
    if not any(f"{out}.".startswith(f"{path}.") for path in inside.values() for out in gone):
        return module
    skeleton = copy.copy(module)
    skeleton._modules = {
        key: nn.Identity() if path in gone else _without(module._modules[key], path, gone)  # type: ignore[arg-type]
        for key, path in inside.items()
    }
    return skeleton


def _topmost(backbone: nn.Module, wanted: Callable[[int], bool]) -> set[str]:
    """Return the modules that lie wholly at such depths, without those inside of others."""
    depths = module_depths(backbone)
    mixed = {""}  # the backbone itself, and everything that holds something at another depth
    for name, depth in depths.items():
        if not wanted(depth):
            path = name
            while path:
                mixed.add(path)
                path = path.rpartition(".")[0]
    return {name for name in depths if name not in mixed and name.rpartition(".")[0] in mixed}
