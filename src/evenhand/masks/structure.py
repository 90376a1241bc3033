"""The blocks of any network, recognised by its structure.

Two or more modules of one class in a ``Sequential``, ``ModuleList`` or ``ModuleDict`` are blocks.
Each block is split into its normalisation layers, attention, MLP, convolutions and remaining
parameters. Everything outside of blocks is split into layers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_CONVOLUTIONS = (nn.modules.conv._ConvNd,)


@dataclass(frozen=True)
class ModulePlace:
    """A part of a network: a block, or a layer or parameter outside of blocks."""

    path: str
    is_block: bool


@dataclass(frozen=True)
class ParameterPlace:
    """The unit, block or layer, depth and kind of a parameter."""

    unit: str
    place: str  # the path of the block or layer that holds it
    depth: int
    kind: str  # norm, attn, mlp, conv or rest


def parameter_places(network: nn.Module) -> dict[str, ParameterPlace]:
    """Return the place of each parameter by its name; depths count up from 0 at the input."""
    places = list(_walk(network, "", _block_types(network)))
    depths = _depths(network, places)
    places_of: dict[str, ParameterPlace] = {}
    for name, _ in network.named_parameters():
        place = next(place for place in places if _within(name, place.path))
        kind = layer_kind(network, place, name)
        unit = f"{place.path}.{kind}" if place.is_block else place.path
        places_of[name] = ParameterPlace(unit, place.path, depths[place.path], kind)
    return places_of


def block_names(network: nn.Module) -> tuple[str, ...]:
    """Return the blocks of a network from input to output, or its layers if it has no blocks."""
    places = list(_walk(network, "", _block_types(network)))
    modules = dict(network.named_modules())
    blocks = [place.path for place in places if place.is_block]
    layers = [
        place.path for place in places if place.path in modules and not is_norm(modules[place.path])
    ]
    return tuple(blocks or layers)


def depths_of_modules(network: nn.Module) -> dict[str, int]:
    """Return the depth of each module by name: the depth of its first parameter.

    A module without parameters has the depth of the module before it.
    """
    parameter_depths = {name: place.depth for name, place in parameter_places(network).items()}
    depth, depths = 0, {}
    for name, _ in network.named_modules():
        if name:
            inside = [d for parameter, d in parameter_depths.items() if _within(parameter, name)]
            depth = inside[0] if inside else depth
            depths[name] = depth
    return depths


def layer_kind(network: nn.Module, place: ModulePlace, name: str) -> str:
    """Return the kind of layer that a parameter belongs to: norm, attn, mlp, conv or rest."""
    owner = name.rpartition(".")[0]
    layer = network.get_submodule(owner)
    if is_norm(layer):
        return "norm"
    inside = owner if place.is_block else place.path
    if any(_is_attention(network, path) for path in _paths(place.path, inside)):
        return "attn"
    if isinstance(layer, nn.Linear):
        return "mlp"
    return "conv" if isinstance(layer, _CONVOLUTIONS) else "rest"


def is_norm(layer: nn.Module) -> bool:
    """Whether a layer normalises, by the name of its class."""
    return "norm" in type(layer).__name__.lower()


def _walk(module: nn.Module, path: str, blocks: frozenset[type]) -> Iterator[ModulePlace]:
    """Yield the blocks, and the layers and parameters outside of blocks, in the network's order."""
    if path and (_is_layer(module) or isinstance(module, nn.MultiheadAttention)):
        yield ModulePlace(path, is_block=False)
        return
    for parameter, _ in module.named_parameters(recurse=False):
        yield ModulePlace(_join(path, parameter), is_block=False)
    in_container = isinstance(module, CONTAINERS)
    plain = Counter(type(child) for child in module.children() if _is_plain(child, blocks))
    for name, child in module.named_children():
        if next(child.parameters(), None) is None:
            continue
        repeated = _is_plain(child, blocks) and plain[type(child)] > 1
        if in_container and (repeated or _is_block(child, blocks)):
            yield ModulePlace(_join(path, name), is_block=True)
        else:
            yield from _walk(child, _join(path, name), blocks)


def _block_types(network: nn.Module) -> frozenset[type]:
    """Return the classes of modules that occur at least twice as children of containers."""
    containers = (module for module in network.modules() if isinstance(module, CONTAINERS))
    counts = Counter(
        type(child)
        for container in containers
        for child in container.children()
        if not isinstance(child, CONTAINERS) and not _is_layer(child)
    )
    return frozenset(kind for kind, count in counts.items() if count > 1)


def _is_block(module: nn.Module, blocks: frozenset[type]) -> bool:
    """Whether a module is a block, and not a stage of several blocks."""
    if type(module) not in blocks or _is_layer(module):
        return False
    attends = any(_named_attention(name, child) for name, child in module.named_children())
    return attends or not _holds_blocks(module, blocks, count=2)


def _is_plain(module: nn.Module, blocks: frozenset[type]) -> bool:
    """Whether a module is a container of layers (convolution, norm, activation), not of blocks."""
    layered = isinstance(module, CONTAINERS) and not _is_layer(module)
    nested = any(isinstance(child, CONTAINERS) for child in module.children())
    return layered and not nested and not _holds_blocks(module, blocks, count=1)


def _holds_blocks(module: nn.Module, blocks: frozenset[type], count: int) -> bool:
    """Whether some container in a module holds at least ``count`` blocks of one class."""
    containers = (part for part in module.modules() if isinstance(part, CONTAINERS))
    counts = (Counter(type(child) for child in container.children()) for container in containers)
    return any(classes[block] >= count for classes in counts for block in blocks)


def _depths(network: nn.Module, places: list[ModulePlace]) -> dict[str, int]:
    """Return the depth of each place by path: 0 before the first block, then 1, 2, … per block.

    In a network without blocks, each layer except a normalisation increases the depth.
    """
    blocks = [k for k, place in enumerate(places) if place.is_block]
    first, last = (blocks[0], blocks[-1]) if blocks else (1, len(places) - 1)
    depth, depths = 0, {}
    for k, place in enumerate(places):
        is_norm_layer = not place.is_block and _is_norm_place(network, place)
        if (first <= k <= last and not is_norm_layer) or k == last + 1:
            depth += 1
        depths[place.path] = depth
    return depths


def _is_norm_place(network: nn.Module, place: ModulePlace) -> bool:
    modules = dict(network.named_modules())
    return place.path in modules and is_norm(modules[place.path])


def _is_layer(module: nn.Module) -> bool:
    """Whether a module is a layer: none of its children has parameters."""
    return all(next(child.parameters(), None) is None for child in module.children())


def _is_attention(network: nn.Module, path: str) -> bool:
    return _named_attention(path.rpartition(".")[2], network.get_submodule(path))


def _named_attention(name: str, module: nn.Module) -> bool:
    text = f"{name} {type(module).__name__}".lower()
    return "attn" in text or "attention" in text


def _paths(place: str, owner: str) -> Iterator[str]:
    """Yield the names of a layer and of the modules around it, without the block or network."""
    while len(owner) > len(place):
        yield owner
        owner = owner.rpartition(".")[0]


def _within(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path}.")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
