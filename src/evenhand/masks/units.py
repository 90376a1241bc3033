"""Tunable units: the named parts of a backbone that a mask can switch.

A vision transformer is cut into its blocks, and each block into attention, norms and MLP. Any
other network of timm is cut into the stages that timm declares for it, and each stage into its
norms and everything else (its convolutions). A network without declared stages is cut by its
structure. :func:`parts` returns this finest cut: each parameter of the backbone is in exactly one
part. A :class:`Family` joins parts into the bits of one search space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations

from torch import nn

from evenhand.errors import pick
from evenhand.masks.structure import depths_of_modules, parameter_places
from evenhand.networks.encoders.conv1d import Conv1dEncoder
from evenhand.networks.encoders.layers import LayeredEncoder, depth_of_layer
from evenhand.networks.layers import declared_stages

EMBEDDING = 0  # the depth of what comes before the first block or stage

PlaceRule = Callable[[str], tuple[str, int, str]]
"""Function from a parameter's name to its unit, depth and kind."""


@dataclass(frozen=True, eq=False)
class Unit:
    """Parameters that a mask switches together, with one name in model, search and report."""

    name: str  # "blocks.3.attn"
    depth: int  # 0 for embeddings and stem, then 1 … B for blocks or stages, B + 1 after them
    kind: str  # "attn", "mlp", "norm1", "conv" …
    parameters: tuple[nn.Parameter, ...] = field(repr=False)
    names: tuple[str, ...] = field(repr=False)  # of the parameters, as the network names them

    @property
    def size(self) -> int:
        """Number of scalars in the unit."""
        return sum(parameter.numel() for parameter in self.parameters)

    @property
    def named(self) -> dict[str, nn.Parameter]:
        """The parameters by name."""
        return dict(zip(self.names, self.parameters, strict=True))


@dataclass(frozen=True)
class Family:
    """A search space: each of ``units`` is one bit of the mask; ``always`` are always tuned."""

    name: str
    units: tuple[Unit, ...]
    always: tuple[Unit, ...] = ()


_UPDATE = ".lora_"  # part of the names of low-rank updates


def is_transformer(backbone: nn.Module) -> bool:
    """Whether the backbone is a plain ViT: a sequence of blocks with attention and MLP."""
    blocks = getattr(backbone, "blocks", None)
    sequence = list(blocks) if isinstance(blocks, nn.Sequential | nn.ModuleList) else []
    return bool(sequence) and all(
        {"norm1", "attn", "norm2", "mlp"} <= dict(block.named_children()).keys()
        for block in sequence
    )


def parts(backbone: nn.Module) -> tuple[Unit, ...]:
    """Return the finest units, ordered by depth; each parameter is in exactly one of them."""
    return _units_by_place(backbone, _place_rule(backbone))


def _units_by_place(backbone: nn.Module, place: PlaceRule) -> tuple[Unit, ...]:
    members: dict[str, dict[str, nn.Parameter]] = {}
    labels: dict[str, tuple[int, str]] = {}
    for name, parameter in backbone.named_parameters():
        unit, depth, kind = _place_of_update(place, name) if _UPDATE in name else place(name)
        members.setdefault(unit, {})[name] = parameter
        labels.setdefault(unit, (depth, kind))
    deepest = max((depth for depth, _ in labels.values() if depth != _AFTER), default=0)
    units = (
        Unit(name, deepest + 1 if depth == _AFTER else depth, kind, (*named.values(),), (*named,))
        for (name, named), (depth, kind) in zip(members.items(), labels.values(), strict=True)
    )
    return tuple(sorted(units, key=lambda unit: unit.depth))


def block_of(attention: str) -> str:
    """Return the name of the block that holds an attention."""
    return attention.rpartition(".")[0] or attention


def _place_of_update(place: PlaceRule, name: str) -> tuple[str, int, str]:
    """Return unit, depth and kind of a low-rank update: each block has one unit for its updates."""
    attention = name.partition(_UPDATE)[0].rpartition(".")[0].removesuffix(".qkv")
    return f"{block_of(attention)}.lora", place(name)[1], "lora"


