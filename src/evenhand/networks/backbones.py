"""Backbones by name, filled from a file, an earlier run or the hub: timm's, and the series' own."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import Any

import evenhand.networks.torchvision_guard  # noqa: F401  # isort: skip  (timm imports torchvision)
import timm
import torch
from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from evenhand.errors import EvenhandError, UnknownNameError, some
from evenhand.files import checked, read_object
from evenhand.networks.conv1d import Conv1dEncoder
from evenhand.networks.inputs import Inputs, SeriesInputs
from evenhand.networks.own import bare_network, create_own, is_own
from evenhand.networks.registry import BACKBONES
from evenhand.runs import open_folder

CONV1D = "conv1d"


class _Spec(BaseModel):
    inputs: Inputs


class _About(BaseModel):
    """The part of a ``model.json`` that describes the inputs of the model."""

    spec: _Spec


def create_backbone(name: str, weights: str, inputs: int | SeriesInputs) -> nn.Module:
    """Return a network without a classifier; see :func:`evenhand.networks.build_model`."""
    if is_own(name):
        backbone = create_own(name, weights, inputs)
        if weights == "pretrained":
            return backbone
    elif isinstance(inputs, SeriesInputs):
        backbone = _create_for_series(name, weights, inputs)
    else:
        _check_name(name)
        if weights == "pretrained":
            return _pretrained(name, inputs)
        backbone = _create(name, inputs)
    if weights != "none":
        _fill(backbone, name, _checkpoint_file(weights))
    return backbone


def create_by_name(name: str) -> nn.Module:
    """Return a network of its own image size, without weights of note or a classifier.

    The encoder for series is that for a single channel.
    """
    if name == CONV1D:
        return Conv1dEncoder(2)
    if is_own(name):
        return bare_network(name)
    _check_name(name)
    network: nn.Module = timm.create_model(name, num_classes=0)
    return network


def normalisation(backbone: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel, of images in [0, 1], that it was made for."""
    config: Any = backbone.pretrained_cfg
    return tuple(config["mean"]), tuple(config["std"])


def inherit_scale(inputs: SeriesInputs, weights: str) -> SeriesInputs:
    """Return the inputs in the units that the weights were learnt in, where a model came with them.

    Raises
    ------
    EvenhandError
        The weights were learnt on other channels.
    """
    if weights in ("none", "pretrained"):
        return inputs
    about = _checkpoint_file(weights).parent / "model.json"
    if not about.is_file():
        return inputs
    known = checked(_About, read_object(about), about).spec.inputs
    channels = known.channels if isinstance(known, SeriesInputs) else ()
    if channels != inputs.channels:
        raise EvenhandError(
            f"--weights {weights}: that model takes {len(channels) or 'no'} channels "
            f"({some(channels)}), and the data have {len(inputs.channels)} "
            f"({some(inputs.channels)}). Give weights that were learnt on the same channels."
        )
    return inputs.model_copy(update={"mean": known.mean, "std": known.std})


def _create_for_series(name: str, weights: str, inputs: SeriesInputs) -> Conv1dEncoder:
    if name != CONV1D:
        raise EvenhandError(
            f"--backbone {name}: the samples are series, which {CONV1D} takes. Give --backbone "
            f"{CONV1D}, or a network of your own that --import registers."
        )
    if weights == "pretrained":
        raise EvenhandError(
            f"--weights pretrained: nobody has published weights of {CONV1D}. Pre-train on your "
            "own series (`evenhand pretrain`) and give --weights RUN, or start from random "
            "weights with --weights none."
        )
    return Conv1dEncoder(2 * len(inputs.channels))


def _check_name(name: str) -> None:
    if timm.is_model(name):
        return
    if name == CONV1D:
        raise EvenhandError(f"--backbone {name} takes series, and the samples are images.")
    near = difflib.get_close_matches(name, [*timm.list_models(), *BACKBONES], n=3)
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    raise UnknownNameError(
        f"no backbone {name!r} in timm {timm.__version__}.{meant} "
        "`python -c 'import timm; print(timm.list_models())'` lists them all; a "
        "network of your own is registered by a module of --import, or is a folder that "
        "transformers saved."
    )


def _create(name: str, image_size: int, *, pretrained: bool = False) -> nn.Module:
    """Make the network for that size; networks that work at any size take no ``img_size``."""
    create = timm.create_model
    try:
        network: nn.Module = create(name, pretrained=pretrained, num_classes=0, img_size=image_size)
    except TypeError:
        network = create(name, pretrained=pretrained, num_classes=0)
    except AssertionError as error:
        raise EvenhandError(f"{name} cannot take images of {image_size} pixels: {error}") from error
    _check_patches(network, name, image_size)
    _check_forward(network, name, image_size)
    return network


