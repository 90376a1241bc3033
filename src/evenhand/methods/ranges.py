"""Ranges of methods' settings, from which a search chooses."""

from __future__ import annotations

from dataclasses import dataclass

Setting = float | int | str
"""The value of a method's setting that a search can draw."""


@dataclass(frozen=True)
class Between:
    """Positive numbers from ``low`` to ``high``, drawn evenly by their logarithm."""

    low: float
    high: float

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


@dataclass(frozen=True)
class OneOf:
    """One of some values."""

    values: tuple[Setting, ...]

    def __contains__(self, value: object) -> bool:
        return value in self.values


SettingRange = Between | OneOf
