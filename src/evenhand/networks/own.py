"""Networks that are not timm's: those that are registered, and folders saved by transformers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evenhand.errors import EvenhandError, some
from evenhand.files import read_json
from evenhand.networks.inputs import ImageForm, Images, SeriesInputs, Size
from evenhand.networks.registry import BACKBONES, IMAGENET_MEAN, IMAGENET_STD, OwnBackbone

USUAL_SIZE = 224
USUAL_STEPS = 100


def is_own(name: str) -> bool:
    """Return whether a backbone is registered, or a folder that transformers saved."""
    return name in BACKBONES or (Path(name) / "config.json").is_file()


def bare_network(name: str) -> nn.Module:
    """Return a network for its names and shapes alone, without its head."""
    if name in BACKBONES:
        own = BACKBONES[name]
        network = _made(own, {"size": USUAL_SIZE, "channels": 3, "steps": USUAL_STEPS})
        return _with_stages(own, _without_head(own, network))
    return _Pooled(name, "none", USUAL_SIZE)


def create_own(name: str, weights: str, inputs: Images | SeriesInputs) -> nn.Module:
    """Return a network that gives features ``(B, D)``, with what a model has to know of it.

    With ``weights`` other than ``pretrained`` its weights are random.

    Raises
    ------
    EvenhandError
        If the network cannot be made, takes other inputs, lacks a module that was named, or does
        not return an array ``(B, D)``.
    """
    if name in BACKBONES:
        own = BACKBONES[name]
        network = _without_head(own, _made(own, _sizes(inputs)))
        if weights != "pretrained":
            _reset(network)
    else:
        if isinstance(inputs, SeriesInputs):
            raise EvenhandError(
                f"--backbone {name}: the samples are series, and networks of transformers are "
                "taken for images. Register it with evenhand.register_backbone instead."
            )
        own, network = _saved(name), _Pooled(name, weights, ImageForm.of(inputs).size)
    described: Any = network
    described.head_hidden_size = _width(name, network, inputs)
    described.pretrained_cfg = {"mean": own.mean, "std": own.std, "classifier": own.head}
    return _with_stages(own, network)


def _with_stages(own: OwnBackbone, network: nn.Module) -> nn.Module:
    described: Any = network
    if own.layers:
        described.feature_info = [{"module": layer} for layer in own.layers]
    return network


def _sizes(inputs: Images | SeriesInputs) -> dict[str, Size]:
    if isinstance(inputs, SeriesInputs):
        return {"channels": 2 * len(inputs.channels), "steps": inputs.steps}
    form = ImageForm.of(inputs)
    return {"channels": form.channels, "size": form.size}


def _made(own: OwnBackbone, sizes: Mapping[str, Size]) -> nn.Module:
    """Call the function that makes the network with those of the sizes that it takes."""
    parameters: Mapping[str, inspect.Parameter] = {}  # a class of C has no signature
    with suppress(ValueError):
        parameters = inspect.signature(own.make).parameters
    unknown = [
        parameter.name
        for parameter in parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and parameter.name not in sizes
    ]
    if unknown:
        raise EvenhandError(
            f"--backbone {own.name}: its function wants {', '.join(unknown)}; for these samples it "
            f"can get {', '.join(sizes)}. Give the others a default."
        )
    network = own.make(**{name: size for name, size in sizes.items() if name in parameters})
    if not isinstance(network, nn.Module):
        raise EvenhandError(
            f"--backbone {own.name}: its function returned a {type(network).__name__}, and not a "
            "torch.nn.Module."
        )
    for layer in own.layers:
        _module(own, network, layer, "layers")
    return network


def _module(own: OwnBackbone, network: nn.Module, name: str, what: str) -> nn.Module:
    try:
        return network.get_submodule(name)
    except AttributeError:
        children = ", ".join(name for name, _ in network.named_children()) or "none"
        raise EvenhandError(
            f"--backbone {own.name}: {what}={name!r} names no module of it; its children are "
            f"{children}."
        ) from None


def _without_head(own: OwnBackbone, network: nn.Module) -> nn.Module:
    if own.head is not None:
        _module(own, network, own.head, "head")
        parent, _, child = own.head.rpartition(".")
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


def _saved(folder: str) -> OwnBackbone:
    """Return how a network is used that transformers saved."""
    path = Path(folder) / "preprocessor_config.json"
    scale = read_json(path) if path.is_file() else {}
    mean, std = scale.get("image_mean", IMAGENET_MEAN), scale.get("image_std", IMAGENET_STD)
    return OwnBackbone(folder, lambda: nn.Identity(), None, (), tuple(mean), tuple(std))


class _Pooled(nn.Module):
    """A network of transformers whose output is one array: pooled, or else the first token."""

    def __init__(self, folder: str, weights: str, size: Size) -> None:
        super().__init__()
        try:
            import transformers
        except ModuleNotFoundError as error:
            raise EvenhandError(
                f"--backbone {folder} was saved by transformers, which is not installed: "
                "pip install transformers"
            ) from error
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        try:
            self.network = _load(transformers.AutoModel, folder, weights, config)
        except (OSError, ValueError, RuntimeError) as error:
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
    """Return the network without a pooling layer that no training has seen, where it has one."""
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
        The folder lacks some of them.
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
        raise ValueError(f"{len(lacking)} tensors are missing: {some(lacking)}")
    loaded: nn.Module = network
    return loaded


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep transformers' progress bar and its table of tensors off the screen."""
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
