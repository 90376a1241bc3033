"""Fine-tuning strategies by name. A new strategy is one decorated function."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from evenhand.errors import EvenhandError, unknown_name
from evenhand.masks.lora import add_lora
from evenhand.masks.masks import (
    Mask,
    Schedule,
    constant,
    find_units,
    full_mask,
    listed_units,
)
from evenhand.masks.registry import STRATEGIES, register_strategy, strategy_of
from evenhand.masks.units import EMBEDDING, FAMILIES, biases, families, find_family, parts
from evenhand.networks.model import Model, random_model

Strategy = Callable[[Model, int], tuple[Model, Schedule]]
"""Function of a model and a random seed; it returns the model to train and its schedule."""

DECAY = 0.75  # factor on gradual's learning rate per depth; --layer-decay overrides it


def find_strategy(name: str) -> Strategy:
    """Return the strategy with a name, or one that tunes the units that the name lists.

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
        If no strategy has that name, or its argument is malformed. The strategy itself raises it
        if the backbone lacks a unit or has nothing that the strategy can tune, or if a required
        extra is not installed.
    """
    if (match := strategy_of(name)) is not None:
        strategy, argument = match
        return lambda model, seed: strategy.make(model, argument, seed)
    if "." not in name and "," not in name:
        raise unknown_name("strategy", name, strategy_names())
    units = listed_units(name)
    if not units:
        raise EvenhandError(f"strategy {name!r} names no unit; give head to tune only the head.")
    return lambda model, seed: (model, constant(_checked_units(model, units)))


def strategy_mask(name: str, model: Model) -> Mask | None:
    """Return the mask that a strategy tunes in every epoch, from the model's current weights.

    The result is None if the strategy starts from random weights, adds parameters, or changes the
    mask between epochs.

    Raises
    ------
    EvenhandError
        If no strategy has that name, its argument is malformed, or it cannot tune this backbone.
    """
    find_strategy(name)
    if (match := strategy_of(name)) is None:
        return _checked_units(model, listed_units(name))
    strategy, argument = match
    return None if strategy.rule is None else strategy.rule(model, argument)


def strategy_names() -> tuple[str, ...]:
    """Return every strategy with the syntax of its argument, for help texts."""
    return tuple(f"{name}{strategy.usage}" for name, strategy in STRATEGIES.items())


def _checked_units(model: Model, names: Mask) -> Mask:
    find_units(model.backbone, names)
    return names


@register_strategy("supervised")
@register_strategy("scratch")
def _scratch(model: Model, _: str, seed: int) -> tuple[Model, Schedule]:
    """Tune everything, from random weights.

    Misleads as a baseline for a small cohort: a large network learns little from random weights.
    """
    return random_model(model.spec, seed), constant(full_mask(model.backbone))


@register_strategy("full", gives="mask")
def _full(model: Model, _: str) -> Mask:
    """Tune everything.

    Misleads if a group has few patients: the network can memorise them, and the gap returns on new
    patients.
    """
    return full_mask(model.backbone)


@register_strategy("head", gives="mask")
def _head(model: Model, _: str) -> Mask:
    """Tune the head alone.

    Misleads if the features lack the information that a group needs: no head can restore it.
    """
    return frozenset()


@register_strategy("last", "-K", "-[0-9]+", gives="mask")
def _last(model: Model, argument: str) -> Mask:
    """Tune the last K blocks or stages, and what comes after them.

    Misleads in a comparison of networks: K blocks are a different share of each network.
    """
    depths = _inner_depths(model)
    if not 1 <= int(argument) <= len(depths):
        raise EvenhandError(
            f"strategy 'last-{argument}': K is a whole number from 1 to {len(depths)}, the number "
            f"of blocks or stages of {model.spec.backbone}."
        )
    return _from_depth(model, depths[-int(argument)])


@register_strategy("gradual", "[:K]", "(:0*[1-9][0-9]*)?")
def _gradual(model: Model, argument: str, _: int) -> tuple[Model, Schedule]:
    """Tune the head in epoch 1, K more depths in each later epoch, and finally the embedding.

    Misleads with few epochs: the lowest layers are then never tuned.
    """
    depths, step = _inner_depths(model), int(argument or 1)

    def masks(epoch: int) -> Mask:
        count = step * epoch
        if count > len(depths):
            return full_mask(model.backbone)
        return _from_depth(model, depths[-count]) if count else frozenset()

    return model, Schedule(masks, DECAY)


@register_strategy("lora", "[:BLOCK,BLOCK…]", "(:[0-9]+(,[0-9]+)*)?")
def _lora(model: Model, argument: str, seed: int) -> tuple[Model, Schedule]:
    """Add low-rank matrices to the attention of all blocks, or of the listed ones, and tune them.

    Misleads at the learning rate of full fine-tuning: it usually needs a higher one.
    """
    blocks = [int(block) for block in argument.split(",") if block]
    adapted = add_lora(model, blocks, seed)
    mask = frozenset(unit.name for unit in parts(adapted.backbone) if unit.kind == "lora")
    return adapted, constant(mask)


@register_strategy("attention", gives="mask")
def _attention(model: Model, _: str) -> Mask:
    """Tune the attention of every block.

    Misleads if taken for a small change: attention holds about a third of the parameters of a
    vision transformer.
    """
    family = families(model.backbone).get("attention")
    if family is None:
        raise EvenhandError(
            f"strategy 'attention': {model.spec.backbone} has no attention blocks. Tune conv or "
            "norm units of a network of stages; `evenhand units BACKBONE` lists them."
        )
    return frozenset(unit.name for unit in family.units)


def _thirds(model: Model) -> tuple[Mask, Mask, Mask]:
    """Return the units of each third; the first has the stem, the last has the final layers."""
    units = parts(model.backbone)
    depths = _inner_depths(model)
    if len(depths) < 3:
        raise EvenhandError(
            f"the freeze grid needs at least three blocks or stages; {model.spec.backbone} has "
            f"{len(depths)}."
        )
    _, middle, end = (third[0] for third in np.array_split(depths, 3))
    starts = (-1, middle, end, np.inf)
    first, second, third = (
        frozenset(unit.name for unit in units if low <= unit.depth < high)
        for low, high in pairwise(starts)
    )
    return first, second, third


# The freeze grid (Yfantidou et al., KDD 2024). Its parts are the three layers of the encoder for
# series, or the thirds of any other backbone. "fl" freezes the first and last part, "m" the middle.


def _tuned_thirds(model: Model, *places: int) -> Mask:
    return frozenset().union(*(_thirds(model)[place] for place in places))


@register_strategy("frozen3", gives="mask")
def _frozen3(model: Model, _: str) -> Mask:
    """Freeze all thirds of the backbone, in the freeze grid.

    Misleads for networks of more than three layers: thirds are cut by depth, so they can hold very
    different numbers of parameters.
    """
    return _tuned_thirds(model)


@register_strategy("frozen2", gives="mask")
def _frozen2(model: Model, _: str) -> Mask:
    """Freeze the first two thirds of the backbone.

    Misleads for networks of more than three layers: thirds are cut by depth, so they can hold very
    different numbers of parameters.
    """
    return _tuned_thirds(model, 2)


@register_strategy("frozen2fl", gives="mask")
def _frozen2fl(model: Model, _: str) -> Mask:
    """Freeze the first and the last third of the backbone.

    Misleads for networks of more than three layers: thirds are cut by depth, so they can hold very
    different numbers of parameters.
    """
    return _tuned_thirds(model, 1)


@register_strategy("frozen1", gives="mask")
def _frozen1(model: Model, _: str) -> Mask:
    """Freeze the first third of the backbone.

    Misleads for networks of more than three layers: thirds are cut by depth, so they can hold very
    different numbers of parameters.
    """
    return _tuned_thirds(model, 1, 2)


@register_strategy("frozen1m", gives="mask")
def _frozen1m(model: Model, _: str) -> Mask:
    """Freeze the middle third of the backbone.

    Misleads for networks of more than three layers: thirds are cut by depth, so they can hold very
    different numbers of parameters.
    """
    return _tuned_thirds(model, 0, 2)


@register_strategy("frozen0", gives="mask")
def _frozen0(model: Model, _: str) -> Mask:
    """Freeze no third of the backbone.

    Misleads for networks of more than three layers: thirds are cut by depth, so they can hold very
    different numbers of parameters.
    """
    return _tuned_thirds(model, 0, 1, 2)


@register_strategy("layernorm", gives="mask")
def _layernorm(model: Model, _: str) -> Mask:
    """Tune every normalisation layer.

    Misleads at the learning rate of full fine-tuning: so few parameters usually need a higher one.
    """
    mask = frozenset(unit.name for unit in parts(model.backbone) if "norm" in unit.kind)
    if not mask:
        raise EvenhandError(f"strategy 'layernorm': {model.spec.backbone} has no norm layers.")
    return mask


@register_strategy("bitfit", gives="mask")
def _bitfit(model: Model, _: str) -> Mask:
    """Tune every bias (BitFit, arXiv 2106.10199).

    Misleads at the learning rate of full fine-tuning: so few parameters usually need a higher one.
    """
    return frozenset(unit.name for unit in biases(model.backbone))


@register_strategy("random", ":SEED", ":[0-9]+", gives="mask")
def _random(model: Model, argument: str) -> Mask:
    """Tune each part of the blocks or stages with probability 0.5.

    Misleads as the only baseline: one seed is one mask. Draw several masks.
    """
    rng = np.random.default_rng(int(argument))
    inside = [unit.name for unit in parts(model.backbone) if unit.depth > EMBEDDING]
    return frozenset(name for name in inside if rng.random() < 0.5)


def _register_family(name: str) -> None:
    def rule(model: Model, _: str) -> Mask:
        family = find_family(model.backbone, name)
        return frozenset(unit.name for unit in (*family.units, *family.always))

    rule.__doc__ = (
        f"Tune every bit of the mask family {name}.\n\n"
        "Misleads if taken for the result of a search: it tunes all units of the family."
    )
    register_strategy(name, gives="mask")(rule)


for _name in FAMILIES:
    # a strategy that is registered above takes precedence over a family of the same name
    if not STRATEGIES.is_added(_name):
        _register_family(_name)


def _inner_depths(model: Model) -> list[int]:
    """Return the depths of the blocks or stages, in order from the input."""
    inside = ("blocks.", "stage", "conv")
    units = parts(model.backbone)
    depths = {unit.depth for unit in units if unit.name.startswith(inside)}
    # With other unit names, each depth is a block or layer. Only a normalisation after the last
    # block has a depth of its own and is not one of them.
    layers = {unit.depth for unit in units if unit.depth > EMBEDDING and unit.kind != "norm"}
    return sorted(depths or layers)


def _from_depth(model: Model, depth: int) -> Mask:
    return frozenset(unit.name for unit in parts(model.backbone) if unit.depth >= depth)
