"""torch's attention with explicit projections, on which gradients can be tapped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from evenhand.errors import EvenhandError

Project = Callable[[Tensor, str, slice], Tensor]
"""Function of tokens, the name of a projection's weight, and rows of it; it projects the tokens."""


def has_explicit_form(layer: nn.Module) -> bool:
    """Whether `ExplicitAttention` can compute the output of a layer."""
    return (
        type(layer) is nn.MultiheadAttention
        and "forward" not in vars(layer)
        and layer.bias_k is None
        and layer.bias_v is None
        and not layer.add_zero_attn
    )


@dataclass(frozen=True, eq=False)
class ExplicitAttention:
    """`torch.nn.MultiheadAttention` in evaluation mode, with explicit projections."""

    layer: nn.MultiheadAttention
    project: Project

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the layer's output and its attention weights; arguments as in ``forward``."""
        if query.ndim != 3:
            raise EvenhandError(
                "an attention gets samples without a batch axis, so gradients cannot be separated "
                "by sample. Leave it out of the parameters, or take the estimator hutchinson."
            )
        batch_first = self.layer.batch_first
        inputs = [
            tensor if batch_first else tensor.transpose(0, 1) for tensor in (query, key, value)
        ]
        q, k, v = map(self._heads, self._projected(*inputs, same=query is key and key is value))
        mask = _mask(key_padding_mask, attn_mask, q, k)
        weights = None
        if need_weights:
            weights = q @ k.mT / q.shape[-1] ** 0.5
            weights = (weights if mask is None else weights + mask).softmax(-1)
            mixed = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, mask)
        out = self.project(mixed.transpose(1, 2).flatten(2), "out_proj.weight", slice(None))
        return (out if batch_first else out.transpose(0, 1)), weights

    def _projected(self, q: Tensor, k: Tensor, v: Tensor, *, same: bool) -> Any:
        """Return the projections of query, key and value; ``same`` if all three are one tensor."""
        width = self.layer.embed_dim
        if self.layer.in_proj_weight is None:
            names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
            rows = (slice(0, width), slice(width, 2 * width), slice(2 * width, 3 * width))
            return [self.project(*part) for part in zip((q, k, v), names, rows, strict=True)]
        if same:
            return self.project(q, "in_proj_weight", slice(None)).chunk(3, dim=-1)
        parts = (slice(n * width, (n + 1) * width) for n in range(3))
        return [
            self.project(tensor, "in_proj_weight", rows)
            for tensor, rows in zip((q, k, v), parts, strict=True)
        ]

    def _heads(self, tokens: Tensor) -> Tensor:
        heads = self.layer.num_heads
        separate = tokens.view(*tokens.shape[:2], heads, tokens.shape[2] // heads)
        return separate.transpose(1, 2)  # (B, H, N, d)


def _mask(padding: Tensor | None, attention: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
    """Return the mask to add to the scores ``(B, H, L, S)``: -inf forbids attention."""
    batch, heads, length, width = len(q), q.shape[1], q.shape[2], k.shape[2]
    total = None
    if attention is not None:
        total = _additive(attention, q)
        if total.ndim == 3:
            total = total.view(batch, heads, length, width)
    if padding is not None:
        padded = _additive(padding, q).view(batch, 1, 1, width)
        total = padded if total is None else total + padded
    return total


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like)
    return torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill(
        mask, -torch.inf
    )
