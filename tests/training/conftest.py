"""Small cohorts, models and settings that tests of this folder share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from evenhand.cohort.phantoms.images import PhantomSettings, make_phantoms
from evenhand.cohort.splits import Splits, split_patients
from evenhand.cohort.store.samples import store_samples
from evenhand.masks.masks import Schedule, constant, full_mask
from evenhand.networks.model import Model, build_model
from evenhand.training.loop import fit
from evenhand.training.settings import FitSettings

Train = Callable[..., Model]
SETTINGS = FitSettings(epochs=2, batch_size=16, lr=1e-3, device="cpu")


@pytest.fixture(scope="session")
def splits(tmp_path_factory) -> Splits:
    """80 patients with one image of 32 pixels each."""
    cohort = make_phantoms(PhantomSettings(patients=80, size=32))
    stored = store_samples(cohort, 32, tmp_path_factory.mktemp("cache"))
    return split_patients(stored, ["group"], (0.6, 0.2, 0.2), np.random.default_rng(0))


def small_model(backbone: str = "test_vit", seed: int = 0) -> Model:
    return build_model(backbone, "none", 32, ("benign", "malignant"), seed)


@pytest.fixture
def model() -> Model:
    return small_model()


@pytest.fixture(scope="session")
def train(splits) -> Train:
    """Fit a new model, with changes to the settings."""

    def run(
        backbone: str = "test_vit",
        schedule: Schedule | None = None,
        on_epoch=lambda epoch: 0.0,
        cache=None,
        **changes,
    ) -> Model:
        model = small_model(backbone)
        settings = FitSettings(**{**SETTINGS.model_dump(), **changes})
        schedule = schedule or constant(full_mask(model.backbone))
        return fit(model, splits, schedule, settings, on_epoch=on_epoch, cache=cache)

    return run
