"""What a model takes in: images of one size, or series of given channels and length."""

from __future__ import annotations

from pydantic import BaseModel, PositiveInt


class ImageInputs(BaseModel, frozen=True, extra="forbid"):
    """Square images in [0, 1]."""

    size: PositiveInt  # pixels
    mean: tuple[float, ...]  # per channel
    std: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """``(3, H, W)`` of one sample."""
        return (len(self.mean), self.size, self.size)


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
