"""Call any network on a batch: a tensor, a tuple or a mapping of inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from evenhand.errors import EvenhandError
from evenhand.tables.arrays import as_array

Forward = Callable[[nn.Module, Any], Any]
"""Calls a network on inputs and returns its logits."""


class CallError(EvenhandError):
    """The error for a network that fails on its inputs."""


def require_network(module: Any, what: str = "module") -> None:
    """Refuse a module that is not a network or has no parameters; the message calls it ``what``.

    Raises
    ------
    EvenhandError
        If ``module`` is not a network, or has no parameters.
    """
    if not isinstance(module, nn.Module):
        raise EvenhandError(f"{what}={module!r:.60} is no network; give a torch.nn.Module.")
    if next(module.parameters(), None) is None:
        raise EvenhandError(
            f"{what}= is a {type(module).__name__} without parameters, so nothing in it can be "
            "tuned, pruned or compared. Give the network that holds the layers."
        )


def require_gradients(module: Any) -> None:
    """Refuse a module that is not a network, or whose parameters can have no gradients.

    Raises
    ------
    EvenhandError
        As `require_network`, or if a parameter was created in ``torch.inference_mode()``.
    """
    require_network(module)
    if any(parameter.is_inference() for parameter in module.parameters()):
        raise EvenhandError(
            f"module= is a {type(module).__name__} that was created in torch.inference_mode(), so "
            "its parameters can have no gradients. Create it outside of this mode."
        )


def call(module: nn.Module, inputs: Any) -> Any:
    """Call a network; a mapping becomes keyword arguments, a tuple or list positional ones."""
    if isinstance(inputs, Mapping):
        return module(**inputs)
    return module(*inputs) if isinstance(inputs, tuple | list) else module(inputs)


def output_of(module: nn.Module, inputs: Any, forward: Forward = call) -> Any:
    """Return the output of a network for a batch.

    Raises
    ------
    CallError
        If the call fails, or the network has no weights; the message has the reason.
    """
    if next(module.parameters()).is_meta:
        raise CallError(
            f"{type(module).__name__} is on the device 'meta' and has no weights. Load them first: "
            "module.to_empty(device='cpu'), then load_state_dict."
        )
    try:
        return forward(module, inputs)
    except EvenhandError:
        raise
    except Exception as error:  # of the network, one of its hooks, or forward=
        reason = (str(error).strip().splitlines() or [""])[0]
        raise CallError(
            f"{type(module).__name__} fails on a batch of {_described(inputs)} with "
            f"{type(error).__name__}: {reason}\nGive inputs as it takes them (a tensor, a tuple of "
            "positional arguments, a mapping of keyword arguments), or a function that calls it as "
            "forward=."
        ) from error


def _described(inputs: Any) -> str:
    """Return the shapes of a batch's inputs, for a message."""
    if isinstance(inputs, Tensor):
        return f"{tuple(inputs.shape)} {str(inputs.dtype).removeprefix('torch.')}"
    if isinstance(inputs, Mapping):
        return ", ".join(f"{name} {_described(value)}" for name, value in inputs.items())
    if isinstance(inputs, tuple | list):
        return ", ".join(map(_described, inputs))
    return type(inputs).__name__


def logits_of(module: nn.Module, inputs: Any, forward: Forward = call) -> Tensor:
    """Return the logits of a batch: the output, or its attribute ``logits``.

    Raises
    ------
    EvenhandError
        If the call fails, or the output is neither a tensor nor an object with ``logits``.
    """
    output = output_of(module, inputs, forward)
    logits = getattr(output, "logits", output)
    if not isinstance(logits, Tensor):
        raise EvenhandError(
            f"{type(module).__name__} gives a {type(logits).__name__}, not logits. Give a function "
            "that returns them, as in forward=lambda module, inputs: module(inputs)[0]."
        )
    return logits


def take_rows(inputs: Any, rows: Any) -> Any:
    """Return some rows of every tensor in a batch's inputs."""
    if isinstance(inputs, Tensor):
        return inputs[rows]
    if isinstance(inputs, Mapping):
        return {name: take_rows(value, rows) for name, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return tuple(take_rows(value, rows) for value in inputs)
    return inputs


def count_rows(inputs: Any) -> int | None:
    """Return the number of samples in a batch's inputs; None if they have no tensor."""
    if isinstance(inputs, Tensor):
        return len(inputs) if inputs.ndim else None
    values = inputs.values() if isinstance(inputs, Mapping) else inputs
    counts = map(count_rows, values) if isinstance(inputs, Mapping | tuple | list) else ()
    return next((count for count in counts if count is not None), None)


def move_to_device(inputs: Any, device: torch.device) -> Any:
    """Return a batch's inputs as tensors on a device."""
    if isinstance(inputs, Mapping):
        return {name: move_to_device(value, device) for name, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return tuple(move_to_device(value, device) for value in inputs)
    if isinstance(inputs, Tensor) or hasattr(inputs, "__array__"):
        return as_tensor(inputs).to(device)
    return inputs


def as_tensor(inputs: Any) -> Tensor:
    """Return an array or a data frame of numbers as a tensor; a tensor is unchanged.

    Raises
    ------
    EvenhandError
        If there are no numbers, or a tensor has no values (on the device "meta").
    """
    if isinstance(inputs, Tensor) and not inputs.is_meta:
        return inputs
    array = as_array(inputs)
    if array.dtype.kind not in "biuf":
        raise EvenhandError(
            f"inputs: {type(inputs).__name__} {array.shape} of {array.dtype}; give a tensor or an "
            "array of numbers."
        )
    return torch.as_tensor(array)


@contextmanager
def with_gradients(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Let parameters require a gradient during the block."""
    frozen = [parameter for parameter in parameters if not parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


@contextmanager
def restore_state(module: nn.Module) -> Iterator[None]:
    """Restore a network after the block, also if the block raises an error.

    Training modes, buffers and ``requires_grad`` are restored; hooks and the values of parameters
    are not.
    """
    modes = [(part, part.training) for part in module.modules()]
    gradients = [(p, p.requires_grad) for p in module.parameters()]
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
        for parameter, requires_grad in gradients:
            parameter.requires_grad_(requires_grad)
        with torch.no_grad():
            for buffer, value in buffers:
                if not torch.equal(buffer, value):
                    buffer.copy_(value)
