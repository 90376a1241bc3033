"""Score whole channels and attention heads by the saliency of their parameters; remove them."""

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
from evenhand.networks.model import (
    Model,
    attentions,
    count_heads,
    random_model,
    unprunable_attentions,
    widths_of,
)
from evenhand.pruning.loop import M, PruningState, Remove, apply_mask, count_kept, prune_smallest
from evenhand.pruning.saliency import NamedTensors

_LAYERS = (nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
"""Layers that torch-pruning handles, also in timm's variants that contain an activation."""
Slices = Mapping[tuple[str, int], int]
"""(parameter name, axis) → number of indices along that axis that belong to one channel."""


@dataclass(frozen=True, eq=False)
class ChannelSet:
    """The channels of layers that depend on each other, or the heads of one attention.

    Attributes
    ----------
    scores
        For each channel or head, the sum of its parameters' saliency.
    slices
        For each channel or head, the size of its slice along the axes of parameters.
    remove
        Function that removes the channels or heads with some indices from the model.
    """

    scores: Tensor
    slices: Sequence[Slices]
    remove: Callable[[list[int]], None]


def torch_pruning() -> Any:
    """Import and return the module torch_pruning.

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


def refuse_unprunable(model: Model) -> None:
    """Refuse a model whose channels cannot be removed, by removing half of them from a copy.

    Raises
    ------
    EvenhandError
        If the removal fails or removes nothing; the message names the backbone.
    """
    library, total = torch_pruning(), sum(p.numel() for p in model.parameters())
    scores = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    try:
        half = remove_channels(PruningState(model, {}, total, total), scores, total // 2)
        half.model(_sample(model))
        random_model(half.model.spec, seed=0).load_state_dict(half.model.state_dict())
        reason = "" if half.left < total else "some layer that depends on them cannot be narrowed"
    except Exception as error:  # torch-pruning raises many types for layers that it cannot follow
        reason = f"{library.__name__} cannot follow its layers ({type(error).__name__})"
    if reason:
        raise EvenhandError(
            f"--structure channel: no channel or head of {model.spec.backbone} can be removed, as "
            f"{reason}. Prune its weights one by one (--structure weight), or train another "
            "backbone."
        )


@dataclass(frozen=True, eq=False)
class Trace:
    """How torch-pruning traces which layers of a network depend on each other.

    Attributes
    ----------
    example
        Inputs of one or more samples, as the network takes them.
    whole
        Names of the modules that keep all of their outputs, such as the last layer.
    untouched
        Names of the modules that do not change at all.
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

    See `cut_channels`; the returned model's spec has the widths of the narrower layers.
    """
    narrower = cut_channels(state, scores, count, trace_of(state.model))
    model = narrower.model
    original = random_model(model.spec.model_copy(update={"widths": {}}), seed=0)
    model.spec = model.spec.model_copy(update={"widths": widths_of(model, original)})
    return narrower


def trace_of(model: Model) -> Trace:
    """Return the trace settings of an Evenhand model: the last layer of its head stays whole."""
    layers = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    last = [name for name in layers if name.startswith("head")][-1:]
    return Trace(_sample(model), last, [*unprunable_attentions(model)])


def cut_channels(
    state: PruningState[M], scores: NamedTensors, count: int, trace: Trace
) -> PruningState[M]:
    """Return the state without the channels and heads of least saliency.

    Together, the removed ones have at most ``count`` parameters, but at least one is removed. Every
    layer keeps at least one channel.
    """
    model = deepcopy(state.model)
    sets = [*_channel_sets(model, scores, trace), *_head_sets(model, scores, trace)]
    shapes = {name: list(p.shape) for name, p in model.named_parameters()}
    values = {name: p.detach() for name, p in model.named_parameters()}
    # During the removal, each weight holds its own flat index: what is left says where it was.
    for name, parameter in model.named_parameters():
        parameter.data = torch.arange(parameter.numel(), dtype=torch.double).view(shapes[name])
    for channels, removed in zip(sets, _choose_least(sets, shapes, count), strict=True):
        if removed:
            channels.remove(removed)
    count_heads(model)
    origin = {}
    for name, parameter in model.named_parameters():
        indices = parameter.detach().long()
        origin[name] = state.origin[name].flatten()[indices] if name in state.origin else indices
        parameter.data = values[name].flatten()[indices.to(values[name].device)]
    # The weights that the mask drops are zero, also in the narrower layers.
    mask = {name: model.get_parameter(name) != 0 for name in state.mask}
    left = sum(p.numel() for p in model.parameters())
    return PruningState(model, mask, left, state.total, origin)


def _choose_least(
    sets: Sequence[ChannelSet], shapes: dict[str, list[int]], count: int
) -> list[list[int]]:
    """Return, for each set, the indices of the channels to remove, least saliency first.

    A weight between two removed channels counts once: ``shapes`` are updated in place, so each
    channel counts only weights that the previous channels did not remove.
    """
    by_score = sorted(
        (float(score), k, channel)
        for k, channels in enumerate(sets)
        for channel, score in enumerate(channels.scores.tolist())
    )
    chosen: list[list[int]] = [[] for _ in sets]
    removed = 0
    for _, k, channel in by_score:
        if len(chosen[k]) == len(sets[k].scores) - 1:
            continue
        slices = sets[k].slices[channel]
        size = _count_removed(slices, shapes)
        if removed and removed + size > count:
            break
        chosen[k].append(channel)
        for (name, axis), width in slices.items():
            shapes[name][axis] -= width
        removed += size
    return chosen


def _count_removed(slices: Slices, shapes: Mapping[str, Sequence[int]]) -> int:
    """Return how many weights are removed with slices of parameters of these shapes."""
    remaining = {name: list(shapes[name]) for name, _ in slices}
    for (name, axis), width in slices.items():
        remaining[name][axis] -= width
    return sum(math.prod(shapes[name]) - math.prod(shape) for name, shape in remaining.items())


def _channel_sets(model: nn.Module, scores: NamedTensors, trace: Trace) -> list[ChannelSet]:
    """Return one set for each group of layers that must have the same number of channels."""
    modules = list(model.modules())
    layers = [part for part in modules if isinstance(part, _LAYERS) or not list(part.children())]
    inner = {id(p) for layer in layers for p in layer.parameters(recurse=False)}
    outside_layers = [p for p in model.parameters() if id(p) not in inner]  # class tokens …
    graph = torch_pruning().DependencyGraph()
    with torch.enable_grad():  # torch-pruning follows gradients
        graph.build_dependency(
            model,
            trace.example,
            forward_fn=lambda network, inputs: logits_of(network, inputs, trace.forward),
            unwrapped_parameters=[(p, p.ndim - 1) for p in outside_layers],
        )
    fused = [part for part in modules if isinstance(getattr(part, "qkv", None), nn.Linear)]
    attention = [layer for part in fused for layer in (part.qkv, part.proj)]
    whole = [layer for name in trace.whole for layer in model.get_submodule(name).modules()]
    untouched = {part for name in trace.untouched for part in model.get_submodule(name).modules()}
    fixed = {*untouched, *filter(_is_grouped, modules), *outside_layers}
    names = {module: name for name, module in model.named_modules()}
    shapes = {name: p.shape for name, p in model.named_parameters()}
    return [
        ChannelSet(
            _channel_scores(graph, group, names, scores),
            _channel_slices(graph, group, names, shapes),
            group.prune,
        )
        for group in graph.get_all_groups(ignored_layers=[*attention, *whole])
        if not any(item.dep.target.module in fixed for item in group)
    ]


def _sample(model: Model) -> Tensor:
    return torch.zeros(1, *model.spec.inputs.shape, device=next(model.parameters()).device)


def _parameters(graph: Any, group: Any, names: Mapping[Any, str]) -> Iterator[tuple[Any, str, int]]:
    """Yield each parameter that depends on the channels of a group: item, name and axis.

    An item is torch-pruning's record of a layer and of the indices to remove from it.
    """
    for item in group:
        name = names.get(item.dep.target.module)
        is_output = graph.is_out_channel_pruning_fn(item.dep.handler)  # also true of a norm
        for suffix, axis in (("weight", 0), ("bias", 0)) if is_output else (("weight", 1),):
            yield item, f"{name}.{suffix}", axis


def _channel_scores(
    graph: Any, group: Any, names: Mapping[Any, str], scores: NamedTensors
) -> Tensor:
    """Return, for each channel of a group, the sum of the scores that are removed with it."""
    total = torch.zeros(len(group[0].idxs), dtype=torch.double)
    for item, name, axis in _parameters(graph, group, names):
        if (score := scores.get(name)) is not None:
            by_index = score.transpose(0, axis)
            sums = by_index.reshape(len(by_index), -1).sum(1).double().cpu()
            total.index_add_(0, torch.as_tensor(item.root_idxs), sums[list(item.idxs)])
    return total


def _channel_slices(
    graph: Any, group: Any, names: Mapping[Any, str], shapes: Mapping[str, torch.Size]
) -> list[Slices]:
    """Return the slices of parameters that are removed with each channel of a group."""
    slices: list[Counter[tuple[str, int]]] = [Counter() for _ in group[0].idxs]
    for item, name, axis in _parameters(graph, group, names):
        if name in shapes:
            for channel in item.root_idxs:
                slices[channel][name, axis] += 1
    return list(slices)


def _head_sets(model: nn.Module, scores: NamedTensors, trace: Trace) -> list[ChannelSet]:
    """Return the set of the heads of each attention."""
    return [
        ChannelSet(
            _head_scores(name, attention, scores),
            [_head_slices(name, attention)] * attention.num_heads,
            partial(_remove_heads, attention),
        )
        for name, attention in attentions(model).items()
        if f"{name}.qkv.weight" in scores and f"{name}.proj.weight" in scores
        if not any(_overlap(name, part) for part in (*trace.whole, *trace.untouched))
    ]


def _is_grouped(module: nn.Module) -> bool:
    """Whether a module is a convolution with several channels in each of its groups.

    The channels of such a group could only be removed together.
    """
    return isinstance(module, nn.modules.conv._ConvNd) and 1 < module.groups < module.in_channels


def _overlap(name: str, part: str) -> bool:
    """Whether one of two modules is, or contains, the other."""
    return f"{name}.".startswith(f"{part}.") or part.startswith(f"{name}.")


def _head_slices(name: str, attention: Any) -> Slices:
    width = attention.head_dim
    bias = {} if attention.qkv.bias is None else {(f"{name}.qkv.bias", 0): 3 * width}
    return {(f"{name}.qkv.weight", 0): 3 * width, (f"{name}.proj.weight", 1): width, **bias}


def _head_scores(name: str, attention: Any, scores: NamedTensors) -> Tensor:
    heads, width = attention.num_heads, attention.head_dim
    rows = scores[f"{name}.qkv.weight"].sum(1)  # (3 · heads · width,)
    if f"{name}.qkv.bias" in scores:
        rows = rows + scores[f"{name}.qkv.bias"]
    columns = scores[f"{name}.proj.weight"].sum(0)  # (heads · width,)
    sums = rows.view(3, heads, width).sum((0, 2)) + columns.view(heads, width).sum(1)
    return sums.double().cpu()


def _remove_heads(attention: Any, removed: list[int]) -> None:
    heads, width = attention.num_heads, attention.head_dim
    remaining = torch.tensor([k for k in range(heads) if k not in removed])
    columns = torch.arange(heads * width).view(heads, width)[remaining].flatten()
    rows = torch.arange(3 * heads * width).view(3, heads, width)[:, remaining].flatten()
    qkv, proj = attention.qkv, attention.proj
    qkv.weight = nn.Parameter(qkv.weight.detach()[rows])
    if qkv.bias is not None:
        qkv.bias = nn.Parameter(qkv.bias.detach()[rows])
    proj.weight = nn.Parameter(proj.weight.detach()[:, columns])
    qkv.out_features, proj.in_features = len(rows), len(columns)


def remover(structure: str) -> Remove[Model]:
    """Return the function that prunes an Evenhand model by ``channel`` or ``weight``."""
    return remove_channels if structure == "channel" else remove_weights


def remove_weights(
    state: PruningState[M], scores: Mapping[str, Tensor], count: int
) -> PruningState[M]:
    """Return the state after the ``count`` weights of least saliency are set to zero."""
    mask = prune_smallest(scores, {name: state.mask[name] for name in scores}, count)
    model = deepcopy(state.model)
    apply_mask(model, mask)
    return PruningState(model, state.mask | mask, count_kept(mask), state.total)
