"""Networks whose per-sample gradients layers cannot tell are refused before anything is pruned."""

from __future__ import annotations

import pytest
import torch
from tests.pruning.networks import NETWORKS, Aside, Residual, Tied, Twice, Windows, make
from torch import nn
from torch.nn import functional as F  # noqa: N812

from evenhand import build_model
from evenhand.errors import EvenhandError
from evenhand.pruning.curvature import check_squares
from evenhand.pruning.loop import prunable

D = 4
N = 2  # as many positions as the check has samples, so that a wrong axis raises no error


class Base(nn.Module):
    """A layer and a head over positions ``(B, N, D)``."""

    def __init__(self, positions: int = N) -> None:
        super().__init__()
        self.fc = nn.Linear(D, D)
        self.head = nn.Linear(D, 3)
        self.row = nn.Parameter(torch.randn(1, D))
        self.place = nn.Parameter(torch.randn(1, positions, D))

    def forward(self, x):
        return self.head((self.fc(x + self.place)).tanh().mean(1))


class WeightUsedAgain(Base):
    def forward(self, x):
        return self.head(F.linear(self.fc(x + self.place).tanh(), self.fc.weight).mean(1))


class BiasUsedAgain(Base):
    def forward(self, x):
        return self.head((self.fc(x) * self.fc.bias + self.place).mean(1))


class HeadTiedByHand(Base):
    def forward(self, x):
        return self.head(x.mean(1)) + F.linear(self.fc(x).mean(1), self.head.weight)


class RowOverPositions(Base):
    def forward(self, x):
        return self.head(self.fc(x + self.row).tanh().mean(1))


class RowAsVector(Base):
    def forward(self, x):
        return self.head(self.fc(x + self.row[0]).tanh().mean(1))


class FirstPlace(Base):
    def forward(self, x):
        return self.head(self.fc(x + self.place[0]).tanh().mean(1))


class PositionsFirst(Base):
    def forward(self, x):
        return self.head(self.fc(x.transpose(0, 1)).tanh().mean(0))


class OwnPositions(Base):
    def forward(self, x):  # the layer sees positions where it would see samples
        return self.head((x + self.fc(self.place[0])).tanh().mean(1))


class MixedBatch(Base):
    def forward(self, x):
        x = self.fc(x + self.place)
        return self.head((x - x.mean(0)).tanh().mean(1))


class InBatchNorm(Base):
    def forward(self, x):
        x = self.fc(x + self.place).mean(1)
        return self.head(F.batch_norm(x, None, None, training=True))


def hooked() -> nn.Module:
    network = Base()
    network.fc.register_forward_hook(lambda _layer, _given, output: 2 * output)
    return network


