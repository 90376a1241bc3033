"""Squared per-sample gradients of a whole network, summed inside its layers as backward passes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from evenhand.errors import EvenhandError
from evenhand.pruning.curvature.layers import RULES, Add
from evenhand.pruning.curvature.loss import PLAIN, check_logits, sample_weights, soft_targets
from evenhand.pruning.curvature.types import Curvature, GroupBatch

Directions = Callable[[Tensor, Tensor], Sequence[Tensor]]
"""From logits ``(B, C)`` and each sample's target, a distribution over classes ``(B, C)``, to
gradients ``(B, C)`` of the logits; the squares of the parameters' gradients that follow from each
are summed."""


def summed_squares(directions: Directions, loss: nn.CrossEntropyLoss = PLAIN) -> Curvature:
    """Return the curvature that sums the squared per-sample gradients along some directions.

    Each sample counts as in the loss: with the sum of its targets, over the mean of the weights.
    """

    def curvature(
        model: nn.Module, batches: Iterable[GroupBatch], names: Collection[str]
    ) -> dict[str, dict[str, Tensor]]:
        model.eval()
        sums = _Sums(model, names)
        counts: dict[str, Tensor | float] = {}
        with _frozen(model), sums.taps():
            for batch in batches:
                logits = sums.forward(batch)
                check_logits(model, logits)
                weights = sample_weights(loss, batch.labels, logits.detach())
                reached = logits.requires_grad  # it is not where no tapped layer leads to them
                found = _weighted(directions, loss, logits.detach(), batch) if reached else ()
                for number, direction in enumerate(found, 1):
                    torch.autograd.backward(logits, direction, retain_graph=number < len(found))
                for group, rows in batch.rows.items():
                    counts[group] = counts.get(group, 0.0) + weights[rows].sum()
        return {
            group: {name: total.div_(counts[group]) for name, total in of.items()}
            for group, of in sums.by_group.items()
        }

    return curvature


def _weighted(
    directions: Directions, loss: nn.CrossEntropyLoss, logits: Tensor, batch: GroupBatch
) -> list[Tensor]:
    """Return the directions, so that a sample's squares have the weight of its targets' sum."""
    targets = soft_targets(loss, batch.labels, logits)
    total = targets.sum(1, keepdim=True)  # (B, 1)
    found = directions(logits, targets / total.clamp(min=torch.finfo(total.dtype).tiny))
    return [direction * total.sqrt() for direction in found]


@dataclass(frozen=True, eq=False)
class _Tapped:
    """A layer whose parameters' gradients are squared, and by which rules."""

    name: str
    layer: nn.Module
    rules: dict[str, Add]  # by the parameter's name in the layer


class _Sums:
    """The sums of one run over the batches."""

    def __init__(self, model: nn.Module, names: Collection[str]) -> None:
        self.model = model
        self.by_group: dict[str, dict[str, Tensor]] = {}
        self.parameters = {name: p for name, p in model.named_parameters() if name in set(names)}
        _refuse_shared(model, self.parameters)
        _refuse_mixing(model)
        self.layers, self.bare = _sorted_out(model, self.parameters)
        self.rows: dict[str, slice] = {}
        self.size = 0
        self.seen: list[str] = []
        device = next(model.parameters()).device
        self.anchor = torch.zeros((), device=device, requires_grad=True)

    @contextmanager
    def taps(self) -> Iterator[None]:
        """Listen to the layers while the block runs."""
        with ExitStack() as stack:
            for tapped in self.layers:
                handle = tapped.layer.register_forward_hook(self._hook(tapped))
                stack.callback(handle.remove)
            yield

    def forward(self, batch: GroupBatch) -> Tensor:
        """Return logits whose backward passes add to the sums."""
        self.rows, self.size, self.seen = dict(batch.rows), len(batch.labels), []
        for group in self.rows:
            if group not in self.by_group:  # what no gradient reaches stays 0
                self.by_group[group] = {name: _zeros(p) for name, p in self.parameters.items()}
        expanded = {name: self._expanded(name, p) for name, p in self.bare.items()}
        logits: Tensor = functional_call(self.model, expanded, (batch.inputs,))
        once = {name: self.seen.count(name) for name in (tapped.name for tapped in self.layers)}
        wrong = [f"{name} ({times} times)" for name, times in once.items() if times != 1]
        if wrong:
            raise EvenhandError(
                f"per-sample gradients need each layer to run once, and these do not: "
                f"{', '.join(wrong)}. Leave them out of what may be pruned, or give "
                "--estimator hutchinson, which handles any layer."
            )
        return logits

    def _hook(self, tapped: _Tapped) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Any]:
        def hook(layer: nn.Module, given: tuple[Any, ...], output: Tensor) -> Tensor | None:
            if not torch.is_grad_enabled():  # a rule runs the layer within a backward pass
                return None
            x = given[0].detach()
            self.seen.append(tapped.name)
            if x.shape[0] != self.size or output.shape[0] != self.size:
                raise EvenhandError(
                    f"the layer {tapped.name} gets {x.shape[0]} rows for {self.size} samples, so "
                    "a sample's gradient cannot be told apart. Leave it out of what may be "
                    "pruned, or give --estimator hutchinson, which handles any layer."
                )
            return self._tap(output, lambda grad: self._add_layer(tapped, x, grad))

        return hook

    def _add_layer(self, tapped: _Tapped, x: Tensor, grad: Tensor) -> None:
        for group, rows in self.rows.items():
            for own, add in tapped.rules.items():
                into = self.by_group[group][f"{tapped.name}.{own}".lstrip(".")]
                add(tapped.layer, x[rows], grad[rows], into)

    def _expanded(self, name: str, parameter: Tensor) -> Tensor:
        """Return a parameter ``(1, …)`` as one for each sample, so that gradients stay apart."""

        def add(grad: Tensor) -> None:
            for group, rows in self.rows.items():
                self.by_group[group][name].add_(grad[rows].square().sum(0, keepdim=True))

        return self._tap(parameter.detach().expand(self.size, *parameter.shape[1:]), add)

    def _tap(self, output: Tensor, listener: Callable[[Tensor], None]) -> Tensor:
        tapped: Tensor = _Tap.apply(output, self.anchor, listener)  # type: ignore[no-untyped-call]
        return tapped


