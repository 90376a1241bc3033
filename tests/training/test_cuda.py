"""A CUDA device trains as the CPU does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.training.conftest import small_model

from evenhand.masks.strategies import find_strategy
from evenhand.networks.model import load_model, save_model
from evenhand.training.frozen_prefix import ActivationCache

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def scores(train, backbone="test_vit", strategy="full", **changes) -> np.ndarray:
    """Return the scores of the validation rows after each epoch."""
    result = []

    def on_epoch(epoch):
        result.append(epoch.scores)
        return 0.0

    schedule = find_strategy(strategy)(small_model(backbone), 0)[1]
    train(backbone, schedule, on_epoch, **{"device": "cuda", **changes})
    return np.stack(result)


@pytest.mark.parametrize("backbone", ["test_vit", "test_resnet"])
@pytest.mark.parametrize("strategy", ["full", "head", "bitfit"])
def test_scores_are_those_of_the_cpu(train, backbone, strategy):
    expected = scores(train, backbone, strategy, device="cpu")
    assert np.allclose(scores(train, backbone, strategy), expected, atol=5e-3)


@pytest.mark.parametrize(("strategy", "epochs"), [("last-2", 3), ("gradual:2", 4)])
def test_kept_activations_change_nothing(train, strategy, epochs):
    common = {"strategy": strategy, "epochs": epochs, "views": 2}
    cache = ActivationCache(10**8)
    uncached, first, again = (
        scores(train, cache=memory, **common) for memory in (None, cache, cache)
    )
    assert all(tensor.is_cuda for tensor in cache._recent.values())
    assert np.allclose(first, uncached, atol=1e-4)
    assert np.allclose(again, uncached, atol=1e-4)


def test_compiled_training_is_training(train):
    assert np.allclose(scores(train, compile=True), scores(train), atol=1e-3)


def test_the_same_seed_gives_nearly_the_same_in_half_precision(train):
    first, other = (scores(train, precision="bf16") for _ in range(2))
    assert np.allclose(first, other, atol=1e-2)


def test_what_was_trained_with_channels_last_is_saved_and_read(train, tmp_path):
    model = train("test_resnet", device="cuda")
    save_model(tmp_path, model)
    again = load_model(tmp_path)
    pairs = zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(item, other) for item, other in pairs)
