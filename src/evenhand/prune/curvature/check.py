"""Whether the squared gradients that are summed inside layers are those that autograd gives."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn
from torch.autograd import grad

from evenhand.errors import EvenhandError, some
from evenhand.prune.curvature.loss import PLAIN, check_logits
from evenhand.prune.curvature.taps import summed_squares
from evenhand.prune.curvature.types import GroupBatch

TOLERANCE = 0.01  # of a parameter's sum of squares; float32 leaves less than a tenth of that
NOISE = 1e-8  # of the largest mean square; what is 0 but for rounding lies below
PAIR = {"first": slice(0, 1), "second": slice(1, 2)}

Squares = Mapping[str, Mapping[str, Tensor]]
"""Sample → parameter → the square of the gradient of one direction of the sample's logits."""


def check_squares(model: nn.Module, inputs: Tensor, names: Collection[str]) -> None:
    """Compare squared per-sample gradients with autograd's, on two samples.

    A layer's input and the gradient of its output tell a sample's gradient only where the layer
    alone uses the weight, and where no sample's answer depends on another's.

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
        Some parameter's gradients differ, the model gives two answers for the same samples, or it
        changes a buffer; the message names the parameters or the buffers.
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
            f"per-sample gradients cannot be told from the inputs and outputs of layers for "
            f"{some(wrong)}: on two samples they differ from autograd's. The model may use such a "
            "weight outside its layer too, lay it over another axis than that of the samples, or "
            f"let one sample's answer depend on another. {_advice()}"
        )


def _advice() -> str:
    return (
        "Leave it out of what may be pruned, or give --estimator hutchinson, which handles any "
        "layer."
    )


@torch.no_grad()
def _steady_logits(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return the logits, which come out the same twice and change nothing in the model."""
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
            f"the model changes {some(changed)} when it answers in evaluation mode, so that its "
            "curvature would not be that of the model as it was trained. Keep such buffers as they "
            "are in evaluation mode."
        )
    if not torch.allclose(first, second, rtol=1e-3, atol=1e-5):
        raise EvenhandError(
            f"the model ({type(model).__name__}) gives two answers for the same samples in "
            "evaluation mode: it draws at random there (dropout that never rests?), so that no "
            "gradient is that of its predictions. Let it draw in training mode alone."
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
            f"per-sample gradients are not known for {some(blamed or names)}: the model fails with "
            f"one copy for each sample ({str(error).splitlines()[0]}). {_advice()}"
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
