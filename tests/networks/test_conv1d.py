"""The encoder for series, what it reads, and its units."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evenhand.errors import EvenhandError
from evenhand.masks.masks import set_trainable, train_mode
from evenhand.masks.strategies import find_strategy
from evenhand.masks.units import families, parts
from evenhand.networks.encoders.conv1d import Conv1dEncoder, convolve
from evenhand.networks.encoders.layers import hold_last
from evenhand.networks.inputs import SeriesInputs
from evenhand.networks.model import Model, build_model

NAN = float("nan")
INPUTS = SeriesInputs(steps=12, channels=("a", "b"), mean=(1.0, 10.0), std=(2.0, 0.0))


@pytest.fixture
def model() -> Model:
    return build_model("conv1d", "none", INPUTS, ("well", "sick"), seed=0)


def test_the_layers_have_the_sizes_of_the_published_encoder():
    encoder = Conv1dEncoder(76)
    assert [unit.size for unit in parts(encoder)] == [58_400, 32_832, 49_248]
    assert encoder(torch.zeros(2, 76, 48)).shape == (2, 96)


def test_even_kernels_pad_one_more_at_the_end():
    encoder = Conv1dEncoder(1)
    layer = encoder.conv3
    with torch.no_grad():
        layer.weight.zero_()[:, :, 0] = 1.0  # looks (8 - 1) // 2 = 3 steps back
    series = torch.zeros(1, 64, 10)
    series[:, :, 4] = 1.0
    result = convolve(layer.eval(), series)[0, 0]
    assert result.shape == (10,)
    assert result.nonzero().flatten().tolist() == [7]


def test_what_was_not_observed_is_held_and_marked():
    series = torch.tensor([[[NAN, 2.0, NAN, NAN, -1.0]]])
    held, observed = hold_last(series)[0]
    assert held.tolist() == [0.0, 2.0, 2.0, 2.0, -1.0]
    assert observed.tolist() == [0.0, 1.0, 0.0, 0.0, 1.0]


def test_an_observed_mean_is_told_from_a_missing_value(model):
    observed, missing = torch.full((1, 2, 12), 1.0), torch.full((1, 2, 12), NAN)
    first, other = (model.backbone_inputs(model.scale(series)) for series in (observed, missing))
    assert torch.equal(first[:, 0], other[:, 0])
    assert not torch.equal(first, other)


def test_a_constant_channel_says_only_whether_it_was_observed(model):
    series = torch.full((1, 2, 12), NAN)
    series[0, 1, 3] = 999.0
    read = model.backbone_inputs(model.scale(series))
    assert read[0, 1].eq(0).all()
    assert read[0, 3].nonzero().flatten().tolist() == [3]


def test_values_are_standardised_and_clipped(model):
    series = torch.tensor([[[5.0] + [1e6] * 11, [NAN] * 12]])
    assert model.backbone_inputs(model.scale(series))[0, 0].tolist() == [2.0] + [5.0] * 11


def test_scores_are_finite_for_a_sample_without_any_observation(model):
    assert model.eval()(torch.full((3, 2, 12), NAN)).isfinite().all()


def test_units_are_the_layers(model):
    assert [unit.name for unit in parts(model.backbone)] == ["conv1", "conv2", "conv3"]
    assert list(families(model.backbone)) == ["conv"]
    _, schedule = find_strategy("last-1")(model, 0)
    assert schedule(0) == {"conv3"}


def test_a_frozen_layer_does_not_drop_out(model):
    set_trainable(model, frozenset({"conv3"}))
    train_mode(model)
    series = torch.randn(4, 4, 12)
    first = convolve(model.backbone.conv1, series)
    assert torch.equal(first, convolve(model.backbone.conv1, series))
    later = torch.randn(4, 64, 12)
    assert not torch.equal(*(convolve(model.backbone.conv3, later) for _ in range(2)))


def test_the_hidden_head_has_the_sizes_of_the_published_one():
    model = build_model("conv1d", "none", INPUTS, ("well", "sick"), seed=0, head="hidden")
    assert sum(p.numel() for p in model.head.parameters()) == 12_674
    model.train()
    hidden = torch.ones(200, 96)
    assert not np.allclose(*(model.head(hidden).detach() for _ in range(2)))


@pytest.mark.parametrize(
    ("backbone", "weights", "inputs", "message"),
    [
        ("test_vit", "none", INPUTS, "--backbone test_vit: the samples are series"),
        ("conv1d", "none", 32, "--backbone conv1d takes series"),
        ("conv1d", "pretrained", INPUTS, "there are no published weights of conv1d"),
    ],
)
def test_backbones_that_do_not_fit_the_samples(backbone, weights, inputs, message):
    with pytest.raises(EvenhandError, match=message):
        build_model(backbone, weights, inputs, ("a", "b"), 0)


@pytest.mark.parametrize(
    ("name", "tuned", "size"),
    [
        ("frozen3", (), 12_674),
        ("frozen2", (3,), 61_922),
        ("frozen2fl", (2,), 45_506),
        ("frozen1", (2, 3), 94_754),
        ("frozen1m", (1, 3), 120_322),
        ("frozen0", (1, 2, 3), 153_154),
    ],
)
def test_the_freeze_grid_tunes_what_the_published_one_does(name, tuned, size):
    inputs = SeriesInputs(
        steps=48, channels=tuple(f"x{n}" for n in range(38)), mean=(0,) * 38, std=(1,) * 38
    )
    model = build_model("conv1d", "none", inputs, ("well", "sick"), seed=0, head="hidden")
    model, schedule = find_strategy(name)(model, 0)
    assert schedule(0) == schedule(9) == {f"conv{layer}" for layer in tuned}
    set_trainable(model, schedule(0))
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == size


def test_supervised_forgets_the_encoder(model):
    fresh, schedule = find_strategy("supervised")(model, 1)
    assert schedule(0) == {"conv1", "conv2", "conv3"}
    assert not torch.equal(fresh.backbone.conv1.weight, model.backbone.conv1.weight)


def test_the_freeze_grid_by_stages():
    resnet = build_model("test_resnet", "none", 32, ("a", "b"), seed=0)
    cells = {name: find_strategy(name)(resnet, 0)[1](0) for name in ("frozen1", "frozen1m")}
    everything = find_strategy("frozen0")(resnet, 0)[1](0)
    assert everything == find_strategy("full")(resnet, 0)[1](0)
    assert cells["frozen1"] | cells["frozen1m"] == everything
    assert "stem.conv" not in cells["frozen1"]
