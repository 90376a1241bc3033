"""Augment whole batches as tensors on the training device; each sample has its own draws."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import functional as F  # noqa: N812

from evenhand.errors import EvenhandError
from evenhand.networks.inputs import RGB, Images, Inputs, SeriesInputs

DRAWS = 8  # uniform numbers that an augmentation uses per image


class DrawnNumbers:
    """Uniform numbers ``(B, DRAWS)`` that were drawn in advance, used from left to right.

    With them, a sample's augmented view does not depend on the other samples of its batch.
    """

    def __init__(self, numbers: Tensor) -> None:
        self._unused = numbers

    def take(self, columns: int) -> Tensor:
        """Return the next numbers of each image, ``(B, columns)``."""
        taken, self._unused = self._unused[:, :columns], self._unused[:, columns:]
        return taken


RandomSource = Generator | DrawnNumbers
"""The source of random numbers: a generator on the images' device, or numbers drawn in advance."""

Augment = Callable[[Tensor, RandomSource], Tensor]
"""Function of images ``(B, C, H, W)`` in [0, 1] and random numbers; it returns such images."""

SMALLEST_CROP = 0.8  # of the side
JITTER = 0.2  # brightness, contrast and saturation change by up to this share


def none(images: Tensor, generator: RandomSource) -> Tensor:
    """Return the images unchanged."""
    return images


def upright(images: Tensor, generator: RandomSource) -> Tensor:
    """Mirror, crop and resize, and change colours: for images that have an up and a down."""
    return jitter(crop_images(images, generator, turns=False), generator)


def free(images: Tensor, generator: RandomSource) -> Tensor:
    """Augment as `upright` does, and turn by quarters: for images without orientation (skin)."""
    return jitter(crop_images(images, generator, turns=True), generator)


AUGMENTATIONS: dict[str, Augment] = {"none": none, "upright": upright, "free": free}


def find_augmentation(name: str, inputs: Inputs | Images) -> Augment:
    """Return the augmentation of that name; ``auto`` is upright for images and none for series.

    Raises
    ------
    EvenhandError
        If the augmentation is for images and the inputs are series.
    """
    series = isinstance(inputs, SeriesInputs)
    if name == "auto":
        return none if series else upright
    if series and name != "none":
        raise EvenhandError(
            f"--augment {name} is for images, and the samples are series. Leave it out."
        )
    return AUGMENTATIONS[name]


def crop_images(
    images: Tensor, generator: RandomSource, *, turns: bool, smallest: float = SMALLEST_CROP
) -> Tensor:
    """Mirror half of the images, crop a random part and, with ``turns``, turn by quarters.

    The part has the proportions of the image; its side is at least ``smallest`` of the image's.
    Images that are not square are turned by halves. Each image is resampled once, by an affine map.
    """
    count = len(images)
    uniform = _uniform(count, 5, generator)
    side = smallest + (1 - smallest) * uniform[:, 0]
    mirror = torch.where(uniform[:, 1] < 0.5, -1.0, 1.0)
    quarter = _quarters(uniform[:, 2], images) if turns else torch.zeros_like(side)
    cos, sin = torch.cos(quarter * torch.pi / 2).round(), torch.sin(quarter * torch.pi / 2).round()
    shift = (1 - side)[:, None] * (2 * uniform[:, 3:] - 1)  # (B, 2)
    rows = torch.stack([side * mirror * cos, -side * sin, side * mirror * sin, side * cos], dim=1)
    theta = torch.cat([rows.view(count, 2, 2), shift[:, :, None]], dim=2)  # (B, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def _quarters(uniform: Tensor, images: Tensor) -> Tensor:
    """Return the number of quarter turns of each image; only turns that keep the shape occur."""
    height, width = images.shape[-2:]
    return (uniform * 4).floor() if height == width else 2 * (uniform * 2).floor()


def jitter(images: Tensor, generator: RandomSource, *, strength: float = JITTER) -> Tensor:
    """Change brightness, contrast and saturation of each image by its own factors.

    If the channels are not colours, there is no saturation, and each channel has its own mean.
    """
    factors = 1 + strength * (2 * _uniform(len(images), 3, generator) - 1)
    brightness, contrast, saturation = factors.view(-1, 3, 1, 1, 1).unbind(1)
    if images.shape[1] not in (1, RGB):
        mean = images.mean(dim=(2, 3), keepdim=True)
        return (brightness * (mean + contrast * (images - mean))).clamp(0, 1)
    grey = images.mean(dim=1, keepdim=True)
    images = grey + saturation * (images - grey)
    mean = grey.mean(dim=(2, 3), keepdim=True)
    return (brightness * (mean + contrast * (images - mean))).clamp(0, 1)


def _uniform(rows: int, columns: int, generator: RandomSource) -> Tensor:
    if isinstance(generator, DrawnNumbers):
        return generator.take(columns)
    return torch.rand(rows, columns, generator=generator, device=generator.device)
