"""Make ``import torchvision`` work beside a torch build without CUDA. Import this before timm.

The registry's torchvision links its compiled operators to CUDA. Beside a CPU build of torch they
do not load, and torchvision then fails at import, because it registers shape functions for
operators that nobody has declared. timm, peft and torchmetrics fail with it. Evenhand uses none
of those operators, so declaring them is enough.
"""

from __future__ import annotations

import importlib

import torch

_BROKEN = "operator torchvision::nms does not exist"
_OPERATORS = ("nms", "qnms")


def ensure_torchvision() -> None:
    """Import torchvision; where its operators are missing, declare them and import it again."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if str(error) != _BROKEN:
            raise
        for name in _OPERATORS:
            torch.library.define(
                f"torchvision::{name}",
                "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
            )
        importlib.import_module("torchvision")


ensure_torchvision()