def _place_rule(backbone: nn.Module) -> PlaceRule:
    if isinstance(backbone, LayeredEncoder):
        return partial(_place_in_layers, backbone)
    if is_transformer(backbone):
        return _place_in_blocks
    return _stage_places(backbone) if has_stages(backbone) else _structural_places(backbone)


def has_stages(backbone: nn.Module) -> bool:
    """Whether the backbone's stages are declared, by timm or at its registration."""
    return bool(declared_stages(backbone))


def _structural_places(backbone: nn.Module) -> PlaceRule:
    places = parameter_places(backbone)

    def place(name: str) -> tuple[str, int, str]:
        parameter = places[name]
        return parameter.unit, parameter.depth, parameter.kind

    return place


def module_depths(backbone: nn.Module) -> dict[str, int]:
    """Return the depth of each module by name; a container has the depth of its first module."""
    if isinstance(backbone, LayeredEncoder):
        place: Callable[[str], int] = lambda name: _place_in_layers(backbone, name)[1]  # noqa: E731
    elif is_transformer(backbone):
        place = _depth_in_blocks
    elif not has_stages(backbone):
        place = depths_of_modules(backbone).__getitem__
    else:
        place = _stage_of_modules(backbone).__getitem__
    depths = {name: place(name) for name, _ in backbone.named_modules() if name}
    behind = max(depths.values()) + 1
    return {name: behind if depth == _AFTER else depth for name, depth in depths.items()}


def families(backbone: nn.Module) -> dict[str, Family]:
    """Return the search spaces of a backbone by name.

    A transformer has ``blocks``; ``attention``, ``layernorm``, ``mlp`` with their pairs
    (``attention+mlp`` …) and their triple, one bit a block; ``norm-attn-mlp`` (three bits a
    block), ``norm1-attn-norm2-mlp`` (four) and ``attention-parameters`` (four: weight and bias of
    qkv and proj, with the position embedding always trained), as in FairTune (arXiv 2310.05055).
    The encoder ``conv1d`` has ``conv``, and any other encoder of layers in a row has ``parts``, one
    bit a layer. Any other network of timm has ``stages``, ``conv``, ``norm`` (one bit a stage) and
    ``conv-norm`` (two), and, if its blocks have such parts, ``attention`` and ``mlp``, one bit a
    block. A network that is cut by its structure has ``parts``, ``blocks``, and those of
    ``attention``, ``mlp``, ``norm`` and ``conv`` that it contains.
    """
    if isinstance(backbone, LayeredEncoder):
        name = "conv" if isinstance(backbone, Conv1dEncoder) else "parts"
        return {name: Family(name, parts(backbone))}
    if is_transformer(backbone):
        make = _transformer_families
    else:
        make = _stage_families if has_stages(backbone) else _structure_families
    return {family.name: family for family in make(backbone)}


def default_family(backbone: nn.Module) -> Family:
    """Return the search space that ``--family auto`` chooses: the one with most bits of parts."""
    choices, names = families(backbone), ("norm-attn-mlp", "conv-norm", "parts", "conv")
    return next(choices[name] for name in names if name in choices)


def all_units(backbone: nn.Module) -> dict[str, Unit]:
    """Return every unit that a mask can name: the parts, the bits of every family, the biases."""
    joined = [unit for family in families(backbone).values() for unit in family.units]
    return {unit.name: unit for unit in (*parts(backbone), *biases(backbone), *joined)}


def biases(backbone: nn.Module) -> tuple[Unit, ...]:
    """Return one unit for the biases of each part that has any (BitFit, arXiv 2106.10199)."""
    return tuple(
        Unit(f"{part.name}.bias", part.depth, "bias", (*named.values(),), (*named,))
        for part in parts(backbone)
        if (named := {n: p for n, p in part.named.items() if n.endswith("bias")})
    )


