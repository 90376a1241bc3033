"""The metrics about one group, each registered by its decorator line."""

from evenhand.measure.metrics.decisions import accuracy, sensitivity, specificity
from evenhand.measure.metrics.discrimination import auc
from evenhand.measure.metrics.losses import log_loss

__all__ = ["accuracy", "auc", "log_loss", "sensitivity", "specificity"]
