"""LoRA on query and value of a ViT's attention, through peft (arXiv 2106.09685)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from evenhand.errors import EvenhandError, import_extra
from evenhand.masks.units import is_transformer
from evenhand.networks.model import Model

RANK = 8
ALPHA = 8.0  # the update counts ALPHA / RANK times


class SplitQKV(nn.Module):
    """timm's fused projection as three, so that query and value can have updates of their own."""

    def __init__(self, fused: nn.Linear) -> None:
        super().__init__()
        weights = fused.weight.detach().chunk(3)
        biases = [None] * 3 if fused.bias is None else fused.bias.detach().chunk(3)
        for name, weight, bias in zip("qkv", weights, biases, strict=True):
            self.add_module(name, _linear(weight, bias))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``(B, N, D)`` to query, key and value side by side, ``(B, N, 3D)``."""
        return torch.cat([projection(tokens) for projection in self.children()], dim=-1)

    def fused(self) -> nn.Linear:
        """Return one projection again, with the updates in its weights."""
        weights, biases = zip(*map(_merged, self.children()), strict=True)
        return _linear(torch.cat(weights), None if biases[0] is None else torch.cat(biases))


def add_lora(model: Model, blocks: Sequence[int], seed: int) -> Model:
    """Give query and value of some blocks low-rank updates, in place; they begin at zero.

    The updates of block 3 are the unit ``blocks.3.lora``.

    Raises
    ------
    EvenhandError
        peft is not installed, the backbone has no attention blocks with a fused projection, or
        not so many of them.
    """
    peft = import_extra("peft", "lora", "strategy 'lora'")
    backbone: Any = model.backbone
    if not is_transformer(backbone) or not isinstance(
        getattr(backbone.blocks[0].attn, "qkv", None), nn.Linear
    ):
        raise EvenhandError(
            f"strategy 'lora': {model.spec.backbone} has no attention blocks with a projection "
            "'qkv', which LoRA adapts. Networks by stage take masks: last-K, conv, norm, bitfit."
        )
    count = len(backbone.blocks)
    if beyond := [block for block in blocks if block >= count]:
        raise EvenhandError(
            f"strategy 'lora': {model.spec.backbone} has no block {beyond[0]}; its blocks are 0 "
            f"to {count - 1}."
        )
    for block in blocks:
        attention = backbone.blocks[block].attn
        attention.qkv = SplitQKV(attention.qkv)
    targets = [f"blocks.{block}.attn.qkv.{name}" for block in blocks for name in "qv"]
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        peft.inject_adapter_in_model(config, backbone)
    return model


def merge_lora(model: Model) -> Model:
    """Fold low-rank updates into the weights, in place; the model is then what its spec says."""
    backbone = model.backbone
    splits = [(name, part) for name, part in backbone.named_modules() if isinstance(part, SplitQKV)]
    for name, split in splits:
        backbone.set_submodule(name, split.fused())
    return model


def _merged(projection: Any) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias of a projection, with its update where it has one."""
    base = getattr(projection, "base_layer", projection)
    update = projection.get_delta_weight("default") if base is not projection else 0.0
    bias = base.bias
    return (base.weight + update).detach(), None if bias is None else bias.detach()


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.clone())
    if bias is not None:
        linear.bias = nn.Parameter(bias.clone())
    return linear
