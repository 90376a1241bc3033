"""Masked modelling: what is masked is not seen, and is what the loss is about."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from evenhand.errors import EvenhandError
from evenhand.networks.inputs import SeriesInputs
from evenhand.networks.model import build_model
from evenhand.pretraining.learners import Encoder
from evenhand.pretraining.objectives.mae import mae_loss, patches_of
from evenhand.pretraining.objectives.masked import draw_hidden, masked_loss
from evenhand.pretraining.registry import SSL_OBJECTIVES

CLASSES = ("no", "yes")
SERIES = SeriesInputs(steps=24, channels=("a", "b", "c"), mean=(0.0,) * 3, std=(1.0,) * 3)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def learner_on(name, backbone, inputs, samples=64):
    model = build_model(backbone, "none", inputs, CLASSES, seed=0)
    return SSL_OBJECTIVES[name].make(Encoder.of_model(model, samples)).eval()


@pytest.fixture
def mae():
    return learner_on("mae", "test_vit", 64)  # 16 patches, of which 4 are seen


@pytest.fixture(params=["conv1d", "gru", "patch_transformer"])
def masked(request):
    return learner_on("masked", request.param, SERIES)


def gaps(seed=0, count=8):
    series = torch.randn(count, 3, 24, generator=rng(seed))
    series[torch.rand(series.shape, generator=rng(seed + 1)) < 0.3] = torch.nan
    return series


def test_the_encoder_does_not_see_masked_patches(mae):
    images, order = mae.draw(torch.rand(5, 3, 64, 64, generator=rng()), rng(1))
    seen, hidden = order[:, : mae.visible_count], order[:, mae.visible_count :]
    changed = patches_of(images, 16).clone()
    noise = torch.randn(5, hidden.shape[1], changed.shape[2], generator=rng(2))
    changed.scatter_(1, hidden[:, :, None].expand_as(noise), noise)
    other = nn.functional.fold(changed.transpose(1, 2), 64, 16, stride=16)
    tokens = mae.encode(images, seen)
    assert tokens.shape == (5, 1 + 4, 64)
    assert torch.equal(tokens, mae.encode(other, seen))
    assert not torch.isclose(mae(images, order), mae(other, order))


def test_the_encoder_sees_the_other_patches_at_their_places(mae):
    images, order = mae.draw(torch.rand(5, 3, 64, 64, generator=rng()), rng(1))
    seen = order[:, : mae.visible_count]
    other = images.clone()
    other[:, :, :, :] += patches_mask(seen, 64, 16)
    assert not torch.allclose(mae.encode(images, seen), mae.encode(other, seen), atol=1e-3)
    everything = torch.arange(16).expand(5, -1)
    assert torch.allclose(
        mae.encode(images, everything), mae.encoder.forward_features(images), atol=1e-5
    )


def patches_mask(places, side, patch):
    """Images that are 1 in some patches and 0 elsewhere."""
    rows = torch.zeros(len(places), (side // patch) ** 2).scatter(1, places, 1.0)
    whole = rows[:, None].expand(-1, patch**2, -1)
    return nn.functional.fold(whole, side, patch, stride=patch)


def test_the_loss_of_mae_is_that_of_the_paper():
    predicted, patches = torch.randn(2, 3, 5, 12, generator=rng()).double().unbind()
    masked = torch.tensor([[1, 0, 1, 1, 0], [0, 0, 0, 0, 1], [1, 1, 0, 0, 0]]).bool()
    errors = []
    for i, j in zip(*np.nonzero(masked.numpy()), strict=True):
        patch = patches[i, j].numpy()
        target = (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 1e-6)
        errors.append(((predicted[i, j].numpy() - target) ** 2).mean())
    assert len(errors) == 6
    assert mae_loss(predicted, patches, masked).item() == pytest.approx(np.mean(errors), rel=1e-5)


def test_what_is_seen_is_not_in_the_loss_of_mae():
    predicted, patches = torch.randn(2, 3, 5, 12, generator=rng()).unbind()
    masked = torch.zeros(3, 5, dtype=torch.bool)
    masked[:, 0] = True
    other = predicted.clone()
    other[:, 1:] += 7
    assert mae_loss(predicted, patches, masked) == mae_loss(other, patches, masked)


def test_patches_are_those_of_the_image():
    images = torch.rand(2, 3, 8, 8, generator=rng())
    rows = patches_of(images, 4)
    assert rows.shape == (2, 4, 48)
    assert torch.equal(rows[:, 1], images[:, :, :4, 4:].flatten(1))


@pytest.mark.parametrize("backbone", ["test_vit2", "vit_tiny_patch16_224", "test_vit4"])
def test_mae_takes_vision_transformers_of_other_builds(backbone):
    learner = learner_on("mae", backbone, 32).train()
    images = torch.rand(4, 3, 32, 32, generator=rng())
    learner(*learner.draw(images, rng())).backward()
    weights = dict(learner.encoder.named_parameters())
    taught = [name for name, weight in weights.items() if weight.grad is not None]
    assert {name for name in weights if name.startswith("blocks")} <= set(taught)


def test_mae_refuses_a_network_without_patches():
    with pytest.raises(EvenhandError, match="needs a vision transformer of timm"):
        learner_on("mae", "test_resnet", 32)


@pytest.mark.parametrize(
    ("name", "backbone", "inputs"), [("mae", "conv1d", SERIES), ("masked", "test_vit", 32)]
)
def test_each_is_for_its_kind_of_samples(name, backbone, inputs):
    with pytest.raises(EvenhandError, match=rf"--ssl {name} is for .* and the samples are"):
        learner_on(name, backbone, inputs)


def test_hidden_values_do_not_reach_the_encoder(masked):
    series = gaps()
    read, _, hidden = masked.draw(series, rng(3))
    other = torch.where(hidden, series + 5, series)
    read_other, values, hidden_other = masked.draw(other, rng(3))
    assert torch.equal(hidden, hidden_other)
    assert torch.equal(read, read_other)
    assert torch.equal(masked.embed(read), masked.embed(read_other))
    assert not torch.isclose(masked(read, series, hidden), masked(read, values, hidden))


def test_what_was_not_observed_is_not_restored(masked):
    series = gaps()
    read, _, hidden = masked.draw(series, rng(3))
    nothing = torch.where(hidden, torch.nan, series)
    assert masked(read, nothing, hidden) == 0


def test_the_loss_of_masked_series_by_hand():
    predicted, values = torch.randn(2, 4, 3, 6, generator=rng()).double().unbind()
    values[torch.rand(values.shape, generator=rng(1)) < 0.3] = torch.nan
    hidden = torch.rand(values.shape, generator=rng(2)) < 0.4
    wanted = [
        (predicted[place].item() - values[place].item()) ** 2
        for place in zip(*np.nonzero(hidden.numpy()), strict=True)
        if not np.isnan(values[place].item())
    ]
    assert masked_loss(predicted, values, hidden).item() == pytest.approx(np.mean(wanted), rel=1e-5)


def test_spans_and_channels_are_hidden_by_their_shares():
    series = torch.zeros(400, 5, 40)
    spans = draw_hidden(series, rng(), channels=0.0)
    assert spans.float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert spans.long().diff(dim=2).abs().sum(dim=2).max() <= 2  # one span in a channel
    assert not torch.equal(spans[:, 0], spans[:, 1])
    whole = draw_hidden(series, rng(), span=0.0)
    assert whole.all(dim=2).float().mean().item() == pytest.approx(0.15, abs=0.02)
    assert torch.equal(whole.all(dim=2), whole.any(dim=2))
    shares = [draw_hidden(series, rng(), span=share).float().mean() for share in (0.1, 0.3, 0.5)]
    assert shares == sorted(shares)
