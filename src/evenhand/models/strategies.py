"""Strategies: rules for fine-tuning by name. A new one is a function with one decorator line."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from evenhand.errors import EvenhandError, pick
from evenhand.models.masks import Mask, Schedule, constant, find_units, full_mask
from evenhand.models.model import Model, random_model
from evenhand.models.units import EMBEDDING, biases, is_transformer, parts

Strategy = Callable[[Model, int], tuple[Model, Schedule]]
"""From a model and a seed (for whatever is drawn) to the model to train and its schedule."""

Rule = Callable[[Model, str], Mask]
"""From a model and what stands behind the name (the K of ``last-K``) to a mask."""

_RULES: dict[str, tuple[Rule, str]] = {}


def find_strategy(name: str) -> Strategy:
    """Return the strategy of a name, or the one that tunes the units listed in it.

    Parameters
    ----------
    name
        ``full``, ``scratch`` (full, from random weights), ``head``, ``last-K``, ``attention``,
        ``layernorm``, ``bitfit``, ``random:SEED``, or units joined by commas
        (``blocks.3.attn,blocks.7.mlp``).

    Raises
    ------
    EvenhandError
        Here: no strategy goes by that name, or what stands behind it is malformed. When it is
        applied: the backbone lacks a unit, or has nothing that the strategy could tune.
    """
    if name == "scratch":
        return lambda model, seed: (random_model(model.spec, seed), constant(_full(model, "")))
    if "." in name or "," in name:
        units = frozenset(part.strip() for part in name.split(",") if part.strip())
        if not units:
            raise EvenhandError(
                f"strategy {name!r} names no unit; head tunes nothing but the head."
            )
        return lambda model, seed: (model, constant(_units(model, units)))
    stem, separator, argument = name.partition("-" if name.startswith("last") else ":")
    rule, usage = pick("strategy", stem, {**_RULES, "scratch": _RULES["full"]})
    if (separator + argument == "") != (usage == "") or (usage and not argument.isdecimal()):
        raise EvenhandError(f"strategy {name!r}: it is written {stem}{usage}.")
    return lambda model, seed: (model, constant(rule(model, argument)))


def strategy_names() -> tuple[str, ...]:
    """Return every strategy as it is written, for help texts."""
    return ("scratch", *(f"{name}{usage}" for name, (_, usage) in _RULES.items()))


def _rule(name: str, usage: str = "") -> Callable[[Rule], Rule]:
    """Register a mask rule; ``usage`` is how what follows its name is written."""

    def register(rule: Rule) -> Rule:
        _RULES[name] = (rule, usage)
        return rule

    return register


def _units(model: Model, names: Mask) -> Mask:
    find_units(model.backbone, names)
    return names


@_rule("full")
def _full(model: Model, _: str) -> Mask:
    return full_mask(model.backbone)


@_rule("head")
def _head(model: Model, _: str) -> Mask:
    return frozenset()


@_rule("last", "-K")
def _last(model: Model, argument: str) -> Mask:
    units = parts(model.backbone)
    inside = ("blocks.", "stage", "conv")
    depths = sorted({unit.depth for unit in units if unit.name.startswith(inside)})
    if not 1 <= int(argument) <= len(depths):
        raise EvenhandError(
            f"strategy 'last-{argument}': K is a whole number from 1 to {len(depths)}, the number "
            f"of blocks or stages of {model.spec.backbone}."
        )
    return frozenset(unit.name for unit in units if unit.depth >= depths[-int(argument)])


@_rule("attention")
def _attention(model: Model, _: str) -> Mask:
    if not is_transformer(model.backbone):
        raise EvenhandError(
            f"strategy 'attention': {model.spec.backbone} has no attention blocks. Networks by "
            "stage take conv or norm units; `evenhand units BACKBONE` lists them."
        )
    return frozenset(unit.name for unit in parts(model.backbone) if unit.kind == "attn")


@_rule("layernorm")
def _layernorm(model: Model, _: str) -> Mask:
    found = frozenset(unit.name for unit in parts(model.backbone) if "norm" in unit.kind)
    if not found:
        raise EvenhandError(f"strategy 'layernorm': {model.spec.backbone} has no norm layers.")
    return found


@_rule("bitfit")
def _bitfit(model: Model, _: str) -> Mask:
    return frozenset(unit.name for unit in biases(model.backbone))


@_rule("random", ":SEED")
def _random(model: Model, argument: str) -> Mask:
    """Each part of the blocks or stages with probability one half."""
    rng = np.random.default_rng(int(argument))
    inside = [unit.name for unit in parts(model.backbone) if unit.depth > EMBEDDING]
    return frozenset(name for name in inside if rng.random() < 0.5)