class _Tap(torch.autograd.Function):
    """The identity, which tells a listener of the gradient that passes.

    The anchor needs a gradient that never comes, so that the pass reaches the first layer, too.
    """

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, anchor: Tensor, listener: Callable[[Tensor], None]
    ) -> Tensor:
        ctx.listener = listener
        return output.clone()  # what follows may work in place

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        ctx.listener(grad)
        return grad, None, None


def _refuse_shared(model: nn.Module, parameters: Mapping[str, Tensor]) -> None:
    """Refuse weights of several layers: one layer tells a part of a sample's gradient alone."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    shared = [" = ".join(names[id(p)]) for p in parameters.values() if len(names[id(p)]) > 1]
    if shared:
        raise EvenhandError(
            f"per-sample gradients are not known for weights that layers share: "
            f"{', '.join(shared)}. Leave these out of what may be pruned, or give "
            "--estimator hutchinson, which handles any layer."
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
            f"per-sample gradients are not known where a sample's answer depends on its batch, as "
            f"it does without running statistics: {', '.join(mixing)}. Give --estimator "
            "hutchinson, which handles any layer."
        )


def _sorted_out(
    model: nn.Module, parameters: Mapping[str, Tensor]
) -> tuple[list[_Tapped], dict[str, Tensor]]:
    """Return the layers that have rules, and the parameters that are broadcast over samples."""
    layers: dict[str, _Tapped] = {}
    bare, refused = {}, []
    for name, parameter in parameters.items():
        owner, _, own = name.rpartition(".")
        layer = model.get_submodule(owner)
        rule = RULES.get(type(layer), {}).get(own)
        if rule is not None:
            layers.setdefault(owner, _Tapped(owner, layer, {})).rules[own] = rule
        elif not list(layer.buffers(recurse=False)) and _is_broadcast(layer, parameter):
            bare[name] = parameter
        else:
            refused.append(f"{name} (in a {type(layer).__name__})")
    if refused:
        raise EvenhandError(
            f"per-sample gradients are not known for {', '.join(refused)}. Leave these out of what "
            "may be pruned, or give --estimator hutchinson, which handles any layer."
        )
    return list(layers.values()), bare


def _is_broadcast(layer: nn.Module, parameter: Tensor) -> bool:
    """Whether a parameter has an axis for samples, as class tokens and position embeddings do.

    It lies directly in a network, which has children, and not in a layer.
    """
    return any(True for _ in layer.children()) and parameter.ndim > 1 and len(parameter) == 1


def _zeros(parameter: Tensor) -> Tensor:
    """Return zeros of a parameter's shape; those of a kernel have the channels last in memory."""
    if parameter.ndim < 3:
        return torch.zeros_like(parameter)
    out, channels, *kernel = parameter.shape
    return parameter.new_zeros(out, *kernel, channels).movedim(-1, 1)


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Let no parameter ask for its gradient while the block runs."""
    asked = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asked:
            parameter.requires_grad_(True)
