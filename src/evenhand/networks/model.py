"""A model: a backbone with a task head; it can be saved and loaded, and its layers narrowed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from evenhand.errors import EvenhandError
from evenhand.files import DamagedError, read_json_record, replacing, write_json
from evenhand.networks.backbones import create_backbone, inherit_scale, normalisation
from evenhand.networks.encoders.layers import hold_last
from evenhand.networks.inputs import ImageForm, ImageInputs, Images, Inputs, SeriesInputs

HIDDEN, HEAD_DROPOUT = 128, 0.6  # of the head with a hidden layer
CLIP = 5.0  # standard deviations; values beyond are clipped

Head = Literal["linear", "hidden"]


class ModelSpec(BaseModel, frozen=True):
    """The description from which a model is built again, without its weights."""

    backbone: str
    inputs: Inputs
    classes: tuple[str, ...]
    head: Head = "linear"
    widths: dict[str, tuple[int, ...]] = {}  # of layers that channels were removed from

    @property
    def images(self) -> Images | None:
        """Size and channels of the images; None for series."""
        return self.inputs.images if isinstance(self.inputs, ImageInputs) else None


class Model(nn.Module):
    """A backbone and a head.

    ``forward`` takes images ``(B, C, H, W)`` in [0, 1] or series ``(B, C, T)`` with NaN where
    nothing was observed, normalises them as the backbone expects, and returns logits ``(B, C)``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: ModelSpec, backbone: nn.Module) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = backbone
        self.head = _head(spec, int(backbone.head_hidden_size))  # type: ignore[arg-type]
        for name in ("mean", "std"):
            by_channel = torch.tensor(getattr(spec.inputs, name))
            shape = (1, -1) + (1,) * (len(spec.inputs.shape) - 1)
            self.register_buffer(name, by_channel.view(shape), persistent=False)

    def scale(self, inputs: Tensor) -> Tensor:
        """Return series standardised by channel, with NaN for missing values; images unchanged."""
        if isinstance(self.spec.inputs, ImageInputs):
            return inputs
        scale = self.std.where(self.std > 0, torch.inf)  # constant channels become 0
        return ((inputs - self.mean) / scale).clamp(-CLIP, CLIP)

    def backbone_inputs(self, scaled: Tensor) -> Tensor:
        """Return the backbone's inputs for a scaled batch: ``(B, C, H, W)``, or ``(B, 2C, T)``."""
        if isinstance(self.spec.inputs, ImageInputs):
            return (scaled - self.mean) / self.std
        return hold_last(scaled)

    def features(self, inputs: Tensor) -> Tensor:
        """Return pooled representations ``(B, D)`` of a batch."""
        out: Tensor = self.backbone(self.backbone_inputs(self.scale(inputs)))
        return out

    def forward(self, inputs: Tensor, upper: nn.Module | None = None) -> Tensor:
        """Return logits ``(B, C)`` of a batch.

        With ``upper``, the part of the backbone above a cut, the inputs are activations at the cut.
        """
        out: Tensor = self.head(self.features(inputs) if upper is None else upper(inputs))
        return out


def _head(spec: ModelSpec, width: int) -> nn.Module:
    if spec.head == "linear":
        return nn.Linear(width, len(spec.classes))
    return nn.Sequential(
        nn.Linear(width, HIDDEN),
        nn.ReLU(),
        nn.Dropout(HEAD_DROPOUT),
        nn.Linear(HIDDEN, len(spec.classes)),
    )


def build_model(
    backbone: str,
    weights: str,
    inputs: Images | SeriesInputs,
    classes: Sequence[str],
    seed: int,
    head: Head = "linear",
) -> Model:
    """Return a model with a new head.

    Parameters
    ----------
    backbone
        timm's name of the network, or the name of an encoder of series (``conv1d``, ``gru`` …).
    weights
        ``pretrained``, ``none``, a safetensors file, or the directory of an earlier run.
    inputs
        The side of square images in pixels (or an `ImageForm`), or the description of the series.
        For series, weights of an earlier model bring the scale of its channels.
    classes
        The names of the classes, one for each logit.
    seed
        The seed of the head's weights, and of the backbone's if ``weights`` is ``none``.
    head
        ``linear``, or ``hidden``: a layer of 128 units and dropout .6 before the linear layer.

    Raises
    ------
    EvenhandError
        If the backbone is unknown or cannot take such inputs, or the weights cannot be obtained or
        do not fit it.
    """
    if isinstance(inputs, SeriesInputs):
        inputs = inherit_scale(inputs, weights)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed CUDA, too
        network = create_backbone(backbone, weights, inputs)
        described = inputs if isinstance(inputs, SeriesInputs) else _images(network, inputs)
        spec = ModelSpec(backbone=backbone, inputs=described, classes=tuple(classes), head=head)
        return Model(spec, network)


def _images(network: nn.Module, images: Images) -> ImageInputs:
    form = ImageForm.of(images)
    mean, std = normalisation(network, form.channels)
    return ImageInputs(size=form.size, mean=mean, std=std)


def random_model(spec: ModelSpec, seed: int) -> Model:
    """Return a model with random weights, to train it or to load a checkpoint into it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed CUDA, too
        inputs = spec.inputs if isinstance(spec.inputs, SeriesInputs) else spec.inputs.images
        model = Model(spec, create_backbone(spec.backbone, "none", inputs))
    narrow(model, spec.widths)
    return model


Widths = Mapping[str, tuple[int, ...]]
"""Name of a layer → the shape of its weight, for layers that are narrower than the backbone's."""


