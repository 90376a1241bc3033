"""A backbone with a task head: what is trained, scored, saved and pruned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from evenhand.models.backbones import create_backbone, normalisation


class ModelSpec(BaseModel, frozen=True):
    """What it takes to build a model again: everything but its weights."""

    backbone: str  # timm's name
    image_size: int  # pixels
    classes: tuple[str, ...]
    mean: tuple[float, ...]  # per channel, of images in [0, 1]
    std: tuple[float, ...]


class Model(nn.Module):
    """A timm backbone and a linear head.

    ``forward`` takes images ``(B, 3, H, W)`` in [0, 1], normalises them as the backbone expects,
    and returns logits ``(B, C)``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: ModelSpec, backbone: nn.Module) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = backbone
        self.head = nn.Linear(int(backbone.head_hidden_size), len(spec.classes))  # type: ignore[arg-type]
        for name in ("mean", "std"):
            channel = torch.tensor(getattr(spec, name)).view(1, -1, 1, 1)
            self.register_buffer(name, channel, persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """Return pooled representations ``(B, D)`` of images ``(B, 3, H, W)`` in [0, 1]."""
        out: Tensor = self.backbone((images - self.mean) / self.std)
        return out

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(B, C)`` of images ``(B, 3, H, W)`` in [0, 1]."""
        out: Tensor = self.head(self.features(images))
        return out


def build_model(
    backbone: str, weights: str, image_size: int, classes: Sequence[str], seed: int
) -> Model:
    """Return a model with a fresh head; the seed draws whatever no weights are given for.

    Parameters
    ----------
    backbone
        timm's name of the network.
    weights
        ``pretrained``, ``none``, a safetensors file, or the directory of an earlier run.
    image_size
        Side of the square images, in pixels.
    classes
        Class names; their number is the number of logits.
    seed
        Draws the head, and the backbone when ``weights`` is ``none``.

    Raises
    ------
    EvenhandError
        The backbone is unknown or cannot take that size, or the weights cannot be had or do not
        fit it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed CUDA, too
        network = create_backbone(backbone, weights, image_size)
        mean, std = normalisation(network)
        spec = ModelSpec(
            backbone=backbone, image_size=image_size, classes=tuple(classes), mean=mean, std=std
        )
        return Model(spec, network)


def random_model(spec: ModelSpec, seed: int) -> Model:
    """Return a model of that build with random weights: to train, or to load a checkpoint into."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed CUDA, too
        return Model(spec, create_backbone(spec.backbone, "none", spec.image_size))
