"""The layers of a backbone whose representations can be read, and how one is read in a pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from torch import Tensor, nn

from evenhand.errors import EvenhandError, UnknownNameError
from evenhand.networks.conv1d import Conv1dEncoder
from evenhand.networks.model import Model

Pool = Literal["auto", "mean", "flat"]


def layer_names(backbone: nn.Module) -> tuple[str, ...]:
    """Return the layers by name, from input to output.

    The stages or blocks that timm declares for the network, the layers that a network of one's own
    was registered with, or the convolutions of the encoder for series. Of any other network, its
    outermost modules with weights.
    """
    if isinstance(backbone, Conv1dEncoder):
        return tuple(name for name, _ in backbone.named_children())
    if not hasattr(backbone, "feature_info"):
        return _outermost(backbone)
    info: Any = backbone.feature_info
    return tuple(str(entry["module"]) for entry in info)


def _outermost(module: nn.Module, prefix: str = "") -> tuple[str, ...]:
    """Return the children with weights; of a single one, its own."""
    children = [(n, child) for n, child in module.named_children() if list(child.parameters())]
    if len(children) == 1 and any(children[0][1].children()):
        return _outermost(children[0][1], f"{prefix}{children[0][0]}.")
    return tuple(f"{prefix}{name}" for name, _ in children)


def find_layers(model: Model, wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the wanted layers in the backbone's order; all where none is named.

    Raises
    ------
    UnknownNameError
        The backbone lacks one of them; the message lists those that it has.
    """
    known = layer_names(model.backbone)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise UnknownNameError(
            f"{model.spec.backbone} has no layer {', '.join(map(repr, unknown))}; there are: "
            f"{', '.join(known)}."
        )
    return tuple(name for name in known if not wanted or name in wanted)


@contextmanager
def recorded(model: Model, layers: Sequence[str], pool: Pool) -> Iterator[dict[str, Tensor]]:
    """Yield a dict that every forward pass fills with each layer's activations ``(B, D)``.

    ``mean`` averages what a layer gives over places, steps or tokens, so that D is its width;
    ``flat`` keeps every number; ``auto`` is flat for series and the mean for images. A convolution
    of the encoder for series is read after its ReLU, as the next one reads it.
    """
    series = isinstance(model.backbone, Conv1dEncoder)
    if pool == "auto":
        pool = "flat" if series else "mean"
    last = _channels_last(model.backbone)
    found: dict[str, Tensor] = {}

    def keep(name: str, output: Any) -> None:
        if not isinstance(output, Tensor):
            raise EvenhandError(f"the layer {name} of {model.spec.backbone} gives no single array.")
        if series:
            output = output.relu()
        flat = pool == "flat" or output.ndim == 2
        found[name] = output.flatten(1) if flat else _averaged(output, last)

    hooks = [
        model.backbone.get_submodule(name).register_forward_hook(
            lambda module, given, output, name=name: keep(name, output)
        )
        for name in layers
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _averaged(output: Tensor, channels_last: bool) -> Tensor:
    """Return the mean over places of ``(B, C, …)``, over tokens of ``(B, N, D)``."""
    return output.flatten(1, -2).mean(dim=1) if channels_last else output.flatten(2).mean(dim=2)


def _channels_last(backbone: nn.Module) -> bool:
    """Whether a backbone's layers give tokens or places first, and features last."""
    tokens = hasattr(backbone, "blocks") and hasattr(backbone, "pos_embed")
    return tokens or getattr(backbone, "output_fmt", "NCHW") != "NCHW"
