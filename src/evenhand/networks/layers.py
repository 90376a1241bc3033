"""Name the layers of a backbone, and record their activations in a forward pass."""

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
    """Return the names of the layers, from input to output.

    These are the stages or blocks that timm declares, the layers with which a user's network was
    registered, or the layers of an encoder of series. For any other network, they are its outermost
    modules with weights.
    """
    if isinstance(backbone, LayeredEncoder):
        return tuple(name for name, _ in backbone.named_children())
    return declared_stages(backbone) or _outermost(backbone)


def declared_stages(backbone: nn.Module) -> tuple[str, ...]:
    """Return the modules that end a network's stages, as timm or a registration declares them.

    The result is empty if none are declared, or if timm declares one that is not a module.
    """
    info: Any = getattr(backbone, "feature_info", ())
    names = tuple(str(entry["module"]) for entry in info)
    modules = dict(backbone.named_modules())
    return names if all(name in modules for name in names) else ()


def _outermost(module: nn.Module, prefix: str = "") -> tuple[str, ...]:
    """Return the names of the outermost modules with weights.

    A single child is replaced by its children, and a list of modules by its members.
    """
    children = _weighted_children(module)
    if len(children) == 1 and any(next(iter(children.values())).children()):
        ((name, child),) = children.items()
        return _outermost(child, f"{prefix}{name}.")
    names: list[str] = []
    for name, child in children.items():
        members = _list_inside(child) or ("",)
        names += [f"{prefix}{name}{member}" for member in members]
    return tuple(names)


def _list_inside(module: nn.Module, prefix: str = "") -> tuple[str, ...]:
    """Return the members of a ``ModuleList`` or ``ModuleDict`` if a module holds nothing else.

    Such a list is never called, so it has no activations of its own.
    """
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
    """Return the wanted layers in the backbone's order; all layers if ``wanted`` is empty.

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
def record_activations(
    model: nn.Module, layers: Sequence[str], pool: Pool, count: int | None = None
) -> Iterator[dict[str, Tensor]]:
    """Yield a dict that every forward pass fills with each layer's activations ``(B, D)``.

    ``mean`` averages a layer's output over positions, steps or tokens, so that D is its width;
    ``flat`` keeps every number; ``auto`` is flat for series and the mean for images. Convolutions
    of ``conv1d`` are recorded after their ReLU. If ``count`` (the number of samples in the batch)
    is given, samples may be on the second axis of an output, as in networks whose first axis is
    time.

    Raises
    ------
    EvenhandError
        If a layer runs more than once in a pass, or does not return a single array.
    """
    network = model.backbone if isinstance(model, Model) else model
    convolves = isinstance(network, Conv1dEncoder)
    if pool == "auto":
        pool = "flat" if isinstance(network, SeriesEncoder) else "mean"
    always_last = _channels_last(network)
    outputs: dict[str, Tensor] = {}
    title = model.spec.backbone if isinstance(model, Model) else type(network).__name__

    def keep(name: str, module: nn.Module, output: Any) -> None:
        if name in outputs:
            raise EvenhandError(
                f"the layer {name} of {title} runs more than once in a pass, so it has several "
                "activations. Choose another layer."
            )
        output = getattr(output, "last_hidden_state", output)  # of transformers
        if isinstance(output, tuple | list) and output:
            output = output[0]
        if not isinstance(output, Tensor):
            raise EvenhandError(
                f"the layer {name} of {title} does not return a single array. Choose another layer."
            )
        if count is not None and output.ndim > 2 and len(output) != count == output.shape[1]:
            # the first axis is time, the second has the samples
            output = output.transpose(0, 1)
        if convolves:
            output = output.relu()
        flat = pool == "flat" or output.ndim == 2
        channels_last = (
            not _holds_channels(module, output.ndim - 2) if always_last is None else always_last
        )
        outputs[name] = output.flatten(1) if flat else _averaged(output, channels_last)

    hooks = [network.register_forward_pre_hook(lambda module, inputs: outputs.clear())]
    hooks += [
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
    """Return the mean over positions of ``(B, C, …)``, or over tokens of ``(B, N, D)``."""
    return output.flatten(1, -2).mean(dim=1) if channels_last else output.flatten(2).mean(dim=2)


def _holds_channels(layer: nn.Module, axes: int) -> bool:
    """Whether a layer has a convolution or norm over ``axes`` axes, so that channels come first."""
    kinds: dict[int, tuple[type[nn.Module], ...]] = {
        1: (nn.Conv1d, nn.BatchNorm1d),
        2: (nn.Conv2d, nn.BatchNorm2d),
        3: (nn.Conv3d, nn.BatchNorm3d),
    }
    return any(isinstance(module, kinds.get(axes, ())) for module in layer.modules())


def _channels_last(backbone: nn.Module) -> bool | None:
    """Whether all layers of a network return features on the last axis.

    None for networks that are not timm's: their layers may differ.
    """
    if not hasattr(backbone, "feature_info"):
        return None
    tokens = hasattr(backbone, "blocks") and hasattr(backbone, "pos_embed")
    return tokens or getattr(backbone, "output_fmt", "NCHW") != "NCHW"
