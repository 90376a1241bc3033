"""Cut any network into units, and tune some of them while all other parameters are frozen."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

from torch import nn

from evenhand.errors import EvenhandError, UnknownNameError, first_few, pick
from evenhand.masks.masks import freeze_others, train_mode
from evenhand.masks.units import Unit, all_units, biases, families, parts
from evenhand.networks.calling import require_gradients, require_network
from evenhand.networks.head import find_head, head_parameters
from evenhand.networks.model import Model

NamingRule = Callable[[str], str | None]
"""Function from a parameter's name to its unit's name, or to None for one that is never tuned."""


def units_of(
    module: nn.Module,
    *,
    head: str | Sequence[str] | None = None,
    by: str | NamingRule | None = None,
) -> tuple[Unit, ...]:
    """Cut a network into the units that a mask can switch.

    timm's ViTs are cut into the norms, attention and MLP of each block, other networks of timm
    into the convolutions and norms of each stage. Any other network is cut by its structure: two or
    more modules of one class in a ``Sequential``, ``ModuleList`` or ``ModuleDict`` are blocks, each
    split into its norms, attention, MLP, convolutions and remaining parameters; everything outside
    of blocks is cut by layer.

    Parameters
    ----------
    module
        Any network.
    head
        The name of the head, or several names. The head is not a unit: it is always tuned.
        ``()``: the network has no head. None: timm's classifier, else the last linear layer.
    by
        A different cut: ``"blocks"`` (each block is one unit), ``"layers"``, ``"biases"``, or a
        search space of the network such as ``"attention"`` or ``"norm"``; or a function from a
        parameter's name to its unit's name, or to None for a parameter in no unit.

    Returns
    -------
    tuple of Unit
        From the input to the output; each has ``name``, ``depth``, ``kind``, ``parameters``,
        ``names`` and ``size``. No parameter is in two of them.

    Raises
    ------
    EvenhandError
        If ``module`` is not a network, if it has no module ``head``, if ``by`` is unknown, if
        two units share a weight, or if everything lies in the head.

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
    excluded = head_parameters(module, heads)
    cut = _cut(module, by)
    _refuse_shared(module, cut, excluded)
    units = tuple(filter(None, (_without(unit, excluded) for unit in cut)))
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
    """Make some units and the head trainable, and freeze all other parameters.

    Frozen parameters have ``requires_grad`` False, and frozen modules stay in evaluation mode even
    after ``module.train()``: no dropout, no change of running statistics. Used in a ``with``
    statement, the change is undone at the end of the block; otherwise it is permanent.

    Parameters
    ----------
    module
        Any network; its parameters stay the same objects. Make the optimizer after this call, from
        the parameters that require a gradient.
    units
        Units from `units_of`, of this network or of one with the same architecture; or names of its
        default units. If empty, only the head is tuned.
    head
        As in `units_of`; the head is always tuned.

    Raises
    ------
    EvenhandError
        If the network lacks one of the units, or if there is neither a unit nor a head to tune.

    Examples
    --------
    >>> network = nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 2))
    >>> with tune_only(network, []):
    ...     [name for name, p in network.named_parameters() if p.requires_grad]
    ['2.weight', '2.bias']
    >>> network[0].weight.requires_grad
    True
    """
    require_gradients(module)
    heads = find_head(module, head)
    chosen = {**_parameters(module, units), **head_parameters(module, heads)}
    if not chosen:
        raise EvenhandError(
            f"nothing is left to tune in {type(module).__name__}: no unit was given, and no head "
            "was recognised. Give units from units_of, or the head's name: head=."
        )
    return Tuning(module, chosen)


class Tuning:
    """A network in which only some parameters may change; a context manager that undoes this.

    Parameters
    ----------
    module
        The network.
    chosen
        The ``id`` of each parameter that may change.
    """

    def __init__(self, module: nn.Module, chosen: Collection[int]) -> None:
        self.module = module
        self._grads = {name: p.requires_grad for name, p in module.named_parameters()}
        self._modes = {name: part.training for name, part in module.named_modules()}
        freeze_others(module, chosen)
        self._handle = None
        if _keep_frozen not in module._forward_pre_hooks.values():
            self._handle = module.register_forward_pre_hook(_keep_frozen, prepend=True)
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
        for name, requires in self._grads.items():
            self.module.get_parameter(name).requires_grad_(requires)
        for name, training in self._modes.items():
            self.module.get_submodule(name).training = training


