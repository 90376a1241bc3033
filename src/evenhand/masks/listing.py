"""List the units of a backbone as text."""

from __future__ import annotations

import torch
from torch import nn

from evenhand.errors import count_text
from evenhand.masks.units import Family, families, find_family, parts
from evenhand.networks.backbones import create_by_name


def unit_listing(backbone: str, family: str | None = None) -> str:
    """Return every unit that a mask can name, by search space, with depth and size.

    Parameters
    ----------
    backbone
        timm's name of the network.
    family
        One search space; None for all of them.

    Raises
    ------
    UnknownNameError
        If no backbone, or no family of this backbone, has that name.
    """
    with torch.device("meta"):  # names and shapes only
        network = create_by_name(backbone)
    if family:
        return _family_text(find_family(network, family), network)
    partition = Family("parts (each parameter is in exactly one)", parts(network))
    spaces = (partition, *families(network).values())
    return "\n\n".join(_family_text(space, network) for space in spaces)


def _family_text(family: Family, network: nn.Module) -> str:
    total = sum(parameter.numel() for parameter in network.parameters())
    lines = [f"{family.name}: {count_text(len(family.units), 'unit')}"]
    for unit in family.units:
        share = 100 * unit.size / total
        lines.append(f"  {unit.name:<32} depth {unit.depth:<3} {unit.size:>12,}  {share:5.1f} %")
    lines += [f"  {unit.name:<32} always tuned" for unit in family.always]
    return "\n".join(lines)
