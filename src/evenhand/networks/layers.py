"""The layers of a backbone whose representations can be read, and how one is read in a pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from torch import Tensor, nn

from evenhand.errors import EvenhandError, UnknownNameError
from evenhand.networks.encoders.conv1d import Conv1dEncoder
from evenhand.networks.encoders.layers import LayeredEncoder, SeriesEncoder
from evenhand.networks.model import Model

Pool = Literal["auto", "mean", "flat"]


def layer_names(backbone: nn.Module) -> tuple[str, ...]:
    """Return the layers by name, from input to output.

    The stages or blocks that timm declares for the network, the layers that a network of one's own
    was registered with, or the layers of an encoder of series. Of any other network, its
    outermost modules with weights.
    """
    if isinstance(backbone, LayeredEncoder):
        return tuple(name for name, _ in backbone.named_children())
    return declared_stages(backbone) or _outermost(backbone)


def declared_stages(backbone: nn.Module) -> tuple[str, ...]:
    """Return the modules that end a network's stages, as timm or a registration declares them.

    They are none where nothing is declared, or where timm names what is no module of the network.
    """
    info: Any = getattr(backbone, "feature_info", ())
    names = tuple(str(entry["module"]) for entry in info)
    modules = dict(backbone.named_modules())
    return names if all(name in modules for name in names) else ()


def _outermost(module: nn.Module, prefix: str = "") -> tuple[str, ...]:
    """Return the children with weights; of a single one, its own; of a list of modules, each."""
    children = _weighted_children(module)
    if len(children) == 1 and any(next(iter(children.values())).children()):
        ((name, child),) = children.items()
        return _outermost(child, f"{prefix}{name}.")
    names: list[str] = []
    for name, child in children.items():
        rows = _list_inside(child)
        names += [f"{prefix}{name}{row}" for row in rows] if rows else [f"{prefix}{name}"]
    return tuple(names)


def _list_inside(module: nn.Module, prefix: str = "") -> tuple[str, ...]:
    """Return the members of a ``ModuleList``, which is never called, where it is all there is."""
    children = _weighted_children(module)
    if isinstance(module, nn.ModuleList | nn.ModuleDict):
        return tuple(f"{prefix}.{name}" for name in children)
    if len(children) == 1:
        ((name, child),) = children.items()
        return _list_inside(child, f"{prefix}.{name}")
    return ()


def _weighted_children(module: nn.Module) -> dict[str, nn.Module]:
    return {name: child for name, child in module.named_children() if list(child.parameters())}


def find_layers(model: Model, wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the wanted layers in the backbone's order; all where none is named.

    Raises
    ------
    UnknownNameError
        If the backbone lacks a layer; the message lists the layers that it has.
    """
    names = layer_names(model.backbone)
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise UnknownNameError(
            f"{model.spec.backbone} has no layer {', '.join(map(repr, unknown))}; there are: "
            f"{', '.join(names)}."
        )
    return tuple(name for name in names if not wanted or name in wanted)


@contextmanager
def recorded(
    model: nn.Module, layers: Sequence[str], pool: Pool, count: int | None = None
) -> Iterator[dict[str, Tensor]]:
    """Yield a dict that every forward pass fills with each layer's activations ``(B, D)``.

    ``mean`` averages what a layer gives over places, steps or tokens, so that D is its width;
    ``flat`` keeps every number; ``auto`` is flat for series and the mean for images. A convolution
    of ``conv1d`` is read after its ReLU, as the next one reads it. With the ``count``
    of samples in a batch, a layer may have them on its second axis, as a transformer has that
    reads time first.
    """
    network = model.backbone if isinstance(model, Model) else model
    convolves = isinstance(network, Conv1dEncoder)
    if pool == "auto":
        pool = "flat" if isinstance(network, SeriesEncoder) else "mean"
    last = _channels_last(network)
    outputs: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, output: Any) -> None:
        output = getattr(output, "last_hidden_state", output)  # of an encoder of transformers
        if isinstance(output, tuple | list) and output:
            output = output[0]
        if not isinstance(output, Tensor):
            title = model.spec.backbone if isinstance(model, Model) else type(network).__name__
            raise EvenhandError(f"the layer {name} of {title} gives no single array.")
        if count is not None and output.ndim > 2 and len(output) != count == output.shape[1]:
            output = output.transpose(0, 1)
        if convolves:
            output = output.relu()
        flat = pool == "flat" or output.ndim == 2
        behind = not _holds_channels(module, output.ndim - 2) if last is None else last
        outputs[name] = output.flatten(1) if flat else _averaged(output, behind)

    hooks = [
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: keep(name, module, output)
        )
        for name in layers
    ]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _averaged(output: Tensor, channels_last: bool) -> Tensor:
    """Return the mean over places of ``(B, C, …)``, over tokens of ``(B, N, D)``."""
    return output.flatten(1, -2).mean(dim=1) if channels_last else output.flatten(2).mean(dim=2)


def _holds_channels(layer: nn.Module, places: int) -> bool:
    """Whether a layer convolves or batch-normalises over so many axes, so channels come first."""
    kinds: dict[int, tuple[type[nn.Module], ...]] = {
        1: (nn.Conv1d, nn.BatchNorm1d),
        2: (nn.Conv2d, nn.BatchNorm2d),
        3: (nn.Conv3d, nn.BatchNorm3d),
    }
    return any(isinstance(module, kinds.get(places, ())) for module in layer.modules())


def _channels_last(backbone: nn.Module) -> bool | None:
    """Whether a network's layers give tokens or places first, and features last.

    None where each layer has to be looked at, as the network is not timm's.
    """
    if not hasattr(backbone, "feature_info"):
        return None
    tokens = hasattr(backbone, "blocks") and hasattr(backbone, "pos_embed")
    return tokens or getattr(backbone, "output_fmt", "NCHW") != "NCHW"
