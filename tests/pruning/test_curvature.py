"""Each estimator against what it is by definition, on a network for each kind of layer."""

from __future__ import annotations

import math

import pytest
import torch
from tests.pruning.networks import (
    NETWORKS,
    PARTLY,
    SAMPLES,
    Aside,
    Tied,
    TwiceConvolved,
    by_name,
    exact_fisher,
    exact_ggn,
    hessian,
    make,
)
from torch import nn

from evenhand.errors import EvenhandError
from evenhand.pruning.curvature import ESTIMATORS, GroupBatch, find_estimator
from evenhand.pruning.curvature.loss import softmax_factors

HALF = SAMPLES // 2
UNKNOWN = ("_table", "q_bias", "v_bias", "temperature", "gamma1", "gamma2", "gamma3")
GROUPS = {"a": slice(0, HALF), "b": slice(HALF, SAMPLES)}


def curvature(estimator, network, inputs, labels, *, draws=1, batches=1, names=None):
    """Return h of both groups, from one batch or the same batch several times."""
    names = dict(network.named_parameters()) if names is None else names
    batch = GroupBatch(inputs, labels, GROUPS)
    run = find_estimator(estimator)(draws, torch.Generator().manual_seed(0))
    return run(network, [batch] * batches, names)


def assert_equal(actual, expected):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].shape == value.shape
        torch.testing.assert_close(
            actual[name].contiguous(), value, rtol=1e-9, atol=1e-12, msg=name
        )


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("batches", [1, 2])
def test_ggn_is_the_diagonal_of_jsj(name, batches):
    network, inputs, labels = make(name)
    result = curvature("ggn", network, inputs, labels, batches=batches)
    for group, rows in GROUPS.items():
        assert_equal(result[group], exact_ggn(network, inputs[rows]))


@pytest.mark.parametrize("name", PARTLY)
def test_layers_that_see_windows_or_are_not_called(name):
    network, inputs, labels = make(name)
    names = [
        item for item, _ in network.named_parameters()
        if not item.endswith(UNKNOWN)
    ]  # fmt: skip
    result = curvature("ggn", network, inputs, labels, names=names)
    for group, rows in GROUPS.items():
        exact = exact_ggn(network, inputs[rows])
        assert_equal(result[group], {item: exact[item] for item in names})


@pytest.mark.parametrize("name", NETWORKS)
def test_fisher_is_the_mean_squared_gradient(name):
    network, inputs, labels = make(name)
    result = curvature("fisher", network, inputs, labels)
    for group, rows in GROUPS.items():
        assert_equal(result[group], exact_fisher(network, inputs[rows], labels[rows]))


def test_ggn_is_the_hessian_where_the_network_is_piecewise_linear():
    network, inputs, labels = make("residual")
    result = curvature("ggn", network, inputs, labels)
    for group, rows in GROUPS.items():
        exact = hessian(network, inputs[rows], labels[rows]).diagonal()
        assert_equal(result[group], by_name(network, exact))


def test_the_factor_of_the_softmax_is_exact_even_where_probabilities_are_tiny():
    logits = torch.tensor([[0.3, -1.0, 2.0, 0.1], [60.0, 0.0, -60.0, 1.0]], dtype=torch.double)
    p = logits.softmax(1)
    columns = torch.stack(softmax_factors(logits), dim=2)  # (B, C, C - 1)
    expected = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    torch.testing.assert_close(columns @ columns.mT, expected, rtol=1e-12, atol=1e-15)


def error(samples, draws, seed):
    """Return how far an estimate from copies of one sample is from the exact value."""
    network, inputs, labels = make("linear")
    exact = exact_ggn(network, inputs[:1])
    batch = GroupBatch(
        inputs[:1].expand(samples, -1), labels[:1].expand(samples), {"a": slice(0, samples)}
    )
    run = find_estimator("ggn-mc")(draws, torch.Generator().manual_seed(seed))
    result = run(network, [batch], exact)["a"]
    return sum(float((result[name] - value).square().sum()) for name, value in exact.items())


def test_monte_carlo_comes_closer_as_the_root_of_the_draws():
    squares = {
        (samples, draws): sum(error(samples, draws, seed) for seed in range(30))
        for samples, draws in [(16, 1), (1600, 1), (4, 4)]
    }
    assert math.sqrt(squares[16, 1] / squares[1600, 1]) == pytest.approx(10, rel=0.5)
    assert math.sqrt(squares[16, 1] / squares[4, 4]) == pytest.approx(1, rel=0.5)


