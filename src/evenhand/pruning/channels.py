"""Whole channels and heads: scored by the sum of their parameters' saliency, and removed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from evenhand.errors import EvenhandError
from evenhand.networks.calling import Forward, call, logits_of
from evenhand.networks.model import Model, random_model
from evenhand.networks.widths import attentions, count_heads, solid_attentions, widths_of
from evenhand.pruning.saliency import NamedTensors
from evenhand.pruning.state import M, PruningState

_LAYERS = (nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
"""Layers that torch-pruning handles, also in timm's variants that contain an activation."""
Slices = Mapping[tuple[str, int], int]
"""(parameter name, axis) → number of entries that a channel has along that axis."""


@dataclass(frozen=True, eq=False)
class ChannelSet:
    """Channels or attention heads, each of which can be removed alone.

    Attributes
    ----------
    scores
        For each channel or head, the sum of its parameters' saliency.
    slices
        For each channel or head, its entries along the axes of parameters.
    remove
        Removes the channels or heads with some indices from the model.
    """

    scores: Tensor
    slices: Sequence[Slices]
    remove: Callable[[list[int]], None]


def torch_pruning() -> Any:
    """Return the module torch_pruning, which knows which layers depend on each other.

    Raises
    ------
    EvenhandError
        If torch-pruning is not installed.
    """
    try:
        import torch_pruning as library
    except ImportError:
        raise EvenhandError(
            "--structure channel needs torch-pruning: pip install 'evenhand[structured]'."
        ) from None
    return library