def _check_patches(network: nn.Module, name: str, image_size: int) -> None:
    """Refuse a size that is not a multiple of the patch: pixels at the edge would be cut off."""
    embedding: Any = getattr(network, "patch_embed", None)
    patch, pads = getattr(embedding, "patch_size", ()), getattr(embedding, "dynamic_img_pad", False)
    if not isinstance(patch, tuple) or not patch or pads:
        return
    side = max(patch)
    if image_size < side:
        raise EvenhandError(
            f"{name} cannot take images of {image_size} pixels: its patches are larger ({side}). "
            "Give a larger --image-size."
        )
    if image_size % side:
        nearest = side * round(image_size / side)
        raise EvenhandError(
            f"{name} cannot take images of {image_size} pixels: its patches are {side} pixels "
            f"wide. Give --image-size {nearest}, or another multiple of {side}."
        )


def _check_forward(network: nn.Module, name: str, image_size: int) -> None:
    """Refuse a size that the network fails on; an unusual size is tried with one blank image."""
    channels, usual, _ = network.pretrained_cfg["input_size"]  # type: ignore[index]
    if image_size == usual or (image_size > usual and image_size % 32 == 0):
        return
    training = network.training
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, channels, image_size, image_size))
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EvenhandError(
            f"{name} cannot take images of {image_size} pixels: {reason}. Give another "
            f"--image-size; its usual size is {usual}."
        ) from error
    finally:
        network.train(training)


def _pretrained(name: str, image_size: int) -> nn.Module:
    try:
        return _create(name, image_size, pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise EvenhandError(
            f"could not get timm's pre-trained weights of {name}: {reason}\n"
            "They come from the Hugging Face hub. On a machine that cannot reach it, download "
            "model.safetensors elsewhere and give --weights FILE.safetensors, point HF_HOME at a "
            "cache that holds it, start from an earlier run with --weights RUN, or from random "
            "weights with --weights none."
        ) from error


def _checkpoint_file(weights: str) -> Path:
    """Return the safetensors file that ``--weights`` means: a file, or a run's chosen model."""
    path = Path(weights)
    if path.is_dir():
        run = open_folder(path)
        if not run.finished:
            raise EvenhandError(f"the run in {path} is not finished; --weights needs one that is.")
        file = run.folder(run.head.chosen or "") / "model.safetensors"
        if not file.is_file():
            raise EvenhandError(
                f"the run in {path} holds no model; name a run that does. There is no {file}."
            )
        return file
    if not path.is_file():
        raise EvenhandError(
            f"--weights {weights} is neither a file nor a run. Give pretrained, none, a "
            ".safetensors file, or the directory of a finished run."
        )
    if path.suffix != ".safetensors":
        raise EvenhandError(
            f"--weights {weights} is no .safetensors file. Pickled checkpoints are not read; "
            "convert them with safetensors.torch.save_file."
        )
    return path


def _fill(backbone: nn.Module, name: str, file: Path) -> None:
    """Load every weight of the backbone from a file; a classifier in it is ignored.

    Raises
    ------
    EvenhandError
        The file is damaged, lacks tensors of the backbone, or holds tensors of neither the backbone
        nor a classifier, and so belongs to another network.
    """
    try:
        state = load_file(file)
    except (SafetensorError, OSError) as error:
        raise EvenhandError(f"{file} cannot be read as safetensors: {error}") from error
    own = {key.removeprefix("backbone."): w for key, w in state.items() if key[:9] == "backbone."}
    state = _adapt(backbone, own or state)
    shapes = {key: tuple(value.shape) for key, value in backbone.state_dict().items()}
    wrong = [
        f"{key} is {'missing' if key not in state else tuple(state[key].shape)}, not {shape}"
        for key, shape in shapes.items()
        if key not in state or tuple(state[key].shape) != shape
    ]
    if wrong:
        raise EvenhandError(
            f"{file} does not fit {name}: {len(wrong)} of {len(shapes)} tensors differ "
            f"({'; '.join(wrong[:3])}). Give the --backbone that it was saved from."
        )
    rest = sorted(state.keys() - shapes.keys())
    rest = [key for key in rest if not key.startswith(_classifier(backbone))]
    if rest and (left_over := sorted(set(rest) - _classifier_tensors(name))):
        raise EvenhandError(
            f"{file} is not of {name}: {len(left_over)} of its {len(state)} tensors have no place "
            f"there ({some(left_over)}). Give the --backbone that it was saved from."
        )
    backbone.load_state_dict({key: state[key] for key in shapes})


def _classifier(backbone: nn.Module) -> tuple[str, ...]:
    """Return the prefixes of the names of a timm network's classifier layers."""
    config: Any = getattr(backbone, "pretrained_cfg", {})
    layers = config.get("classifier") or ()
    return tuple(f"{layer}." for layer in ([layers] if isinstance(layers, str) else layers))


def _classifier_tensors(name: str) -> set[str]:
    """Return the names of the tensors that a timm network has only because of its classifier.

    Some classifiers are more than their last layer, which is all that timm's configuration names.
    """
    if not timm.is_model(name):
        return set()
    with torch.device("meta"):  # names without memory
        whole, without = timm.create_model(name), timm.create_model(name, num_classes=0)
    return set(whole.state_dict()) - set(without.state_dict())


def _adapt(backbone: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Let timm rename older layouts and resample position embeddings to this image size."""
    adapt = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
    adapted: dict[str, Tensor] = adapt(state, backbone) if adapt else state
    return adapted
