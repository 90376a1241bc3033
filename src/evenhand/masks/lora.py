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
_SEPARATE = ("q_proj", "v_proj")


class SplitQKV(nn.Module):
    """timm's fused projection as three, so that query and value can have updates of their own.

    ``weight`` and ``bias`` are those of the fused projection with the updates, for attentions that
    multiply by them themselves.
    """

    def __init__(self, fused: nn.Linear) -> None:
        super().__init__()
        weights = fused.weight.detach().chunk(3)
        biases = [None] * 3 if fused.bias is None else fused.bias.detach().chunk(3)
        for name, weight, bias in zip("qkv", weights, biases, strict=True):
            self.add_module(name, _linear(weight, bias))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``(B, N, D)`` to query, key and value side by side, ``(B, N, 3D)``."""
        return torch.cat([projection(tokens) for projection in self.children()], dim=-1)

    @property
    def weight(self) -> Tensor:
        """Weights ``(3D, D)``."""
        return torch.cat([_updated_weight(projection) for projection in self.children()])

    @property
    def bias(self) -> Tensor | None:
        """Biases ``(3D,)``, or None."""
        biases = [_base(projection).bias for projection in self.children()]
        return None if biases[0] is None else torch.cat(biases)

    def fused(self) -> nn.Linear:
        """Return one projection again, with the updates in its weights."""
        return _linear(self.weight.detach(), None if self.bias is None else self.bias.detach())


def add_lora(model: Model, blocks: Sequence[int], seed: int) -> Model:
    """Give query and value of some blocks low-rank updates, in place; they begin at zero.

    The updates of block 3 are the unit ``blocks.3.lora``.

    Raises
    ------
    EvenhandError
        peft is not installed, the backbone has no attention blocks with a projection ``qkv`` or
        with ``q_proj`` and ``v_proj``, or not so many of them.
    """
    peft = import_extra("peft", "lora", "strategy 'lora'")
    backbone: Any = model.backbone
    count = _adaptable_blocks(backbone)
    if not count:
        raise EvenhandError(
            f"strategy 'lora': {model.spec.backbone} has no attention blocks with a projection "
            "'qkv', or with 'q_proj' and 'v_proj', which LoRA adapts. Networks by stage take "
            "masks: last-K, conv, norm, bitfit."
        )
    if beyond := [block for block in blocks if block >= count]:
        raise EvenhandError(
            f"strategy 'lora': {model.spec.backbone} has no block {beyond[0]}; its blocks are 0 "
            f"to {count - 1}."
        )
    targets = [target for block in blocks for target in _targets(backbone, block)]
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        peft.inject_adapter_in_model(config, backbone)
    return model


def _adaptable_blocks(backbone: Any) -> int:
    """Return the number of a transformer's blocks; 0 where some attention cannot be adapted."""
    if not is_transformer(backbone):
        return 0
    attentions = [block.attn for block in backbone.blocks]
    fits = all(
        isinstance(getattr(layer, "qkv", None), nn.Linear)
        or all(isinstance(getattr(layer, name, None), nn.Linear) for name in _SEPARATE)
        for layer in attentions
    )
    return len(attentions) if fits else 0


def _targets(backbone: Any, block: int) -> list[str]:
    """Return the names of a block's projections of query and value, parted where they are one."""
    attention = backbone.blocks[block].attn
    if isinstance(getattr(attention, "qkv", None), nn.Linear):
        attention.qkv = SplitQKV(attention.qkv)
        return [f"blocks.{block}.attn.qkv.{name}" for name in "qv"]
    return [f"blocks.{block}.attn.{name}" for name in _SEPARATE]


def merge_lora(model: Model) -> Model:
    """Fold low-rank updates into the weights, in place; the model is then what its spec says."""
    backbone = model.backbone
    for name, part in list(backbone.named_modules()):
        if isinstance(part, SplitQKV):
            backbone.set_submodule(name, part.fused())
        elif hasattr(part, "base_layer") and name.rpartition(".")[2] in _SEPARATE:
            backbone.set_submodule(name, _linear(_updated_weight(part).detach(), part.bias))
    return model


def _base(projection: Any) -> Any:
    return getattr(projection, "base_layer", projection)


def _updated_weight(projection: Any) -> Tensor:
    """Return the weight of a projection, with its update where it has one."""
    base = _base(projection)
    weight: Tensor = base.weight
    return weight if base is projection else weight + projection.get_delta_weight("default")


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.clone())
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach().clone())
    return linear