def refuse_solid(model: Model) -> None:
    """Refuse a model whose channels cannot be removed; half of them are removed from a copy.

    Raises
    ------
    EvenhandError
        If that fails, or removes nothing; the message names the backbone.
    """
    library, total = torch_pruning(), sum(p.numel() for p in model.parameters())
    scores = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    try:
        half = remove_channels(PruningState(model, {}, total, total), scores, total // 2)
        half.model(_sample(model))
        random_model(half.model.spec, seed=0).load_state_dict(half.model.state_dict())
        why = "" if half.left < total else "some layer that depends on them cannot be narrowed"
    except Exception as error:  # the library raises many types for layers that it cannot follow
        why = f"{library.__name__} cannot follow its layers ({type(error).__name__})"
    if why:
        raise EvenhandError(
            f"--structure channel: no channel or head of {model.spec.backbone} can be removed, as "
            f"{why}. Prune its weights one by one (--structure weight), or train another backbone."
        )


@dataclass(frozen=True, eq=False)
class Trace:
    """Settings for tracing which layers of a network depend on each other.

    Attributes
    ----------
    example
        Inputs of one or more samples, as the network takes them.
    whole
        Names of the modules whose outputs are all kept, such as the last layer.
    untouched
        Names of the modules that are not changed at all.
    forward
        Function of the network and inputs; it returns logits.
    """

    example: Any
    whole: Sequence[str]
    untouched: Sequence[str] = ()
    forward: Forward = call


def remove_channels(
    state: PruningState[Model], scores: NamedTensors, count: int
) -> PruningState[Model]:
    """Remove the channels and heads of least saliency from an Evenhand model, and update its spec.

    As `cut_channels`; the returned model's spec has the widths of the narrower layers.
    """
    narrower = cut_channels(state, scores, count, trace_of(state.model))
    model = narrower.model
    original = random_model(model.spec.model_copy(update={"widths": {}}), seed=0)
    model.spec = model.spec.model_copy(update={"widths": widths_of(model, original)})
    return narrower


def trace_of(model: Model) -> Trace:
    """Return the trace settings of an Evenhand model: the last layer of its head stays whole."""
    layers = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    outputs = [name for name in layers if name.startswith("head")][-1:]
    return Trace(_sample(model), outputs, [*solid_attentions(model)])


def cut_channels(
    state: PruningState[M], scores: NamedTensors, count: int, trace: Trace
) -> PruningState[M]:
    """Return the state without the channels and heads of least saliency.

    Together they have at most ``count`` parameters, but at least one channel is removed. Every
    layer keeps at least one channel.
    """
    model = deepcopy(state.model)
    sets = _channel_sets(model, scores, trace)
    shapes = {name: list(p.shape) for name, p in model.named_parameters()}
    values = {name: p.detach() for name, p in model.named_parameters()}
    for name, parameter in model.named_parameters():  # remove from the indices, then look up values
        parameter.data = torch.arange(parameter.numel(), dtype=torch.double).view(shapes[name])
    for channels, places in zip(sets, _least(sets, shapes, count), strict=True):
        if places:
            channels.remove(places)
    count_heads(model)
    origin = {}
    for name, parameter in model.named_parameters():
        indices = parameter.detach().long()
        origin[name] = state.origin[name].flatten()[indices] if name in state.origin else indices
        parameter.data = values[name].flatten()[indices.to(values[name].device)]
    # Masked weights are zero, also in the narrower layers.
    mask = {name: model.get_parameter(name) != 0 for name in state.mask}
    left = sum(p.numel() for p in model.parameters())
    return PruningState(model, mask, left, state.total, origin)


def _least(sets: Sequence[ChannelSet], shapes: dict[str, list[int]], count: int) -> list[list[int]]:
    """Return, for each set, the indices of the channels to remove.

    A weight between two removed channels counts once: ``shapes`` are updated in place, so each
    channel counts only weights that the previous channels did not remove.
    """
    every = sorted(
        (float(score), k, place)
        for k, channels in enumerate(sets)
        for place, score in enumerate(channels.scores.tolist())
    )
    chosen: list[list[int]] = [[] for _ in sets]
    removed = 0
    for _, k, place in every:
        if len(chosen[k]) == len(sets[k].scores) - 1:
            continue
        size = _size(sets[k].slices[place], shapes)
        if removed and removed + size > count:
            break
        chosen[k].append(place)
        for (name, axis), places in sets[k].slices[place].items():
            shapes[name][axis] -= places
        removed += size
    return chosen


def _size(slices: Slices, shapes: Mapping[str, Sequence[int]]) -> int:
    """Return how many parameters vanish when slices are cut out of parameters of these shapes."""
    remaining = {name: list(shapes[name]) for name, _ in slices}
    for (name, axis), places in slices.items():
        remaining[name][axis] -= places
    return sum(math.prod(shapes[name]) - math.prod(shape) for name, shape in remaining.items())


def _channel_sets(model: nn.Module, scores: NamedTensors, trace: Trace) -> list[ChannelSet]:
    return [*_channels(model, scores, trace), *_heads(model, scores, trace)]


def _channels(model: nn.Module, scores: NamedTensors, trace: Trace) -> list[ChannelSet]:
    """Return one set for each group of layers that must have the same number of channels."""
    layers = [
        module
        for module in model.modules()
        if isinstance(module, _LAYERS) or not _has_children(module)
    ]
    inner = {id(p) for layer in layers for p in layer.parameters(recurse=False)}
    bare = [(p, p.ndim - 1) for p in model.parameters() if id(p) not in inner]
    graph = torch_pruning().DependencyGraph()
    with torch.enable_grad():  # the library follows gradients
        graph.build_dependency(
            model,
            trace.example,
            forward_fn=lambda network, inputs: logits_of(network, inputs, trace.forward),
            unwrapped_parameters=bare,
        )
    names = {module: name for name, module in model.named_modules()}
    qkv = [part for part in model.modules() if isinstance(getattr(part, "qkv", None), nn.Linear)]
    attention = [layer for part in qkv for layer in (part.qkv, part.proj)]
    whole = [layer for name in trace.whole for layer in model.get_submodule(name).modules()]
    untouched = {part for name in trace.untouched for part in model.get_submodule(name).modules()}
    grouped = {part for part in model.modules() if _is_grouped(part)}
    fixed = {*untouched, *grouped, *(parameter for parameter, _ in bare)}
    shapes = {name: p.shape for name, p in model.named_parameters()}
    channels = []
    for group in graph.get_all_groups(ignored_layers=[*attention, *whole]):
        if not any(item.dep.target.module in fixed for item in group):
            channels.append(
                ChannelSet(
                    _by_channel(graph, group, names, scores),
                    _slices_by_channel(graph, group, names, shapes),
                    group.prune,
                )
            )
    return channels


def _sample(model: Model) -> Tensor:
    return torch.zeros(1, *model.spec.inputs.shape, device=next(model.parameters()).device)


def _parameters(graph: Any, group: Any, names: Mapping[Any, str]) -> Iterator[tuple[Any, str, int]]:
    """Yield the parameters that depend on the channels of a group: item, name and axis."""
    for item in group:
        name = names.get(item.dep.target.module)
        outward = graph.is_out_channel_pruning_fn(item.dep.handler)  # also true of a norm
        for suffix, axis in (("weight", 0), ("bias", 0)) if outward else (("weight", 1),):
            yield item, f"{name}.{suffix}", axis


def _by_channel(graph: Any, group: Any, names: Mapping[Any, str], scores: NamedTensors) -> Tensor:
    """Return, for each channel of a group, the sum of the scores that are removed with it."""
    total = torch.zeros(len(group[0].idxs), dtype=torch.double)
    for item, name, axis in _parameters(graph, group, names):
        if (score := scores.get(name)) is not None:
            places = score.transpose(0, axis)
            sums = places.reshape(len(places), -1).sum(1).double().cpu()
            total.index_add_(0, torch.as_tensor(item.root_idxs), sums[list(item.idxs)])
    return total


def _slices_by_channel(
    graph: Any, group: Any, names: Mapping[Any, str], shapes: Mapping[str, torch.Size]
) -> list[Slices]:
    """Return the slices of parameters that are removed with each channel of a group."""
    slices: list[Counter[tuple[str, int]]] = [Counter() for _ in group[0].idxs]
    for item, name, axis in _parameters(graph, group, names):
        if name in shapes:
            for channel in item.root_idxs:
                slices[channel][name, axis] += 1
    return list(slices)


def _heads(model: nn.Module, scores: NamedTensors, trace: Trace) -> list[ChannelSet]:
    """Return the heads of each attention."""
    return [
        ChannelSet(
            _by_head(name, attention, scores),
            [_slices_of_head(name, attention)] * attention.num_heads,
            partial(_remove_heads, attention),
        )
        for name, attention in attentions(model).items()
        if f"{name}.qkv.weight" in scores and f"{name}.proj.weight" in scores
        if not any(_within(name, part) for part in (*trace.whole, *trace.untouched))
    ]


def _is_grouped(module: nn.Module) -> bool:
    """Whether a convolution has groups of several channels, which must be removed together."""
    return isinstance(module, nn.modules.conv._ConvNd) and 1 < module.groups < module.in_channels


def _has_children(module: nn.Module) -> bool:
    return any(True for _ in module.children())


def _within(name: str, part: str) -> bool:
    return f"{name}.".startswith(f"{part}.") or part.startswith(f"{name}.")


def _slices_of_head(name: str, attention: Any) -> Slices:
    width = attention.head_dim
    bias = {} if attention.qkv.bias is None else {(f"{name}.qkv.bias", 0): 3 * width}
    return {(f"{name}.qkv.weight", 0): 3 * width, (f"{name}.proj.weight", 1): width, **bias}


def _by_head(name: str, attention: Any, scores: NamedTensors) -> Tensor:
    heads, width = attention.num_heads, attention.head_dim
    rows = scores[f"{name}.qkv.weight"].sum(1)  # (3 · heads · width,)
    if f"{name}.qkv.bias" in scores:
        rows = rows + scores[f"{name}.qkv.bias"]
    columns = scores[f"{name}.proj.weight"].sum(0)  # (heads · width,)
    squares = rows.view(3, heads, width).sum((0, 2)) + columns.view(heads, width).sum(1)
    return squares.double().cpu()


def _remove_heads(attention: Any, places: list[int]) -> None:
    heads, width = attention.num_heads, attention.head_dim
    remaining = torch.tensor([k for k in range(heads) if k not in places])
    columns = torch.arange(heads * width).view(heads, width)[remaining].flatten()
    rows = torch.arange(3 * heads * width).view(3, heads, width)[:, remaining].flatten()
    qkv, proj = attention.qkv, attention.proj
    qkv.weight = nn.Parameter(qkv.weight.detach()[rows])
    if qkv.bias is not None:
        qkv.bias = nn.Parameter(qkv.bias.detach()[rows])
    proj.weight = nn.Parameter(proj.weight.detach()[:, columns])
    qkv.out_features, proj.in_features = len(rows), len(columns)