class ConvolvedWindows(nn.Module):
    """A convolution that sees the windows of a sample as rows."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Conv1d(1, 3, 4)

    def forward(self, x):
        return self.inside(x.reshape(-1, 1, 4)).reshape(len(x), -1, 3).sum(1)


def attending() -> nn.Module:
    network = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    network.self_attn = nn.MultiheadAttention(4, 2, batch_first=True, add_bias_kv=True)
    return network


def test_a_hook_that_changes_an_output_is_part_of_the_network():
    network = hooked()
    check_squares(network, torch.randn(2, N, D), dict(network.named_parameters()))


def test_windows_as_rows_of_a_linear_layer_are_those_of_their_samples():
    network = Windows()
    check_squares(network, torch.randn(2, 5, 4), dict(network.named_parameters()))


def normed() -> nn.Module:
    network = Base()
    nn.utils.parametrizations.weight_norm(network.head)
    return network


class OneRow(nn.Module):
    """A weight norm whose parts have an axis of 1, as tokens have."""

    def __init__(self) -> None:
        super().__init__()
        plain = nn.Linear(D, 1, bias=False)
        self.squash = nn.utils.parametrizations.weight_norm(plain)
        self.head = nn.Linear(1, 3)

    def forward(self, x):
        return self.head(self.squash(x.mean(1)).tanh())


@pytest.mark.parametrize(
    ("network", "named"),
    [
        (WeightUsedAgain(), "fc.weight"),
        (BiasUsedAgain(), "fc.bias"),
        (HeadTiedByHand(), "head.weight"),
        (RowOverPositions(), "row"),
        (RowOverPositions(positions=5), "row"),
        (RowAsVector(), "row"),
        (FirstPlace(), "place"),
        (PositionsFirst(), "fc.weight"),
        (OwnPositions(), "fc.weight"),
        (MixedBatch(), "fc.weight"),
        (InBatchNorm(), "fc.weight"),
        (normed(), "head.parametrizations.weight.original0"),
        (OneRow(), "squash.parametrizations.weight.original"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else value,
)
def test_what_layers_cannot_tell_is_refused_by_name(network, named):
    positions = network.place.shape[1] if isinstance(network, Base) else N
    names = [name for name, _ in network.named_parameters()]
    with pytest.raises(EvenhandError) as refused:
        check_squares(network, torch.randn(2, positions, D), names)
    assert named in str(refused.value)
    assert "--estimator hutchinson" in str(refused.value)


@pytest.mark.parametrize(
    ("network", "shape", "message"),
    [
        (Tied(), (4,), r"into.weight = network.out.weight"),
        (ConvolvedWindows(), (5, 4), "the layer network.inside gets 10 rows for 2 samples"),
        (attending(), (3, 4), "self_attn"),
    ],
)
def test_what_was_refused_by_its_structure_still_is(network, shape, message):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            return self.network(x).flatten(1)

    inner = Wrapped()
    with pytest.raises(EvenhandError, match=message):
        check_squares(inner, torch.randn(2, *shape), dict(inner.named_parameters()))


def test_a_layer_that_runs_twice_agrees_with_autograd():
    network = Twice()
    check_squares(network, torch.randn(2, 4), dict(network.named_parameters()))


class Dropping(Base):
    def forward(self, x):
        return super().forward(F.dropout(x, 0.5))  # draws in evaluation mode, too


class Counting(Base):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += len(x)
        return super().forward(x)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Dropping(), "Dropping.*different outputs for the same samples"),
        (Counting(), "changes its buffers seen"),
    ],
)
def test_a_model_that_does_not_stand_still(network, message):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    names = [name for name, _ in network.named_parameters()]
    with pytest.raises(EvenhandError, match=message):
        check_squares(network, torch.randn(2, N, D), names)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_networks_that_are_handled_pass(name, dtype):
    network, inputs, _ = make(name)
    network = network.to(dtype)
    pair = inputs[:2] if inputs.dtype == torch.long else inputs[:2].to(dtype)
    network.requires_grad_(False)
    check_squares(network, pair, [own for own, _ in network.named_parameters()])
    assert not any(p.requires_grad or p.grad is not None for p in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


def test_what_does_not_reach_the_logits_and_what_is_not_asked_for_do_no_harm():
    check_squares(Aside(), torch.randn(2, 4), ["aside.weight", "head.weight"])
    check_squares(WeightUsedAgain(), torch.randn(2, N, D), ["head.weight", "place"])
    check_squares(Base(), torch.randn(2, N, D), ["fc.weight", "place", "head.weight", "row"])
    check_squares(Residual(), torch.randn(2, 3, 6, 6), ["bn1.weight"])


@pytest.mark.parametrize(
    ("backbone", "size"),
    [("test_vit", 32), ("test_resnet", 32), ("edgenext_xx_small", 64), ("resnet18", 64)],
)
def test_backbones_pass_in_float32(backbone, size):
    model = build_model(backbone, "none", size, ("benign", "malignant"), seed=0)
    names = prunable(model, ("conv", "linear", "head", "bias", "norm"))
    check_squares(model, torch.rand(2, 3, size, size), names)
