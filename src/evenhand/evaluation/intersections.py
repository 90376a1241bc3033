"""Add intersections of attributes, and exclude their groups that are too small to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from evenhand.evaluation.rows import groups_in, split_rows
from evenhand.evaluation.settings import GroupSettings
from evenhand.tables.attributes import with_intersections
from evenhand.tables.levels import UNKNOWN
from evenhand.tables.predictions import Predictions
from evenhand.wording import count_text

FEWEST_PATIENTS = 20
FEWEST_OF_CLASS = 10


def why_too_small(patients: int, samples: int, positives: int | None) -> str | None:
    """Return the reason why a group is too small to compare; None if it is large enough.

    Parameters
    ----------
    patients, samples
        The number of patients and samples of the group.
    positives
        The number of its positive samples; None for more than two classes.

    Examples
    --------
    >>> why_too_small(19, 60, 30), why_too_small(50, 60, 55), why_too_small(50, 60, 30)
    ('19 patients; it takes 20', '5 negatives; it takes 10', None)
    """
    if patients < FEWEST_PATIENTS:
        return f"{count_text(patients, 'patient')}; it takes {FEWEST_PATIENTS}"
    if positives is None:
        return None
    for count, name in ((positives, "positive"), (samples - positives, "negative")):
        if count < FEWEST_OF_CLASS:
            return f"{count_text(count, name)}; it takes {FEWEST_OF_CLASS}"
    return None


GroupSettingsT = TypeVar("GroupSettingsT", bound=GroupSettings)


def resolve_intersections(
    settings: GroupSettingsT,
    attributes: Sequence[str],
    models: Mapping[str, Predictions],
    split: str,
) -> GroupSettingsT:
    """Return settings with the intersections in ``attribute``.

    Groups of intersections that are too small are added to ``exclude_group``.
    """
    every = with_intersections(attributes, settings.intersections)
    excluded = settings.exclude_group
    if settings.intersections > 1:
        excluded = tuple(dict.fromkeys((*excluded, *small_groups(models, every, split))))
    return settings.model_copy(update={"attribute": every, "exclude_group": excluded})


def small_groups(
    models: Mapping[str, Predictions], attributes: Sequence[str], split: str
) -> tuple[str, ...]:
    """Return the groups of intersections that are too small in some model, as ``ATTRIBUTE=LEVEL``.

    Parameters
    ----------
    models
        The predictions of each model.
    attributes
        Names of attributes; only the groups of intersections (with ``*``, without ``|``) count.
    split
        The split whose rows are counted.
    """
    intersections = [name for name in attributes if "*" in name and "|" not in name]
    small: dict[str, None] = {}
    for predictions in models.values():
        rows = split_rows(predictions, split)
        positive = rows.labels == 1 if len(rows.classes) == 2 else None
        for name, groups in groups_in(rows, intersections).items():
            for level in groups.levels:
                members = groups.rows(level)
                patients = len(np.unique(rows.patients[0][members]))
                positives = None if positive is None else int(positive[members].sum())
                if level != UNKNOWN and why_too_small(patients, len(members), positives):
                    small[f"{name}={level}"] = None
    return tuple(small)
