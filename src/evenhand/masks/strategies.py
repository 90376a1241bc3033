"""Strategies: rules for fine-tuning by name. A new one is a function with one decorator line."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from evenhand.errors import EvenhandError, unknown_name
from evenhand.masks.lora import add_lora
from evenhand.masks.masks import Mask, Schedule, constant, find_units, full_mask, listed_units
from evenhand.masks.units import EMBEDDING, FAMILIES, biases, find_family, is_transformer, parts
from evenhand.networks.model import Model, random_model

Strategy = Callable[[Model, int], tuple[Model, Schedule]]
"""From a model and a seed (for whatever is drawn) to the model to train and its schedule."""

Make = Callable[[Model, str, int], tuple[Model, Schedule]]
"""A strategy that is also told what stands behind its name (the K of ``last-K``)."""

Rule = Callable[[Model, str], Mask]
"""From a model and what stands behind the name to a mask for all epochs."""

DECAY = 0.75  # of gradual's learning rate per depth, unless --layer-decay says otherwise


@dataclass(frozen=True)
class Known:
    """A strategy that goes by a name."""

    make: Make
    usage: str  # how what follows the name is written
    form: str  # the same as a regular expression
    rule: Rule | None = None  # where it is one mask for all epochs, and changes nothing else


_KNOWN: dict[str, Known] = {}


def find_strategy(name: str) -> Strategy:
    """Return the strategy of a name, or the one that tunes the units listed in it.

    Parameters
    ----------
    name
        ``full``, ``scratch`` or ``supervised`` (full, from random weights), ``frozen3`` …
        ``frozen0`` (the freeze grid), ``head``, ``last-K``, ``attention``,
        ``layernorm``, ``bitfit``, ``lora``, ``lora:0,3,7`` (in these blocks), ``random:SEED``,
        ``gradual`` or ``gradual:K`` (K more blocks or stages each epoch), a mask family with all
        of its bits (``mlp``, ``norm-attn-mlp``, ``stages`` …), or units joined by commas
        (``blocks.3.attn,blocks.7.mlp``).

    Raises
    ------
    EvenhandError
        Here: no strategy goes by that name, or what stands behind it is malformed. When it is
        applied: the backbone lacks a unit, or has nothing that the strategy could tune; or the
        strategy needs an extra that is not installed.
    """
    stem = name.partition("-" if name.startswith("last") else ":")[0]
    if stem not in _KNOWN and ("." in name or "," in name):
        units = listed_units(name)
        if not units:
            raise EvenhandError(
                f"strategy {name!r} names no unit; head tunes nothing but the head."
            )
        return lambda model, seed: (model, constant(_units(model, units)))
    if stem not in _KNOWN:
        raise unknown_name("strategy", name, strategy_names())
    known, argument = _KNOWN[stem], name.removeprefix(stem)
    if not re.fullmatch(known.form, argument):
        raise EvenhandError(f"strategy {name!r}: it is written {stem}{known.usage}.")
    return lambda model, seed: known.make(model, argument[1:], seed)


def strategy_mask(name: str, model: Model) -> Mask | None:
    """Return the one mask that a strategy tunes, from the weights that the model has.

    None where a strategy does anything else: it starts from random weights, adds parameters, or
    changes the mask from epoch to epoch.

    Raises
    ------
    EvenhandError
        As from :func:`find_strategy` and the strategy itself.
    """
    find_strategy(name)
    stem = name.partition("-" if name.startswith("last") else ":")[0]
    if stem not in _KNOWN:
        return _units(model, listed_units(name))
    rule = _KNOWN[stem].rule
    return None if rule is None else rule(model, name.removeprefix(stem)[1:])


def strategy_names() -> tuple[str, ...]:
    """Return every strategy as it is written, for help texts."""
    return tuple(f"{name}{known.usage}" for name, known in _KNOWN.items())


def _strategy(
    name: str, usage: str = "", form: str = "", rule: Rule | None = None
) -> Callable[[Make], Make]:
    """Register a strategy; ``usage`` is how what follows its name is written."""

    def register(make: Make) -> Make:
        _KNOWN[name] = Known(make, usage, form, rule)
        return make

    return register


def _rule(name: str, usage: str = "", form: str = "") -> Callable[[Rule], Rule]:
    """Register a strategy that is one mask for all epochs."""

    def register(rule: Rule) -> Rule:
        _strategy(name, usage, form, rule)(
            lambda model, argument, seed: (model, constant(rule(model, argument)))
        )
        return rule

    return register


def _units(model: Model, names: Mask) -> Mask:
    find_units(model.backbone, names)
    return names


@_strategy("supervised")
@_strategy("scratch")
def _scratch(model: Model, _: str, seed: int) -> tuple[Model, Schedule]:
    return random_model(model.spec, seed), constant(full_mask(model.backbone))


@_rule("full")
def _full(model: Model, _: str) -> Mask:
    return full_mask(model.backbone)


@_rule("head")
def _head(model: Model, _: str) -> Mask:
    return frozenset()


@_rule("last", "-K", "-[0-9]+")
def _last(model: Model, argument: str) -> Mask:
    depths = _inner_depths(model)
    if not 1 <= int(argument) <= len(depths):
        raise EvenhandError(
            f"strategy 'last-{argument}': K is a whole number from 1 to {len(depths)}, the number "
            f"of blocks or stages of {model.spec.backbone}."
        )
    return _from_depth(model, depths[-int(argument)])


@_strategy("gradual", "[:K]", "(:0*[1-9][0-9]*)?")
def _gradual(model: Model, argument: str, _: int) -> tuple[Model, Schedule]:
    """Tune the head in the first epoch, K more depths in each after it, at last the embedding."""
    depths, step = _inner_depths(model), int(argument or 1)

    def masks(epoch: int) -> Mask:
        count = step * epoch
        if count > len(depths):
            return full_mask(model.backbone)
        return _from_depth(model, depths[-count]) if count else frozenset()

    return model, Schedule(masks, DECAY)


@_strategy("lora", "[:BLOCK,BLOCK…]", "(:[0-9]+(,[0-9]+)*)?")
def _lora(model: Model, argument: str, seed: int) -> tuple[Model, Schedule]:
    named = [int(block) for block in argument.split(",") if block]
    blocks = sorted(set(named)) or range(len(_inner_depths(model)))
    mask = frozenset(f"blocks.{block}.lora" for block in blocks)
    return add_lora(model, blocks, seed), constant(mask)


@_rule("attention")
def _attention(model: Model, _: str) -> Mask:
    if not is_transformer(model.backbone):
        raise EvenhandError(
            f"strategy 'attention': {model.spec.backbone} has no attention blocks. Networks by "
            "stage take conv or norm units; `evenhand units BACKBONE` lists them."
        )
    return frozenset(unit.name for unit in parts(model.backbone) if unit.kind == "attn")


def _thirds(model: Model) -> tuple[Mask, Mask, Mask]:
    """Return the first, middle and last third of the depth; stem and tail go with their ends."""
    units = parts(model.backbone)
    depths = _inner_depths(model)
    if len(depths) < 3:
        raise EvenhandError(
            f"the freeze grid needs three blocks or stages at least; {model.spec.backbone} has "
            f"{len(depths)}."
        )
    _, middle, end = (third[0] for third in np.array_split(depths, 3))
    starts = (-1, middle, end, np.inf)
    first, second, third = (
        frozenset(unit.name for unit in units if low <= unit.depth < high)
        for low, high in pairwise(starts)
    )
    return first, second, third


def _freeze(name: str, *tuned: int) -> None:
    """Register a cell of the freeze grid: which thirds of the backbone it tunes."""
    _rule(name)(lambda model, _: frozenset().union(*(_thirds(model)[third] for third in tuned)))


# The freeze grid (Yfantidou et al., KDD 2024): the three layers of the series' encoder, or the
# thirds of any other backbone; "fl" freezes the first and the last, "m" the middle one.
_freeze("frozen3")
_freeze("frozen2", 2)
_freeze("frozen2fl", 1)
_freeze("frozen1", 1, 2)
_freeze("frozen1m", 0, 2)
_freeze("frozen0", 0, 1, 2)


@_rule("layernorm")
def _layernorm(model: Model, _: str) -> Mask:
    found = frozenset(unit.name for unit in parts(model.backbone) if "norm" in unit.kind)
    if not found:
        raise EvenhandError(f"strategy 'layernorm': {model.spec.backbone} has no norm layers.")
    return found


@_rule("bitfit")
def _bitfit(model: Model, _: str) -> Mask:
    return frozenset(unit.name for unit in biases(model.backbone))


@_rule("random", ":SEED", ":[0-9]+")
def _random(model: Model, argument: str) -> Mask:
    """Each part of the blocks or stages with probability one half."""
    rng = np.random.default_rng(int(argument))
    inside = [unit.name for unit in parts(model.backbone) if unit.depth > EMBEDDING]
    return frozenset(name for name in inside if rng.random() < 0.5)


def _family(name: str, model: Model, _: str) -> Mask:
    """Every bit of a mask family."""
    family = find_family(model.backbone, name)
    return frozenset(unit.name for unit in (*family.units, *family.always))


for _name in FAMILIES:
    if _name not in _KNOWN:  # attention is both; layernorm is the strategy, which has the last norm
        _rule(_name)(partial(_family, _name))


def _inner_depths(model: Model) -> list[int]:
    """Return the depths of the blocks or stages, from the input up."""
    inside = ("blocks.", "stage", "conv")
    found = (unit for unit in parts(model.backbone) if unit.name.startswith(inside))
    return sorted({unit.depth for unit in found})


def _from_depth(model: Model, depth: int) -> Mask:
    return frozenset(unit.name for unit in parts(model.backbone) if unit.depth >= depth)