@pytest.mark.parametrize("name", ["linear", "residual"])
def test_hutchinson_is_the_hessians_diagonal_within_its_own_error(name):
    network, inputs, labels = make(name)
    draws = 300
    result = curvature("hutchinson", network, inputs, labels, draws=draws)
    for group, rows in GROUPS.items():
        whole = hessian(network, inputs[rows], labels[rows])
        beside = (whole.square().sum(1) - whole.diagonal().square()).clamp(min=0).sqrt()
        exact, spread = by_name(network, whole.diagonal()), by_name(network, beside)
        for own, value in result[group].items():
            assert ((value - exact[own]).abs() <= 5 * spread[own] / draws**0.5 + 1e-9).all()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_model_is_left_as_it_was(estimator):
    network, inputs, labels = make("residual")
    network.conv1.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    curvature(estimator, network, inputs, labels, names=["conv1.weight", "conv2.bias"])
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    request = {name: p.requires_grad for name, p in network.named_parameters()}
    assert request == {name: name != "conv1.weight" for name in request}
    assert all(p.grad is None for p in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_only_what_is_asked_for(estimator):
    network, inputs, labels = make("residual")
    result = curvature(estimator, network, inputs, labels, names=["conv2.weight"])
    assert {group: list(values) for group, values in result.items()} == {
        group: ["conv2.weight"] for group in GROUPS
    }


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("names", [None, ["aside.weight"]], ids=["all", "aside"])
def test_a_layer_that_does_not_reach_the_loss_has_no_curvature(estimator, names):
    inputs, labels = torch.randn(SAMPLES, 4), torch.zeros(SAMPLES, dtype=torch.long)
    result = curvature(estimator, Aside().requires_grad_(False), inputs, labels, names=names)
    assert list(result) == list(GROUPS)
    for values in result.values():
        assert not values["aside.weight"].any()
        assert names or (values["aside.bias"].shape == (4,) and values["head.weight"].any())


def test_shared_weights_that_are_not_asked_for_do_no_harm():
    inputs, labels = torch.randn(SAMPLES, 4), torch.zeros(SAMPLES, dtype=torch.long)
    result = curvature("ggn", Tied(), inputs, labels, names=["head.weight"])
    assert result["a"]["head.weight"].any()


class Scaled(nn.Linear):
    """Computes something else than its parent."""

    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    ("network", "shape", "message"),
    [
        (TwiceConvolved(), (4,), r"layer \(2 times\)"),
        (
            nn.Sequential(
                nn.Unflatten(1, (2, 1, 2)),
                nn.Flatten(0, 1),
                nn.Conv1d(1, 3, 2),
                nn.Unflatten(0, (-1, 2)),
                nn.Flatten(),
            ),
            (4,),
            "layer 2 gets 12 rows for 6 samples",
        ),
        (Tied(), (4,), "weights that layers share: into.weight = out.weight"),
        (
            nn.Sequential(
                nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 3)
            ),
            (4,),
            r"without running statistics, .*: 1 \(BatchNorm1d\)",
        ),
        (nn.Sequential(Scaled(4, 3)), (4,), r"0.weight \(in a Scaled\), 0.bias \(in a Scaled\)"),
        (
            nn.Sequential(nn.Unflatten(1, (1, 4)), nn.ConvTranspose1d(1, 1, 1), nn.Flatten()),
            (4,),
            r"1.weight \(in a ConvTranspose1d\)",
        ),
    ],
)
def test_layers_that_cannot_be_handled_are_named(network, shape, message):
    inputs, labels = torch.randn(SAMPLES, *shape), torch.zeros(SAMPLES, dtype=torch.long)
    with pytest.raises(EvenhandError, match=message) as refused:
        curvature("ggn-mc", network, inputs, labels)
    assert "--estimator hutchinson" in str(refused.value)
    assert curvature("hutchinson", network, inputs, labels).keys() == GROUPS.keys()


def test_an_estimator_that_is_not_there():
    with pytest.raises(EvenhandError, match="Did you mean 'fisher'"):
        find_estimator("fischer")
