"""Channels and heads: the right ones go, with everything that depends on them."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace

import pandas as pd
import pytest
import torch
from tests.command import evenhand

from evenhand import build_model, load_model, save_model
from evenhand.errors import EvenhandError
from evenhand.files import read_json
from evenhand.jobs.prune.loop import curve_row, initial_state, pruning_steps, stop_reason
from evenhand.jobs.prune.settings import PruneSettings
from evenhand.jobs.prune.task import make_prune_task
from evenhand.networks.inputs import SeriesInputs
from evenhand.pruning.channels import (
    _channel_sets,
    _count_removed,
    _head_sets,
    refuse_unprunable,
    remove_channels,
    trace_of,
)
from evenhand.pruning.loop import IN_CHANNELS, PruningState, apply_mask, prunable

CLASSES = ("benign", "malignant")
SERIES = SeriesInputs(steps=30, channels=("a", "b"), mean=(0.0, 0.0), std=(1.0, 1.0))
INPUTS = {
    "test_vit": 32,
    "test_resnet": 32,
    "test_efficientnet": 32,
    "edgenext_xx_small": 64,
    "conv1d": SERIES,
}


def sets_of(model, scores):
    trace = trace_of(model)
    return [*_channel_sets(model, scores, trace), *_head_sets(model, scores, trace)]


def state_of(backbone) -> tuple[PruningState, torch.Tensor]:
    model = build_model(backbone, "none", INPUTS[backbone], CLASSES, seed=0).eval()
    total = sum(p.numel() for p in model.parameters())
    return PruningState(model, {}, total, total), torch.randn(4, *model.spec.inputs.shape)


def scores_of(model, dead) -> dict[str, torch.Tensor]:
    """Return scores of 1 everywhere, and less than nothing in what is dead."""
    names = prunable(model, IN_CHANNELS)
    scores = {name: torch.ones_like(model.get_parameter(name)).detach() for name in names}
    for name, place in dead:
        scores[name][place] = -1000
    return scores


def kill(model, *named) -> None:
    with torch.no_grad():
        for name, place in named:
            model.get_parameter(name)[place] = 0


ALL = slice(None)
DEAD = {  # what makes one channel or head contribute nothing, by backbone
    "test_vit": [
        (("backbone.blocks.0.mlp.fc1.weight", 5), ("backbone.blocks.0.mlp.fc1.bias", 5)),
        (("backbone.blocks.1.attn.proj.weight", (ALL, slice(0, 32))),),
    ],
    "test_resnet": [
        (("backbone.layer2.0.bn1.weight", 7), ("backbone.layer2.0.bn1.bias", 7)),
        (("backbone.layer3.0.bn2.weight", 3), ("backbone.layer3.0.bn2.bias", 3)),
    ],
    "test_efficientnet": [
        (("backbone.blocks.1.0.bn1.weight", 5), ("backbone.blocks.1.0.bn1.bias", 5)),
    ],
    "conv1d": [(("backbone.conv2.weight", 9), ("backbone.conv2.bias", 9))],
}


@pytest.mark.parametrize(
    ("backbone", "dead"), [(name, dead) for name, every in DEAD.items() for dead in every]
)
def test_what_contributes_nothing_goes_and_the_output_stays(backbone, dead):
    state, inputs = state_of(backbone)
    kill(state.model, *dead)
    scores = scores_of(state.model, dead[:1])
    with torch.no_grad():
        before = state.model(inputs)
        after = remove_channels(state, scores, 1)
        torch.testing.assert_close(after.model(inputs), before, rtol=1e-4, atol=1e-5)
    assert after.left < state.left
    changed = [name for name, _ in dead]
    assert any(name.rpartition(".")[0] in after.model.spec.widths for name in changed)


@pytest.mark.parametrize("backbone", INPUTS)
def test_a_narrower_model_loads_and_says_the_same(backbone, tmp_path):
    state, inputs = state_of(backbone)
    for seed in range(2):
        state = remove_channels(state, drawn(state, seed), state.left // 4)
    assert state.sparsity == pytest.approx(1 - 0.75**2, abs=0.02)
    save_model(tmp_path, state.model)
    model = load_model(tmp_path)
    with torch.no_grad():
        assert torch.equal(model(inputs), state.model(inputs))
    assert model.spec == state.model.spec


def drawn(state, seed) -> dict[str, torch.Tensor]:
    names = prunable(state.model, IN_CHANNELS)
    rng = torch.Generator().manual_seed(seed)
    return {n: torch.rand(state.model.get_parameter(n).shape, generator=rng) for n in names}


@pytest.mark.parametrize("alike", [False, True], ids=["drawn", "alike"])
@pytest.mark.parametrize("backbone", INPUTS)
def test_what_goes_is_the_share_that_was_asked_for_as_nearly_as_channels_allow(backbone, alike):
    """Counted in the parameters of the models, over several steps."""
    state, _ = state_of(backbone)
    for seed in range(3):
        scores = scores_of(state.model, []) if alike else drawn(state, seed)
        request = round(0.15 * state.left)
        choices = sets_of(state.model, scores)
        shapes = {name: list(p.shape) for name, p in state.model.named_parameters()}
        largest = max(
            _count_removed(values, shapes) for choice in choices for values in choice.slices
        )
        before = sum(p.numel() for p in state.model.parameters())
        state = remove_channels(state, scores, request)
        gone = before - sum(p.numel() for p in state.model.parameters())
        assert abs(gone - request) <= largest / 2
        assert state.left == before - gone
    assert state.sparsity == pytest.approx(1 - 0.85**3, abs=0.02)


@pytest.mark.parametrize("backbone", INPUTS)
def test_the_size_of_every_channel_is_what_its_removal_takes(backbone):
    state, _ = state_of(backbone)
    scores = drawn(state, 0)
    shapes = {name: list(p.shape) for name, p in state.model.named_parameters()}
    for k, item in list(enumerate(sets_of(state.model, scores)))[::3]:
        for places in ([0], [0, 1])[: len(item.scores) - 1]:  # one stays
            model = deepcopy(state.model)
            sets_of(model, scores)[k].remove(places)
            gone = sum(p.numel() for p in state.model.parameters())
            gone -= sum(p.numel() for p in model.parameters())
            together = sum((Counter(item.slices[place]) for place in places), Counter())
            assert _count_removed(together, shapes) == gone


def test_one_channel_at_least_stays_everywhere():
    state, inputs = state_of("test_resnet")
    scores = scores_of(state.model, [])
    after = remove_channels(state, scores, state.left)
    assert after.model(inputs).isfinite().all()
    assert min(shape[0] for shape in after.model.spec.widths.values()) == 1


def test_what_weights_an_earlier_pruning_dropped_is_known_of_the_channels_that_stay():
    state, _ = state_of("conv1d")
    name = "backbone.conv2.weight"
    mask = torch.rand(state.model.get_parameter(name).shape) < 0.5
    apply_mask(state.model, {name: mask})
    pruned = replace(state, mask={name: mask})
    dead = [("backbone.conv2.weight", 9), ("backbone.conv2.bias", 9)]
    after = remove_channels(pruned, scores_of(state.model, dead), 1)
    stay = [place for place in range(len(mask)) if place != 9]
    assert torch.equal(after.mask[name], mask[stay])


def test_channels_by_the_command_line(words, cache, tmp_path):
    out = tmp_path / "out"
    words = [*words, "--structure", "channel", "--limit", 40, "--finetune-epochs", 1]
    ended = evenhand(*words, "--out", out)
    assert ended.status == 0, ended.err
    curve, facts = pd.read_csv(out / "curve.csv"), read_json(out / "pruning.json")
    before, after = (load_model(out / "models" / name) for name in ("before", "finetuned"))
    sizes = [sum(p.numel() for p in model.parameters()) for model in (before, after)]
    assert sizes == [facts["cost"][name]["parameters"] for name in ("before", "finetuned")]
    assert facts["chosen"] > 0
    assert sizes[1] == curve.loc[facts["chosen"], "left"] < sizes[0]
    assert facts["cost"]["pruned"]["size"] < facts["cost"]["before"]["size"]
    left = {name: p.numel() for name, p in load_model(out / "models" / "pruned").named_parameters()}
    layers = {layer["name"]: layer for layer in facts["premise"]["layers"]}
    lost = {name: p.numel() - left[name] for name, p in before.named_parameters()}
    assert sum(layer["pruned"] for layer in layers.values()) == sizes[0] - sizes[1]
    assert {name: layer["pruned"] for name, layer in layers.items()} == lost
    predicted = evenhand(
        "predict", out, "phantom:patients=40,size=32,seed=5", "--cache", cache,
        "--out", tmp_path / "predicted",
    )  # fmt: skip
    assert predicted.status == 0, predicted.err


def test_without_the_library(words, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    ended = evenhand(*words, "--structure", "channel", "--out", tmp_path / "out")
    assert ended.status == 2
    assert "pip install 'evenhand[structured]'" in ended.err
    assert not (tmp_path / "out").exists()


def test_the_loop_ends_where_nothing_can_be_removed_any_more(trained, cache, monkeypatch):
    settings = PruneSettings(
        run=trained, attribute=("group",), cache=cache, device="cpu", batches=1, batch_size=2,
        structure="channel", share=90, limit=99.9, budget=None,
    )  # fmt: skip
    task = replace(make_prune_task(settings), model=state_of("test_vit")[0].model)
    monkeypatch.setattr("evenhand.jobs.prune.loop.bar", bounded(10))
    rows = [curve_row(0, initial_state(task), task.before, 0.0)]
    rows += [step.row for step in pruning_steps(task, initial_state(task), rows, remove_channels)]
    assert stop_reason(task, rows) == "no further channel or head can be removed"
    assert rows[-1]["left"] == rows[-2]["left"] < rows[-3]["left"]


def bounded(limit):
    """Return a progress bar that fails after so many steps, for a loop that may have no end."""

    @contextmanager
    def bar(_text, _total):
        text = []

        def advance(**_known):
            text.append(1)
            assert len(text) < limit

        yield advance

    return bar


@pytest.mark.parametrize(
    "backbone",
    [
        "test_efficientnet", "efficientnet_lite0", "tf_efficientnet_b0", "mobilenetv3_small_050",
        "regnetx_002", "resnext26ts",
    ],
)  # fmt: skip
def test_mobile_networks_can_be_narrowed(backbone):
    """Half of the channels go, the rest runs, and a model of that build takes its weights."""
    refuse_unprunable(build_model(backbone, "none", 64, CLASSES, seed=0))


@pytest.mark.parametrize(
    ("backbone", "size", "why"),
    [
        ("eva02_tiny_patch14_224", 56, "torch_pruning cannot follow its layers"),
        ("ghostnet_100", 64, "torch_pruning cannot follow its layers"),  # what is left fails
    ],
)
def test_a_model_that_no_channel_can_be_removed_from(backbone, size, why):
    model = build_model(backbone, "none", size, CLASSES, seed=0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(
        EvenhandError, match=f"no channel or head of {backbone} can be removed, as {why}"
    ):
        refuse_unprunable(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    refuse_unprunable(state_of("test_vit")[0].model)
