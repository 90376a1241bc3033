"""Networks that tests of this folder share."""

from tests.networks.conftest import edgenext, resnet, vit  # noqa: F401 (fixtures)
