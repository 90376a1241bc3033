"""Sums of squared per-sample gradients of a layer, from its input and the gradient of its output.

In a layer that is linear in its parameters, a sample's gradient is the sum over positions of the
product of these two. A rule (`AddSquares`) adds the squares of these gradients for one parameter.
Rules work on blocks of samples, so that only the gradients of one block are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.layer_scale import LayerScale, LayerScale2d
from timm.layers.norm import LayerNorm as FastLayerNorm
from timm.layers.norm import LayerNorm2d
from timm.layers.norm_act import BatchNormAct2d, GroupNormAct, LayerNormAct, LayerNormAct2d
from timm.layers.padding import pad_same
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F  # noqa: N812

from evenhand.networks.encoders.conv1d import PaddedConv1d

AddSquares = Callable[[Any, Tensor, Tensor, Tensor], None]
"""Function of a layer, its input ``(n, …)``, the gradient ``(n, …)`` of its output, and a tensor.

It adds the squared gradients of a parameter, summed over the samples, to the tensor, which has the
parameter's shape."""

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
BLOCK = 2**18  # numbers in the gradients of a block; this many fit into a core's cache
MEMORY_COST = 24  # writing and reading a number takes as long as this many multiplications


def add_linear(layer: nn.Linear, x: Tensor, grad: Tensor, into: Tensor) -> None:
    """Add the squares for a weight ``(O, I)``, which all positions of a sample share."""
    inputs = x.flatten(1, -2) if x.ndim > 2 else x[:, None]  # (n, P, I)
    grads = grad.flatten(1, -2) if grad.ndim > 2 else grad[:, None]  # (n, P, O)
    add_squares(grads[:, None], inputs[:, None], into[None])


