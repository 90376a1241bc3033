"""Units of any network, and tuning some of them while the rest stands still."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

from torch import nn

from evenhand.errors import EvenhandError, UnknownNameError, pick, some
from evenhand.masks.masks import freeze_others, train_mode
from evenhand.masks.units import Unit, all_units, biases, families, parts
from evenhand.networks.calling import require_network
from evenhand.networks.head import find_head, head_parameters
from evenhand.networks.model import Model

Rule = Callable[[str], str | None]
"""From a parameter's name to its unit's, None where no unit has it and it is never tuned."""


def units_of(
    module: nn.Module,
    *,
    head: str | Sequence[str] | None = None,
    by: str | Rule | None = None,
) -> tuple[Unit, ...]:
    """Cut a network into the units that a mask can switch.

    timm's ViTs are cut into the norms, attention and MLP of each block, other networks of timm
    into the convolutions and norms of each stage. Any other network is cut by its structure: like
    modules in a row (in a ``Sequential``, ``ModuleList`` or ``ModuleDict``) are blocks, each split
    into its norms, attention, MLP, convolutions and the rest; what lies outside is cut by layer.

    Parameters
    ----------
    module
        Any network.
    head
        The name of the head, or several names; it is no unit, as it is always tuned. ``()`` says
        that there is none. None finds it: timm's classifier, else the last linear layer.
    by
        Another cut: ``"blocks"`` (a block is one unit), ``"layers"``, ``"biases"``, a search space
        of the network such as ``"attention"`` or ``"norm"``, or a function from a parameter's name
        to its unit's name, None where it is in no unit.

    Returns
    -------
    tuple of Unit
        From the input to the output; each has ``name``, ``depth``, ``kind``, ``parameters``,
        ``names`` and ``size``. No parameter is in two of them.

    Raises
    ------
    EvenhandError
        It is no network, there is no such module or rule, two units share a weight, or no unit is
        left.

    Examples
    --------
    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    >>> [unit.name for unit in units_of(network)]
    ['0']
    >>> [unit.name for unit in units_of(network, head=(), by=lambda name: name.split(".")[1])]
    ['weight', 'bias']
    """
    require_network(module)
    heads = find_head(module, head)
    left_out = head_parameters(module, heads)
    _refuse_shared(module, cut := _cut(module, by), left_out)
    units = tuple(filter(None, (_without(unit, left_out) for unit in cut)))
    if not units:
        raise EvenhandError(
            f"no unit is left in {type(module).__name__}: everything lies in the head "
            f"({', '.join(heads)}) or in no unit. Name the head, or give another rule with by=."
        )
    return units


def tune_only(
    module: nn.Module,
    units: Iterable[Unit | str],
    *,
    head: str | Sequence[str] | None = None,
) -> Tuning:
    """Let some units and the head change, and freeze the rest.

    What is frozen asks for no gradient and stays in evaluation mode, whenever the network is put
    into training mode: it drops nothing out and keeps its running statistics. A plain call holds
    from then on; as a context manager the network is afterwards as it was before.

    Parameters
    ----------
    module
        Any network; its parameters stay the same objects. Make the optimizer afterwards, from those
        that ask for gradients.
    units
        From `units_of`, for this network or for one that was built alike; or names of its default
        units. None of them: the head alone is tuned.
    head
        As in `units_of`; the head is always tuned.

    Raises
    ------
    EvenhandError
        The network has no such unit, or there is neither a unit nor a head to tune.

    Examples
    --------
    >>> network = nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 2))
    >>> with tune_only(network, []):
    ...     [name for name, p in network.named_parameters() if p.requires_grad]
    ['2.weight', '2.bias']
    >>> network[0].weight.requires_grad
    True
    """
    require_network(module)
    heads = find_head(module, head)
    chosen = {**_parameters(module, units), **head_parameters(module, heads)}
    if not chosen:
        raise EvenhandError(
            f"nothing is left to tune in {type(module).__name__}: no unit was given, and it has no "
            "head that is known. Give units from units_of, or the head's name: head=."
        )
    return Tuning(module, chosen)


class Tuning:
    """A network of which some parameters alone may change; as a context manager it ends."""

    def __init__(self, module: nn.Module, chosen: Collection[int]) -> None:
        self.module = module
        self._grads = {name: p.requires_grad for name, p in module.named_parameters()}
        self._modes = {name: part.training for name, part in module.named_modules()}
        freeze_others(module, chosen)
        self._handle = None
        if _stand_still not in module._forward_pre_hooks.values():
            self._handle = module.register_forward_pre_hook(_stand_still, prepend=True)
        if module.training:
            train_mode(module)

    def __enter__(self) -> nn.Module:
        return self.module

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._handle is not None:
            self._handle.remove()
        for name, asks in self._grads.items():
            self.module.get_parameter(name).requires_grad_(asks)
        for name, training in self._modes.items():
            self.module.get_submodule(name).training = training


def _stand_still(module: nn.Module, inputs: Any) -> None:
    """Put what is frozen into evaluation mode again, after somebody has called ``train()``."""
    if module.training:
        train_mode(module)


def _cut(module: nn.Module, by: str | Rule | None) -> tuple[Unit, ...]:
    network, prefix = _unit_network(module)
    if callable(by):
        return _joined(module, by)
    if by is None:
        cut = parts(network)
    elif by == "layers":
        return _joined(module, lambda name: name.rpartition(".")[0] or name)
    elif by == "biases":
        cut = biases(network)
    else:
        spaces = families(network)
        rules = {name: family.units for name, family in spaces.items()}
        cut = pick("rule for units", by, {**rules, "layers": (), "biases": ()})
    return tuple(replace(unit, names=tuple(f"{prefix}{n}" for n in unit.names)) for unit in cut)


def _unit_network(module: nn.Module) -> tuple[nn.Module, str]:
    """Return what is cut: the backbone of Evenhand's own models, whose units have its names."""
    return (module.backbone, "backbone.") if isinstance(module, Model) else (module, "")


