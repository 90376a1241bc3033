"""Squared per-sample gradients of a whole network, summed inside its layers in a backward pass."""

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

from evenhand.errors import EvenhandError, some
from evenhand.networks.calling import Forward, call, logits_of
from evenhand.pruning.curvature.attention import OpenAttention, is_open
from evenhand.pruning.curvature.constant import ConstantModule, constant_modules
from evenhand.pruning.curvature.layers import FOLDED, RULES, AddSquares, linear_weight, summed
from evenhand.pruning.curvature.loss import Loss
from evenhand.pruning.curvature.types import ADVICE, Curvature, GroupBatch

Directions = Callable[[Tensor, Tensor], Sequence[Tensor]]
"""Function of logits and labels; it returns gradients of the logits' shape, weighted by sample.

Each is propagated back, and the squares of the parameters' gradients are summed."""


def summed_squares(directions: Directions, loss: Loss) -> Curvature:
    """Return the curvature function that averages squared per-sample gradients along directions.

    The average is the sum over samples, divided by the sum of their weights in the loss.
    """

    def curvature(
        model: nn.Module,
        batches: Iterable[GroupBatch],
        names: Collection[str],
        forward: Forward = call,
    ) -> dict[Any, dict[str, Tensor]]:
        model.eval()
        sums = _Sums(model, names, forward)
        counts: dict[Any, Tensor | float] = {}
        with _frozen(model), sums.taps():
            for batch in batches:
                logits = sums.forward(batch)
                loss.check(model, logits, batch.labels)
                weights = loss.weights(batch.labels, logits.detach())
                reached = logits.requires_grad  # false if the logits depend on no tapped layer
                drawn = directions(logits.detach(), batch.labels) if reached else ()
                for number, direction in enumerate(drawn, 1):
                    torch.autograd.backward(logits, direction, retain_graph=number < len(drawn))
                    sums.add_repeated()
                for group, rows in batch.rows.items():
                    counts[group] = counts.get(group, 0.0) + weights[rows].sum()
        return {
            group: {name: total.div_(counts[group]) for name, total in totals.items()}
            for group, totals in sums.by_group.items()
        }

    return curvature


@dataclass(frozen=True, eq=False)
class _Tapped:
    """A layer, and for each of its parameters the function that adds squared gradients."""

    name: str
    layer: nn.Module
    rules: dict[str, AddSquares]  # parameter's name in the layer → function


