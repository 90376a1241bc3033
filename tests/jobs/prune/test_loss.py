"""Curvature of the loss that trained the model, against torch's own criterion and autograd."""

from __future__ import annotations

import pytest
import torch
from tests.pruning.networks import CLASSES, SAMPLES, by_name, jacobians, make
from torch import nn
from torch.func import functional_call, jacrev

from evenhand.errors import EvenhandError
from evenhand.pruning.curvature import ESTIMATORS, GroupBatch, find_estimator
from evenhand.pruning.curvature.loss import (
    CrossEntropy,
    sample_losses,
    sample_weights,
    soft_targets,
)

GROUPS = {"a": slice(0, SAMPLES // 2), "b": slice(SAMPLES // 2, SAMPLES)}
WEIGHTS = torch.tensor([0.2, 1.0, 3.0], dtype=torch.double)
LOSSES = {
    "weights": nn.CrossEntropyLoss(weight=WEIGHTS),
    "smoothing": nn.CrossEntropyLoss(label_smoothing=0.3),
    "both": nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.3),
}


@pytest.fixture(params=LOSSES)
def loss(request):
    return LOSSES[request.param]


def curvature(estimator, loss, network, inputs, labels, *, draws=1, seed=0):
    run = find_estimator(estimator)(draws, torch.Generator().manual_seed(seed), CrossEntropy(loss))
    return run(network, [GroupBatch(inputs, labels, GROUPS)], dict(network.named_parameters()))


def hessian(loss, network, inputs, labels):
    """Return the Hessian ``(P, P)`` of torch's own criterion, by autograd alone."""
    network.eval()
    shapes = {name: p.shape for name, p in network.named_parameters()}
    start = nn.utils.parameters_to_vector(network.parameters()).detach()

    def value(vector):
        parts = vector.split([shape.numel() for shape in shapes.values()])
        own = {name: part.view(shapes[name]) for name, part in zip(shapes, parts, strict=True)}
        return loss(functional_call(network, own, (inputs,)), labels)

    return jacrev(jacrev(value))(start).detach()


def gauss_newton(loss, network, inputs, labels):
    """Return diag(Jᵀ S J) with S from autograd on the criterion itself."""
    logits, jacobian = jacobians(network, inputs)
    spread = jacrev(jacrev(lambda z: loss(z, labels)))(logits)  # (n, C, n, C)
    own = torch.stack([spread[k, :, k] for k in range(len(inputs))])
    return {
        name: torch.einsum("nc...,ncd,nd...->...", values, own, values)
        for name, values in jacobian.items()
    }


def assert_equal(actual, expected):
    for name, value in expected.items():
        torch.testing.assert_close(
            actual[name].contiguous(), value, rtol=1e-9, atol=1e-12, msg=name
        )


def test_parts_of_the_loss_are_those_of_torch(loss):
    _, _, labels = make("linear")
    logits = torch.randn(SAMPLES, CLASSES, dtype=torch.double)
    each = sample_losses(loss, logits, labels)
    by_targets = -(soft_targets(loss, labels, logits) * logits.log_softmax(1)).sum(1)
    torch.testing.assert_close(each, by_targets)
    mean = each.sum() / sample_weights(loss, labels, logits).sum()
    torch.testing.assert_close(mean, loss(logits, labels))


@pytest.mark.parametrize("name", ["linear", "positions", "residual", "vit"])
def test_ggn_is_that_of_the_loss(name, loss):
    network, inputs, labels = make(name)
    result = curvature("ggn", loss, network, inputs, labels)
    for group, rows in GROUPS.items():
        assert_equal(result[group], gauss_newton(loss, network, inputs[rows], labels[rows]))


def test_ggn_is_the_hessian_of_the_loss_where_the_network_is_piecewise_linear(loss):
    network, inputs, labels = make("residual")
    result = curvature("ggn", loss, network, inputs, labels)
    for group, rows in GROUPS.items():
        exact = hessian(loss, network, inputs[rows], labels[rows]).diagonal()
        assert_equal(result[group], by_name(network, exact))


def test_monte_carlo_is_unbiased_for_the_ggn_of_the_loss(loss):
    network, inputs, labels = make("linear")
    exact = curvature("ggn", loss, network, inputs, labels)
    drawn = [
        curvature("ggn-mc", loss, network, inputs, labels, draws=50, seed=seed)
        for seed in range(60)
    ]
    for group, values in exact.items():
        for name, value in values.items():
            runs = torch.stack([item[group][name] for item in drawn])
            error = runs.std(0) / len(runs) ** 0.5
            assert ((runs.mean(0) - value).abs() <= 4.5 * error + 1e-12).all()


def test_hutchinson_is_the_hessians_diagonal_of_the_loss(loss):
    network, inputs, labels = make("linear")
    draws = 300
    result = curvature("hutchinson", loss, network, inputs, labels, draws=draws)
    for group, rows in GROUPS.items():
        whole = hessian(loss, network, inputs[rows], labels[rows])
        beside = (whole.square().sum(1) - whole.diagonal().square()).clamp(min=0).sqrt()
        exact, spread = by_name(network, whole.diagonal()), by_name(network, beside)
        for own, value in result[group].items():
            assert ((value - exact[own]).abs() <= 5 * spread[own] / draws**0.5 + 1e-9).all()


def test_fisher_is_the_squared_gradient_with_each_samples_weight_once(loss):
    network, inputs, labels = make("linear")
    result = curvature("fisher", loss, network, inputs, labels)
    logits, jacobian = jacobians(network, inputs)
    slopes = jacrev(lambda z: sample_losses(loss, z, labels).sum())(logits)  # (n, C)
    counts = soft_targets(loss, labels, logits).sum(1)
    for group, rows in GROUPS.items():
        total = sample_weights(loss, labels, logits)[rows].sum()
        for name, values in jacobian.items():
            squares = torch.einsum("nc...,nc->n...", values, slopes).square()
            expected = torch.einsum("n...,n->...", squares[rows], 1 / counts[rows]) / total
            torch.testing.assert_close(result[group][name], expected, rtol=1e-9, atol=1e-12)


def test_fisher_is_the_ggn_at_the_minimum_of_a_weighted_loss():
    """There class c occurs as often as p_c / w_c, so that weighted labels are as the model says."""
    network = nn.Linear(4, CLASSES).double()
    x = torch.randn(1, 4, dtype=torch.double)
    p = network(x).softmax(1)[0].detach()
    times = (p / WEIGHTS / (p / WEIGHTS).sum() * 20000).round().long()
    labels = torch.repeat_interleave(torch.arange(CLASSES), times)
    batch = GroupBatch(x.expand(len(labels), -1), labels, {"a": slice(0, len(labels))})
    fisher, ggn = (
        find_estimator(name)(1, torch.Generator(), CrossEntropy(LOSSES["weights"]))(
            network, [batch], ["weight", "bias"]
        )["a"]
        for name in ("fisher", "ggn")
    )
    for name, value in ggn.items():
        torch.testing.assert_close(fisher[name], value, rtol=5e-3, atol=0)


def test_batches_of_other_weights_are_one_mean(loss):
    network, inputs, labels = make("linear")
    whole = curvature("ggn", loss, network, inputs, labels)
    order = torch.argsort(labels)
    sides = [GroupBatch(inputs[part], labels[part], {"all": slice(0, len(part))})
             for part in (order[:2], order[2:])]  # fmt: skip
    run = find_estimator("ggn")(1, torch.Generator(), CrossEntropy(loss))
    apart = run(network, sides, dict(network.named_parameters()))["all"]
    weights = sample_weights(loss, labels, inputs.new_zeros(SAMPLES, CLASSES))
    shares = {group: weights[rows].sum() / weights.sum() for group, rows in GROUPS.items()}
    for name, value in apart.items():
        together = sum(share * whole[group][name] for group, share in shares.items())
        torch.testing.assert_close(value, together)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    ("network", "shape", "named"),
    [
        (nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)), (4,), "the head 2 (Linear)"),
        (nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)), (4,), "the head 0 (Linear)"),
        (nn.Sequential(nn.Conv1d(2, 3, 1)), (2, 5), "the head 0 (Conv1d)"),
    ],
)
def test_heads_without_a_logit_for_each_class_are_refused_by_name(estimator, network, shape, named):
    inputs, labels = torch.randn(SAMPLES, *shape), torch.zeros(SAMPLES, dtype=torch.long)
    with pytest.raises(EvenhandError) as refused:
        curvature(estimator, nn.CrossEntropyLoss(), network, inputs, labels)
    assert named in str(refused.value)
    assert "needs (samples, classes)" in str(refused.value)
