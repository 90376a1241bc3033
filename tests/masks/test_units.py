"""Units and search spaces of networks of several kinds."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from evenhand.errors import UnknownNameError
from evenhand.masks.listing import unit_listing
from evenhand.masks.masks import find_units, full_mask
from evenhand.masks.units import all_units, families, find_family, module_depths, parts
from evenhand.networks.backbones import create_by_name

TRANSFORMERS = ["test_vit", "vit_tiny_patch16_224"]
BY_STAGE = ["resnet18", "vgg11", "convnext_atto", "efficientnet_b0"]
STAGES = {"resnet18": 4, "vgg11": 4, "convnext_atto": 4, "efficientnet_b0": 5}


@pytest.fixture(scope="module")
def network():
    """Names and shapes of a network, by its name."""
    built = {}

    def get(name: str) -> torch.nn.Module:
        if name not in built:
            with torch.device("meta"):
                built[name] = create_by_name(name)
        return built[name]

    return get


@pytest.mark.parametrize("name", [*TRANSFORMERS, *BY_STAGE])
def test_parts_hold_each_parameter_once(network, name):
    backbone = network(name)
    held = Counter(id(p) for unit in parts(backbone) for p in unit.parameters)
    assert held == Counter(id(p) for p in backbone.parameters())
    names = [unit.name for unit in parts(backbone)]
    assert len(set(names)) == len(names)
    assert full_mask(backbone) == set(names)


@pytest.mark.parametrize("name", [*TRANSFORMERS, *BY_STAGE])
def test_depths_run_from_the_embedding_up(network, name):
    depths = [unit.depth for unit in parts(network(name))]
    assert depths == sorted(depths)
    assert set(depths) == set(range(max(depths) + 1))


@pytest.mark.parametrize("name", [*TRANSFORMERS, *BY_STAGE])
def test_a_family_never_holds_a_parameter_twice(network, name):
    for family in families(network(name)).values():
        held = Counter(id(p) for u in (*family.units, *family.always) for p in u.parameters)
        assert set(held.values()) == {1}, family.name


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_families_of_a_transformer_have_the_published_sizes(network, name):
    backbone = network(name)
    blocks = len(backbone.blocks)
    assert {family.name: len(family.units) / blocks for family in families(backbone).values()} == {
        "blocks": 1,
        "attention": 1,
        "layernorm": 1,
        "mlp": 1,
        "attention+layernorm": 1,
        "attention+mlp": 1,
        "layernorm+mlp": 1,
        "attention+layernorm+mlp": 1,
        "norm-attn-mlp": 3,
        "norm1-attn-norm2-mlp": 4,
        "attention-parameters": 4,
    }


def test_bits_of_a_transformer_are_named_after_its_modules(network):
    result = families(network("test_vit"))

    def names(family: str) -> list[str]:
        return [unit.name for unit in result[family].units if unit.name.startswith("blocks.3")]

    assert names("blocks") == ["blocks.3"]
    assert names("attention") == ["blocks.3.attn"]
    assert names("layernorm+mlp") == ["blocks.3.norm+mlp"]
    assert set(names("norm-attn-mlp")) == {f"blocks.3.{part}" for part in ("norm", "attn", "mlp")}
    assert names("norm1-attn-norm2-mlp") == [
        f"blocks.3.{part}" for part in ("norm1", "attn", "norm2", "mlp")
    ]
    assert names("attention-parameters") == [
        f"blocks.3.attn.{layer}.{kind}" for layer in ("qkv", "proj") for kind in ("weight", "bias")
    ]
    assert [unit.name for unit in result["attention-parameters"].always] == ["pos_embed"]


def test_a_unit_holds_the_parameters_that_its_name_says(network):
    backbone = network("test_vit")
    units, block = all_units(backbone), backbone.blocks[3]
    wanted = {
        "blocks.3": block.parameters(),
        "blocks.3.attn": [*block.attn.parameters(), *block.ls1.parameters()],
        "blocks.3.mlp": [*block.mlp.parameters(), *block.ls2.parameters()],
        "blocks.3.norm": [*block.norm1.parameters(), *block.norm2.parameters()],
        "blocks.3.norm1": block.norm1.parameters(),
        "blocks.3.norm1.bias": [block.norm1.bias],
        "blocks.3.attn.qkv.bias": [block.attn.qkv.bias],
    }
    for name, parameters in wanted.items():
        assert {id(p) for p in units[name].parameters} == {id(p) for p in parameters}, name
        assert units[name].depth == 4


def test_a_layer_scale_goes_with_the_branch_that_it_scales(network):
    backbone = network("deit3_small_patch16_224")
    units, block = all_units(backbone), backbone.blocks[3]
    wanted = {
        "blocks.3.attn": [*block.attn.parameters(), block.ls1.gamma],
        "blocks.3.mlp": [*block.mlp.parameters(), block.ls2.gamma],
    }
    for name, parameters in wanted.items():
        assert {id(p) for p in units[name].parameters} == {id(p) for p in parameters}, name
    kinds = {unit.kind for unit in parts(backbone) if unit.name.startswith("blocks.")}
    assert kinds == {"norm1", "attn", "norm2", "mlp"}


@pytest.mark.parametrize(
    ("name", "stages"), [("resnet18", "layer{}"), ("convnext_atto", "stages.{}")]
)
def test_a_stage_holds_all_of_its_module_and_nothing_else(network, name, stages):
    """To the last module of it: what comes next begins the next stage."""
    backbone = network(name)
    depths, units = module_depths(backbone), all_units(backbone)
    for number in range(1, STAGES[name] + 1):
        module = stages.format(number if name == "resnet18" else number - 1)
        inside = backbone.get_submodule(module)
        held = {id(p) for p in units[f"stage{number}"].parameters}
        assert held == {id(p) for p in inside.parameters()}
        for part, _ in inside.named_modules(prefix=module):
            assert depths[part] == number, part


@pytest.mark.parametrize("name", BY_STAGE)
def test_a_network_by_stage_is_cut_where_timm_says(network, name):
    backbone = network(name)
    numbered = [unit for unit in families(backbone)["stages"].units if "stage" in unit.name]
    assert [unit.name for unit in numbered] == [f"stage{k + 1}" for k in range(STAGES[name])]
    assert {unit.kind for unit in parts(backbone)} <= {"conv", "norm"}
    assert ("norm" in families(backbone)) == (name != "vgg11")


def test_stages_of_a_resnet_are_its_layers(network):
    backbone = network("resnet18")
    units = all_units(backbone)
    for stage in range(1, 5):
        layer = getattr(backbone, f"layer{stage}")
        assert {id(p) for p in units[f"stage{stage}"].parameters} == {
            id(p) for p in layer.parameters()
        }
    norm = {
        id(p)
        for m in backbone.layer2.modules()
        if "Norm" in type(m).__name__
        for p in m.parameters()
    }
    assert {id(p) for p in units["stage2.norm"].parameters} == norm


def test_no_name_means_two_different_units(network):
    for name in (*TRANSFORMERS, *BY_STAGE):
        backbone = network(name)
        meant: dict[str, set[int]] = {}
        everything = [u for f in families(backbone).values() for u in f.units]
        for unit in (*parts(backbone), *everything):
            held = {id(p) for p in unit.parameters}
            assert meant.setdefault(unit.name, held) == held, unit.name


def test_an_unknown_family(network):
    with pytest.raises(UnknownNameError, match="Did you mean 'attention'"):
        find_family(network("test_vit"), "atention")


def test_unknown_units_are_named_with_the_nearest(network):
    with pytest.raises(UnknownNameError) as caught:
        find_units(network("test_vit"), frozenset({"blocks.3.atn", "blocks.2.attn", "nothing"}))
    assert "'blocks.3.atn', 'nothing'" in str(caught.value)
    assert "Did you mean blocks.3.attn" in str(caught.value)


def test_an_unknown_backbone_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"resnet18\b.*list_models"):
        create_by_name("resnet_18")


def test_the_listing_names_every_unit(network):
    text = unit_listing("test_vit")
    for unit in all_units(network("test_vit")).values():
        if unit.kind != "bias":
            assert f"  {unit.name} " in text
    assert "pos_embed" in text.rpartition("always tuned")[0].rpartition("\n")[2]
    assert unit_listing("test_vit", "attention").startswith("attention: 6 units")