def _join(units: Iterable[Unit], name_of: Callable[[Unit], str], kind: str) -> tuple[Unit, ...]:
    """Join the units with the same name into one unit of this name."""
    grouped: dict[str, list[Unit]] = {}
    for unit in units:
        grouped.setdefault(name_of(unit), []).append(unit)
    return tuple(
        Unit(
            name,
            group[0].depth,
            kind,
            tuple(p for unit in group for p in unit.parameters),
            tuple(n for unit in group for n in unit.names),
        )
        for name, group in grouped.items()
    )


# Encoders of series that are layers in a row


def _place_in_layers(encoder: LayeredEncoder, name: str) -> tuple[str, int, str]:
    layer = name.partition(".")[0]  # conv1, conv2, conv3
    kind = "conv" if isinstance(encoder, Conv1dEncoder) else layer
    return layer, depth_of_layer(encoder, layer), kind


# Transformers

_AFTER = -1  # stands for the depth after the last block until the blocks are counted
_KIND = {  # a LayerScale belongs to the branch that it scales
    **dict.fromkeys(("ls1", "gamma_1", "gamma1"), "attn"),
    **dict.fromkeys(("ls2", "gamma_2", "gamma2"), "mlp"),
    "gamma3": "local_mp",
}
_GROUPS = {"attention": ("attn",), "layernorm": ("norm1", "norm2", "norm3"), "mlp": ("mlp",)}
_COMBINED = tuple(chosen for count in (1, 2, 3) for chosen in combinations(_GROUPS, count))
_BEFORE = (
    "patch_embed", "norm_pre", "pos_drop", "patch_drop",
    "rope", "rel_pos_bias", "shared_rel_pos", "pos_embed", "cpe",
)  # fmt: skip
_PROJECTIONS = ("qkv", "q_proj", "k_proj", "v_proj", "q_bias", "k_bias", "v_bias", "proj")


def _place_in_blocks(name: str) -> tuple[str, int, str]:
    head, *path = name.split(".")
    if head != "blocks":  # parameters of no module (class tokens) are added to the patches
        return head, EMBEDDING if head in _BEFORE or not path else _AFTER, head
    kind = _KIND.get(path[1], path[1])
    return f"blocks.{path[0]}.{kind}", int(path[0]) + 1, kind


def _depth_in_blocks(module: str) -> int:
    head, *path = module.split(".")
    if head == "blocks":
        return int(path[0]) + 1 if path else EMBEDDING
    return EMBEDDING if head in _BEFORE else _AFTER


def _transformer_families(backbone: nn.Module) -> Iterable[Family]:
    inside = [unit for unit in parts(backbone) if unit.name.startswith("blocks.")]

    def block(unit: Unit) -> str:
        return unit.name.rpartition(".")[0]

    yield Family("blocks", _join(inside, block, "block"))
    for chosen in _COMBINED:
        yield _one_bit_a_block(inside, chosen, block)

    def part(unit: Unit) -> str:
        return f"{block(unit)}.{'norm' if unit.kind in _GROUPS['layernorm'] else unit.kind}"

    yield Family("norm-attn-mlp", _join(inside, part, "part"))
    yield Family("norm1-attn-norm2-mlp", tuple(inside))
    position = tuple(unit for unit in parts(backbone) if unit.name == "pos_embed")
    yield Family("attention-parameters", tuple(_attention_parameters(backbone)), position)


def _one_bit_a_block(
    inside: Iterable[Unit], chosen: tuple[str, ...], block: Callable[[Unit], str]
) -> Family:
    kinds = [kind for group in chosen for kind in _GROUPS[group]]
    short = "+".join("norm" if group == "layernorm" else _GROUPS[group][0] for group in chosen)
    picked = [unit for unit in inside if unit.kind in kinds]
    return Family("+".join(chosen), _join(picked, lambda unit: f"{block(unit)}.{short}", short))


