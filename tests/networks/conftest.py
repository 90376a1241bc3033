"""Networks that tests of this folder share."""

from __future__ import annotations

import pytest

from evenhand.networks.model import Model, build_model

CLASSES = ("benign", "malignant")


@pytest.fixture
def vit() -> Model:
    return build_model("test_vit", "none", 32, CLASSES, seed=0)


@pytest.fixture
def resnet() -> Model:
    return build_model("test_resnet", "none", 32, CLASSES, seed=0)


@pytest.fixture
def edgenext() -> Model:
    """Return a network whose attention is not that of a plain ViT."""
    return build_model("edgenext_xx_small", "none", 32, CLASSES, seed=0)
