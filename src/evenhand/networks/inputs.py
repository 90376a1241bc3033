"""What a model takes in: images of one size, or series of given channels and length."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, PositiveInt

RGB = 3
Size = int | tuple[int, int]
"""Side of square images in pixels, or height and width."""


@dataclass(frozen=True)
class ImageForm:
    """What images are read as.

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
        """Return the form; a number is the side of squares of three channels."""
        return images if isinstance(images, ImageForm) else cls(images, images)

    @property
    def size(self) -> Size:
        """The side of squares, or height and width."""
        return self.height if self.height == self.width else (self.height, self.width)

    @property
    def plain(self) -> Images:
        """The side of squares of three channels; else the form itself."""
        is_plain = self.height == self.width and self.channels == RGB
        return self.height if is_plain else self

    def __str__(self) -> str:
        sides = str(self.height) if self.height == self.width else f"{self.height}x{self.width}"
        channels = f"{self.channels} channel{'s' * (self.channels != 1)}"
        return f"{sides} pixels{'' if self.channels == RGB else f' and {channels}'}"


Images = int | ImageForm
"""What images are read as; a number is the side of squares of three channels."""


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
        """What images are read as."""
        channels, height, width = self.shape
        return ImageForm(height, width, channels).plain


class SeriesInputs(BaseModel, frozen=True, extra="forbid"):
    """Series in the units they came in; NaN is what was not observed.

    Mean and standard deviation are those of the observed values of training patients. A channel
    whose standard deviation is 0 there has no value that could be learnt from: only whether it
    was observed is used.
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