def _attention_parameters(backbone: nn.Module) -> Iterable[Unit]:
    for name, parameter in backbone.named_parameters():
        fields = name.split(".")
        if fields[0] == "blocks" and fields[2] == "attn" and fields[3] in _PROJECTIONS:
            yield Unit(name, int(fields[1]) + 1, ".".join(fields[3:]), (parameter,), (name,))


# Everything else, by stage


def _stage_places(backbone: nn.Module) -> PlaceRule:
    """Return the rule of units ``stem.conv``, ``stem.norm``, ``stage1.conv`` …, ``tail.norm``."""
    stage = _stage_of_modules(backbone)
    kind = {
        name: "norm" if "norm" in type(module).__name__.lower() else "conv"
        for name, module in backbone.named_modules()
    }

    def place(name: str) -> tuple[str, int, str]:
        owner = name.rpartition(".")[0]
        depth = stage[owner]
        label = {EMBEDDING: "stem", _AFTER: "tail"}.get(depth, f"stage{depth}")
        return f"{label}.{kind[owner]}", depth, kind[owner]

    return place


def _stage_of_modules(backbone: nn.Module) -> dict[str, int]:
    """Return the stage of each module: a stage ends with the module that timm names for it.

    If the first declared stage has no parameters (``act1``, a ResNet's stem), the stages count
    from 0.
    """
    ends = declared_stages(backbone)
    order = [name for name, _ in backbone.named_modules()]
    last_modules = [max(k for k, name in enumerate(order) if _within(name, end)) for end in ends]
    has_parameters = bool(list(backbone.get_submodule(ends[0]).parameters()))
    first = EMBEDDING + 1 if has_parameters else EMBEDDING
    stages = {}
    for position, name in enumerate(order):
        passed = sum(position > end for end in last_modules)
        stages[name] = _AFTER if passed == len(ends) else first + passed
    return _separate_stem(stages, ends[0]) if first else stages


def _separate_stem(stages: Mapping[str, int], first: str) -> dict[str, int]:
    """Return the stages with stage 0 for the modules before the first stage's own module."""
    return {
        name: EMBEDDING if depth == 1 and not _within(name, first) else depth
        for name, depth in stages.items()
    }


def _within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def _stage_families(backbone: nn.Module) -> Iterable[Family]:
    cut = parts(backbone)
    yield Family("stages", _join(cut, lambda unit: unit.name.rpartition(".")[0], "stage"))
    for kind in ("conv", "norm"):
        if units := tuple(unit for unit in cut if unit.kind == kind):
            yield Family(kind, units)
    yield Family("conv-norm", cut)
    yield from _kinds_by_block(backbone, ("attention", "mlp"))


def _structure_families(backbone: nn.Module) -> Iterable[Family]:
    cut, places = parts(backbone), parameter_places(backbone)
    yield Family("parts", cut)
    yield Family("blocks", _join(cut, lambda unit: places[unit.names[0]].place, "block"))
    yield from _kinds_by_block(backbone, tuple(_STRUCTURAL))


_STRUCTURAL = {"attention": "attn", "mlp": "mlp", "norm": "norm", "conv": "conv"}


def _kinds_by_block(backbone: nn.Module, names: Iterable[str]) -> Iterable[Family]:
    """Yield, for each kind of part, the family that has one bit for each block with that kind."""
    cut = _units_by_place(backbone, _structural_places(backbone))
    for name in names:
        if units := tuple(unit for unit in cut if unit.kind == _STRUCTURAL[name]):
            yield Family(name, units)


def find_family(backbone: nn.Module, name: str) -> Family:
    """Return a backbone's search space by name.

    Raises
    ------
    UnknownNameError
        If the backbone has no such family; the message lists its families.
    """
    return pick("mask family", name, families(backbone))


FAMILIES = (
    "blocks",
    *("+".join(chosen) for chosen in _COMBINED),
    "norm-attn-mlp",
    "norm1-attn-norm2-mlp",
    "attention-parameters",
    "stages",
    "conv",
    "norm",
    "conv-norm",
    "parts",
)
"""The names of all search spaces; which of them a backbone has depends on its kind."""
