"""Gradients by sample of modules whose output does not depend on the sample, such as positions.

Such a module runs once for a batch. Its output is copied for each sample. The gradient of a
sample's copy then gives the gradient of the module's parameters for this sample.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.layers.pos_embed_rel import RelPosMlp
from timm.models.xcit import PositionalEncodingFourier
from torch import Tensor, nn

from evenhand.errors import EvenhandError
from evenhand.networks.calling import with_gradients

METHODS: Mapping[type[nn.Module], str] = {
    RelPosMlp: "get_bias",
    PositionalEncodingFourier: "forward",
}
"""Module type → name of the method that computes the output. Subclasses are not included.

The output is ``(1, …)``, or ``(rows, …)`` with equal rows."""

Tap = Callable[[Tensor, Callable[[Tensor], None]], Tensor]
"""Returns an output unchanged, and calls a function with the output's gradient in the backward
pass."""


@dataclass(frozen=True, eq=False)
class ConstantModule:
    """A module whose output does not depend on the sample.

    Attributes
    ----------
    path
        The name of the module in the network.
    module
        The module itself.
    owner
        The module that calls it. Its inputs are the samples, or windows of the samples.
    names
        Names, within the module, of the parameters whose squared gradients are summed.
    rows
        The number of rows of the owner's input in its last call, as ``rows["owner"]``.
    """

    path: str
    module: nn.Module
    owner: nn.Module
    names: tuple[str, ...]
    rows: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def tapped(
        self, samples: Callable[[], int], tap: Tap, add: Callable[[str, Tensor], None]
    ) -> Iterator[None]:
        """Copy the output for each sample during the block, and collect gradients by sample.

        Parameters
        ----------
        samples
            Returns n, the number of samples of the present batch.
        tap
            See `Tap`.
        add
            Called with the name of each parameter and its gradients ``(n, *parameter.shape)``.

        Raises
        ------
        EvenhandError
            If the owner's rows cannot be divided evenly among the samples.
        """
        method = METHODS[type(self.module)]
        compute = getattr(self.module, method)

        def copied_output(*args: Any) -> Tensor:
            output: Tensor = compute(*args)
            if not torch.is_grad_enabled():
                return output
            n, rows = samples(), self.rows["owner"]
            if rows % n:
                raise EvenhandError(f"the module {self.path} is used on {rows} rows of {n} samples")

            def listen(grad: Tensor) -> None:
                by_sample = grad.reshape(n, rows // n, *grad.shape[1:]).sum(1)
                for name, grads in self._gradients(compute, args, by_sample).items():
                    add(name, grads)

            return tap(output[:1].expand(rows, *output.shape[1:]), listen)

        handle = self.owner.register_forward_pre_hook(
            lambda _, inputs: self.rows.update(owner=len(inputs[0]))
        )
        setattr(self.module, method, copied_output)
        try:
            yield
        finally:
            delattr(self.module, method)
            handle.remove()

    def _gradients(
        self, compute: Callable[..., Tensor], args: tuple[Any, ...], grad: Tensor
    ) -> dict[str, Tensor]:
        """Return the gradients of the parameters by sample, from those of the output's copies."""
        parameters = [self.module.get_parameter(name) for name in self.names]
        with torch.enable_grad(), with_gradients(parameters):
            output = compute(*args)[0]
            grads = torch.autograd.grad(output, parameters, grad, is_grads_batched=True)
        return dict(zip(self.names, grads, strict=True))


def constant_modules(network: nn.Module, names: Collection[str]) -> dict[str, ConstantModule]:
    """Return the constant modules with at least one of the named parameters, by module name."""
    modules = dict(network.named_modules())
    constant = {}
    for path, module in modules.items():
        inside = tuple(
            name.removeprefix(f"{path}.") for name in names if name.startswith(f"{path}.")
        )
        if type(module) in METHODS and inside:
            owner = modules[path.rpartition(".")[0]]
            constant[path] = ConstantModule(path, module, owner, inside)
    return constant