def widths_of(model: nn.Module, original: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the widths of the layers whose weights have other shapes than in the original."""
    before = {name: tuple(p.shape) for name, p in original.named_parameters()}
    return {
        name.rpartition(".")[0]: tuple(p.shape)
        for name, p in model.named_parameters()
        if name.endswith(".weight") and tuple(p.shape) != before[name]
    }


def narrow(model: nn.Module, widths: Widths) -> None:
    """Give layers of a new model these shapes; their weights must be loaded afterwards."""
    for name, shape in widths.items():
        _narrow_layer(model.get_submodule(name), shape)
    count_heads(model)


def count_heads(model: nn.Module) -> None:
    """Set the number of heads of each attention to that of its layers."""
    for attention in attentions(model).values():
        attention.num_heads = attention.qkv.out_features // (3 * attention.head_dim)
        attention.attn_dim = attention.num_heads * attention.head_dim


def attentions(model: nn.Module) -> dict[str, Any]:
    """Return name → attention, for attentions from which heads can be removed.

    These are the attentions of timm's plain ViT, whose width ``attn_dim`` may differ from the
    network's. Swin, BEiT and others assume that the two widths are equal.
    """
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(getattr(module, "qkv", None), nn.Linear) and hasattr(module, "attn_dim")
    }


def unprunable_attentions(model: nn.Module) -> Iterator[str]:
    """Yield the names of attentions with linear layers whose heads cannot be removed."""
    prunable = attentions(model)
    for name, part in model.named_modules():
        text = f"{name.rpartition('.')[2]} {type(part).__name__}".lower()
        attends = "attn" in text or "attention" in text
        is_linear = any(isinstance(layer, nn.Linear) for layer in part.modules())
        if name and attends and is_linear and name not in prunable:
            yield name


def _narrow_layer(layer: nn.Module, shape: tuple[int, ...]) -> None:
    """Replace every tensor of a layer by an empty one of the new size; update its attributes."""
    for name, parameter in list(layer.named_parameters(recurse=False)):
        size = shape if parameter.ndim > 1 else shape[:1]
        layer.register_parameter(name, nn.Parameter(parameter.new_empty(size)))
    for name, buffer in list(layer.named_buffers(recurse=False)):
        if buffer.ndim:
            layer.register_buffer(name, torch.empty(shape[:1], dtype=buffer.dtype))
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = shape
    elif isinstance(layer, nn.Conv1d | nn.Conv2d):
        if layer.groups > 1:  # depthwise: only groups of one channel are narrowed
            layer.groups = shape[0]
        layer.out_channels, layer.in_channels = shape[0], shape[1] * layer.groups
    elif isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = shape
    elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        layer.num_features = shape[0]


SCHEMA = 1


class EmbeddingsRecord(BaseModel, frozen=True):
    """The spread and the effective rank of the embeddings of a pre-trained encoder."""

    spread: float
    rank: float
    untrained_rank: float


class ModelRecord(BaseModel):
    """The content of ``model.json``; entries of single jobs stay in it unchecked."""

    model_config = ConfigDict(frozen=True, extra="allow")

    schema_version: int = Field(alias="schema")
    spec: ModelSpec
    units: list[dict[str, Any]] = []
    val: dict[str, float | None] = {}
    epoch: int | None = None
    loss: float | None = None
    losses: list[float] = []
    embeddings: EmbeddingsRecord | None = None  # of a pre-trained encoder
    warning: str | None = None  # about the training, for the user


def save_model(folder: Path, model: Model, **facts: Any) -> None:
    """Write ``model.safetensors`` and ``model.json``; ``facts`` (mask, lr …) go into the latter."""
    save_tensors(folder / "model.safetensors", model.state_dict())
    spec = model.spec.model_dump()
    write_json(folder / "model.json", {"schema": SCHEMA, "spec": spec, **facts})


def load_model(folder: Path) -> Model:
    """Return the model that is saved in a folder, in evaluation mode on the CPU.

    Raises
    ------
    EvenhandError
        If the folder holds no model, a damaged one, or one that a later version wrote.
    """
    weights = folder / "model.safetensors"
    if not (folder / "model.json").is_file() and not weights.is_file():
        raise EvenhandError(
            f"{folder} holds no model: it has no model.json. Give models/NAME of a run."
        )
    record = read_model_record(folder)
    try:
        model = random_model(record.spec, seed=0)
    except EvenhandError as error:
        raise EvenhandError(f"{folder}/model.json: {error}") from error
    state = load_tensors(weights)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        problem = " ".join(str(error).split())
        raise DamagedError(weights, f"it does not fit {folder}/model.json ({problem})") from None
    return model.eval()


def read_model_record(folder: Path) -> ModelRecord:
    """Return the content of the ``model.json`` in a folder.

    Raises
    ------
    EvenhandError
        If the file is absent or damaged, or a later version wrote it.
    """
    path = folder / "model.json"
    return read_json_record(ModelRecord, path, SCHEMA)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors by name to ``path`` as safetensors, whole or not at all.

    Raises
    ------
    WriteError
        If the disk is full, or the folder cannot be written.
    """
    with replacing(path) as part:
        write_tensors(part, tensors)


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write tensors by name as safetensors.

    Raises
    ------
    OSError
        If the system cannot write the file.
    """
    contiguous = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(contiguous, path, metadata)
    except SafetensorError as error:  # its text has the system's error number
        raise _system_error(error) from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors by name in a safetensors file that Evenhand wrote.

    Raises
    ------
    DamagedError
        If the file is absent, or is not a safetensors file.
    """
    if not path.is_file():
        raise DamagedError(path, "there is no such file")
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise DamagedError(path, f"it cannot be read as safetensors ({error})") from error


def _system_error(error: SafetensorError) -> OSError:
    number = re.search(r"os error (\d+)", str(error))
    if number is None:
        return OSError(str(error))
    code = int(number[1])
    return OSError(code, os.strerror(code))
