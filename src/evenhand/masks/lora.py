"""LoRA on the query and value projections of attention layers, through peft (arXiv 2106.09685)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from evenhand.errors import EvenhandError, import_extra
from evenhand.masks.units import block_of
from evenhand.networks.calling import restore_state
from evenhand.networks.model import Model

RANK = 8
ALPHA = 8.0  # the update is multiplied by ALPHA / RANK
FUSED = "qkv"
SEPARATE = (("q_proj", "v_proj"), ("query", "value"), ("q", "v"), ("q", "kv"), ("qk", "v"))
"""Names of the query and value projections in libraries. Of ``kv`` and ``qk``, which are fused with
the key, all rows are updated."""


class SplitQKV(nn.Module):
    """timm's fused projection as three layers, so that query and value get separate updates.

    ``weight`` and ``bias`` are those of the fused projection with the updates added, for attentions
    that multiply by them without calling the layer.
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
        """Return the fused projection, with the updates merged into its weights."""
        return _linear(self.weight.detach(), None if self.bias is None else self.bias.detach())


def add_lora(model: Model, blocks: Collection[int], seed: int) -> Model:
    """Add low-rank updates to the query and value projections of some blocks, in place.

    The updates begin at zero. Those of ``blocks.3`` are the unit ``blocks.3.lora``. A fused
    projection whose rows are not query, key and value in this order gets a single update.

    Parameters
    ----------
    model
        The model to change.
    blocks
        Numbers of the blocks with attention, counted from 0 at the input; empty: all of them.
    seed
        Seed of the updates' first weights.

    Raises
    ------
    EvenhandError
        If peft is not installed, if the backbone has no attention with linear projections of query
        and value, or if it has no block with one of the numbers.
    """
    peft = import_extra("peft", "lora", "strategy 'lora'")
    adaptable = [*_adaptable(model.backbone).values()]
    if not adaptable:
        raise EvenhandError(
            f"strategy 'lora': {model.spec.backbone} has no attention blocks with linear "
            "projections of query and value, which LoRA adapts. Take a mask: last-K, conv, norm, "
            "bitfit."
        )
    if beyond := [block for block in blocks if block >= len(adaptable)]:
        raise EvenhandError(
            f"strategy 'lora': {model.spec.backbone} has no block {beyond[0]}; its blocks are 0 "
            f"to {len(adaptable) - 1}."
        )
    chosen = [adaptable[block] for block in sorted({*blocks} or range(len(adaptable)))]
    names = [name for block in chosen for name in block]
    targets = [target for name in names for target in _targets(model, name)]
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        peft.inject_adapter_in_model(config, model.backbone)
    return model


def merge_lora(model: Model) -> Model:
    """Merge low-rank updates into the weights, in place; the architecture is then the spec's."""
    backbone = model.backbone
    layers = dict(backbone.named_modules())
    for name, layer in layers.items():
        if isinstance(layer, SplitQKV):
            backbone.set_submodule(name, layer.fused())
        elif hasattr(layer, "base_layer") and not isinstance(
            layers[name.rpartition(".")[0]], SplitQKV
        ):
            backbone.set_submodule(name, _linear(_updated_weight(layer).detach(), layer.bias))
    return model


def _adaptable(backbone: nn.Module) -> Mapping[str, list[str]]:
    """Return the attentions that LoRA can adapt, block → names, in order from the input."""
    by_block: dict[str, list[str]] = {}
    for name, part in backbone.named_modules():
        if name and (
            isinstance(getattr(part, FUSED, None), nn.Linear) or _separate_projections(part)
        ):
            by_block.setdefault(block_of(name), []).append(name)
    return by_block


def _targets(model: Model, name: str) -> list[str]:
    """Return the names of an attention's query and value projections.

    A fused projection is first split, in place, if its rows are query, key and value in this order.
    """
    attention: Any = model.backbone.get_submodule(name)
    if not isinstance(getattr(attention, FUSED, None), nn.Linear):
        return [f"{name}.{projection}" for projection in _separate_projections(attention)]
    if not _ends_with_value(model, attention):
        return [f"{name}.{FUSED}"]
    attention.qkv = SplitQKV(attention.qkv)
    return [f"{name}.{FUSED}.{projection}" for projection in "qv"]


def _ends_with_value(model: Model, attention: Any) -> bool:
    """Whether the last third of a fused projection is the value.

    If it is, doubling this third also doubles the input of the output layer. Attentions with biases
    of query and value outside the layer (BEiT, EVA) always have the value last.
    """
    if hasattr(attention, "q_bias"):
        return True
    size, remainder = divmod(attention.qkv.out_features, 3)
    if remainder or not isinstance(getattr(attention, "proj", None), nn.Module):
        return False
    captured: list[Tensor] = []
    hook = attention.proj.register_forward_pre_hook(
        lambda layer, inputs: captured.append(inputs[0])
    )
    tensors = [*attention.qkv.parameters()]
    original = [p.detach().clone() for p in tensors]
    sample = torch.rand(1, *model.spec.inputs.shape, generator=torch.Generator().manual_seed(0))
    try:
        with restore_state(model), torch.no_grad():
            model.eval()
            model(sample.to(tensors[0].device))
            for tensor in tensors:
                tensor[2 * size :] *= 2
            model(sample.to(tensors[0].device))
    finally:
        hook.remove()
        for tensor, value in zip(tensors, original, strict=True):
            tensor.data.copy_(value)
    before, after = captured
    return bool(torch.allclose(after, 2 * before, rtol=1e-4, atol=1e-6))


def _separate_projections(attention: nn.Module) -> tuple[str, ...]:
    """Return the names of an attention's separate query and value projections, or ``()``."""
    for pair in SEPARATE:
        if all(isinstance(getattr(attention, name, None), nn.Linear) for name in pair):
            return pair
    return ()


def _base(projection: Any) -> Any:
    return getattr(projection, "base_layer", projection)


def _updated_weight(projection: Any) -> Tensor:
    """Return the weight of a projection, plus its low-rank update if it has one."""
    base = _base(projection)
    weight: Tensor = base.weight
    return weight if base is projection else weight + projection.get_delta_weight("default")


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.clone())
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach().clone())
    return linear
