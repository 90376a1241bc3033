"""Whole channels and heads: scored by the sum of their parameters' saliency, and removed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from evenhand.errors import EvenhandError
from evenhand.models.model import Model, random_model
from evenhand.models.widths import attentions, count_heads, widths_of
from evenhand.prune.state import State

Named = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Choices:
    """Channels or heads that can be removed one by one.

    Attributes
    ----------
    scores, sizes
        For each of them, the sum of its parameters' saliency, and how many parameters it has.
    remove
        Removes those at some places from the model.
    """

    scores: Tensor
    sizes: Tensor
    remove: Callable[[list[int]], None]


def torch_pruning() -> Any:
    """Return the library that knows which layers depend on which.

    Raises
    ------
    EvenhandError
        It is not installed.
    """
    try:
        import torch_pruning as library
    except ImportError:
        raise EvenhandError(
            "--structure channel needs torch-pruning: pip install 'evenhand[structured]'."
        ) from None
    return library


def refuse_solid(model: Model) -> None:
    """Refuse a model that cannot be made narrower, which is tried on a copy.

    Raises
    ------
    EvenhandError
        It is one; the message names its backbone.
    """
    library, total = torch_pruning(), sum(p.numel() for p in model.parameters())
    scores = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    try:
        half = remove_channels(State(model, {}, total, total), scores, total // 2)
        half.model(_sample(model))
        random_model(half.model.spec, seed=0).load_state_dict(half.model.state_dict())
        why = "" if half.left < total else "some layer that depends on them cannot be narrowed"
    except Exception as error:  # whatever it raises for layers that it cannot follow
        why = f"{library.__name__} cannot follow its layers ({type(error).__name__})"
    if why:
        raise EvenhandError(
            f"--structure channel: no channel or head of {model.spec.backbone} can be removed, as "
            f"{why}. Prune its weights one by one (--structure weight), or train another backbone."
        )


def remove_channels(state: State, scores: Named, count: int) -> State:
    """Remove the channels and heads of least saliency that together have ``count`` numbers.

    One at least stays in every layer.
    """
    model = deepcopy(state.model)
    choices = _choices(model, scores)
    for one, places in zip(choices, _least(choices, count), strict=True):
        if places:
            one.remove(places)
    count_heads(model)
    original = random_model(model.spec.model_copy(update={"widths": {}}), seed=0)
    model.spec = model.spec.model_copy(update={"widths": widths_of(model, original)})
    # What weights a mask drops is zero, in what is left of a layer as well.
    kept = {name: model.get_parameter(name) != 0 for name in state.kept}
    return State(model, kept, sum(p.numel() for p in model.parameters()), state.total)


def _least(choices: list[Choices], count: int) -> list[list[int]]:
    """Return the places of what is removed, for each of the choices."""
    every = sorted(
        (float(score), k, place)
        for k, one in enumerate(choices)
        for place, score in enumerate(one.scores.tolist())
    )
    chosen: list[list[int]] = [[] for _ in choices]
    gone = 0.0
    for _, k, place in every:
        if gone >= count:
            break
        if len(chosen[k]) < len(choices[k].scores) - 1:
            chosen[k].append(place)
            gone += float(choices[k].sizes[place])
    return chosen


def _choices(model: Model, scores: Named) -> list[Choices]:
    return [*_channels(model, scores), *_heads(model, scores)]


def _channels(model: Model, scores: Named) -> list[Choices]:
    """Return the channels of each set of layers that have to have the same number of them."""
    layers = [module for module in model.modules() if not list(module.children())]
    inner = {id(parameter) for layer in layers for parameter in layer.parameters()}
    bare = [(p, p.ndim - 1) for p in model.parameters() if id(p) not in inner]
    graph = torch_pruning().DependencyGraph()
    with torch.enable_grad():  # it follows the gradient's way
        graph.build_dependency(model, _sample(model), unwrapped_parameters=bare)
    names = {module: name for name, module in model.named_modules()}
    qkv = [one for one in model.modules() if isinstance(getattr(one, "qkv", None), nn.Linear)]
    attention = [layer for one in qkv for layer in (one.qkv, one.proj)]
    outputs = [layer for layer in model.head.modules() if isinstance(layer, nn.Linear)][-1:]
    found = []
    for group in graph.get_all_groups(ignored_layers=[*attention, *outputs]):
        if not any(isinstance(item.dep.target.module, nn.Parameter) for item in group):
            found.append(
                Choices(
                    _by_channel(graph, group, names, scores),
                    _by_channel(graph, group, names, _ones(scores)),
                    group.prune,
                )
            )
    return found


def _sample(model: Model) -> Tensor:
    return torch.zeros(1, *model.spec.inputs.shape, device=next(model.parameters()).device)


def _ones(scores: Named) -> Named:
    return {name: torch.ones_like(score) for name, score in scores.items()}


def _by_channel(graph: Any, group: Any, names: Mapping[Any, str], scores: Named) -> Tensor:
    """Sum scores over everything that goes with each channel of a group."""
    total = torch.zeros(len(group[0].idxs), dtype=torch.double)
    for item in group:
        name, handler = names.get(item.dep.target.module), item.dep.handler
        inward = not graph.is_out_channel_pruning_fn(handler)  # a norm's channels are both
        for own in ("weight",) if inward else ("weight", "bias"):
            if (score := scores.get(f"{name}.{own}")) is not None:
                places = score.transpose(0, 1) if inward else score
                sums = places.reshape(len(places), -1).sum(1)
                total.index_add_(
                    0, torch.as_tensor(item.root_idxs), sums.double().cpu()[list(item.idxs)]
                )
    return total


def _heads(model: Model, scores: Named) -> list[Choices]:
    """Return the heads of each attention."""
    return [
        Choices(
            _by_head(name, attention, scores),
            _by_head(name, attention, _ones(scores)),
            partial(_remove_heads, attention),
        )
        for name, attention in attentions(model).items()
    ]


def _by_head(name: str, attention: Any, scores: Named) -> Tensor:
    heads, width = attention.num_heads, attention.head_dim
    rows = scores[f"{name}.qkv.weight"].sum(1)  # (3 · heads · width,)
    if f"{name}.qkv.bias" in scores:
        rows = rows + scores[f"{name}.qkv.bias"]
    columns = scores[f"{name}.proj.weight"].sum(0)  # (heads · width,)
    found = rows.view(3, heads, width).sum((0, 2)) + columns.view(heads, width).sum(1)
    return found.double().cpu()


def _remove_heads(attention: Any, places: list[int]) -> None:
    heads, width = attention.num_heads, attention.head_dim
    stay = torch.tensor([k for k in range(heads) if k not in places])
    columns = torch.arange(heads * width).view(heads, width)[stay].flatten()
    rows = torch.arange(3 * heads * width).view(3, heads, width)[:, stay].flatten()
    qkv, proj = attention.qkv, attention.proj
    qkv.weight = nn.Parameter(qkv.weight.detach()[rows])
    if qkv.bias is not None:
        qkv.bias = nn.Parameter(qkv.bias.detach()[rows])
    proj.weight = nn.Parameter(proj.weight.detach()[:, columns])
    qkv.out_features, proj.in_features = len(rows), len(columns)
