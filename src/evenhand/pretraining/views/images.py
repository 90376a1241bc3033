"""Views of images: crop, flip, colour jitter, greyscale, blur (Chen et al., ICML 2020)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional as F  # noqa: N812

from evenhand.networks.augment import crop_images, jitter
from evenhand.networks.inputs import RGB

SMALLEST_CROP = 0.5  # share of the side
JITTER = 0.4  # brightness, contrast and saturation change by up to this share
GREY, BLUR = 0.2, 0.5  # probabilities, independent for each sample and view
SIGMA = (0.1, 2.0)  # pixels
REACH = 4  # pixels on each side that a blur averages over


def view_images(images: Tensor, generator: Generator) -> Tensor:
    """Return one view of each image ``(B, C, H, W)`` in [0, 1]; only RGB images turn grey."""
    views = crop_images(images, generator, turns=False, smallest=SMALLEST_CROP)
    views = jitter(views, generator, strength=JITTER)
    return blur(turn_grey(views, generator) if views.shape[1] == RGB else views, generator)


def turn_grey(images: Tensor, generator: Generator) -> Tensor:
    """Turn some of the images grey."""
    chosen = torch.rand(len(images), generator=generator, device=images.device) < GREY
    return torch.where(
        chosen[:, None, None, None], images.mean(dim=1, keepdim=True).expand_as(images), images
    )


def blur(images: Tensor, generator: Generator) -> Tensor:
    """Blur some of the images, each with its own Gaussian."""
    count, channels, height, width = images.shape
    drawn = torch.rand(count, 2, generator=generator, device=images.device)
    sigma = SIGMA[0] + (SIGMA[1] - SIGMA[0]) * drawn[:, :1]
    offset = torch.arange(-REACH, REACH + 1, device=images.device)
    weight = torch.softmax(-offset.square() / (2 * sigma.square()), dim=1)  # (B, 9)
    weight = torch.where(drawn[:, 1:] < BLUR, weight, (offset == 0).float())
    kernel = weight.repeat_interleave(channels, dim=0)  # (B × C, 9)
    flat = F.pad(images, (REACH,) * 4, mode="reflect").reshape(1, count * channels, -1, width + 8)
    flat = F.conv2d(flat, kernel[:, None, None, :], groups=count * channels)
    flat = F.conv2d(flat, kernel[:, None, :, None], groups=count * channels)
    return flat.reshape(count, channels, height, width)