def add_convolution(layer: Convolution, x: Tensor, grad: Tensor, into: Tensor) -> None:
    """Add the squares for a kernel ``(O, I / groups, *size)``: a linear layer on patches."""
    groups = layer.groups
    grads = grad.movedim(1, -1).reshape(len(x), -1, groups, grad.shape[1] // groups)
    grads = grads.transpose(1, 2)  # (n, G, P, O / G)
    sums = into.movedim(1, -1).view(groups, len(into) // groups, -1)  # (G, O / G, kernel · I / G)
    per_block = max(1, BLOCK // max(1, grads[0].numel() // groups * sums.shape[2] // sums.shape[1]))
    padded = _pad(layer, x).movedim(1, -1).contiguous()
    for start in range(0, len(x), per_block):
        block = slice(start, start + per_block)
        add_squares(grads[block], _patches(layer, padded[block]), sums)


def add_embedding(layer: nn.Embedding, x: Tensor, grad: Tensor, into: Tensor) -> None:
    """Add the squares for a table ``(V, D)``; an entry's gradient is summed over occurrences."""
    sample = torch.arange(len(x), device=x.device).repeat_interleave(x[0].numel())
    entry, grads = x.flatten(), grad.flatten(0, -2)
    if layer.padding_idx is not None:
        counted = entry != layer.padding_idx
        sample, entry, grads = sample[counted], entry[counted], grads[counted]
    pairs, where = torch.unique(sample * len(into) + entry, return_inverse=True)
    per_sample = grads.new_zeros(len(pairs), grads.shape[1]).index_add_(0, where, grads)
    into.index_add_(0, pairs % len(into), per_sample.square_())


def shift_rule(axis: int) -> AddSquares:
    """Return the rule for a shift along an axis of the output (a bias)."""

    def add(layer: nn.Module, x: Tensor, grad: Tensor, into: Tensor) -> None:
        into.add_(_sum_positions(grad, axis, into.ndim).square().sum(0))

    return add


def scale_rule(axis: int, name: str = "weight") -> AddSquares:
    """Return the rule for a factor along an axis of the output, as in a normalisation.

    The factor's gradient is the output's gradient times the output with factors 1 and shifts 0.
    """

    def add(layer: nn.Module, x: Tensor, grad: Tensor, into: Tensor) -> None:
        neutral = {key: torch.zeros_like(p) for key, p in layer.named_parameters()}
        neutral[name] = torch.ones_like(neutral[name])
        unscaled = functional_call(layer, neutral, (x.clone(),))  # the layer may work in place
        into.add_(_sum_positions(grad * unscaled, axis, into.ndim).square().sum(0))

    return add


def activated_rule(rule: AddSquares) -> AddSquares:
    """Return the rule for a normalisation with an activation, from the rule for one without."""

    def add(layer: Any, x: Tensor, grad: Tensor, into: Tensor) -> None:
        with _without_activation(layer):
            normalised = layer(x.clone())
        with torch.enable_grad():
            start = normalised.detach().requires_grad_()
            output = layer.act(layer.drop(start.clone()))  # both may work in place
            (grad_before,) = torch.autograd.grad(output, start, grad)
        with _without_activation(layer):
            rule(layer, x, grad_before, into)

    return add


@contextmanager
def _without_activation(layer: Any) -> Iterator[None]:
    act, drop = layer.act, layer.drop
    layer.act, layer.drop = nn.Identity(), nn.Identity()
    try:
        yield
    finally:
        layer.act, layer.drop = act, drop


def _with_activation(rules: Mapping[str, AddSquares]) -> Mapping[str, AddSquares]:
    return {name: activated_rule(rule) for name, rule in rules.items()}


_CONVOLUTION: Mapping[str, AddSquares] = {"weight": add_convolution, "bias": shift_rule(1)}
_CHANNELS: Mapping[str, AddSquares] = {"weight": scale_rule(1), "bias": shift_rule(1)}
_FEATURES: Mapping[str, AddSquares] = {"weight": scale_rule(-1), "bias": shift_rule(-1)}

RULES: Mapping[type[nn.Module], Mapping[str, AddSquares]] = {
    nn.Linear: {"weight": add_linear, "bias": shift_rule(-1)},
    nn.Conv1d: _CONVOLUTION,
    nn.Conv2d: _CONVOLUTION,
    nn.Conv3d: _CONVOLUTION,
    PaddedConv1d: _CONVOLUTION,
    Conv2dSame: _CONVOLUTION,
    nn.Embedding: {"weight": add_embedding},
    nn.BatchNorm1d: _CHANNELS,
    nn.BatchNorm2d: _CHANNELS,
    nn.BatchNorm3d: _CHANNELS,
    BatchNormAct2d: _with_activation(_CHANNELS),
    GroupNormAct: _with_activation(_CHANNELS),
    LayerNormAct2d: _with_activation(_CHANNELS),
    LayerNormAct: _with_activation(_FEATURES),
    nn.GroupNorm: _CHANNELS,
    LayerNorm2d: _CHANNELS,
    nn.LayerNorm: _FEATURES,
    FastLayerNorm: _FEATURES,
    LayerScale: {"gamma": scale_rule(-1, "gamma")},
    LayerScale2d: {"gamma": scale_rule(1, "gamma")},
}
"""Exact type of a layer → parameter → rule. Subclasses are left out: they may compute something
else."""

LAST_AXIS_LAYERS = (nn.Linear, nn.LayerNorm, FastLayerNorm, LayerScale)
"""Layers that work on the last axis only; a sample may be several rows (window attention)."""


def add_squares(grads: Tensor, inputs: Tensor, into: Tensor) -> None:
    """Add Σ_n (Σ_p g_np a_npᵀ)² to ``into``.

    Parameters
    ----------
    grads, inputs
        g ``(n, G, P, O)`` and a ``(n, G, P, K)``, with n samples, G groups of channels and P
        positions.
    into
        Sums ``(G, O, K)``.
    """
    positions = grads.shape[2]
    # Cost of each number of `into`: a product per pair, or one per position and a memory access.
    if positions * (positions + 1) // 2 <= positions + MEMORY_COST:
        _add_by_pairs(grads, inputs, into)
        return
    per_block = max(1, BLOCK // into.numel())
    for start in range(0, len(grads), per_block):
        block = slice(start, start + per_block)
        product = grads[block].transpose(2, 3) @ inputs[block]  # (block, G, O, K)
        for part in product:
            into.addcmul_(part, part)


def _add_by_pairs(grads: Tensor, inputs: Tensor, into: Tensor) -> None:
    """Add the squares as `add_squares` does, without forming any sample's gradient.

    The square of a sum over positions is a sum over pairs: (Σ_p g_p a_p)² =
    Σ_p Σ_q (g_p g_q)(a_p a_q).
    """
    first, second = torch.triu_indices(grads.shape[2], grads.shape[2], device=grads.device)
    multiplicity = torch.where(first == second, 1.0, 2.0).to(grads.dtype)  # (pairs,)
    grad_products = grads[:, :, first] * grads[:, :, second] * multiplicity[:, None]
    input_products = inputs[:, :, first] * inputs[:, :, second]  # (n, G, pairs, K)
    columns = grad_products.transpose(0, 1).flatten(1, 2).transpose(1, 2)  # (G, O, n · pairs)
    into.baddbmm_(columns, input_products.transpose(0, 1).flatten(1, 2))


def _pad(layer: Convolution, x: Tensor) -> Tensor:
    """Return the input padded as the layer pads it, ``(n, I, *size)``."""
    if isinstance(layer, PaddedConv1d):
        return layer.padded(x)
    if isinstance(layer, Conv2dSame):
        padded: Tensor = pad_same(
            x, list(layer.kernel_size), list(layer.stride), list(layer.dilation)
        )
        return padded
    sides: list[int] = []
    for axis in reversed(range(len(layer.kernel_size))):
        if layer.padding == "same":
            total = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
            sides += [total // 2, total - total // 2]
        elif layer.padding != "valid":
            sides += [int(layer.padding[axis])] * 2
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(x, sides, mode) if any(sides) else x


def _patches(layer: Convolution, padded: Tensor) -> Tensor:
    """Return the input of the kernel at each position, ``(n, G, P, kernel · I / G)``.

    ``padded`` is contiguous, ``(n, *size, I)``.
    """
    n, *size, channels = padded.shape
    samples, *axes, _ = padded.stride()
    positions = [
        (length - dilation * (kernel - 1) - 1) // stride + 1
        for length, dilation, kernel, stride in zip(
            size, layer.dilation, layer.kernel_size, layer.stride, strict=True
        )
    ]
    per_group = channels // layer.groups
    shape = (n, *positions, *layer.kernel_size, layer.groups, per_group)
    between_patches = [a * b for a, b in zip(layer.stride, axes, strict=True)]
    within_patch = [a * b for a, b in zip(layer.dilation, axes, strict=True)]
    strides = (samples, *between_patches, *within_patch, per_group, 1)
    view = padded.as_strided(shape, strides, padded.storage_offset())
    return view.movedim(-2, 1).flatten(2, 1 + len(positions)).flatten(3)


def _sum_positions(grad: Tensor, axis: int, parameter_ndim: int) -> Tensor:
    """Return the sum over all axes except those of samples and parameter, ``(n, *parameter)``."""
    parameter_axes = range(1, 2) if axis == 1 else range(grad.ndim - parameter_ndim, grad.ndim)
    positions = [place for place in range(1, grad.ndim) if place not in parameter_axes]
    return grad.sum(positions) if positions else grad
