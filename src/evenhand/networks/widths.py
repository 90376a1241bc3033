"""Layers that are narrower than their backbone's own, as channels have been removed from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

Widths = Mapping[str, tuple[int, ...]]
"""The shape of the weight of each layer that is narrower than its backbone's own, by name."""


def widths_of(model: nn.Module, original: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the layers whose weights have other shapes than an original's."""
    before = {name: tuple(p.shape) for name, p in original.named_parameters()}
    return {
        name.rpartition(".")[0]: tuple(p.shape)
        for name, p in model.named_parameters()
        if name.endswith(".weight") and tuple(p.shape) != before[name]
    }


def narrow(model: nn.Module, widths: Widths) -> None:
    """Give layers of a fresh model those shapes; what is in them is to be loaded."""
    for name, shape in widths.items():
        _narrow_layer(model.get_submodule(name), shape)
    count_heads(model)


def count_heads(model: nn.Module) -> None:
    """Let each attention know how many heads its layers still have."""
    for attention in attentions(model).values():
        attention.num_heads = attention.qkv.out_features // (3 * attention.head_dim)
        attention.attn_dim = attention.num_heads * attention.head_dim


def attentions(model: nn.Module) -> dict[str, Any]:
    """Return the attentions that can do with fewer heads, by name.

    Those of timm's plain ViT can, whose width ``attn_dim`` need not be that of the network; those
    of Swin, BEiT and others take the one for the other.
    """
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(getattr(module, "qkv", None), nn.Linear) and hasattr(module, "attn_dim")
    }


def solid_attentions(model: nn.Module) -> Iterator[str]:
    """Yield the attentions with linear layers whose heads cannot be taken out one by one."""
    plain = attentions(model)
    for name, part in model.named_modules():
        text = f"{name.rpartition('.')[2]} {type(part).__name__}".lower()
        attends = "attn" in text or "attention" in text
        if name and attends and name not in plain and _is_linear(part):
            yield name


def _is_linear(part: nn.Module) -> bool:
    return any(isinstance(layer, nn.Linear) for layer in part.modules())


def _narrow_layer(layer: nn.Module, shape: tuple[int, ...]) -> None:
    """Cut every tensor of a layer to size, and what the layer says of its size."""
    for own, parameter in list(layer.named_parameters(recurse=False)):
        size = shape if parameter.ndim > 1 else shape[:1]
        layer.register_parameter(own, nn.Parameter(parameter.new_empty(size)))
    for own, buffer in list(layer.named_buffers(recurse=False)):
        if buffer.ndim:
            layer.register_buffer(own, torch.empty(shape[:1], dtype=buffer.dtype))
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = shape
    elif isinstance(layer, nn.Conv1d | nn.Conv2d):
        if layer.groups > 1:  # one channel each, the only groups that are narrowed
            layer.groups = shape[0]
        layer.out_channels, layer.in_channels = shape[0], shape[1] * layer.groups
    elif isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = shape
    elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        layer.num_features = shape[0]