def _joined(module: nn.Module, rule: Rule) -> tuple[Unit, ...]:
    """Return one unit for each name that a rule gives, with the depth of its first parameter."""
    depths = {id(p): unit.depth for unit in _cut(module, None) for p in unit.parameters}
    held: dict[str, dict[str, nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        unit = rule(name)
        if unit is not None and not isinstance(unit, str):
            raise EvenhandError(
                f"by= gives {unit!r} for {name}; give the name of its unit, or None where it is in "
                "none."
            )
        if unit is not None:
            held.setdefault(unit, {})[name] = parameter
    behind = max(depths.values(), default=0) + 1
    units = []
    for name, own in held.items():
        depth = min(depths.get(id(p), behind) for p in own.values())
        units.append(Unit(name, depth, "own", (*own.values(),), (*own,)))
    return tuple(sorted(units, key=lambda unit: unit.depth))


def _without(unit: Unit, left_out: Collection[int]) -> Unit | None:
    own = {name: p for name, p in unit.named.items() if id(p) not in left_out}
    return replace(unit, parameters=(*own.values(),), names=(*own,)) if own else None


def _refuse_shared(module: nn.Module, units: Iterable[Unit], left_out: Collection[int]) -> None:
    """Refuse weights of several layers that lie in different units, or in a unit and the head."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    owner = {name: unit.name for unit in units for name in unit.names}
    inner = {name.rpartition(".")[0]: unit for name, unit in owner.items()}
    for own in names.values():
        layers = {name.rpartition(".")[0] for name in own}
        holders = {inner.get(layer) for layer in layers} - {None}
        modules = {id(module.get_submodule(layer)) for layer in layers}
        if len(modules) > 1 and len(holders) > 1:
            raise EvenhandError(
                f"the units {' and '.join(sorted(map(str, holders)))} share the weight "
                f"{' = '.join(own)}, so one cannot be tuned while the other stands still. Give by= "
                "a function that puts both into one unit."
            )


def _parameters(module: nn.Module, units: Iterable[Unit | str]) -> dict[int, nn.Parameter]:
    """Return the parameters of units of this network, by their identity."""
    units = [units] if isinstance(units, str) else list(units)
    named = [unit for unit in units if isinstance(unit, str)]
    unit_of = _units_by_name(module) if named else {}
    if unknown := [name for name in named if name not in unit_of]:
        inside = [name for name in unit_of if name.startswith(f"{unknown[0]}.")]
        near = inside or difflib.get_close_matches(unknown[0], unit_of, n=3)
        nearest = f"; near it: {some(near)}" if near else ""
        raise UnknownNameError(
            f"the network has no unit {some(map(repr, unknown))}{nearest}. units_of(module) lists "
            "its units."
        )
    if other := [unit for unit in units if not isinstance(unit, str | Unit)]:
        raise EvenhandError(f"units= holds {other[0]!r:.60}; give units of units_of, or names.")
    cut = [unit_of[unit] if isinstance(unit, str) else unit for unit in units]
    own = dict(module.named_parameters())
    missing = [name for unit in cut for name in unit.names if name not in own]
    if missing:
        raise EvenhandError(
            f"the units are of another network: {type(module).__name__} has no parameter "
            f"{some(missing)}. Give units of this network, from units_of(module)."
        )
    return {id(own[name]): own[name] for unit in cut for name in unit.names}


def _units_by_name(module: nn.Module) -> dict[str, Unit]:
    network, prefix = _unit_network(module)
    return {
        unit.name: replace(unit, names=tuple(f"{prefix}{n}" for n in unit.names))
        for unit in all_units(network).values()
    }
