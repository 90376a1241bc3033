"""Squared per-sample gradients of a whole network, summed inside its layers in a backward pass.

A tap on a layer is the identity on its output. In the backward pass it gets the gradient of this
output, and adds the squares of the gradients of the layer's parameters to the sums of each group.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from evenhand.errors import EvenhandError, first_few
from evenhand.networks.calling import Forward, call, logits_of
from evenhand.pruning.curvature.attention import ExplicitAttention, has_explicit_form
from evenhand.pruning.curvature.constant import ConstantModule, constant_modules
from evenhand.pruning.curvature.layers import (
    LAST_AXIS_LAYERS,
    RULES,
    AddSquares,
    add_linear,
    shift_rule,
)
from evenhand.pruning.curvature.loss import Loss
from evenhand.pruning.curvature.types import ADVICE, Curvature, GroupBatch

Directions = Callable[[Tensor, Tensor], Sequence[Tensor]]
"""Function of logits and labels; it returns gradients of the logits' shape, weighted by sample.

A backward pass from each of them gives a gradient for each sample and parameter; their squares are
summed."""


def summed_squares(directions: Directions, loss: Loss) -> Curvature:
    """Return the curvature function that averages squared per-sample gradients.

    Each group's sum over its samples is divided by the sum of their weights in the loss.
    """

    def curvature(
        model: nn.Module,
        batches: Iterable[GroupBatch],
        names: Collection[str],
        forward: Forward = call,
    ) -> dict[Any, dict[str, Tensor]]:
        model.eval()
        sums = _SquareSums(model, names, forward)
        counts: dict[Any, Tensor | float] = {}
        with _frozen(model), sums.taps():
            for batch in batches:
                logits = sums.logits(batch)
                loss.check(model, logits, batch.labels)
                weights = loss.weights(batch.labels, logits.detach())
                depends = logits.requires_grad  # false if the logits depend on no tapped layer
                vectors = directions(logits.detach(), batch.labels) if depends else ()
                for number, vector in enumerate(vectors, 1):
                    torch.autograd.backward(logits, vector, retain_graph=number < len(vectors))
                    sums.add_repeated()
                for group, rows in batch.rows.items():
                    counts[group] = counts.get(group, 0.0) + weights[rows].sum()
        return {
            group: {name: total.div_(counts[group]) for name, total in totals.items()}
            for group, totals in sums.by_group.items()
        }

    return curvature


@dataclass(frozen=True, eq=False)
class _TappedLayer:
    """A layer with its name in the network, and the rule for each of its parameters."""

    name: str
    layer: nn.Module
    rules: dict[str, AddSquares]  # parameter's name in the layer → rule


class _SquareSums:
    """The sums of squared gradients by group and parameter, in one pass over the batches."""

    def __init__(self, model: nn.Module, names: Collection[str], forward: Forward) -> None:
        self.model, self.forward = model, forward
        self.by_group: dict[Any, dict[str, Tensor]] = {}
        self.parameters = {name: p for name, p in model.named_parameters() if name in set(names)}
        _refuse_shared(model, self.parameters)
        _refuse_mixing(model)
        self.attentions = _attentions(model, self.parameters)
        self.constant = constant_modules(model, self.parameters)
        others = {
            name: parameter
            for name, parameter in self.parameters.items()
            if not any(name.startswith(f"{path}.") for path in (*self.attentions, *self.constant))
        }
        self.layers, self.broadcast = _layers_and_broadcast(model, others)
        self.rows: dict[Any, slice] = {}  # group → its samples in the present batch
        self.size = 0  # number of samples in the present batch
        self.calls: list[str] = []  # names of tapped layers, once for each call in the forward pass
        self.repeated: dict[str, list[tuple[_TappedLayer, Tensor, Tensor]]] = {}
        device = next(model.parameters()).device
        self.anchor = torch.zeros((), device=device, requires_grad=True)

    @contextmanager
    def taps(self) -> Iterator[None]:
        """Tap the layers while the block runs."""
        with ExitStack() as stack:
            functional = [layer for layer in self.layers if _is_functional(self.model, layer)]
            if functional:
                stack.enter_context(_FunctionalTaps(functional, self._tap_output))
            for tapped in self.layers:
                if tapped not in functional:
                    # Prepended, to get the layer's output before other hooks change it.
                    handle = tapped.layer.register_forward_hook(self._hook(tapped), prepend=True)
                    stack.callback(handle.remove)
            for name, layer in self.attentions.items():
                layer.forward = ExplicitAttention(layer, partial(self._project, name, layer))  # type: ignore[method-assign]
                stack.callback(delattr, layer, "forward")
            for path, module in self.constant.items():
                stack.enter_context(self._tap_constant(path, module))
            if self.attentions:
                fast_path = torch.backends.mha.get_fastpath_enabled()
                stack.callback(torch.backends.mha.set_fastpath_enabled, fast_path)
                torch.backends.mha.set_fastpath_enabled(False)  # it would bypass the taps
            yield

    def logits(self, batch: GroupBatch) -> Tensor:
        """Return the logits of a batch; backward passes from them add to the sums."""
        self.rows, self.size, self.calls = dict(batch.rows), len(batch.labels), []
        for group in self.rows:
            if group not in self.by_group:  # parameters that no gradient reaches stay 0
                self.by_group[group] = {name: _zeros(p) for name, p in self.parameters.items()}
        copies = {name: self._copied(name, p) for name, p in self.broadcast.items()}
        with _replaced_parameters(self.model, copies):
            logits = logits_of(self.model, batch.inputs, self.forward)
        self._check_calls()
        return logits

    def _check_calls(self) -> None:
        """Refuse layers that did not run exactly once in the forward pass.

        Layers of `LAST_AXIS_LAYERS` may run several times, as in a recurrent network.
        """
        tapped = (*(layer.name for layer in self.layers), *self.attentions, *self.constant)
        counts = {name: self.calls.count(name) for name in tapped}
        repeatable = {
            layer.name for layer in self.layers if isinstance(layer.layer, LAST_AXIS_LAYERS)
        }
        wrong = [
            f"{name} ({count} times)"
            for name, count in counts.items()
            if not count or (count > 1 and name not in repeatable)
        ]
        if wrong:
            raise EvenhandError(
                f"per-sample gradients need each layer to run exactly once; these do not: "
                f"{', '.join(wrong)}.{ADVICE}"
            )

    def _hook(self, tapped: _TappedLayer) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Any]:
        def hook(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
            # Without gradients it is a rule that calls the layer, in the backward pass.
            return self._tap_output(tapped, inputs[0], output) if torch.is_grad_enabled() else None

        return hook

    def _tap_output(self, tapped: _TappedLayer, inputs: Tensor, output: Tensor) -> Tensor:
        """Return a layer's output with a tap, which applies the rules of the layer."""
        x = inputs.detach()
        self.calls.append(tapped.name)
        rows = x.shape[0]
        windows = rows // self.size if isinstance(tapped.layer, LAST_AXIS_LAYERS) else 1
        if not rows == output.shape[0] == windows * self.size:
            raise EvenhandError(
                f"the layer {tapped.name} gets {rows} rows for {self.size} samples, so "
                f"gradients cannot be separated by sample.{ADVICE}"
            )
        if windows > 1:
            # A sample's windows are adjacent rows; `check_squares` confirms it.
            x = x.reshape(self.size, windows, *x.shape[1:])

        def add(grad: Tensor) -> None:
            split = grad.reshape(*x.shape[:-1], grad.shape[-1]) if windows > 1 else grad
            if self.calls.count(tapped.name) > 1:
                self.repeated.setdefault(tapped.name, []).append((tapped, x, split))
            else:
                self._add_layer(tapped, x, split)

        return self._tap(output, add)

    def add_repeated(self) -> None:
        """Add the squares of layers that were called several times, as in a recurrent network.

        A sample's gradient is the sum over the calls: they are treated as positions of one call.
        """
        for calls in self.repeated.values():
            tapped = calls[0][0]
            inputs = torch.cat([_by_position(x) for _, x, _ in calls], dim=1)
            grads = torch.cat([_by_position(grad) for _, _, grad in calls], dim=1)
            self._add_layer(tapped, inputs, grads)
        self.repeated = {}

    def _add_layer(self, tapped: _TappedLayer, x: Tensor, grad: Tensor) -> None:
        for group, rows in self.rows.items():
            for parameter, add in tapped.rules.items():
                into = self.by_group[group][f"{tapped.name}.{parameter}".lstrip(".")]
                add(tapped.layer, x[rows], grad[rows], into)

    def _project(
        self, path: str, layer: nn.MultiheadAttention, x: Tensor, name: str, rows: slice
    ) -> Tensor:
        """Return an attention's projection of ``x`` with a tap.

        ``name`` is the projection's weight, and ``rows`` are those of query, key or value in a
        fused weight or bias.
        """
        weight = layer.get_parameter(name)
        is_output = name == "out_proj.weight"
        bias_name = "out_proj.bias" if is_output else "in_proj_bias"
        bias = layer.out_proj.bias if is_output else layer.in_proj_bias
        is_fused = is_output or name == "in_proj_weight"
        weight_rows = rows if is_fused else slice(None)
        inputs = x.detach()
        if is_output:
            self.calls.append(path)

        def add(grad: Tensor) -> None:
            for group, samples in self.rows.items():
                sums = self.by_group[group]
                if (into := sums.get(f"{path}.{name}")) is not None:
                    add_linear(layer.out_proj, inputs[samples], grad[samples], into[weight_rows])
                if (into := sums.get(f"{path}.{bias_name}")) is not None:
                    shift_rule(-1)(layer, inputs[samples], grad[samples], into[rows])

        output = F.linear(x, weight[weight_rows], None if bias is None else bias[rows])
        return self._tap(output, add)

    def _tap_constant(self, path: str, module: ConstantModule) -> AbstractContextManager[None]:
        def tap(output: Tensor, listener: Callable[[Tensor], None]) -> Tensor:
            self.calls.append(path)
            return self._tap(output, listener)

        def add(name: str, grads: Tensor) -> None:
            for group, rows in self.rows.items():
                self.by_group[group][f"{path}.{name}"].add_(grads[rows].square().sum(0))

        return module.tapped(lambda: self.size, tap, add)

    def _copied(self, name: str, parameter: Tensor) -> Tensor:
        """Return a copy of a parameter ``(1, …)`` for each sample, with a tap on the copies."""

        def add(grad: Tensor) -> None:
            for group, rows in self.rows.items():
                self.by_group[group][name].add_(grad[rows].square().sum(0, keepdim=True))

        return self._tap(parameter.detach().expand(self.size, *parameter.shape[1:]), add)

    def _tap(self, output: Tensor, listener: Callable[[Tensor], None]) -> Tensor:
        """Return the output, whose gradient the listener gets in the backward pass."""
        tapped: Tensor = _Tap.apply(output, self.anchor, listener)  # type: ignore[no-untyped-call]
        return tapped


