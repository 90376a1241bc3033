"""Checks that the squared gradients that taps sum inside layers equal those of autograd."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import grad

from evenhand.errors import EvenhandError, first_few
from evenhand.networks.calling import CallError, Forward, call, logits_of, with_gradients
from evenhand.pruning.curvature.loss import PLAIN, Loss, OwnLoss
from evenhand.pruning.curvature.taps import summed_squares
from evenhand.pruning.curvature.types import ADVICE, GroupBatch

TOLERANCE = 0.01  # of a parameter's sum of squares; rounding in float32 is below a tenth of it
NOISE = 1e-8  # of the largest mean square; smaller differences are rounding
PAIR = {"first": slice(0, 1), "second": slice(1, 2)}  # each sample is a group of its own


def check_squares(
    model: nn.Module,
    inputs: Any,
    names: Collection[str],
    *,
    labels: Tensor | None = None,
    loss: Loss = PLAIN,
    forward: Forward = call,
) -> None:
    """Compare squared per-sample gradients with autograd's, on two samples.

    The estimators compute a sample's gradient from a layer's input and the gradient of its output.
    The result is wrong if something else uses the same weight, or if a sample's output depends on
    other samples.

    Parameters
    ----------
    model
        Any network; it is put into evaluation mode and not changed otherwise.
    inputs
        Two samples ``(2, …)`` as the model takes them.
    names
        The parameters that may be pruned.
    labels
        Labels of the two samples, as the loss takes them; class 0 by default.
    loss
        The loss of the logits.
    forward
        Function of the model and inputs; it returns logits.

    Raises
    ------
    EvenhandError
        If gradients of a parameter differ, if the model gives different outputs for the same
        samples, or if it changes a buffer; the message names the parameters or buffers.
    """
    logits = check_steady(model, inputs, forward)
    if labels is None:
        labels = torch.zeros(2, dtype=torch.long, device=logits.device)
    loss.check(model, logits, labels)
    direction = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)).to(logits)
    batch = GroupBatch(inputs, labels, PAIR)
    summed = _summed(model, batch, _Direction(direction, forward), names)
    exact = _exact(model, inputs, _Direction(direction, forward), names)
    noise = {k: NOISE * max(float(value.mean()) for value in exact[k].values()) for k in PAIR}
    wrong = [
        name
        for name in names
        if any(_differs(summed[k][name], exact[k][name], noise[k]) for k in PAIR)
    ]
    if wrong:
        raise EvenhandError(
            f"the estimator computes wrong per-sample gradients for {first_few(wrong)}: on two "
            "samples they differ from autograd's. The model may use such a weight outside its "
            "layer too, apply it along another axis than that of the samples, or let one sample's "
            f"output depend on another sample.{ADVICE}"
        )


@dataclass(frozen=True, eq=False)
class _Direction:
    """A vector for each sample's logits; gradients of its product with the logits are compared."""

    values: Tensor
    forward: Forward

    def squares(
        self, model: nn.Module, batch: GroupBatch, names: Collection[str]
    ) -> dict[str, dict[str, Tensor]]:
        """Return the squares as the estimators sum them, by taps."""
        curvature = summed_squares(lambda _logits, _labels: [self.values], OwnLoss(_zero_losses))
        return curvature(model, [batch], names, self.forward)


def _zero_losses(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.zeros(len(logits))


@torch.no_grad()
def check_steady(model: nn.Module, inputs: Any, forward: Forward = call) -> Tensor:
    """Return logits in evaluation mode, after a check that two passes agree and change no buffer.

    Raises
    ------
    EvenhandError
        If the model fails on the inputs, gives different outputs for the same samples, gives an
        output that is not finite, or changes a buffer.
    """
    model.eval()
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    first = logits_of(model, inputs, forward)
    second = logits_of(model, inputs, forward)
    changed = [
        name for name, buffer in model.named_buffers() if not torch.equal(buffer, buffers[name])
    ]
    for name in changed:
        model.get_buffer(name).copy_(buffers[name])
    if changed:
        raise EvenhandError(
            f"the model changes its buffers {first_few(changed)} in evaluation mode, so its "
            "curvature would not be that of the trained model. Change buffers only in training "
            "mode."
        )
    if not first.isfinite().all():
        raise EvenhandError(
            f"the outputs of the model ({type(model).__name__}) are not all finite. Are inputs or "
            "weights NaN?"
        )
    if not torch.allclose(first, second, rtol=1e-3, atol=1e-5):
        raise EvenhandError(
            f"the model ({type(model).__name__}) gives different outputs for the same samples in "
            "evaluation mode, so it has no single gradient; is dropout always active? Use "
            "randomness only in training mode."
        )
    return first


def _summed(
    model: nn.Module, batch: GroupBatch, direction: _Direction, names: Collection[str]
) -> dict[str, dict[str, Tensor]]:
    try:
        return direction.squares(model, batch, names)
    except (CallError, RuntimeError, IndexError, TypeError, ValueError) as error:
        blamed = [name for name in names if _fails(model, batch, direction, name)]
        raise EvenhandError(
            f"per-sample gradients cannot be computed for {first_few(blamed or names)}: the model "
            f"fails with one copy for each sample ({_reason(error)}).{ADVICE}"
        ) from error


def _reason(error: Exception) -> str:
    cause = error.__cause__ if isinstance(error, CallError) else error
    return str(cause).splitlines()[0]


def _fails(model: nn.Module, batch: GroupBatch, direction: _Direction, name: str) -> bool:
    """Whether the sums fail for one parameter alone."""
    try:
        direction.squares(model, batch, [name])
    except (CallError, RuntimeError, IndexError, TypeError, ValueError):
        return True
    return False


def _exact(
    model: nn.Module, inputs: Any, direction: _Direction, names: Collection[str]
) -> dict[str, dict[str, Tensor]]:
    """Return the squares by autograd, from one backward pass for each sample."""
    chosen = {name: p for name, p in model.named_parameters() if name in set(names)}
    with with_gradients(chosen.values()):
        logits = logits_of(model, inputs, direction.forward)
        squares = {}
        for sample, rows in PAIR.items():
            value = (logits[rows] * direction.values[rows]).sum()
            grads = grad(value, list(chosen.values()), retain_graph=True, materialize_grads=True)
            squares[sample] = {n: g.square() for n, g in zip(chosen, grads, strict=True)}
        return squares


def _differs(summed: Tensor, exact: Tensor, noise: float) -> bool:
    """Whether sums differ from the exact ones by more than tolerance and rounding."""
    error = float((summed - exact).abs().sum())
    return not error <= TOLERANCE * float(exact.sum()) + noise * exact.numel()
