"""What each strategy lets change."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evenhand.errors import EvenhandError
from evenhand.masks.masks import find_units, full_mask, set_trainable
from evenhand.masks.strategies import DECAY, find_strategy, strategy_names
from evenhand.masks.units import FAMILIES, families, parts
from evenhand.networks.model import Model, build_model


def mask(name: str, model: Model) -> frozenset[str]:
    same, schedule = find_strategy(name)(model, 0)
    assert same is model
    assert schedule(0) == schedule(7)
    return schedule(0)


def blocks(names: frozenset[str]) -> set[int]:
    return {int(name.split(".")[1]) for name in names if name.startswith("blocks.")}


def test_full_and_head(vit):
    assert mask("full", vit) == full_mask(vit.backbone)
    assert mask("head", vit) == frozenset()


def test_the_last_blocks_come_with_what_follows_them(vit, resnet):
    result = mask("last-2", vit)
    assert blocks(result) == {4, 5}
    assert "norm" in result
    assert not result & {"cls_token", "pos_embed", "patch_embed"}
    assert mask("last-1", resnet) == {"stage4.conv", "stage4.norm"}


def test_attention_alone(vit):
    assert mask("attention", vit) == {f"blocks.{k}.attn" for k in range(6)}


def test_norms_alone(vit, resnet):
    within = {f"blocks.{k}.{norm}" for k in range(6) for norm in ("norm1", "norm2")}
    assert mask("layernorm", vit) - within == {"norm"}
    assert within < mask("layernorm", vit)
    stages = {f"stage{k}.norm" for k in range(1, 5)}
    assert mask("layernorm", resnet) == {"stem.norm"} | stages


@pytest.mark.parametrize("network", ["vit", "resnet"])
def test_bitfit_tunes_all_biases_and_the_head(network, request):
    model = request.getfixturevalue(network)
    set_trainable(model, mask("bitfit", model))
    tuned = {name for name, p in model.named_parameters() if p.requires_grad}
    biases = {name for name, _ in model.named_parameters() if name.endswith("bias")}
    assert tuned == biases | {"head.weight"}


def test_random_masks_are_drawn_from_their_seed(vit):
    drawn = [mask(f"random:{seed}", vit) for seed in range(40)]
    assert mask("random:3", vit) == drawn[3]
    assert len(set(drawn)) == 40
    inside = {unit.name for unit in parts(vit.backbone) if unit.depth > 0}
    assert frozenset().union(*drawn) == inside
    shares = np.array([len(item) / len(inside) for item in drawn])
    assert abs(shares.mean() - 0.5) < 0.05


def test_units_by_name(vit):
    assert mask("blocks.3.attn, blocks.1", vit) == {"blocks.3.attn", "blocks.1"}
    assert mask("norm,", vit) == {"norm"}


def test_scratch_draws_the_whole_network_anew(vit):
    fresh, schedule = find_strategy("scratch")(vit, 5)
    again, _ = find_strategy("scratch")(vit, 5)
    other, _ = find_strategy("scratch")(vit, 6)
    assert schedule(0) == full_mask(vit.backbone)
    assert fresh.spec == vit.spec
    for name, value in fresh.named_parameters():
        assert torch.equal(value, again.get_parameter(name)), name
        if name.endswith("weight") and "norm" not in name:  # norms begin at 1, biases at 0
            assert not torch.equal(value, vit.get_parameter(name)), name
            assert not torch.equal(value, other.get_parameter(name)), name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ful", "Did you mean 'full'"),
        ("last", "write it as last-K"),
        ("last-", "write it as last-K"),
        ("last-two", "write it as last-K"),
        ("last:2", "strategy"),
        ("random", "write it as random:SEED"),
        ("random:-1", "write it as random:SEED"),
        ("random-3", "strategy"),
        ("full:2", "write it as full"),
        ("head:", "write it as head"),
        ("scratch:1", "write it as scratch"),
        ("last-0", "from 1 to 6"),
        ("last-7", "from 1 to 6"),
        ("blocks.3.atn", "Did you mean blocks.3.attn"),
        (",", "names no unit"),
        ("", "strategy"),
        ("last-²", "write it as last-K"),
        ("gradual:0", r"write it as gradual\[:K\]"),
        ("gradual-2", "strategy"),
        ("lora:", "write it as lora"),
        ("lora:1,", "write it as lora"),
        ("lora:blocks.1", "write it as lora"),
        ("lora:2,6", "no block 6; its blocks are 0 to 5"),
        ("stages", "no mask family 'stages'"),
        ("mlp:1", "write it as mlp"),
    ],
)
def test_what_is_refused(vit, name, text):
    with pytest.raises(EvenhandError, match=text):
        find_strategy(name)(vit, 0)


def test_what_a_network_lacks(resnet):
    with pytest.raises(EvenhandError, match="test_resnet has no attention blocks"):
        mask("attention", resnet)


def test_a_network_without_norms():
    vgg = build_model("vgg11", "none", 32, ("a", "b"), seed=0)
    with pytest.raises(EvenhandError, match="vgg11 has no norm layers"):
        mask("layernorm", vgg)


def test_a_family_by_name_has_all_of_its_bits(vit, resnet):
    assert mask("norm-attn-mlp", vit) == {
        f"blocks.{k}.{part}" for k in range(6) for part in ("norm", "attn", "mlp")
    }
    assert "pos_embed" in mask("attention-parameters", vit)
    assert mask("norm", resnet) == {"stem.norm", *(f"stage{k}.norm" for k in range(1, 5))}


@pytest.mark.parametrize("network", ["vit", "resnet"])
def test_every_family_is_a_strategy(network, request):
    model = request.getfixturevalue(network)
    result = families(model.backbone)
    assert result.keys() <= set(FAMILIES) <= set(strategy_names())
    for name in result:
        if name != "layernorm":  # which has the norm behind the blocks, too
            wanted = {
                id(p) for u in (*result[name].units, *result[name].always) for p in u.parameters
            }
            units = find_units(model.backbone, mask(name, model))
            assert {id(p) for unit in units for p in unit.parameters} == wanted, name


def test_gradual_unfreezes_from_the_head_downwards(vit, resnet):
    _, schedule = find_strategy("gradual")(vit, 0)
    assert schedule(0) == frozenset()
    assert all(schedule(k) == mask(f"last-{k}", vit) for k in range(1, 7))
    assert schedule(7) == schedule(20) == full_mask(vit.backbone)
    assert schedule.decay == DECAY
    _, by_two = find_strategy("gradual:2")(resnet, 0)
    assert [by_two(k) for k in range(4)] == [
        frozenset(),
        mask("last-2", resnet),
        mask("last-4", resnet),
        full_mask(resnet.backbone),
    ]


def test_names_for_help_texts():
    assert set(strategy_names()) == {
        *("scratch", "full", "head", "last-K", "attention", "layernorm", "bitfit", "random:SEED"),
        *("gradual[:K]", "lora[:BLOCK,BLOCK…]"),
        *FAMILIES,
        *("supervised", "frozen3", "frozen2", "frozen2fl", "frozen1", "frozen1m", "frozen0"),
    }
