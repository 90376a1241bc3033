"""The metrics about one group, each registered by its decorator line."""

from evenhand.measure.metrics import calibration, decisions, discrimination, losses

__all__ = ["calibration", "decisions", "discrimination", "losses"]
