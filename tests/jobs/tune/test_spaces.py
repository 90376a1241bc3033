"""What the spaces reach, and how a mask is written in them."""

from __future__ import annotations

from itertools import product

import pytest
from optuna.trial import FixedTrial

from evenhand.errors import EvenhandError
from evenhand.masks.masks import find_units
from evenhand.masks.strategies import find_strategy
from evenhand.masks.units import Family, families
from evenhand.networks.backbones import create_by_name
from evenhand.networks.encoders.conv1d import Conv1dEncoder
from evenhand.networks.model import build_model
from evenhand.search.spaces import (
    FIRST,
    SPACES,
    Choice,
    Rates,
    expressible_masks,
    mask_family,
    repeat_space,
)

RATES = Rates(1e-4, 1e-2, seed=7)
HEAD = {"head": Choice(frozenset(), 1e-3, 7)}


@pytest.fixture(scope="module")
def vit():
    return create_by_name("test_vit")


@pytest.fixture(scope="module")
def resnet():
    return create_by_name("test_resnet")


def small(backbone, name, count):
    """A family cut down to its first units, so that its masks can be counted out."""
    return Family(name, families(backbone)[name].units[:count])


@pytest.mark.parametrize(("name", "count"), [("norm-attn-mlp", 6), ("blocks", 2)])
def test_the_staged_space_writes_each_mask_in_one_way(vit, name, count):
    family = small(vit, name, count)
    names = [unit.name for unit in family.units]
    masks = [
        frozenset(name for name, bit in zip(names, bits, strict=True) if bit)
        for bits in product((0, 1), repeat=count)
    ]
    expected = {str(number): Choice(mask, 1e-3, 7) for number, mask in enumerate(masks)}
    space = SPACES["staged"](family, RATES, expected)
    depths = sorted({unit.depth for unit in family.units})
    written = set()
    for (_, params), mask in zip(space.first, masks, strict=True):
        choice = space.suggest(FixedTrial(dict(params)))  # refuses a parameter that is lacking
        assert (choice.mask, choice.lr, choice.seed) == (mask, pytest.approx(1e-3), 7)
        assert len(params) == len(_asked(space, params))  # and none is too many
        tuned = [unit.depth for unit in family.units if unit.name in mask]
        assert params[FIRST] == (depths.index(min(tuned)) if tuned else len(depths))
        written.add(tuple(sorted(params.items())))
    assert len(written) == 2**count


def _asked(space, params):
    trial = FixedTrial(dict(params))
    space.suggest(trial)
    return trial.distributions


def test_the_flat_space_is_one_bit_a_unit_and_the_rate(vit):
    family = families(vit)["norm-attn-mlp"]
    bits = {unit.name: int(unit.depth == 2) for unit in family.units}
    space = SPACES["flat"](family, RATES, {})
    choice = space.suggest(FixedTrial(bits | {"lr": 2e-3}))
    assert choice.mask == {"blocks.1.norm", "blocks.1.attn", "blocks.1.mlp"}
    assert choice.lr == 2e-3


def test_what_a_family_always_trains_is_in_every_mask(vit):
    family = families(vit)["attention-parameters"]
    for name in SPACES:
        space = SPACES[name](family, RATES, HEAD)
        ((_, params),) = space.first
        assert space.suggest(FixedTrial(dict(params))).mask == {"pos_embed"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("norm-attn-mlp", {"full", "head", "layernorm", "attention"}),
        ("blocks", {"full", "head"}),
        ("attention", {"full", "head"}),
        ("attention-parameters", {"full", "head", "bitfit"}),
    ],
)
def test_strategies_that_a_family_can_express_are_known(name, expected):
    model = build_model("test_vit", "none", 160, ("a", "b"), seed=0)
    vit = model.backbone
    masks = {
        expected: find_units(vit, find_strategy(expected)(model, 0)[1](0))
        for expected in ("full", "head", "layernorm", "attention", "bitfit")
    }
    family = families(vit)[name]
    result = expressible_masks(family, masks)
    assert set(result) == expected
    assert result["full"] == {unit.name for unit in family.units}
    assert result["head"] == frozenset()
    assert len(set(result.values())) == len(result)


def test_a_fixed_learning_rate_makes_a_space_finite(vit):
    family = small(vit, "norm-attn-mlp", 3)
    fixed = Rates(1e-3, 1e-3, seed=0)
    assert SPACES["flat"](family, fixed, {}).size == SPACES["staged"](family, fixed, {}).size == 8
    assert SPACES["flat"](family, RATES, {}).size == float("inf")
    assert fixed.middle == 1e-3


def test_repeats_have_other_seeds_and_nothing_else_changed(vit):
    space = SPACES["flat"](families(vit)["blocks"], RATES, HEAD)
    base = space.suggest(FixedTrial(dict(space.first[0][1])))
    again = repeat_space({3: base}, (8, 9))
    result = [again.suggest(FixedTrial(dict(params))) for _, params in again.first]
    assert [(item.mask, item.lr, item.seed) for item in result] == [
        (base.mask, base.lr, 8),
        (base.mask, base.lr, 9),
    ]


def test_auto_is_the_finest_named_cut_of_each_kind_of_network(vit, resnet):
    assert mask_family(vit, "auto").name == "norm-attn-mlp"
    assert mask_family(resnet, "auto").name == "conv-norm"
    assert mask_family(Conv1dEncoder(5), "auto").name == "conv"


def test_a_family_of_listed_units(vit):
    family = mask_family(vit, "blocks.1.mlp, blocks.0.attn")
    assert [unit.name for unit in family.units] == ["blocks.0.attn", "blocks.1.mlp"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("attentoin", "no mask family 'attentoin'.*Did you mean 'attention'"),
        ("blocks.0.attn,blocks.12.attn", "the backbone has no unit 'blocks.12.attn'"),
        ("blocks.0,blocks.0.attn", "units blocks.0 and blocks.0.attn overlap"),
        ("conv-norm", "no mask family 'conv-norm'"),
    ],
)
def test_families_that_the_backbone_lacks(vit, text, message):
    with pytest.raises(EvenhandError, match=message):
        mask_family(vit, text)