def _by_position(values: Tensor) -> Tensor:
    """Return values ``(n, …, D)`` as ``(n, P, D)``."""
    return values.flatten(1, -2) if values.ndim > 2 else values[:, None]


class _Tap(torch.autograd.Function):
    """The identity; in the backward pass it calls a listener with the gradient.

    The anchor requires a gradient: all parameters are frozen, so nothing else lets the backward
    pass reach the first layer.
    """

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, anchor: Tensor, listener: Callable[[Tensor], None]
    ) -> Tensor:
        ctx.listener = listener
        return output.clone()  # the next operation may work in place

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        ctx.listener(grad)
        return grad, None, None


class _FunctionalTaps(TorchFunctionMode):
    """Taps multiplications by a layer's weight in networks that do not call the layer itself."""

    def __init__(
        self, layers: Sequence[_TappedLayer], tap: Callable[[_TappedLayer, Tensor, Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.layers = {id(tapped.layer.weight): tapped for tapped in layers}
        self.tap = tap

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func is F.linear and torch.is_grad_enabled():
            arguments = dict(zip(("input", "weight"), args, strict=False)) | (kwargs or {})
            if (tapped := self.layers.get(id(arguments["weight"]))) is not None:
                return self.tap(tapped, arguments["input"], output)
        return output


def _is_functional(model: nn.Module, tapped: _TappedLayer) -> bool:
    """Whether an attention multiplies by a layer's weight without calling the layer (BEiT, EVA).

    Such attentions hold the biases of query and value themselves.
    """
    owner = model.get_submodule(tapped.name.rpartition(".")[0])
    return type(tapped.layer) is nn.Linear and getattr(owner, "q_bias", None) is not None


def _attentions(
    model: nn.Module, parameters: Mapping[str, Tensor]
) -> dict[str, nn.MultiheadAttention]:
    """Return, by name, torch's attentions that hold some of the parameters."""
    return {
        path: layer
        for path, layer in model.named_modules()
        if isinstance(layer, nn.MultiheadAttention)
        and has_explicit_form(layer)
        and any(name.startswith(f"{path}.") for name in parameters)
    }


@contextmanager
def _replaced_parameters(model: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Replace some parameters of a network by other tensors while the block runs."""
    with ExitStack() as stack:
        for name, tensor in tensors.items():
            owner, _, leaf = name.rpartition(".")
            parameters = model.get_submodule(owner)._parameters
            stack.callback(parameters.__setitem__, leaf, parameters[leaf])
            parameters[leaf] = tensor  # type: ignore[assignment]
        yield


def _refuse_shared(model: nn.Module, parameters: Mapping[str, Tensor]) -> None:
    """Refuse weights that layers share: a tap on one layer gets only a part of the gradient."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    shared = [" = ".join(names[id(p)]) for p in parameters.values() if len(names[id(p)]) > 1]
    if shared:
        raise EvenhandError(
            f"per-sample gradients are unknown for weights that layers share: "
            f"{', '.join(shared)}.{ADVICE}"
        )


def _refuse_mixing(model: nn.Module) -> None:
    """Refuse layers that make a sample's loss depend on the other samples of its batch."""
    mixing = [
        f"{name} ({type(layer).__name__})"
        for name, layer in model.named_modules()
        if isinstance(layer, _BatchNorm) and layer.running_mean is None
    ]
    if mixing:
        raise EvenhandError(
            f"per-sample gradients are unknown for layers without running statistics, whose output "
            f"depends on the whole batch: {', '.join(mixing)}.{ADVICE}"
        )


def _layers_and_broadcast(
    model: nn.Module, parameters: Mapping[str, Tensor]
) -> tuple[list[_TappedLayer], dict[str, Tensor]]:
    """Return the layers to tap, and the parameters that are broadcast over samples."""
    layers: dict[str, _TappedLayer] = {}
    broadcast, refused = {}, []
    for name, parameter in parameters.items():
        owner, _, leaf = name.rpartition(".")
        layer = model.get_submodule(owner)
        rule = RULES.get(type(layer), {}).get(leaf)
        if rule is not None:
            layers.setdefault(owner, _TappedLayer(owner, layer, {})).rules[leaf] = rule
        elif not list(layer.buffers(recurse=False)) and _is_broadcast(layer, parameter):
            broadcast[name] = parameter
        else:
            refused.append(f"{name} (in a {type(layer).__name__})")
    if refused:
        raise EvenhandError(f"per-sample gradients are unknown for {first_few(refused)}.{ADVICE}")
    return list(layers.values()), broadcast


def _is_broadcast(layer: nn.Module, parameter: Tensor) -> bool:
    """Whether a parameter has a first axis of length 1, as class tokens and positions do.

    Its module must have children, as a network or a block has.
    """
    return any(True for _ in layer.children()) and parameter.ndim > 1 and len(parameter) == 1


def _zeros(parameter: Tensor) -> Tensor:
    """Return zeros of a parameter's shape; for a kernel, with the channels last in memory."""
    if parameter.ndim < 3:
        return torch.zeros_like(parameter)
    out, channels, *kernel = parameter.shape
    return parameter.new_zeros(out, *kernel, channels).movedim(-1, 1)


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Set ``requires_grad`` of all parameters to False while the block runs."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
