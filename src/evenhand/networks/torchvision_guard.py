"""Make ``import torchvision`` work beside a torch build that its operators do not fit.

The registry's torchvision links its compiled operators to CUDA. With a CPU build of torch they do
not load, and the import of torchvision fails, because it registers shape functions for undeclared
operators. Then timm, peft, lightning and transformers' image processors fail, too. Evenhand uses
none of these operators, so it is enough to declare them.

``import evenhand`` installs the guard, an import hook; nothing is loaded until torchvision is
imported.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

_BROKEN = "operator torchvision::nms does not exist"
_OPERATORS = ("nms", "qnms")


class _Loader(SourceFileLoader):
    """Loads torchvision; if its operators are missing, declares them and loads it again."""

    def exec_module(self, module: ModuleType) -> None:
        try:
            super().exec_module(module)
        except RuntimeError as error:
            if str(error) != _BROKEN:
                raise
            _declare_operators()
            super().exec_module(module)


class TorchvisionGuard(MetaPathFinder):
    """Finds torchvision for the import system, with a loader that declares missing operators."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return torchvision's spec; None for every other module."""
        if fullname != "torchvision":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def install_torchvision_guard() -> None:
    """Put the guard before the other finders, unless it is there already."""
    if not any(isinstance(finder, TorchvisionGuard) for finder in sys.meta_path):
        sys.meta_path.insert(0, TorchvisionGuard())


def _declare_operators() -> None:
    import torch

    for name in _OPERATORS:
        torch.library.define(
            f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
