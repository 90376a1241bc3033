"""A model: a backbone with a task head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from evenhand.networks.backbones import create_backbone, inherit_scale, normalisation
from evenhand.networks.encoders.observations import hold_last
from evenhand.networks.inputs import ImageForm, ImageInputs, Images, Inputs, SeriesInputs
from evenhand.networks.widths import narrow

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
