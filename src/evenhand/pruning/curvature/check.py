"""Checks that squared gradients summed inside layers equal those of autograd."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn
from torch.autograd import grad

from evenhand.errors import EvenhandError, some
from evenhand.pruning.curvature.loss import PLAIN, check_logits
from evenhand.pruning.curvature.taps import summed_squares
from evenhand.pruning.curvature.types import GroupBatch

TOLERANCE = 0.01  # of a parameter's sum of squares; float32 leaves less than a tenth of that
NOISE = 1e-8  # of the largest mean square; differences below this are rounding
PAIR = {"first": slice(0, 1), "second": slice(1, 2)}

Squares = Mapping[str, Mapping[str, Tensor]]
"""Sample → parameter → the square of the gradient of one direction of the sample's logits."""


def check_squares(model: nn.Module, inputs: Tensor, names: Collection[str]) -> None:
    """Compare squared per-sample gradients with autograd's, on two samples.

    A sample's gradient follows from a layer's input and the gradient of its output only where no
    other layer uses the weight, and where no sample's output depends on another sample.

    Parameters
    ----------
    model
        Any network; it is put into evaluation mode and is otherwise left as it was.
    inputs
        Two samples ``(2, …)`` as the model takes them.
    names
        The parameters that may be pruned.

    Raises
    ------
    EvenhandError
        Gradients of a parameter differ, the model gives two outputs for the same samples, or it
        changes a buffer. The message names the parameters or the buffers.
    """
    model.eval()
    logits = _steady_logits(model, inputs)
    check_logits(model, logits)
    direction = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)).to(logits)
    summed = _summed(model, inputs, direction, names)
    exact = _exact(model, inputs, direction, names)
    wrong = [name for name in names if any(_differs(summed[k], exact[k], name) for k in PAIR)]
    if wrong:
        raise EvenhandError(
            f"the estimator computes wrong per-sample gradients for {some(wrong)}: on two samples "
            "they differ from autograd's. The model may use such a weight outside its layer too, "
            "apply it along another axis than that of the samples, or let one sample's output "
            f"depend on another sample. {_advice()}"
        )


def _advice() -> str:
    return (
        "Leave it out of what may be pruned, or give --estimator hutchinson, which handles any "
        "layer."
    )


@torch.no_grad()
def _steady_logits(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return the logits, after a check that two passes agree and change no buffer."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    first: Tensor = model(inputs)
    second: Tensor = model(inputs)
    changed = [
        name for name, buffer in model.named_buffers() if not torch.equal(buffer, buffers[name])
    ]
    for name in changed:
        model.get_buffer(name).copy_(buffers[name])
    if changed:
        raise EvenhandError(
            f"the model changes its buffers {some(changed)} in evaluation mode, so its curvature "
            "would not be that of the trained model. Change buffers only in training mode."
        )
    if not torch.allclose(first, second, rtol=1e-3, atol=1e-5):
        raise EvenhandError(
            f"the model ({type(model).__name__}) gives different outputs for the same samples in "
            "evaluation mode, so it has no single gradient; is dropout always active? Use "
            "randomness only in training mode."
        )
    return first


def _summed(
    model: nn.Module, inputs: Tensor, direction: Tensor, names: Collection[str]
) -> dict[str, dict[str, Tensor]]:
    labels = torch.zeros(2, dtype=torch.long, device=inputs.device)
    batch = GroupBatch(inputs, labels, PAIR)
    sums = summed_squares(lambda _logits, _targets: [direction], PLAIN)
    try:
        return sums(model, [batch], names)
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        blamed = [name for name in names if _fails(model, batch, direction, name)]
        raise EvenhandError(
            f"per-sample gradients cannot be computed for {some(blamed or names)}: the model "
            f"fails with one copy for each sample ({str(error).splitlines()[0]}). {_advice()}"
        ) from error


def _fails(model: nn.Module, batch: GroupBatch, direction: Tensor, name: str) -> bool:
    """Whether the sums fail for one parameter alone."""
    try:
        summed_squares(lambda _logits, _targets: [direction], PLAIN)(model, [batch], [name])
    except (RuntimeError, IndexError, TypeError, ValueError):
        return True
    return False


def _exact(
    model: nn.Module, inputs: Tensor, direction: Tensor, names: Collection[str]
) -> dict[str, dict[str, Tensor]]:
    """Return the squares by autograd, a sample at a time."""
    chosen = {name: p for name, p in model.named_parameters() if name in set(names)}
    asked = [parameter.requires_grad for parameter in chosen.values()]
    for parameter in chosen.values():
        parameter.requires_grad_(True)
    try:
        logits = model(inputs)
        squares = {}
        for sample, rows in PAIR.items():
            value = (logits[rows] * direction[rows]).sum()
            own = grad(value, list(chosen.values()), retain_graph=True, materialize_grads=True)
            squares[sample] = {n: g.square() for n, g in zip(chosen, own, strict=True)}
        return squares
    finally:
        for parameter, before in zip(chosen.values(), asked, strict=True):
            parameter.requires_grad_(before)


def _differs(summed: Mapping[str, Tensor], exact: Mapping[str, Tensor], name: str) -> bool:
    noise = NOISE * max(float(value.mean()) for value in exact.values()) * exact[name].numel()
    off = float((summed[name] - exact[name]).abs().sum())
    return not off <= TOLERANCE * float(exact[name].sum()) + noise
