"""Methods of pre-training, one file each: a projection head, and a loss on two views of it."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from evenhand.errors import pick
from evenhand.pretraining.objectives.registry import METHODS, Method, method

__all__ = ["Method", "find_method", "method"]


def find_method(name: str) -> Method:
    """Return a method by its name.

    Raises
    ------
    UnknownNameError
        There is none; the message lists those that there are.
    """
    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return pick("method", name, METHODS)
