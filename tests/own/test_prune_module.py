"""Pruning of anybody's network: what is kept says what zeroing says."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from tests.own.networks import NETWORKS
from tests.own.test_group_saliency import LABELS, ROLES, SEX, once
from tests.own.test_units import assert_same, state
from timm.models.twins import Twins
from torch import nn
from torch.nn import functional as F  # noqa: N812

from evenhand import EvenhandError, build_model, group_saliency, prune_module
from evenhand.networks.calling import logits_of
from evenhand.networks.registry import BACKBONES, register_backbone
from evenhand.pruning.channels import refuse_unprunable


@pytest.fixture(params=NETWORKS)
def own(request):
    return NETWORKS[request.param]


def constant(module):
    assert not any(part.training for part in module.modules())
    return 1.0


@torch.no_grad()
def zeroed(module, mask):
    """The logits of a network whose dropped numbers are zero, by hand."""
    for name, is_kept in mask.items():
        module.get_parameter(name).mul_(is_kept)
    return module.eval()


def test_thirty_percent_go_and_the_logits_are_those_of_zeroing(own):
    module, inputs = own.make(), own.inputs()
    before, batches = state(module), [(inputs, LABELS, SEX)]
    pruned = prune_module(module, batches, constant, budget=0, limit=30, **ROLES)
    assert_same(before, module)
    assert pruned.sparsity == pytest.approx(0.3, abs=0.001)
    assert "sparsity 30.0%" in str(pruned)
    assert len(str(pruned).splitlines()) == 3
    assert all(part.training for part in pruned.module.modules())
    gone = sum(int((~is_kept).sum()) for is_kept in pruned.mask.values())
    assert gone == pytest.approx(
        0.3 * sum(is_kept.numel() for is_kept in pruned.mask.values()), abs=1
    )
    with torch.no_grad():
        expected = logits_of(zeroed(own.make(), pruned.mask), inputs)
        assert torch.equal(logits_of(pruned.module.eval(), inputs), expected)


def test_the_first_step_drops_the_smallest_saliency():
    module, inputs = NETWORKS["plain CNN"].make(), NETWORKS["plain CNN"].inputs()
    batches = [(inputs, LABELS, SEX)]
    settings = {"estimator": "ggn", **ROLES}
    pruned = prune_module(
        module, batches, constant, budget=0, share=20, limit=20, ignore=["0"], **settings
    )
    scores = group_saliency(module, batches, **settings)["4.weight"]
    is_kept = pruned.mask["4.weight"]
    assert pruned.mask.keys() == {"4.weight"}
    assert float(scores[~is_kept].max()) <= float(scores[is_kept].min())


NARROWED = ("plain CNN", "torchvision ResNet", "MONAI DenseNet", "ECG transformer",
            "transformers ViT", "torchvision ViT")  # fmt: skip


@pytest.mark.parametrize("name", NARROWED)
def test_channels_go_and_what_is_kept_says_the_same(name):
    pytest.importorskip("torch_pruning")
    own = NETWORKS[name]
    module, inputs = own.make(), own.inputs()
    before = state(module)
    batches = [(inputs, LABELS, SEX)]
    pruned = prune_module(
        module, batches, constant, budget=0, limit=30, structure="channel", example=inputs[:1],
        parameters=[n for n, p in module.named_parameters() if p.ndim > 1 and "token" not in n
                    and "pos" not in n],
        **ROLES,
    )  # fmt: skip
    assert_same(before, module)
    left = sum(p.numel() for p in pruned.module.parameters())
    assert left < sum(p.numel() for p in module.parameters())
    assert pruned.curve["sparsity"].max() <= 0.3
    for key, is_kept in pruned.mask.items():
        narrow, wide = pruned.module.get_parameter(key), module.get_parameter(key)
        assert torch.equal(wide[is_kept], narrow.flatten())
    with torch.no_grad():
        logits = logits_of(pruned.module.eval(), inputs)
        if name in ("plain CNN", "torchvision ResNet", "ECG transformer"):
            whole = logits_of(zeroed(own.make(), pruned.mask), inputs)
            torch.testing.assert_close(logits, whole, rtol=1e-3, atol=1e-4)


def test_heads_of_timms_attention_go():
    model = build_model("test_vit", "none", 32, ["no", "yes"], 0)
    batches = [(torch.rand(12, 3, 32, 32), LABELS, SEX)]
    settings = {"structure": "channel", "example": batches[0][0][:1], "budget": 0, **ROLES}
    mlps = [f"backbone.blocks.{k}.mlp" for k in range(6)]
    pruned = prune_module(model, batches, constant, limit=10, ignore=mlps, **settings)
    heads = [block.attn.num_heads for block in pruned.module.backbone.blocks]
    assert min(heads) < max(heads) == model.backbone.blocks[0].attn.num_heads
    for name, parameter in model.named_parameters():
        if ".mlp." in name:
            assert torch.equal(parameter, pruned.module.get_parameter(name))


def test_the_budget_ends_it_and_the_last_step_within_it_is_taken():
    module, inputs = NETWORKS["plain CNN"].make(), NETWORKS["plain CNN"].inputs()
    values = iter([0.9, 0.895, 0.89, 0.7, 0.6])
    pruned = prune_module(
        module, [(inputs, LABELS, SEX)], lambda network: next(values), budget=0.02, **ROLES
    )
    assert (pruned.step, pruned.why) == (2, "the budget of 0.02 was spent")
    assert pruned.curve["value"].tolist() == [0.9, 0.895, 0.89, 0.7]
    values = iter([(0.5, 0.9), (0.6, 0.9), (0.6, 0.9), (0.9, 0.7)])
    pruned = prune_module(
        module, [(inputs, LABELS, SEX)], lambda network: next(values), budget=0.02, **ROLES
    )
    assert pruned.step == 1


def test_recovery_trains_and_the_zeros_stay():
    module, inputs = NETWORKS["plain CNN"].make(), NETWORKS["plain CNN"].inputs()

    def recover(network):
        learner = torch.optim.AdamW(network.parameters(), 0.01)
        F.cross_entropy(network(inputs), LABELS).backward()
        learner.step()

    batches = [(inputs, LABELS, SEX)]
    pruned = prune_module(module, batches, constant, budget=0, limit=20, recover=recover, **ROLES)
    for name, is_kept in pruned.mask.items():
        values = pruned.module.get_parameter(name)
        assert not values[~is_kept].any()
        assert not torch.equal(values[is_kept], module.get_parameter(name)[is_kept])


BATCHES = [(torch.randn(12, 4), LABELS, SEX)]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"batches": iter(BATCHES)}, "can be read only once"),
        ({"evaluate": lambda network: math.nan}, "undefined for the untouched network"),
        ({"structure": "row"}, "no structure 'row'; there are: channel, weight"),
        ({"structure": "channel"}, "give example="),
        ({"ignore": ["layr"]}, "ignore= names 'layr'"),
        ({"ignore": ["0"]}, "parameters= is empty"),
        ({"share": 0}, "share=0, limit=60"),
        ({"limit": 100}, "share=10, limit=100"),
        ({"budget": -1}, "budget=-1"),
        ({"betas": {"x": 1}}, r"of the group 'x'; their groups are: 'f' \(6\), 'm' \(6\)"),
    ],
)
def test_refusals_leave_the_network_as_it_was(more, text):
    module = once()
    before = state(module)
    arguments = {"batches": BATCHES, "evaluate": constant, "budget": 0.1, **ROLES, **more}
    with pytest.raises(EvenhandError, match=text):
        prune_module(module, **arguments)
    assert_same(before, module)


class Folded(nn.Module):
    """A network that torch-pruning cannot follow: its width is written into a reshape."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.out(self.into(x).reshape(len(x), 2, 4).flatten(1))


