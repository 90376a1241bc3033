"""The roles of groups in a pruning: the unprivileged group, and the weights of the privileged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evenhand.errors import EvenhandError, pick
from evenhand.jobs.prune.settings import PruneSettings
from evenhand.metrics import find_metric


@dataclass(frozen=True)
class GroupRoles:
    """The unprivileged group, the weight β of each privileged group, and a sentence about both."""

    unprivileged: str
    betas: Mapping[str, float]
    explanation: str

    @property
    def groups(self) -> tuple[str, ...]:
        """All groups with a role, the unprivileged first."""
        return (self.unprivileged, *self.betas)


def find_roles(
    settings: PruneSettings, values: Mapping[str, float], sizes: Mapping[str, int]
) -> GroupRoles:
    """Return the roles that the settings name, or that validation values determine.

    Parameters
    ----------
    settings
        The groups that the user names, and β.
    values
        Each group's validation value of ``rank_by``, NaN if it is undefined.
    sizes
        The number of training samples of each group; privileged groups share β by size.

    Raises
    ------
    EvenhandError
        If there is a single group, a named group does not exist or has two roles, a group has no
        training sample, or the ranking is undefined.
    """
    groups = list(values)
    refuse_single(settings, groups)
    names = dict.fromkeys(groups)
    for name in (*settings.privileged, *filter(None, [settings.unprivileged])):
        pick(f"group of {settings.attribute[0]}", name, names)
    if settings.unprivileged in settings.privileged:
        raise EvenhandError(
            f"the group {settings.unprivileged!r} cannot be privileged and unprivileged at once. "
            "Name it with one of --privileged and --unprivileged."
        )
    unprivileged, explanation = _find_unprivileged(settings, values)
    privileged = settings.privileged or [name for name in groups if name != unprivileged]
    _refuse_empty([unprivileged, *privileged], sizes)
    return GroupRoles(unprivileged, _betas(settings, privileged, sizes), explanation)


def refuse_single(settings: PruneSettings, groups: Sequence[str]) -> None:
    """Refuse an attribute with fewer than two groups.

    Raises
    ------
    EvenhandError
        If there are fewer than two groups.
    """
    if len(groups) < 2:
        problem = f"there is one group, {groups[0]!r}" if groups else "no group is left"
        raise EvenhandError(
            f"--attribute {settings.attribute[0]}: {problem}; pruning for fairness needs two. Name "
            "another attribute, or exclude fewer with --exclude-group."
        )


def _find_unprivileged(settings: PruneSettings, values: Mapping[str, float]) -> tuple[str, str]:
    """Return the unprivileged group, and a sentence about the choice."""
    if settings.unprivileged:
        return settings.unprivileged, f"{settings.unprivileged} was named as unprivileged."
    metric = find_metric(settings.rank_by)
    if metric.direction not in ("higher", "lower"):
        raise EvenhandError(
            f"--rank-by {metric.name} only describes: neither high nor low values are better. Give "
            "another metric, such as auc, or name the group with --unprivileged."
        )
    candidates = {g: value for g, value in values.items() if g not in settings.privileged}
    if not candidates:
        raise EvenhandError(
            "every group is named as --privileged. Leave the unprivileged group out."
        )
    undefined = [group for group, value in candidates.items() if math.isnan(value)]
    if undefined:
        raise EvenhandError(
            f"--rank-by {metric.name} is undefined on the validation patients by which a step is "
            f"chosen, for {', '.join(map(repr, undefined))}. Name the group with --unprivileged, "
            f'leave one out with --exclude-group "{settings.attribute[0]}={undefined[0]}", or rank '
            "by another metric."
        )
    sign = 1 if metric.direction == "higher" else -1
    worst = min(candidates, key=lambda group: sign * candidates[group])
    defined = {group: value for group, value in values.items() if not math.isnan(value)}
    best = max(defined, key=lambda group: sign * defined[group])
    if len({*values.values()}) == 1:
        return worst, (
            f"On the validation patients by which a step is chosen, {metric.name} is "
            f"{candidates[worst]:.3f} in every group. So no group is the worst, and {worst} "
            "counts as unprivileged; --unprivileged names another group."
        )
    return worst, (
        f"On the validation patients by which a step is chosen, {metric.name} is worst for {worst} "
        f"({candidates[worst]:.3f}) and best for {best} ({defined[best]:.3f})."
    )


def _betas(
    settings: PruneSettings, privileged: Sequence[str], sizes: Mapping[str, int]
) -> dict[str, float]:
    """Return β of each privileged group: its ``--group-beta``, else its share of β by size."""
    named = _group_betas(settings.group_beta, privileged)
    total = sum(sizes[group] for group in privileged)
    return {group: named.get(group, settings.beta * sizes[group] / total) for group in privileged}


def _group_betas(texts: Sequence[str], privileged: Sequence[str]) -> dict[str, float]:
    betas = {}
    for text in texts:
        group, equals, number = text.rpartition("=")
        if not equals:
            raise EvenhandError(f"--group-beta {text}: write it as GROUP=NUMBER, as in male=0.5.")
        pick("privileged group", group, dict.fromkeys(privileged))
        try:
            betas[group] = float(number)
        except ValueError:
            betas[group] = math.nan
        if not betas[group] >= 0 or math.isinf(betas[group]):
            raise EvenhandError(
                f"--group-beta {text}: give a finite number of at least 0, as in male=0.5."
            )
    return betas


def _refuse_empty(groups: Sequence[str], sizes: Mapping[str, int]) -> None:
    empty = [group for group in groups if not sizes.get(group)]
    if empty:
        raise EvenhandError(
            f"no training patient is of {', '.join(map(repr, empty))}, but saliency is computed on "
            "training patients. Name other groups with --unprivileged and --privileged."
        )
