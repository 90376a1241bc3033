"""Modules whose output is the same for every sample, as positions are: one copy for each sample.

Such a module runs once for a batch, so that its layers see no samples. What it gives is repeated
for each sample; a sample's gradient then follows from the gradient of the sample's own copy.
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

METHODS: Mapping[type[nn.Module], str] = {
    RelPosMlp: "get_bias",
    PositionalEncodingFourier: "forward",
}
"""The modules, by exact type, and the method that gives ``(1, …)`` or the same for all samples."""

Tap = Callable[[Tensor, Callable[[Tensor], None]], Tensor]
"""From an output and a listener for its gradient to the output that is used."""


@dataclass(frozen=True, eq=False)
class ConstantModule:
    """A module that reads no samples.

    Attributes
    ----------
    path, module, owner
        Its name, the module, and the module that calls it, on the samples or on their windows.
    names
        The parameters, by their name in the module, whose squared gradients are summed.
    """

    path: str
    module: nn.Module
    owner: nn.Module
    names: tuple[str, ...]
    rows: dict[str, int] = field(default_factory=dict)  # of the owner's input, in its last call

    @contextmanager
    def tapped(
        self, samples: Callable[[], int], tap: Tap, add: Callable[[str, Tensor], None]
    ) -> Iterator[None]:
        """Repeat the output for each sample while the block runs.

        ``add`` gets the gradients ``(n, *parameter)`` of each parameter by its name.
        """
        method = METHODS[type(self.module)]
        compute = getattr(self.module, method)

        def repeated(*args: Any) -> Tensor:
            output: Tensor = compute(*args)
            if not torch.is_grad_enabled():
                return output
            n, rows = samples(), self.rows["owner"]
            if rows % n:
                raise EvenhandError(f"the module {self.path} is used on {rows} rows of {n} samples")

            def listen(grad: Tensor) -> None:
                own = grad.reshape(n, rows // n, *grad.shape[1:]).sum(1)
                for name, grads in self._gradients(compute, args, own).items():
                    add(name, grads)

            return tap(output[:1].expand(rows, *output.shape[1:]), listen)

        handle = self.owner.register_forward_pre_hook(
            lambda _, inputs: self.rows.update(owner=len(inputs[0]))
        )
        setattr(self.module, method, repeated)
        try:
            yield
        finally:
            delattr(self.module, method)
            handle.remove()

    def _gradients(
        self, compute: Callable[..., Tensor], args: tuple[Any, ...], grad: Tensor
    ) -> dict[str, Tensor]:
        """Return each sample's gradient of the parameters, from that of its copy of the output."""
        parameters = [self.module.get_parameter(name) for name in self.names]
        with torch.enable_grad():
            for parameter in parameters:
                parameter.requires_grad_(True)
            try:
                output = compute(*args)[0]
                grads = torch.autograd.grad(output, parameters, grad, is_grads_batched=True)
            finally:
                for parameter in parameters:
                    parameter.requires_grad_(False)
        return dict(zip(self.names, grads, strict=True))


def constant_modules(network: nn.Module, names: Collection[str]) -> dict[str, ConstantModule]:
    """Return the modules of a network that read no samples and hold some of the parameters."""
    modules = dict(network.named_modules())
    constant = {}
    for path, module in modules.items():
        held = tuple(name.removeprefix(f"{path}.") for name in names if name.startswith(f"{path}."))
        if type(module) in METHODS and held:
            owner = modules[path.rpartition(".")[0]]
            constant[path] = ConstantModule(path, module, owner, held)
    return constant
