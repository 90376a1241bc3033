"""Create networks that are not timm's: registered ones, and folders saved by transformers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evenhand.errors import EvenhandError, first_few
from evenhand.files import read_json
from evenhand.networks.inputs import ImageForm, Images, SeriesInputs, Size
from evenhand.networks.registry import BACKBONES, IMAGENET_MEAN, IMAGENET_STD, OwnBackbone

USUAL_SIZE = 224
USUAL_STEPS = 100


def is_own(name: str) -> bool:
    """Return whether a backbone is registered, or a folder that transformers saved."""
    return name in BACKBONES or (Path(name) / "config.json").is_file()


def bare_network(name: str) -> nn.Module:
    """Return a network without its head, for its names and shapes."""
    if name in BACKBONES:
        backbone = BACKBONES[name]
        network = _make_network(backbone, {"size": USUAL_SIZE, "channels": 3, "steps": USUAL_STEPS})
        return _with_stages(backbone, _without_head(backbone, network))
    return _Pooled(name, "none", USUAL_SIZE)


def create_own(name: str, weights: str, inputs: Images | SeriesInputs) -> nn.Module:
    """Return a network from inputs to features ``(B, D)``, with the attributes that a model needs.

    Its weights are random unless ``weights`` is ``pretrained``.

    Raises
    ------
    EvenhandError
        If the network cannot be made, takes other inputs, lacks a registered head or layer, or does
        not return an array ``(B, D)``.
    """
    if name in BACKBONES:
        backbone = BACKBONES[name]
        network = _without_head(backbone, _make_network(backbone, _sizes(inputs)))
        if weights != "pretrained":
            _reset(network)
    else:
        if isinstance(inputs, SeriesInputs):
            raise EvenhandError(
                f"--backbone {name}: the samples are series, but folders of transformers are read "
                "as networks for images. Register it with evenhand.register_backbone instead."
            )
        backbone, network = _saved_backbone(name), _Pooled(name, weights, ImageForm.of(inputs).size)
    described: Any = network
    described.head_hidden_size = _width(name, network, inputs)
    described.pretrained_cfg = {
        "mean": backbone.mean,
        "std": backbone.std,
        "classifier": backbone.head,
    }
    return _with_stages(backbone, network)


def _with_stages(backbone: OwnBackbone, network: nn.Module) -> nn.Module:
    described: Any = network
    if backbone.layers:
        described.feature_info = [{"module": layer} for layer in backbone.layers]
    return network


def _sizes(inputs: Images | SeriesInputs) -> dict[str, Size]:
    if isinstance(inputs, SeriesInputs):
        return {"channels": 2 * len(inputs.channels), "steps": inputs.steps}
    form = ImageForm.of(inputs)
    return {"channels": form.channels, "size": form.size}


def _make_network(backbone: OwnBackbone, sizes: Mapping[str, Size]) -> nn.Module:
    """Call the function that makes the network, with the sizes that it takes."""
    parameters: Mapping[str, inspect.Parameter] = {}  # classes written in C have no signature
    with suppress(ValueError):
        parameters = inspect.signature(backbone.make).parameters
    unknown = [
        parameter.name
        for parameter in parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and parameter.name not in sizes
    ]
    if unknown:
        raise EvenhandError(
            f"--backbone {backbone.name}: its function wants {', '.join(unknown)}; for these "
            f"samples it can get {', '.join(sizes)}. Give the others a default."
        )
    network = backbone.make(**{name: size for name, size in sizes.items() if name in parameters})
    if not isinstance(network, nn.Module):
        raise EvenhandError(
            f"--backbone {backbone.name}: its function returned a {type(network).__name__}, and "
            "not a torch.nn.Module."
        )
    for layer in backbone.layers:
        _module(backbone, network, layer, "layers")
    return network


def _module(backbone: OwnBackbone, network: nn.Module, name: str, what: str) -> nn.Module:
    try:
        return network.get_submodule(name)
    except AttributeError:
        children = ", ".join(name for name, _ in network.named_children()) or "none"
        raise EvenhandError(
            f"--backbone {backbone.name}: {what}={name!r} names no module of it; its children are "
            f"{children}."
        ) from None


def _without_head(backbone: OwnBackbone, network: nn.Module) -> nn.Module:
    if backbone.head is not None:
        _module(backbone, network, backbone.head, "head")
        parent, _, child = backbone.head.rpartition(".")
        setattr(network.get_submodule(parent), child, nn.Identity())
    return network


def _reset(network: nn.Module) -> None:
    for module in network.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()


def _width(name: str, network: nn.Module, inputs: Images | SeriesInputs) -> int:
    """Return the width of the features, from a pass of two blank samples."""
    if isinstance(inputs, SeriesInputs):
        blank = torch.zeros(2, 2 * len(inputs.channels), inputs.steps)
    else:
        form = ImageForm.of(inputs)
        blank = torch.zeros(2, form.channels, form.height, form.width)
    training = network.training
    try:
        with torch.no_grad():
            features = network.eval()(blank)
    except (RuntimeError, ValueError, TypeError, AssertionError, IndexError) as error:
        raise EvenhandError(
            f"--backbone {name} fails on samples of the shape {tuple(blank.shape[1:])}: {error}"
        ) from error
    finally:
        network.train(training)
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != 2:
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise EvenhandError(
            f"--backbone {name} gives {shape} for two samples; features are one array (2, D). "
            "Name its classifier with head=, or pool and flatten what it returns."
        )
    return int(features.shape[1])


def _saved_backbone(folder: str) -> OwnBackbone:
    """Return the description of a network that transformers saved in a folder."""
    path = Path(folder) / "preprocessor_config.json"
    scale = read_json(path) if path.is_file() else {}
    mean, std = scale.get("image_mean", IMAGENET_MEAN), scale.get("image_std", IMAGENET_STD)
    return OwnBackbone(folder, lambda: nn.Identity(), None, (), tuple(mean), tuple(std))


class _Pooled(nn.Module):
    """A network of transformers whose output is one array: the pooled one, or the first token."""

    def __init__(self, folder: str, weights: str, size: Size) -> None:
        super().__init__()
        try:
            import transformers
        except ModuleNotFoundError as error:
            raise EvenhandError(
                f"--backbone {folder} was saved by transformers, which is not installed: "
                "pip install transformers"
            ) from error
        from safetensors import SafetensorError

        try:
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
            self.network = _load(transformers.AutoModel, folder, weights, config)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise EvenhandError(
                f"--backbone {folder}: transformers cannot read it ({error}). Save the network "
                "there with save_pretrained(); weights are read as safetensors only."
            ) from error
        takes = inspect.signature(self.network.forward).parameters
        if "pixel_values" not in takes:
            raise EvenhandError(
                f"--backbone {folder} holds a {type(self.network).__name__}, which takes no images."
            )
        own_size = getattr(config, "image_size", size)
        resized = own_size != size and "interpolate_pos_encoding" in takes
        self.more = {"interpolate_pos_encoding": True} if resized else {}

    def forward(self, images: Tensor) -> Tensor:
        """Return features ``(B, D)``."""
        out = self.network(pixel_values=images, **self.more)
        pooled: Tensor | None = getattr(out, "pooler_output", None)
        if pooled is not None:
            return pooled.flatten(1)
        hidden: Tensor = out.last_hidden_state
        return hidden[:, 0] if hidden.ndim == 3 else hidden.flatten(2).mean(2)


def _load(auto: Any, folder: str, weights: str, config: Any) -> nn.Module:
    """Return the network; an optional pooling layer is left out, as it may be untrained."""
    for more in ({"add_pooling_layer": False}, {}):
        try:
            if weights != "pretrained":
                network: nn.Module = auto.from_config(config, **more)
                return network
            return _with_saved_weights(auto, folder, config, more)
        except TypeError:
            if not more:
                raise
    raise AssertionError("the second try returns or raises")


def _with_saved_weights(auto: Any, folder: str, config: Any, more: dict[str, bool]) -> nn.Module:
    """Return the network with the weights in its folder.

    Raises
    ------
    ValueError
        If the folder lacks some of the weights.
    """
    with _quiet_transformers():
        network, info = auto.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            **more,
        )
    if lacking := sorted(info["missing_keys"]):
        raise ValueError(f"{len(lacking)} tensors are missing: {first_few(lacking)}")
    loaded: nn.Module = network
    return loaded


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence transformers' progress bar and its table of tensors during the block."""
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