class _Sums:
    """The sums of squared gradients of one pass over the batches."""

    def __init__(self, model: nn.Module, names: Collection[str], call: Forward) -> None:
        self.model = model
        self.call = call
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
        self.layers, self.bare = _tapped_and_bare(model, others)
        self.rows: dict[Any, slice] = {}
        self.size = 0
        self.calls: list[str] = []  # of layers, in this forward pass
        self.repeated: dict[str, list[tuple[_Tapped, Tensor, Tensor]]] = {}
        device = next(model.parameters()).device
        self.anchor = torch.zeros((), device=device, requires_grad=True)

    @contextmanager
    def taps(self) -> Iterator[None]:
        """Read the gradients of the layers while the block runs."""
        with ExitStack() as stack:
            functional = [layer for layer in self.layers if _is_functional(self.model, layer)]
            if functional:
                stack.enter_context(_FunctionalTaps(functional, self._tap_output))
            for tapped in self.layers:
                if tapped in functional:
                    continue
                # Prepended: it must get the layer's output before other hooks change it.
                handle = tapped.layer.register_forward_hook(self._hook(tapped), prepend=True)
                stack.callback(handle.remove)
            for name, layer in self.attentions.items():
                layer.forward = OpenAttention(layer, partial(self._project, name, layer))  # type: ignore[method-assign]
                stack.callback(delattr, layer, "forward")
            for path, module in self.constant.items():
                stack.enter_context(self._taps_of_constant(path, module))
            if self.attentions:
                stack.callback(torch.backends.mha.set_fastpath_enabled, _fast_path())
                torch.backends.mha.set_fastpath_enabled(False)  # it would bypass the taps
            yield

    def forward(self, batch: GroupBatch) -> Tensor:
        """Return the logits of a batch; backward passes from them add to the sums."""
        self.rows, self.size, self.calls = dict(batch.rows), len(batch.labels), []
        for group in self.rows:
            if group not in self.by_group:  # parameters that no gradient reaches stay 0
                self.by_group[group] = {name: _zeros(p) for name, p in self.parameters.items()}
        expanded = {name: self._expanded(name, p) for name, p in self.bare.items()}
        with _swapped(self.model, expanded):
            logits = logits_of(self.model, batch.inputs, self.call)
        tapped = (*(layer.name for layer in self.layers), *self.attentions, *self.constant)
        counts = {name: self.calls.count(name) for name in tapped}
        repeatable = {layer.name for layer in self.layers if isinstance(layer.layer, FOLDED)}
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
        return logits

    def _hook(self, tapped: _Tapped) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Any]:
        def hook(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
            if not torch.is_grad_enabled():  # a rule may call the layer in the backward pass
                return None
            return self._tap_output(tapped, inputs[0], output)

        return hook

    def _tap_output(self, tapped: _Tapped, inputs: Tensor, output: Tensor) -> Tensor:
        x = inputs.detach()
        self.calls.append(tapped.name)
        rows = x.shape[0]
        windows = rows // self.size if isinstance(tapped.layer, FOLDED) else 1
        if not rows == output.shape[0] == windows * self.size:
            raise EvenhandError(
                f"the layer {tapped.name} gets {rows} rows for {self.size} samples, so "
                f"gradients cannot be separated by sample.{ADVICE}"
            )
        if (
            windows > 1
        ):  # a sample's windows are adjacent rows; the check against autograd confirms it
            x = x.reshape(self.size, windows, *x.shape[1:])

        def add(grad: Tensor) -> None:
            split = grad.reshape(*x.shape[:-1], grad.shape[-1]) if windows > 1 else grad
            if self.calls.count(tapped.name) > 1:
                self.repeated.setdefault(tapped.name, []).append((tapped, x, split))
            else:
                self._add_layer(tapped, x, split)

        return self._tap(output, add)

    def add_repeated(self) -> None:
        """Add the squares of layers that ran several times, as in a recurrent network.

        A sample's gradient is the sum over the runs. So the runs are treated as positions of one
        run.
        """
        for runs in self.repeated.values():
            tapped = runs[0][0]
            inputs = torch.cat([_by_position(x) for _, x, _ in runs], dim=1)
            grads = torch.cat([_by_position(grad) for _, _, grad in runs], dim=1)
            self._add_layer(tapped, inputs, grads)
        self.repeated = {}

    def _add_layer(self, tapped: _Tapped, x: Tensor, grad: Tensor) -> None:
        for group, rows in self.rows.items():
            for parameter, add in tapped.rules.items():
                into = self.by_group[group][f"{tapped.name}.{parameter}".lstrip(".")]
                add(tapped.layer, x[rows], grad[rows], into)

    def _project(
        self, path: str, layer: nn.MultiheadAttention, x: Tensor, name: str, rows: slice
    ) -> Tensor:
        """Return a projection of an attention, tapped."""
        weight = layer.get_parameter(name)
        bias_name = "out_proj.bias" if name.startswith("out") else "in_proj_bias"
        bias = layer.out_proj.bias if name.startswith("out") else layer.in_proj_bias
        separate = name.endswith("_proj_weight") and name[0] in "qkv"
        weight_rows = slice(None) if separate else rows
        inputs = x.detach()
        if name.startswith("out"):
            self.calls.append(path)

        def add(grad: Tensor) -> None:
            for group, samples in self.rows.items():
                sums = self.by_group[group]
                if (into := sums.get(f"{path}.{name}")) is not None:
                    linear_weight(layer.out_proj, inputs[samples], grad[samples], into[weight_rows])
                if (into := sums.get(f"{path}.{bias_name}")) is not None:
                    summed(-1)(layer, inputs[samples], grad[samples], into[rows])

        output = F.linear(x, weight[weight_rows], None if bias is None else bias[rows])
        return self._tap(output, add)

    def _taps_of_constant(self, path: str, module: ConstantModule) -> AbstractContextManager[None]:
        def tap(output: Tensor, listener: Callable[[Tensor], None]) -> Tensor:
            self.calls.append(path)
            return self._tap(output, listener)

        def add(name: str, grads: Tensor) -> None:
            for group, rows in self.rows.items():
                self.by_group[group][f"{path}.{name}"].add_(grads[rows].square().sum(0))

        return module.tapped(lambda: self.size, tap, add)

    def _expanded(self, name: str, parameter: Tensor) -> Tensor:
        """Return a parameter ``(1, …)`` repeated for each sample, which separates gradients."""

        def add(grad: Tensor) -> None:
            for group, rows in self.rows.items():
                self.by_group[group][name].add_(grad[rows].square().sum(0, keepdim=True))

        return self._tap(parameter.detach().expand(self.size, *parameter.shape[1:]), add)

    def _tap(self, output: Tensor, listener: Callable[[Tensor], None]) -> Tensor:
        tapped: Tensor = _Tap.apply(output, self.anchor, listener)  # type: ignore[no-untyped-call]
        return tapped


def _by_position(values: Tensor) -> Tensor:
    """Return values ``(n, …, D)`` as ``(n, P, D)``."""
    return values.flatten(1, -2) if values.ndim > 2 else values[:, None]


class _Tap(torch.autograd.Function):
    """The identity; in the backward pass it calls a listener with the gradient.

    The anchor requires a gradient, so that the backward pass also reaches the first layer.
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
    """Taps multiplications by a layer's weight where the layer itself is not called."""

    def __init__(
        self, layers: Sequence[_Tapped], tap: Callable[[_Tapped, Tensor, Tensor], Tensor]
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


def _is_functional(model: nn.Module, tapped: _Tapped) -> bool:
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
        and is_open(layer)
        and any(name.startswith(f"{path}.") for name in parameters)
    }


def _fast_path() -> bool:
    return bool(torch.backends.mha.get_fastpath_enabled())


@contextmanager
def _swapped(model: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Let a network use other tensors for some of its parameters while the block runs."""
    with ExitStack() as stack:
        for name, tensor in tensors.items():
            owner, _, leaf = name.rpartition(".")
            parameters = model.get_submodule(owner)._parameters
            stack.callback(parameters.__setitem__, leaf, parameters[leaf])
            parameters[leaf] = tensor  # type: ignore[assignment]
        yield


def _refuse_shared(model: nn.Module, parameters: Mapping[str, Tensor]) -> None:
    """Refuse weights that layers share: each layer gives only a part of a sample's gradient."""
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
    """Refuse layers that let a sample's loss depend on the other samples of its batch."""
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


def _tapped_and_bare(
    model: nn.Module, parameters: Mapping[str, Tensor]
) -> tuple[list[_Tapped], dict[str, Tensor]]:
    """Return the layers to tap, and the other parameters, which are broadcast over samples."""
    layers: dict[str, _Tapped] = {}
    bare, refused = {}, []
    for name, parameter in parameters.items():
        owner, _, leaf = name.rpartition(".")
        layer = model.get_submodule(owner)
        rule = RULES.get(type(layer), {}).get(leaf)
        if rule is not None:
            layers.setdefault(owner, _Tapped(owner, layer, {})).rules[leaf] = rule
        elif not list(layer.buffers(recurse=False)) and _is_broadcast(layer, parameter):
            bare[name] = parameter
        else:
            refused.append(f"{name} (in a {type(layer).__name__})")
    if refused:
        raise EvenhandError(f"per-sample gradients are unknown for {some(refused)}.{ADVICE}")
    return list(layers.values()), bare


def _is_broadcast(layer: nn.Module, parameter: Tensor) -> bool:
    """Whether a parameter has an axis for samples, as class tokens and position embeddings do.

    Its module has children: it is a network or a block, not a layer.
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
