"""Units of anybody's network, and tuning some of them."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy

import pytest
import torch
import torchvision
from tests.own.networks import ECG, NETWORKS
from torch import nn

from evenhand import EvenhandError, UnknownNameError, build_model, tune_only, units_of
from evenhand.networks.head import find_head


@pytest.fixture(params=NETWORKS)
def own(request):
    return NETWORKS[request.param]


def state(module):
    """Everything that an engine must leave as it was."""
    return (
        {name: value.clone() for name, value in module.state_dict().items()},
        {name: p.requires_grad for name, p in module.named_parameters()},
        {name: item.training for name, item in module.named_modules()},
        {
            name: (dict(item._forward_hooks), dict(item._forward_pre_hooks), set(vars(item)))
            for name, item in module.named_modules()
        },
    )


def assert_same(before, module):
    values, *rest = state(module)
    assert all(torch.equal(value, before[0][name]) for name, value in values.items())
    assert rest == list(before[1:])


def test_the_head_is_recognised(own):
    assert find_head(own.make()) == (own.head,)


def test_units_and_head_hold_each_parameter_once(own):
    module = own.make()
    held = Counter(id(p) for unit in units_of(module) for p in unit.parameters)
    held.update(id(p) for p in module.get_submodule(own.head).parameters())
    assert held == Counter(id(p) for p in module.parameters())
    for unit in units_of(module):
        assert [id(module.get_parameter(name)) for name in unit.names] == [
            *map(id, unit.parameters)
        ]


def test_depths_rise_from_the_input(own):
    depths = [unit.depth for unit in units_of(own.make())]
    assert depths == sorted(depths)
    assert depths[0] == 0 < depths[-1]


def test_blocks_are_split_into_what_they_are_made_of():
    names = {unit.name for unit in units_of(NETWORKS["ECG transformer"].make())}
    block = "encoder.layers.1"
    assert {f"{block}.attn", f"{block}.mlp", f"{block}.norm", "patches"} <= names
    cut = {unit.name: unit for unit in units_of(NETWORKS["ECG transformer"].make())}
    assert set(cut[f"{block}.attn"].names) == {
        f"{block}.self_attn.{name}"
        for name in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    }
    names = {unit.name for unit in units_of(NETWORKS["MONAI DenseNet"].make())}
    assert {"features.denseblock2.denselayer1.conv", "features.transition1.norm"} <= names


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("mobilenet_v3_small", "features.7"),
        ("swin_t", "features.5.1"),
        ("densenet121", "features.denseblock3.denselayer11"),
        ("shufflenet_v2_x0_5", "stage3.4"),
    ],
)
def test_blocks_of_other_families(name, block):
    units = units_of(torchvision.models.get_model(name, weights=None), by="blocks")
    assert block in {unit.name for unit in units}
    assert not any(unit.name.startswith(f"{block}.") for unit in units)


def test_a_network_of_timm_has_the_units_of_the_jobs():
    model = build_model("test_vit", "none", 32, ["no", "yes"], 0)
    assert {unit.name for unit in units_of(model, by="norm-attn-mlp")} >= {"blocks.3.attn"}
    assert units_of(model)[0].names[0].startswith("backbone.")


def test_a_rule_of_ones_own():
    module = NETWORKS["plain CNN"].make()

    def rule(name):
        return "first" if name.startswith(("0.", "1.")) else None

    (unit,) = units_of(module, by=rule)
    assert unit.names == ("0.weight", "0.bias", "1.weight", "1.bias")
    assert units_of(module, head="4")[-1].name == "9"


def test_what_is_frozen_stands_still(own):
    module, units = own.make(), None
    before = deepcopy(module.state_dict())
    units = units_of(module)[-2:]
    tuned = {*(name for unit in units for name in unit.names)}
    with tune_only(module, units):
        learner = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], 0.1)
        for _ in range(2):
            module.train()
            output = module(own.inputs())
            getattr(output, "logits", output).logsumexp(1).sum().backward()
            learner.step()
    for name, value in module.state_dict().items():
        free = name in tuned or name.startswith(f"{own.head}.")
        if not free and "running" not in name and "num_batches" not in name:
            assert torch.equal(value, before[name]), name
    frozen = [unit for unit in units_of(module)[:-2] if unit.kind == "norm"]
    for name in (name for unit in frozen for name in unit.names if name.endswith("weight")):
        statistic = name.replace("weight", "running_mean")
        if statistic in before:
            assert torch.equal(module.state_dict()[statistic], before[statistic])


def test_a_block_of_tuning_leaves_everything_as_it_was(own):
    module = own.make()
    module.get_submodule(own.head).eval()
    before = state(module)
    with tune_only(module, units_of(module)[:1]):
        module.train()
        module.eval()
    assert_same(before, module)


def test_units_fit_a_network_that_was_built_alike():
    own = NETWORKS["ECG transformer"]
    unit = units_of(own.make())[1]
    other = own.make(seed=1)
    tune_only(other, [unit])
    asks = {name for name, p in other.named_parameters() if p.requires_grad}
    assert asks == {*unit.names, "head.weight", "head.bias"}
    tune_only(other, ["patches"])
    assert other.patches.weight.requires_grad
    assert len(other._forward_pre_hooks) == 1


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.out.weight = self.into.weight

    def forward(self, x):
        return self.head(self.out(self.into(x).tanh()))


def test_refusals():
    module = ECG()
    with pytest.raises(EvenhandError, match=r"share the weight into\.weight = out\.weight"):
        units_of(Tied())
    with pytest.raises(UnknownNameError, match=r"head='heads'.*'head'"):
        units_of(module, head="heads")
    with pytest.raises(UnknownNameError, match=r"no rule for units 'block'.*'blocks'"):
        units_of(module, by="block")
    with pytest.raises(UnknownNameError, match="no unit 'patch'; near it: patches"):
        tune_only(module, ["patch"])
    with pytest.raises(UnknownNameError, match=r"no unit 'layer1'; near it: layer1\.0\.conv"):
        tune_only(torchvision.models.resnet18(), ["layer1"])
    with pytest.raises(EvenhandError, match="units are of another network: Tied"):
        tune_only(Tied(), units_of(module))
    with pytest.raises(EvenhandError, match="nothing is left to tune"):
        tune_only(module, [], head=())
    with pytest.raises(EvenhandError, match="everything lies in the head"):
        units_of(nn.Sequential(nn.Linear(2, 2)))


def test_units_print_in_one_line_each():
    for unit in units_of(ECG()):
        assert repr(unit) == f"Unit(name={unit.name!r}, depth={unit.depth}, kind={unit.kind!r})"


def test_what_comes_after_the_last_block_lies_deeper():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Linear(4, 4)
            self.blocks = nn.ModuleList(Block() for _ in range(2))
            self.norm, self.last, self.head = nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 2)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.attn = nn.LayerNorm(4), nn.Linear(4, 4)

    depths = {unit.name: unit.depth for unit in units_of(Network(), head="head")}
    assert depths == {
        "stem": 0,
        **{f"blocks.{k}.{kind}": k + 1 for k in range(2) for kind in ("norm", "attn")},
        **{"norm": 3, "last": 3},
    }
