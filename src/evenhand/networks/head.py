"""Find the head of any network, which every strategy trains."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from evenhand.errors import UnknownNameError
from evenhand.networks.model import Model

NAMES = ("head", "heads", "fc", "classifier", "classification_head", "class_layers")
"""Names of the classifier in timm, torchvision, transformers and MONAI."""


def find_head(module: nn.Module, head: str | Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the names of the modules that make up a network's head.

    Parameters
    ----------
    module
        Any network.
    head
        The name of the head, or several names; ``()`` for a network without a head. By default,
        the head is the classifier that timm declares, else the last linear layer of a child with a
        usual name (``fc``, ``classifier`` …), else the last layer of the network if it is linear.

    Raises
    ------
    UnknownNameError
        If the network has no module with a name in ``head``.

    Examples
    --------
    >>> find_head(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2)))
    ('2',)
    """
    if head is None:
        return _guess_head(module)
    names = (head,) if isinstance(head, str) else tuple(head)
    modules = dict(module.named_modules())
    for name in names:
        if name not in modules or not name:
            near = difflib.get_close_matches(name, modules, n=3)
            meant = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise UnknownNameError(f"head={name!r}: the network has no such module.{meant}")
    return names


def head_parameters(module: nn.Module, names: Iterable[str]) -> dict[int, nn.Parameter]:
    """Return ``id(parameter)`` → parameter for the parameters of some modules."""
    return {id(p): p for name in names for p in module.get_submodule(name).parameters()}


def _guess_head(module: nn.Module) -> tuple[str, ...]:
    if isinstance(module, Model):
        return ("head",)
    names = {id(child): name for name, child in module.named_modules()}
    if declared := _declared(module):
        return tuple(names[id(layer)] for layer in declared if id(layer) in names)
    children = dict(module.named_children())
    usual = [name for name in NAMES if name in children and _holds_parameters(children[name])]
    scope = usual[0] if usual else ""
    layers = [
        (name, layer)
        for name, layer in module.named_modules()
        if name.startswith(scope) and list(layer.parameters(recurse=False))
    ]
    if not layers or not isinstance(layers[-1][1], nn.Linear):
        return ()
    return (_outermost(module, layers[-1][0]),)


def _declared(module: Any) -> list[nn.Module]:
    """Return the classifiers that a timm network declares; distilled networks have two."""
    if not callable(getattr(module, "get_classifier", None)):
        return []
    classifier = module.get_classifier()
    layers = classifier if isinstance(classifier, tuple | list) else [classifier]
    return [layer for layer in layers if isinstance(layer, nn.Module) and _holds_parameters(layer)]


def _outermost(module: nn.Module, name: str) -> str:
    """Return the outermost module around a layer that has only the layer's parameters."""
    count = len(list(module.get_submodule(name).parameters()))
    while outer := name.rpartition(".")[0]:
        if len(list(module.get_submodule(outer).parameters())) > count:
            break
        name = outer
    return name


def _holds_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None
