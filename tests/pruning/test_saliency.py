"""Saliency and masks: what is least salient goes, and nothing else, whatever the layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from tests.pruning.networks import Residual
from torch import nn

from evenhand.errors import EvenhandError
from evenhand.pruning.channels import remove_weights
from evenhand.pruning.curvature import GroupBatch, find_estimator
from evenhand.pruning.loop import (
    PruningState,
    count_kept,
    freeze_zeros,
    keep_all,
    load_mask,
    parameter_kind,
    prunable,
    prune_smallest,
    save_mask,
)
from evenhand.pruning.saliency import error_change, saliency

EVERY_KIND = ("conv", "linear", "head", "bias", "norm", "other")


def state_of(network: nn.Module, names=None) -> PruningState:
    mask = keep_all(network, names or [name for name, _ in network.named_parameters()])
    return PruningState(network, mask, count_kept(mask), count_kept(mask))


@pytest.mark.parametrize("name", [name for name, _ in Residual().named_parameters()])
def test_the_parameter_of_least_saliency_is_the_one_that_becomes_zero(name):
    network = Residual()
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 1.0, 2.0)
    h = {key: torch.ones_like(p) for key, p in network.named_parameters()}
    place = h[name].numel() // 2
    h[name].view(-1)[place] = 1e-3
    theta = {key: p.detach() for key, p in network.named_parameters()}
    scores = saliency(theta, {"a": h, "b": h}, "a", {"b": 0.5})
    after = remove_weights(state_of(network), scores, 1)
    for key, parameter in after.model.named_parameters():
        zero = (parameter == 0).view(-1).nonzero().view(-1).tolist()
        assert zero == ([place] if key == name else [])
    assert after.left == after.total - 1
    assert not any((p == 0).any() for p in network.parameters())  # the state before stands


@given(st.data())
def test_the_smallest_go_and_what_is_gone_stays_gone(data):
    values = data.draw(st.lists(st.floats(-5, 5), min_size=2, max_size=30))
    first = data.draw(st.integers(0, len(values)))
    second = data.draw(st.integers(0, len(values) - first))
    half = len(values) // 2
    parts = {"a": torch.tensor(values[:half]), "b": torch.tensor(values[half:])}
    every = {name: torch.ones_like(part, dtype=torch.bool) for name, part in parts.items()}
    once = prune_smallest(parts, every, first)
    reverse = {name: -part for name, part in parts.items()}
    twice = prune_smallest(reverse, once, second)
    assert count_kept(once) == len(values) - first
    assert count_kept(twice) == len(values) - first - second
    flat, is_kept = (
        torch.cat([values[name] for name in parts]).numpy() for values in (parts, once)
    )
    assert not is_kept.any() or is_kept.all() or flat[~is_kept].max() <= flat[is_kept].min()
    assert not any((twice[name] & ~once[name]).any() for name in parts)


def test_beta_0_is_optimal_brain_damage_on_the_unprivileged():
    theta = {"w": torch.randn(50)}
    h = {group: {"w": torch.rand(50)} for group in ("u", "p", "q")}
    result = saliency(theta, h, "u", {"p": 0.0, "q": 0.0})["w"]
    torch.testing.assert_close(result, theta["w"] ** 2 * h["u"]["w"] / 2)
    torch.testing.assert_close(result, error_change(theta, h["u"])["w"])
    torch.testing.assert_close(
        saliency(theta, h, "u", {"p": 0.5, "q": 0.25})["w"],
        theta["w"] ** 2 * (h["u"]["w"] - 0.5 * h["p"]["w"] - 0.25 * h["q"]["w"]) / 2,
    )


def two_sided(rng, n):
    """Return features, labels: channel 0 tells the majority's label, channel 1 everybody's."""
    labels = rng.integers(0, 2, n)
    signal = (2 * labels - 1)[:, None] * np.array([2.0, 0.7])
    return torch.tensor(signal + rng.normal(size=(n, 2)), dtype=torch.float32), labels


def test_pruning_closes_the_gap_where_half_the_channels_serve_the_majority_alone():
    rng = np.random.default_rng(0)
    (majority, y_majority), (minority, y_minority) = two_sided(rng, 2000), two_sided(rng, 2000)
    minority[:, 0] = 0
    network = nn.Sequential(nn.Linear(2, 8, bias=False), nn.ReLU(), nn.Linear(8, 2, bias=False))
    with torch.no_grad():
        up, down = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        network[0].weight.copy_(torch.stack([up, up, -up, -up, down, down, -down, -down]))
        vote = torch.tensor([1.0, 1, -1, -1, 1, 1, -1, -1]) / 2
        network[2].weight.copy_(torch.stack([-vote, vote]))

    def aucs(model):
        with torch.no_grad():
            scores = [model(x).softmax(1)[:, 1].numpy() for x in (majority, minority)]
        return roc_auc_score(y_majority, scores[0]), roc_auc_score(y_minority, scores[1])

    labels = torch.tensor(np.concatenate([y_majority, y_minority]))
    batch = GroupBatch(
        torch.cat([majority, minority]),
        labels,
        {"majority": slice(0, 2000), "minority": slice(2000, 4000)},
    )
    names = ["0.weight", "2.weight"]
    h = find_estimator("ggn")(1, torch.Generator())(network, [batch], names)
    theta = {name: network.get_parameter(name).detach() for name in names}
    scores = saliency(theta, h, "minority", {"majority": 0.33})
    unused = int((network[0].weight == 0).sum())  # zeros cost nothing and go with the others
    after = remove_weights(state_of(network, names), scores, 4 + 8 + unused - 4)

    before_majority, before_minority = aucs(network)
    after_majority, after_minority = aucs(after.model)
    assert before_majority - before_minority > 0.1
    assert abs(after_majority - after_minority) < 0.03
    assert after_minority >= before_minority


def test_masks_on_disk(tmp_path):
    saved = prune_smallest(
        {"a": torch.randn(4, 3), "b": torch.randn(5)},
        {"a": torch.ones(4, 3, dtype=torch.bool), "b": torch.ones(5, dtype=torch.bool)},
        6,
    )
    save_mask(tmp_path / "mask.safetensors", saved)
    mask = load_mask(tmp_path / "mask.safetensors")
    assert mask.keys() == saved.keys()
    assert all(torch.equal(mask[name], saved[name]) for name in saved)


def test_every_parameter_is_of_one_kind():
    network = Residual()
    kinds = {name: parameter_kind(network, name) for name, _ in network.named_parameters()}
    assert kinds == {
        "conv1.weight": "conv",
        "bn1.weight": "norm",
        "bn1.bias": "norm",
        "conv2.weight": "conv",
        "conv2.bias": "bias",
        "head.weight": "head",
        "head.bias": "head",
    }
    assert prunable(network, ("conv",)) == ("conv1.weight", "conv2.weight")
    assert prunable(network, EVERY_KIND) == tuple(kinds)
    with pytest.raises(EvenhandError, match="kinds; it has: bias, conv, head"):
        prunable(network, ("linear",))
    with pytest.raises(EvenhandError, match="Did you mean 'conv'"):
        prunable(network, ("convs",))


def test_a_mask_freezes_zeros_and_nothing_else():
    network = nn.Linear(2, 1)
    network.weight.requires_grad_(False)
    mask = {"weight": torch.tensor([[True, False]]), "bias": torch.tensor([True])}
    with freeze_zeros(network, mask):
        assert [p.requires_grad for p in network.parameters()] == [False, True]
        network.weight.requires_grad_(True)
        network(torch.ones(1, 2)).sum().backward()
    assert network.weight.grad.tolist() == [[1.0, 0.0]]
