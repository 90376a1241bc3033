"""Narrow the layers of a model from which channels were removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

Widths = Mapping[str, tuple[int, ...]]
"""Name of a layer → the shape of its weight, for layers that are narrower than the backbone's."""


def widths_of(model: nn.Module, original: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the widths of the layers whose weights have other shapes than in the original."""
    before = {name: tuple(p.shape) for name, p in original.named_parameters()}
    return {
        name.rpartition(".")[0]: tuple(p.shape)
        for name, p in model.named_parameters()
        if name.endswith(".weight") and tuple(p.shape) != before[name]
    }


def narrow(model: nn.Module, widths: Widths) -> None:
    """Give layers of a new model these shapes; their weights must be loaded afterwards."""
    for name, shape in widths.items():
        _narrow_layer(model.get_submodule(name), shape)
    count_heads(model)


def count_heads(model: nn.Module) -> None:
    """Set the number of heads of each attention to that of its layers."""
    for attention in attentions(model).values():
        attention.num_heads = attention.qkv.out_features // (3 * attention.head_dim)
        attention.attn_dim = attention.num_heads * attention.head_dim


def attentions(model: nn.Module) -> dict[str, Any]:
    """Return name → attention, for attentions from which heads can be removed.

    These are the attentions of timm's plain ViT, whose width ``attn_dim`` may differ from the
    network's. Swin, BEiT and others assume that the two widths are equal.
    """
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(getattr(module, "qkv", None), nn.Linear) and hasattr(module, "attn_dim")
    }


def unprunable_attentions(model: nn.Module) -> Iterator[str]:
    """Yield the names of attentions with linear layers whose heads cannot be removed."""
    prunable = attentions(model)
    for name, part in model.named_modules():
        text = f"{name.rpartition('.')[2]} {type(part).__name__}".lower()
        attends = "attn" in text or "attention" in text
        is_linear = any(isinstance(layer, nn.Linear) for layer in part.modules())
        if name and attends and is_linear and name not in prunable:
            yield name


def _narrow_layer(layer: nn.Module, shape: tuple[int, ...]) -> None:
    """Replace every tensor of a layer by an empty one of the new size; update its attributes."""
    for name, parameter in list(layer.named_parameters(recurse=False)):
        size = shape if parameter.ndim > 1 else shape[:1]
        layer.register_parameter(name, nn.Parameter(parameter.new_empty(size)))
    for name, buffer in list(layer.named_buffers(recurse=False)):
        if buffer.ndim:
            layer.register_buffer(name, torch.empty(shape[:1], dtype=buffer.dtype))
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = shape
    elif isinstance(layer, nn.Conv1d | nn.Conv2d):
        if layer.groups > 1:  # depthwise: only groups of one channel are narrowed
            layer.groups = shape[0]
        layer.out_channels, layer.in_channels = shape[0], shape[1] * layer.groups
    elif isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = shape
    elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        layer.num_features = shape[0]
