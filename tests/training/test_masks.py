"""What is outside the mask stands still; what is inside moves."""

from __future__ import annotations

import pytest
import torch

from evenhand.masks.masks import (
    Schedule,
    constant,
    find_units,
    full_mask,
    set_trainable,
    train_mode,
)
from evenhand.masks.strategies import find_strategy
from evenhand.networks.model import build_model

MASKS = [
    ("test_vit", {"blocks.1.attn", "blocks.4", "pos_embed"}),
    ("test_vit", set()),
    ("test_resnet", {"stage2.conv", "stage3.norm"}),
    ("test_resnet", {"stage4"}),
    ("test_resnet", set()),
]


def fresh(backbone):
    return build_model(backbone, "none", 32, ("benign", "malignant"), 0)


@pytest.mark.parametrize(("backbone", "mask"), MASKS)
def test_only_what_is_in_the_mask_changes(train, backbone, mask):
    after = train(backbone, constant(frozenset(mask)))
    before = fresh(backbone)
    units = find_units(after.backbone, frozenset(mask))
    inside = {id(p) for unit in units for p in unit.parameters}
    for name, parameter in after.backbone.named_parameters():
        if id(parameter) not in inside:
            assert torch.equal(parameter, before.backbone.get_parameter(name)), name
    names = {id(p): name for name, p in after.backbone.named_parameters()}
    for unit in units:
        assert any(
            not torch.equal(p, before.backbone.get_parameter(names[id(p)])) for p in unit.parameters
        ), unit.name
    assert not torch.equal(after.head.weight, before.head.weight)
    assert not torch.equal(after.head.bias, before.head.bias)


@pytest.mark.parametrize(("backbone", "mask"), [entry for entry in MASKS if "resnet" in entry[0]])
def test_statistics_move_only_where_the_whole_norm_is_tuned(train, backbone, mask):
    after = train(backbone, constant(frozenset(mask)))
    before = dict(fresh(backbone).backbone.named_buffers())
    tuned = {id(p) for unit in find_units(after.backbone, frozenset(mask)) for p in unit.parameters}
    norms = [name for name, m in after.backbone.named_modules() if hasattr(m, "running_mean")]
    assert norms
    for name in norms:
        norm = after.backbone.get_submodule(name)
        same = torch.equal(norm.running_mean, before[f"{name}.running_mean"])
        assert same == (id(norm.weight) not in tuned), name
        assert (norm.num_batches_tracked == 0) == same


def test_bitfit_keeps_running_statistics(train):
    biases = find_strategy("bitfit")(fresh("test_resnet"), 0)[1]
    after = train("test_resnet", biases)
    before = fresh("test_resnet")
    for name, buffer in after.named_buffers():
        assert torch.equal(buffer, before.get_buffer(name)), name
    same = {
        name: torch.equal(parameter, before.get_parameter(name))
        for name, parameter in after.named_parameters()
    }
    assert all(same[name] for name in same if not name.endswith("bias") and "head" not in name)
    # A random ResNet's last norm of each block has weight 0 and lets no gradient past it.
    for layer in range(1, 5):
        biases = [name for name in same if f"layer{layer}" in name and name.endswith("bias")]
        assert not all(same[name] for name in biases), layer


def test_a_schedule_may_change_the_mask(train):
    stages = {0: frozenset({"blocks.5"}), 1: frozenset({"blocks.4"})}
    seen = []

    def on_epoch(epoch):
        seen.append(epoch.number)
        return 0.0

    after = train(schedule=Schedule(stages.__getitem__), on_epoch=on_epoch)
    first = train(schedule=constant(stages[0]))
    before = fresh("test_vit")
    assert seen == [0, 1]
    for block, moves in ((3, False), (4, True), (5, True)):
        old, new = (m.backbone.blocks[block].mlp.fc1.weight for m in (before, after))
        assert torch.equal(old, new) != moves
    assert not torch.equal(
        after.backbone.blocks[5].mlp.fc1.weight, first.backbone.blocks[5].mlp.fc1.weight
    )


def test_frozen_parts_do_not_drop_out():
    model = fresh("test_resnet")
    set_trainable(model, full_mask(model.backbone))
    train_mode(model)
    assert all(module.training for module in model.modules())
    set_trainable(model, frozenset({"stage4"}))
    train_mode(model)
    assert model.backbone.layer4.training
    assert model.head.training
    assert not model.backbone.layer3.training
    assert not any(module.training for module in model.backbone.layer3.modules())