def test_what_cannot_be_narrowed_is_refused_in_two_lines():
    module = Folded()
    before = state(module)
    with pytest.raises(EvenhandError, match="can be removed") as refused:
        prune_module(
            module, BATCHES, constant, budget=0, structure="channel", example=BATCHES[0][0], **ROLES
        )
    assert len(str(refused.value).splitlines()) <= 2
    assert_same(before, module)


@pytest.mark.parametrize("value", [None, "a", (1, 2, 3), ()])
def test_an_evaluation_that_is_no_number_is_refused(value):
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    batches = [(torch.randn(12, 3), LABELS, SEX)]
    with pytest.raises(EvenhandError, match="evaluate= returns"):
        prune_module(module, batches, lambda _: value, budget=0, **ROLES)


def test_a_pair_may_be_a_tensor():
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    batches = [(torch.randn(12, 3), LABELS, SEX)]
    pruned = prune_module(
        module, batches, lambda _: torch.tensor([0.5, 1.0]), budget=0, limit=20, **ROLES
    )
    assert pruned.curve[["value", "protected"]].iloc[0].tolist() == [0.5, 1.0]
    assert pruned.step == 0  # no later step beats the first


def test_attention_with_separate_projections_keeps_its_width_in_a_model():
    pytest.importorskip("torch_pruning")
    twins = partial(Twins, 32, embed_dims=(16, 32), num_heads=(2, 2), depths=(2, 1), wss=(2, 2),
                    mlp_ratios=(2, 2), sr_ratios=(2, 1), norm_layer=nn.LayerNorm)  # fmt: skip
    register_backbone("small-twins", twins, head="head")
    try:
        model = build_model("small-twins", "none", 32, ["no", "yes"], 0)
        refuse_unprunable(model)
    finally:
        BACKBONES.remove("small-twins")
