"""The metrics about one group, each registered by its decorator line."""

from evenhand.metrics.definitions import calibration, decisions, discrimination, losses

__all__ = ["calibration", "decisions", "discrimination", "losses"]
