"""Augmentation of batches."""

from __future__ import annotations

import pytest
import torch
from torch import Generator

from evenhand.networks.augment import (
    AUGMENTATIONS,
    JITTER,
    SMALLEST_CROP,
    DrawnNumbers,
    crop_images,
    free,
    jitter,
    none,
)


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(16, 3, 24, 24, generator=generator(1))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_range_and_shape_stay(images, name):
    out = AUGMENTATIONS[name](images.round(), generator())  # zeros and ones: the hardest case
    assert out.shape == images.shape
    assert out.dtype == torch.float32
    assert out.min() >= 0
    assert out.max() <= 1


def test_none_is_the_identity(images):
    assert none(images, generator()) is images


@pytest.mark.parametrize("name", ["upright", "free"])
def test_each_image_has_its_own_draw(images, name):
    out = AUGMENTATIONS[name](images[:1].repeat(8, 1, 1, 1), generator())
    assert all(not torch.equal(out[i], out[j]) for i in range(8) for j in range(i))


@pytest.mark.parametrize("name", ["upright", "free"])
def test_the_generator_decides(images, name):
    augment = AUGMENTATIONS[name]
    assert torch.equal(augment(images, generator(3)), augment(images, generator(3)))
    assert not torch.equal(augment(images, generator(3)), augment(images, generator(4)))


def seen(*, turns: bool, monkeypatch) -> set[tuple[int, ...]]:
    """Return the orientations that come up: where the four quadrants go, without any cropping."""
    monkeypatch.setattr("evenhand.networks.augment.SMALLEST_CROP", 1.0)
    quadrants = torch.arange(4.0).view(1, 1, 2, 2) / 4
    image = quadrants.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    out = crop_images(image.repeat(200, 3, 1, 1), generator(), turns=turns)
    corners = out[:, 0, [2, 2, 13, 13], [2, 13, 2, 13]] * 4  # (200, 4)
    return {tuple(row) for row in corners.round().int().tolist()}


def test_free_uses_all_eight_orientations(monkeypatch):
    turned = {
        tuple(torch.rot90(torch.arange(4).view(2, 2), k).flatten().tolist()) for k in range(4)
    }
    mirrored = {(b, a, d, c) for a, b, c, d in turned}
    assert seen(turns=True, monkeypatch=monkeypatch) == turned | mirrored


def test_upright_only_mirrors(monkeypatch):
    assert seen(turns=False, monkeypatch=monkeypatch) == {(0, 1, 2, 3), (1, 0, 3, 2)}


def test_a_crop_stays_inside_the_image():
    axis = torch.linspace(-1 + 1 / 32, 1 - 1 / 32, 32)
    ramp = axis.expand(1, 3, 32, 32).repeat(300, 1, 1, 1)
    out = crop_images(ramp, generator(), turns=False)
    spread = (out[:, 0, 16, -1] - out[:, 0, 16, 0]).abs() / (axis[-1] - axis[0])
    assert spread.min() >= SMALLEST_CROP - 1e-3
    assert spread.min() < SMALLEST_CROP + 0.02
    assert spread.max() > 0.98
    # No reflection: a crop is one straight ramp.
    steps = out[:, 0, 16].diff(dim=1)
    assert ((steps >= -1e-5).all(dim=1) | (steps <= 1e-5).all(dim=1)).all()


def test_brightness_stays_in_its_range():
    grey = torch.full((500, 3, 4, 4), 0.5)
    out = jitter(grey, generator())[:, 0, 0, 0] / 0.5
    assert out.min() >= 1 - JITTER - 1e-6
    assert out.max() <= 1 + JITTER + 1e-6
    assert out.min() < 1 - 0.9 * JITTER
    assert out.max() > 1 + 0.9 * JITTER


@pytest.mark.parametrize(
    ("drawn", "about"),
    [
        ((1.0, 0.5, 0.5), lambda images: torch.zeros_like(images)),
        ((0.5, 1.0, 0.5), lambda images: images.mean(dim=(1, 2, 3), keepdim=True)),
        ((0.5, 0.5, 1.0), lambda images: images.mean(dim=1, keepdim=True)),
    ],
    ids=["brightness", "contrast", "saturation"],
)
def test_colours_move_away_from_black_the_mean_or_grey(images, drawn, about):
    """The largest number moves them by the whole of the jitter, the middle one not at all."""
    images = 0.45 + 0.1 * images  # so that nothing is clamped
    out = jitter(images, DrawnNumbers(torch.tensor([drawn]).repeat(len(images), 1)))
    still = about(images)
    torch.testing.assert_close(out - still, (1 + JITTER) * (images - still))


def test_a_number_is_used_once():
    drawn = DrawnNumbers(torch.arange(16).view(2, 8))
    assert drawn.take(5).tolist() == [[0, 1, 2, 3, 4], [8, 9, 10, 11, 12]]
    assert drawn.take(3).tolist() == [[5, 6, 7], [13, 14, 15]]


def test_a_flat_image_keeps_its_place(images):
    flat = torch.full_like(images, 0.5)
    assert torch.allclose(crop_images(flat, generator(), turns=True), flat, atol=1e-6)
    assert free(flat, generator()).std(dim=(1, 2, 3)).max() < 1e-6
