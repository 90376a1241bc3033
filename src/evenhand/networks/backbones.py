"""Create backbones by name, with weights from a file, an earlier run or the hub."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any

import timm
import torch
from pydantic import BaseModel
from torch import nn

from evenhand.errors import EvenhandError, UnknownNameError, first_few
from evenhand.files import read_json_record
from evenhand.networks.inputs import RGB, ImageForm, Images, Inputs, SeriesInputs
from evenhand.networks.own import USUAL_STEPS, bare_network, create_own, is_own
from evenhand.networks.registry import BACKBONES, SERIES_ENCODERS
from evenhand.networks.weights_file import fill, weights_file


class _Spec(BaseModel):
    inputs: Inputs


class _InputsRecord(BaseModel):
    """The part of a ``model.json`` that describes the inputs of the model."""

    spec: _Spec


def create_backbone(name: str, weights: str, inputs: Images | SeriesInputs) -> nn.Module:
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
            return _pretrained(name, ImageForm.of(inputs))
        backbone = _create(name, ImageForm.of(inputs))
    if weights != "none":
        fill(backbone, name, weights_file(weights))
    return backbone


def create_by_name(name: str) -> nn.Module:
    """Return a network with random weights, its default image size and no classifier.

    An encoder of series has a single channel.
    """
    if name in SERIES_ENCODERS:
        return SERIES_ENCODERS[name](2, USUAL_STEPS)
    if is_own(name):
        return bare_network(name)
    _check_name(name)
    network: nn.Module = timm.create_model(name, num_classes=0)
    return network


def normalisation(
    backbone: nn.Module, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation by channel of images in [0, 1] for a backbone.

    For another number of channels than the backbone declares, each channel has their average.
    """
    config: Any = backbone.pretrained_cfg
    mean, std = tuple(config["mean"]), tuple(config["std"])
    if len(mean) == channels:
        return mean, std
    return (sum(mean) / len(mean),) * channels, (sum(std) / len(std),) * channels


def inherit_scale(inputs: SeriesInputs, weights: str) -> SeriesInputs:
    """Return the inputs with the scale of the model that the weights come from, if there is one.

    Raises
    ------
    EvenhandError
        If the weights were learnt on other channels.
    """
    if weights in ("none", "pretrained"):
        return inputs
    record_path = weights_file(weights).parent / "model.json"
    if not record_path.is_file():
        return inputs
    earlier = read_json_record(_InputsRecord, record_path).spec.inputs
    channels = earlier.channels if isinstance(earlier, SeriesInputs) else ()
    if channels != inputs.channels:
        raise EvenhandError(
            f"--weights {weights}: that model takes {len(channels) or 'no'} channels "
            f"({first_few(channels)}), and the data have {len(inputs.channels)} "
            f"({first_few(inputs.channels)}). Give weights that were learnt on the same channels."
        )
    return inputs.model_copy(update={"mean": earlier.mean, "std": earlier.std})


def _create_for_series(name: str, weights: str, inputs: SeriesInputs) -> nn.Module:
    if name not in SERIES_ENCODERS:
        raise EvenhandError(
            f"--backbone {name}: the samples are series, which {', '.join(SERIES_ENCODERS)} take. "
            "Give one of these, or a network of your own that --import registers."
        )
    if weights == "pretrained":
        raise EvenhandError(
            f"--weights pretrained: there are no published weights of {name}. Pre-train on your "
            "own series (`evenhand pretrain`) and give --weights RUN, or start from random "
            "weights with --weights none."
        )
    return SERIES_ENCODERS[name](2 * len(inputs.channels), inputs.steps)


def _check_name(name: str) -> None:
    if timm.is_model(name):
        return
    if name in SERIES_ENCODERS:
        raise EvenhandError(f"--backbone {name} takes series, and the samples are images.")
    if Path(name).is_dir() or os.sep in name:
        problem = "the folder has no config.json" if Path(name).is_dir() else "no such folder"
        raise EvenhandError(
            f"--backbone {name}: {problem}. Give a folder that transformers' save_pretrained "
            "wrote, and leave it in its place: the models of a run read its config.json. Names of "
            "timm's networks have no slash."
        )
    near = difflib.get_close_matches(name, [*timm.list_models(), *BACKBONES, *SERIES_ENCODERS], n=3)
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    raise UnknownNameError(
        f"no backbone {name!r} in timm {timm.__version__}.{meant} "
        "`python -c 'import timm; print(timm.list_models())'` lists them all; a "
        "network of your own is registered by a module of --import, or is a folder that "
        "transformers saved."
    )


def _create(name: str, form: ImageForm, *, pretrained: bool = False) -> nn.Module:
    """Return a timm network for images of this form, also if it takes no ``img_size``."""
    more: dict[str, Any] = {} if form.channels == RGB else {"in_chans": form.channels}
    more |= {"pretrained": pretrained, "num_classes": 0}
    try:
        network: nn.Module = timm.create_model(name, img_size=form.size, **more)
    except TypeError:
        network = timm.create_model(name, **more)
    except AssertionError as error:
        raise EvenhandError(f"{name} cannot take images of {form}: {error}") from error
    _check_patches(network, name, form)
    _check_forward(network, name, form)
    return network


def _check_patches(network: nn.Module, name: str, form: ImageForm) -> None:
    """Refuse a size that is not a multiple of the patch: pixels at the edge would be cut off."""
    embedding: Any = getattr(network, "patch_embed", None)
    patch, pads = getattr(embedding, "patch_size", ()), getattr(embedding, "dynamic_img_pad", False)
    if not isinstance(patch, tuple) or not patch or pads:
        return
    side = max(patch)
    if min(form.height, form.width) < side:
        raise EvenhandError(
            f"{name} cannot take images of {form}: its patches are larger ({side}). "
            "Give a larger --image-size."
        )
    if form.height % side or form.width % side:
        height, width = (side * max(1, round(size / side)) for size in (form.height, form.width))
        square = form.height == form.width
        nearest = f"{height}" if square else f"{height}x{width}"
        others = f"another multiple of {side}" if square else f"other multiples of {side}"
        raise EvenhandError(
            f"{name} cannot take images of {form}: its patches are {side} pixels "
            f"wide. Give --image-size {nearest}, or {others}."
        )


def _check_forward(network: nn.Module, name: str, form: ImageForm) -> None:
    """Refuse a size on which the network fails; unusual sizes are tried with a blank image."""
    channels, usual, _ = network.pretrained_cfg["input_size"]  # type: ignore[index]
    if form.channels == channels and form.height == form.width == usual:
        return
    training = network.training
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, form.channels, form.height, form.width))
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EvenhandError(
            f"{name} cannot take images of {form}: {reason}. Give another "
            f"--image-size; its usual size is {usual}."
        ) from error
    finally:
        network.train(training)


def _pretrained(name: str, form: ImageForm) -> nn.Module:
    try:
        return _create(name, form, pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise EvenhandError(
            f"could not get timm's pre-trained weights of {name}: {reason}\n"
            "They come from the Hugging Face hub. On a machine that cannot reach it, download "
            "model.safetensors elsewhere and give --weights FILE.safetensors, point HF_HOME at a "
            "cache that holds it, start from an earlier run with --weights RUN, or from random "
            "weights with --weights none."
        ) from error
