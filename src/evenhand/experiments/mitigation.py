"""The mitigation method of a task: checked before the first fit, then built for each fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenhand.cohort.cohort import Cohort
from evenhand.errors import EvenhandError, pick
from evenhand.experiments.settings import GroupingSettings
from evenhand.methods.base import TrainingMethod
from evenhand.methods.registry import find_method, method_settings, method_text, training_method
from evenhand.tables.attributes import group_of

FIRST_EPOCHS = 0.2
"""Share of the epochs that the first training takes, for methods that train twice."""


@dataclass(frozen=True, eq=False)
class Mitigation:
    """A mitigation method, its settings and the groups of the training rows.

    Attributes
    ----------
    name
        The name of the method.
    settings
        Its settings that differ from the default.
    groups
        ``(n,)`` the group of each training row; None if the method needs no attribute.
    """

    name: str = "erm"
    settings: Mapping[str, Any] = field(default_factory=dict)
    groups: NDArray[np.str_] | None = None

    @property
    def text(self) -> str:
        """The method and its settings, as the command line takes them."""
        return method_text(self.name, self.settings)

    @property
    def trains_twice(self) -> bool:
        """Whether the method needs the training rows that a short first fit gets wrong."""
        return bool(find_method(self.name, "training").load().trains_twice)

    def method(self, wrong: NDArray[np.bool_] | None = None) -> TrainingMethod:
        """Return a new instance of the method, for one fit.

        Parameters
        ----------
        wrong
            ``(n,)`` whether the first fit got a training row wrong, for a method that trains twice.
        """
        extra = {} if wrong is None else {"wrong": wrong}
        method: TrainingMethod = training_method(self.name, **self.settings, **extra)
        return method


def find_mitigation(settings: object, train: Cohort) -> Mitigation:
    """Return the mitigation that a job's settings name, checked against the training rows.

    Parameters
    ----------
    settings
        The settings of a job; if they are not `GroupingSettings`, the method is ``erm``.
    train
        The training cohort.

    Raises
    ------
    EvenhandError
        If the method or one of its settings does not exist, the method needs an attribute and the
        settings name none, or the training rows lack what the method needs.
    """
    if not isinstance(settings, GroupingSettings):
        return Mitigation()
    name, chosen = method_settings(settings.fixed_method, computed=("wrong",))
    mitigation = build_mitigation(name, chosen, settings, train)
    if mitigation.groups is None and settings.method_attribute is not None and settings.is_fixed:
        raise EvenhandError(
            f"--method-attribute {settings.method_attribute}: {mitigation.text} works without "
            "an attribute. Leave the flag out, or name a method that needs an attribute."
        )
    return mitigation


def build_mitigation(
    name: str, values: Mapping[str, Any], settings: GroupingSettings, train: Cohort
) -> Mitigation:
    """Return the mitigation by a method, checked against the training rows.

    Parameters
    ----------
    name
        The name of the method.
    values
        Its settings that differ from the default.
    settings
        The settings of a job, which name the attribute.
    train
        The training cohort.

    Raises
    ------
    EvenhandError
        If `find_mitigation` would refuse the same values.
    """
    mitigation = Mitigation(name, values, _groups(settings, train))
    method = mitigation.method(
        np.zeros(len(train), dtype=bool) if mitigation.trains_twice else None
    )
    if not method.needs_attribute:
        return Mitigation(name, values)
    if mitigation.groups is None:
        raise EvenhandError(
            f"--method {mitigation.text} needs the groups of an attribute; give --attribute."
        )
    patients = train.table["patient_id"].to_numpy()
    method.sampler(train.labels, mitigation.groups, patients, classes=len(train.classes))
    return mitigation


def _groups(settings: GroupingSettings, train: Cohort) -> NDArray[np.str_] | None:
    """Return the group of each training row, by the attribute that the method uses."""
    attribute = _attribute(settings, train)
    if attribute is None:
        return None
    return group_of(train.table, attribute, train.levels).to_numpy().astype(np.str_)


def _attribute(settings: GroupingSettings, train: Cohort) -> str | None:
    if settings.method_attribute is not None:
        for part in settings.method_attribute.split("*"):
            pick("--method-attribute", part, train.levels)
        return settings.method_attribute
    attributes: tuple[str, ...] = getattr(settings, "attribute", ())
    return attributes[0] if attributes else None
