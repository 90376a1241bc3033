"""A network in two parts gives what the whole network gives."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from evenhand.masks.masks import find_units, full_mask, set_trainable, train_mode
from evenhand.masks.strategies import find_strategy
from evenhand.masks.truncate import activations_at, first_depth, truncate_at, upper_part
from evenhand.masks.units import parts
from evenhand.networks.model import build_model

NETWORKS = {
    "test_vit": 32,
    "test_vit2": 64,
    "test_resnet": 32,
    "test_convnext": 32,
    "test_efficientnet": 32,
    "vgg11": 32,
}


def backbone_of(name):
    model = build_model(name, "none", NETWORKS[name], ("a", "b"), 0).eval()
    size = NETWORKS[name]
    return model, torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_cut_at_any_depth_is_exact(name):
    model, sample = backbone_of(name)
    backbone = model.backbone
    set_trainable(model, frozenset())
    top = parts(backbone)[-1].depth
    with torch.no_grad():
        whole = backbone(sample)
        for depth in range(1, top + 2):
            truncation = truncate_at(backbone, depth, sample)
            assert truncation is not None
            assert truncation.depth == depth
            activations = activations_at(backbone, backbone, depth, sample)
            assert torch.allclose(truncation.upper(activations), whole, atol=1e-6)


def test_a_network_that_is_no_chain_is_not_cut():
    """What goes past the blocks would be lost in the rest."""
    model, sample = backbone_of("test_vit")
    backbone = model.backbone

    class Past(type(backbone)):
        def forward(self, x):
            return super().forward(x) + x.mean()

    set_trainable(model, frozenset())
    with torch.no_grad():
        assert truncate_at(backbone, 3, sample) is not None
        backbone.__class__ = Past
        assert truncate_at(backbone, 3, sample) is None


@pytest.mark.parametrize("name", NETWORKS)
def test_a_lower_cut_leads_to_a_higher_one(name):
    model, sample = backbone_of(name)
    backbone, top = model.backbone, parts(model.backbone)[-1].depth
    with torch.no_grad():
        low = activations_at(backbone, backbone, 1, sample)
        for depth in range(2, top + 2):
            direct = activations_at(backbone, backbone, depth, sample)
            assert torch.allclose(
                activations_at(upper_part(backbone, 1), backbone, depth, low), direct, atol=1e-6
            )


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_the_rest_shares_the_weights_and_runs_nothing_below_the_cut(name):
    model, sample = backbone_of(name)
    backbone = model.backbone
    rest = upper_part(backbone, 3)
    high = {id(p) for unit in parts(backbone) if unit.depth >= 3 for p in unit.parameters}
    ran: set[int] = set()
    for module in [*backbone.modules()][1:]:
        own = {id(p) for p in module.parameters(recurse=False)}
        module.register_forward_hook(lambda *_, own=own: ran.update(own))
    activations = activations_at(backbone, backbone, 3, sample).detach()
    ran.clear()
    rest(activations)
    assert ran <= high
    assert high - ran <= {id(p) for p in backbone.parameters(recurse=False)}


def test_no_cut_where_there_is_nothing_below_or_no_chain():
    model, sample = backbone_of("test_vit")
    assert truncate_at(model.backbone, 0, sample) is None

    class Skipping(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.feature_info = inner, inner.feature_info
            self.patch_embed, self.blocks, self.norm = inner.patch_embed, inner.blocks, inner.norm

        def forward(self, images):
            return self.inner(images) + images.mean()

    assert truncate_at(Skipping(model.backbone), 3, sample) is None


def test_no_cut_above_what_may_change():
    model, sample = backbone_of("test_vit")
    set_trainable(model, frozenset({"blocks.1.mlp"}))
    truncation = truncate_at(model.backbone, 5, sample)
    assert truncation is not None
    assert truncation.depth == 2


def test_the_first_depth_of_a_mask():
    backbone = backbone_of("test_vit")[0].backbone
    assert first_depth(backbone, frozenset()) == parts(backbone)[-1].depth + 1
    assert first_depth(backbone, frozenset({"blocks.4.mlp", "blocks.2.norm"})) == 3
    assert first_depth(backbone, full_mask(backbone)) == 0


def backward_flops(model, mask, batch=4):
    set_trainable(model, mask)
    train_mode(model)
    loss = model(torch.rand(batch, 3, 32, 32)).sum()
    with FlopCounterMode(display=False) as counter:
        loss.backward()
    counts = counter.get_flop_counts()["Global"]
    return sum(n for op, n in counts.items() if op in {torch.ops.aten.mm, torch.ops.aten.addmm})


@pytest.mark.parametrize("strategy", ["head", "last-1", "blocks.2.mlp,blocks.4.attn", "bitfit"])
def test_backward_does_what_the_mask_needs_and_no_more(strategy):
    """A linear layer costs one product for its input where something below it may change.

    It costs another for its weight where that may change.
    """
    model, _ = backbone_of("test_vit")
    mask = find_strategy(strategy)(model, 0)[1](0)
    batch, tokens = 4, 4 + 1
    wanted = {id(p) for unit in find_units(model.backbone, mask) for p in unit.parameters}
    flops, below_it = 0, False
    embed = model.backbone.patch_embed.proj  # a convolution, which is not counted
    below_it |= id(embed.weight) in wanted or id(embed.bias) in wanted
    below_it |= any(id(p) in wanted for p in model.backbone.parameters(recurse=False))
    for block in model.backbone.blocks:
        for norm, layers in ((block.norm1, [block.attn.qkv, block.attn.proj]),
                             (block.norm2, [block.mlp.fc1, block.mlp.fc2])):  # fmt: skip
            below_it |= any(id(p) in wanted for p in norm.parameters())
            for layer in layers:
                once = 2 * batch * tokens * layer.weight.numel()
                flops += once * (below_it + (id(layer.weight) in wanted))
                below_it |= any(id(p) in wanted for p in layer.parameters())
    below_it |= any(id(p) in wanted for p in model.backbone.norm.parameters())
    flops += 2 * batch * model.head.weight.numel() * (1 + below_it)
    assert backward_flops(model, mask, batch) == flops


class Asserting(nn.Module):
    """A network that looks at its input before anything else, as HRNet does at its branches."""

    def __init__(self):
        super().__init__()
        self.stem, self.tail = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)

    def forward(self, images):
        assert images.shape[1] == 3
        return self.tail(self.stem(images)).mean((2, 3))


def test_a_network_that_asserts_what_it_reads_is_not_cut():
    network = Asserting().eval().requires_grad_(False)
    assert truncate_at(network, 1, torch.rand(2, 3, 8, 8)) is None
