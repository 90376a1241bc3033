"""Who is unprivileged, and how much each privileged group weighs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evenhand.errors import EvenhandError, pick
from evenhand.jobs.prune.settings import PruneSettings
from evenhand.metrics import find_metric


@dataclass(frozen=True)
class GroupRoles:
    """The unprivileged group, and β of each privileged one."""

    unprivileged: str
    betas: Mapping[str, float]
    why: str
    """How they were found, as a sentence."""

    @property
    def groups(self) -> tuple[str, ...]:
        """Every group that takes part, the unprivileged first."""
        return (self.unprivileged, *self.betas)


def find_roles(
    settings: PruneSettings, values: Mapping[str, float], sizes: Mapping[str, int]
) -> GroupRoles:
    """Return the roles that the settings name, or that validation shows.

    Parameters
    ----------
    settings
        Who is who by the user's word, and β.
    values
        Each group's validation value of ``rank_by``, NaN where it is undefined.
    sizes
        Number of training samples of each group; privileged groups share β by size.

    Raises
    ------
    EvenhandError
        There is one group only, a named group is not there or has two roles, a group has no
        training sample, or the ranking is undefined.
    """
    groups = list(values)
    refuse_single(settings, groups)
    names = dict.fromkeys(groups)
    for name in (*settings.privileged, *filter(None, [settings.unprivileged])):
        pick(f"group of {settings.attribute[0]}", name, names)
    if settings.unprivileged in settings.privileged:
        raise EvenhandError(
            f"the group {settings.unprivileged!r} cannot be privileged and unprivileged at once."
        )
    unprivileged, why = _worst(settings, values)
    privileged = settings.privileged or [name for name in groups if name != unprivileged]
    _refuse_empty([unprivileged, *privileged], sizes)
    return GroupRoles(unprivileged, _betas(settings, privileged, sizes), why)


def refuse_single(settings: PruneSettings, groups: Sequence[str]) -> None:
    """Refuse an attribute of which fewer than two groups take part.

    Raises
    ------
    EvenhandError
        There is one group only, or none.
    """
    if len(groups) < 2:
        left = f"there is one group, {groups[0]!r}" if groups else "no group is left"
        raise EvenhandError(
            f"--attribute {settings.attribute[0]}: {left}; pruning for fairness needs two. Name "
            "another attribute, or exclude fewer with --exclude-group."
        )


def _worst(settings: PruneSettings, values: Mapping[str, float]) -> tuple[str, str]:
    """Return the unprivileged group, and how it was found."""
    if settings.unprivileged:
        return settings.unprivileged, f"{settings.unprivileged} was named as unprivileged."
    metric = find_metric(settings.rank_by)
    if metric.direction not in ("higher", "lower"):
        raise EvenhandError(
            f"--rank-by {metric.name} only describes, so it tells no worst group; give a metric "
            "with a direction, such as auc, or name the group with --unprivileged."
        )
    candidates = {g: value for g, value in values.items() if g not in settings.privileged}
    if not candidates:
        raise EvenhandError("every group is named as --privileged; leave the unprivileged one out.")
    undefined = [group for group, value in candidates.items() if math.isnan(value)]
    if undefined:
        raise EvenhandError(
            f"--rank-by {metric.name} is undefined on validation for "
            f"{', '.join(map(repr, undefined))}. Name the group with --unprivileged, leave one out "
            f'with --exclude-group "{settings.attribute[0]}={undefined[0]}", or rank by another '
            "metric."
        )
    sign = 1 if metric.direction == "higher" else -1
    worst = min(candidates, key=lambda group: sign * candidates[group])
    defined = {group: value for group, value in values.items() if not math.isnan(value)}
    best = max(defined, key=lambda group: sign * defined[group])
    return worst, (
        f"On validation, {metric.name} is worst for {worst} ({candidates[worst]:.3f}) and best for "
        f"{best} ({defined[best]:.3f})."
    )


def _betas(
    settings: PruneSettings, privileged: Sequence[str], sizes: Mapping[str, int]
) -> dict[str, float]:
    """Return β of each privileged group: its own, or its share of β by size."""
    own = _own_betas(settings.group_beta, privileged)
    total = sum(sizes[group] for group in privileged)
    return {group: own.get(group, settings.beta * sizes[group] / total) for group in privileged}


def _own_betas(texts: Sequence[str], privileged: Sequence[str]) -> dict[str, float]:
    own = {}
    for text in texts:
        group, equals, number = text.rpartition("=")
        if not equals:
            raise EvenhandError(f"--group-beta {text}: it is written GROUP=NUMBER, as in male=0.5.")
        pick("privileged group", group, dict.fromkeys(privileged))
        try:
            own[group] = float(number)
        except ValueError:
            own[group] = math.nan
        if not own[group] >= 0 or math.isinf(own[group]):
            raise EvenhandError(f"--group-beta {text}: give a number from 0 up, as in male=0.5.")
    return own


def _refuse_empty(groups: Sequence[str], sizes: Mapping[str, int]) -> None:
    empty = [group for group in groups if not sizes.get(group)]
    if empty:
        raise EvenhandError(
            f"no training patient is of {', '.join(map(repr, empty))}, and saliency comes from "
            "training patients. Name other groups with --unprivileged and --privileged."
        )