def _keep_frozen(module: nn.Module, inputs: Any) -> None:
    """Put frozen modules back into evaluation mode after a call of ``train()``."""
    if module.training:
        train_mode(module)


def _cut(module: nn.Module, by: str | NamingRule | None) -> tuple[Unit, ...]:
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
        # An error lists the rules above, too.
        cut = pick("rule for units", by, {**rules, "layers": (), "biases": ()})
    return tuple(replace(unit, names=tuple(f"{prefix}{n}" for n in unit.names)) for unit in cut)


def _unit_network(module: nn.Module) -> tuple[nn.Module, str]:
    """Return the network to cut, and the prefix of its parameters' names in ``module``.

    For Evenhand's own models it is the backbone, so that units are named as in a backbone alone.
    """
    return (module.backbone, "backbone.") if isinstance(module, Model) else (module, "")


def _joined(module: nn.Module, rule: NamingRule) -> tuple[Unit, ...]:
    """Return one unit for each name that a rule returns, with its parameters' lowest depth."""
    depths = {id(p): unit.depth for unit in _cut(module, None) for p in unit.parameters}
    members: dict[str, dict[str, nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        unit = rule(name)
        if unit is not None and not isinstance(unit, str):
            raise EvenhandError(
                f"by= returns {unit!r} for {name}; return the name of its unit, or None for a "
                "parameter in no unit."
            )
        if unit is not None:
            members.setdefault(unit, {})[name] = parameter
    last_depth = max(depths.values(), default=0) + 1
    units = []
    for name, parameters in members.items():
        depth = min(depths.get(id(p), last_depth) for p in parameters.values())
        units.append(Unit(name, depth, "own", (*parameters.values(),), (*parameters,)))
    return tuple(sorted(units, key=lambda unit: unit.depth))


def _without(unit: Unit, excluded: Collection[int]) -> Unit | None:
    named = {name: p for name, p in unit.named.items() if id(p) not in excluded}
    return replace(unit, parameters=(*named.values(),), names=(*named,)) if named else None


def _refuse_shared(module: nn.Module, units: Iterable[Unit], excluded: Collection[int]) -> None:
    """Refuse a weight that layers in different units share, or a unit's layer and the head."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    unit_of_layer = {name.rpartition(".")[0]: unit.name for unit in units for name in unit.names}
    for aliases in names.values():
        layers = {name.rpartition(".")[0] for name in aliases}
        owners = {unit_of_layer.get(layer) for layer in layers} - {None}
        modules = {id(module.get_submodule(layer)) for layer in layers}
        if len(modules) > 1 and len(owners) > 1:
            raise EvenhandError(
                f"the units {' and '.join(sorted(map(str, owners)))} share the weight "
                f"{' = '.join(aliases)}, so one cannot be tuned while the other is frozen. Give as "
                "by= a function that puts both into one unit."
            )


def _parameters(module: nn.Module, units: Iterable[Unit | str]) -> dict[int, nn.Parameter]:
    """Return the parameters of some units of this network by their ``id``."""
    units = [units] if isinstance(units, str) else list(units)
    named = [unit for unit in units if isinstance(unit, str)]
    unit_of = _units_by_name(module) if named else {}
    if unknown := [name for name in named if name not in unit_of]:
        inside = [name for name in unit_of if name.startswith(f"{unknown[0]}.")]
        near = inside or difflib.get_close_matches(unknown[0], unit_of, n=3)
        nearest = f"; near it: {first_few(near)}" if near else ""
        raise UnknownNameError(
            f"the network has no unit {first_few(map(repr, unknown))}{nearest}. units_of(module) "
            "lists its units."
        )
    if other := [unit for unit in units if not isinstance(unit, str | Unit)]:
        raise EvenhandError(
            f"units= contains {other[0]!r:.60}; give units from units_of, or their names."
        )
    cut = [unit_of[unit] if isinstance(unit, str) else unit for unit in units]
    parameters = dict(module.named_parameters())
    missing = [name for unit in cut for name in unit.names if name not in parameters]
    if missing:
        raise EvenhandError(
            f"the units are of another network: {type(module).__name__} has no parameter "
            f"{first_few(missing)}. Give units of this network, from units_of(module)."
        )
    names = [name for unit in cut for name in unit.names]
    return {id(parameters[name]): parameters[name] for name in names}


def _units_by_name(module: nn.Module) -> dict[str, Unit]:
    network, prefix = _unit_network(module)
    return {
        unit.name: replace(unit, names=tuple(f"{prefix}{n}" for n in unit.names))
        for unit in all_units(network).values()
    }
