"""The training loss: cross-entropy, with class weights and label smoothing."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evenhand.training.settings import LoopSettings


def class_weight(settings: LoopSettings, labels: NDArray[np.int64], classes: int) -> Tensor | None:
    """Return the weight of each class ``(C,)``; None if all are equal.

    Balanced weights are n / (C n_c); their mean over the training rows is 1. A class without a
    training row gets weight 0.

    Parameters
    ----------
    settings
        Settings with the kind of class weights.
    labels
        Training labels ``(n,)``, 0 … C − 1.
    classes
        Number of classes C.
    """
    if settings.class_weights != "balanced":
        return None
    counts = np.bincount(labels, minlength=classes)
    weights = len(labels) / (classes * np.maximum(counts, 1))
    return torch.tensor(np.where(counts > 0, weights, 0.0), dtype=torch.float32)


def make_loss(
    settings: LoopSettings, labels: NDArray[np.int64], classes: int
) -> nn.CrossEntropyLoss:
    """Return cross-entropy of logits ``(B, C)`` and labels ``(B,)``.

    Class weights and label smoothing are those of the settings. Parameters as in `class_weight`.
    """
    return nn.CrossEntropyLoss(
        weight=class_weight(settings, labels, classes), label_smoothing=settings.label_smoothing
    )
