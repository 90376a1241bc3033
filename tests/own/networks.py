"""Networks as people bring them, small: six of other libraries or of one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import evenhand  # noqa: F401  # isort: skip  (its guard mends torchvision where it is broken)
import pytest
import torch
import torchvision
from torch import Tensor, nn

IMAGES, SERIES = (3, 32, 32), (2, 24)


class ECG(nn.Module):
    """A transformer on patches of two leads."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv1d(2, 16, 4, stride=4)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.patches(x).transpose(1, 2)).mean(1))


def plain_cnn(classes: int = 2) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, classes),
    )


def torchvision_resnet(classes: int = 2) -> nn.Module:
    block = torchvision.models.resnet.BasicBlock
    return torchvision.models.ResNet(block, [1, 1, 1, 2], num_classes=classes)


def torchvision_vit(classes: int = 2) -> nn.Module:
    return torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=classes)


def transformers_vit(classes: int = 2) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
        num_labels=classes,
    )
    return transformers.ViTForImageClassification(config)


def monai_densenet(classes: int = 2) -> nn.Module:
    nets = pytest.importorskip("monai.networks.nets")
    return nets.DenseNet(2, 3, classes, 8, 4, (2, 2, 2, 2))


@dataclass(frozen=True)
class Own:
    build: Callable[[int], nn.Module]
    shape: tuple[int, ...]
    head: str

    def make(self, classes: int = 2, seed: int = 0) -> nn.Module:
        """Return the network with weights of a seed, in training mode."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.build(classes)

    def inputs(self, count: int = 12, seed: int = 1) -> Tensor:
        return torch.randn(count, *self.shape, generator=torch.Generator().manual_seed(seed))


NETWORKS = {
    "plain CNN": Own(plain_cnn, IMAGES, "9"),
    "torchvision ResNet": Own(torchvision_resnet, IMAGES, "fc"),
    "torchvision ViT": Own(torchvision_vit, IMAGES, "heads"),
    "transformers ViT": Own(transformers_vit, IMAGES, "classifier"),
    "MONAI DenseNet": Own(monai_densenet, IMAGES, "class_layers"),
    "ECG transformer": Own(ECG, SERIES, "head"),
}
