"""Calling any network on a batch, whatever its inputs are: a tensor, a tuple or a mapping."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from evenhand.errors import EvenhandError

Forward = Callable[[nn.Module, Any], Any]
"""Calls a network on inputs and returns its logits."""


def call(module: nn.Module, inputs: Any) -> Any:
    """Call a network: a mapping gives keyword arguments, a tuple or list positional ones."""
    if isinstance(inputs, Mapping):
        return module(**inputs)
    return module(*inputs) if isinstance(inputs, tuple | list) else module(inputs)


def logits_of(module: nn.Module, inputs: Any, forward: Forward = call) -> Tensor:
    """Return the logits of a batch; of an output with the attribute ``logits``, these.

    Raises
    ------
    EvenhandError
        The output is no tensor and has no logits.
    """
    output = forward(module, inputs)
    logits = getattr(output, "logits", output)
    if not isinstance(logits, Tensor):
        raise EvenhandError(
            f"{type(module).__name__} gives a {type(logits).__name__}, not logits. Say how to get "
            "them with forward=, as in forward=lambda module, inputs: module(inputs)[0]."
        )
    return logits


def take(inputs: Any, rows: Any) -> Any:
    """Return some rows of every tensor in a batch's inputs."""
    if isinstance(inputs, Tensor):
        return inputs[rows]
    if isinstance(inputs, Mapping):
        return {name: take(value, rows) for name, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return tuple(take(value, rows) for value in inputs)
    return inputs


def count_rows(inputs: Any) -> int | None:
    """Return the number of samples in a batch's inputs; None where there is no tensor."""
    if isinstance(inputs, Tensor):
        return len(inputs) if inputs.ndim else None
    values = inputs.values() if isinstance(inputs, Mapping) else inputs
    counts = map(count_rows, values) if isinstance(inputs, Mapping | tuple | list) else ()
    return next((count for count in counts if count is not None), None)


def placed(inputs: Any, device: torch.device) -> Any:
    """Return a batch's inputs on a device; arrays become tensors."""
    if isinstance(inputs, Mapping):
        return {name: placed(value, device) for name, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return tuple(placed(value, device) for value in inputs)
    if isinstance(inputs, Tensor) or hasattr(inputs, "__array__"):
        return torch.as_tensor(inputs).to(device)
    return inputs


@contextmanager
def as_it_was(module: nn.Module) -> Iterator[None]:
    """Leave a network as it was, whatever the block does and however it ends.

    Its modes, its buffers and what asks for gradients are put back; hooks and parameters are those
    of whoever changes them.
    """
    modes = [(part, part.training) for part in module.modules()]
    asks = [(p, p.requires_grad) for p in module.parameters()]
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
        for parameter, before in asks:
            parameter.requires_grad_(before)
        with torch.no_grad():
            for buffer, value in buffers:
                if not torch.equal(buffer, value):
                    buffer.copy_(value)
