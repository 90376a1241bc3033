"""Describe the inputs of a model: images of one size, or series with given channels and length."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, PositiveInt

RGB = 3
Size = int | tuple[int, int]
"""Side of square images in pixels, or height and width."""


@dataclass(frozen=True)
class ImageForm:
    """The size and the channels of images.

    Parameters
    ----------
    height, width
        In pixels.
    channels
        1 for grey, 3 for red, green and blue, or as many as arrays have.
    """

    height: int
    width: int
    channels: int = RGB

    @classmethod
    def of(cls, images: Images) -> ImageForm:
        """Return the form; a number is the side of square images with three channels."""
        return images if isinstance(images, ImageForm) else cls(images, images)

    @property
    def size(self) -> Size:
        """The side of square images, or height and width, in pixels."""
        return self.height if self.height == self.width else (self.height, self.width)

    @property
    def plain(self) -> Images:
        """The side, if images are square with three channels; else the form itself."""
        is_plain = self.height == self.width and self.channels == RGB
        return self.height if is_plain else self

    def __str__(self) -> str:
        sides = str(self.height) if self.height == self.width else f"{self.height}x{self.width}"
        channels = f"{self.channels} channel{'s' * (self.channels != 1)}"
        return f"{sides} pixels{'' if self.channels == RGB else f' and {channels}'}"


Images = int | ImageForm
"""The size and the channels of images; a number is the side of squares with three channels."""


class ImageInputs(BaseModel, frozen=True, extra="forbid"):
    """Images in [0, 1]."""

    size: PositiveInt | tuple[PositiveInt, PositiveInt]  # side, or height and width, in pixels
    mean: tuple[float, ...]  # per channel
    std: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """``(C, H, W)`` of one sample."""
        height, width = self.size if isinstance(self.size, tuple) else (self.size, self.size)
        return (len(self.mean), height, width)

    @property
    def images(self) -> Images:
        """The size and the channels of the images."""
        channels, height, width = self.shape
        return ImageForm(height, width, channels).plain


class SeriesInputs(BaseModel, frozen=True, extra="forbid"):
    """Series in their original units; NaN marks values that were not observed.

    Mean and standard deviation are those of the observed values of training patients. Of a channel
    with a standard deviation of 0, the model uses only whether it was observed.
    """

    steps: PositiveInt
    channels: tuple[str, ...]
    mean: tuple[float, ...]  # per channel
    std: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """``(C, T)`` of one sample."""
        return (len(self.channels), self.steps)


Inputs = ImageInputs | SeriesInputs
