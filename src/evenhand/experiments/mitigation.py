"""The mitigation method of a task: built for each fit, and checked before the first."""

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
"""Share of the epochs of that first training."""


@dataclass(frozen=True, eq=False)
class Mitigation:
    """How a fit is mitigated.

    Attributes
    ----------
    name
        The method.
    settings
        Its hyper-parameters, where they are not the default.
    groups
        ``(n,)`` the level of each training row; None where the method needs no attribute.
    """

    name: str = "erm"
    settings: Mapping[str, Any] = field(default_factory=dict)
    groups: NDArray[np.str_] | None = None

    @property
    def text(self) -> str:
        """The method and its settings, as the command line takes them."""
        return method_text(self.name, self.settings)

    @property
    def twice(self) -> bool:
        """Whether a short first fit must find the training rows that it gets wrong."""
        return bool(find_method(self.name, "training").load().trains_twice)

    def method(self, wrong: NDArray[np.bool_] | None = None) -> TrainingMethod:
        """Return the method, new for each fit.

        Parameters
        ----------
        wrong
            ``(n,)`` which training rows a first fit got wrong, for a method that trains twice.
        """
        extra = {} if wrong is None else {"wrong": wrong}
        method: TrainingMethod = training_method(self.name, **self.settings, **extra)
        return method


def find_mitigation(settings: object, train: Cohort) -> Mitigation:
    """Return the mitigation that a job's settings name, checked against the training rows.

    Parameters
    ----------
    settings
        The settings of a job; without `GroupingSettings` among them the method is ``erm``.
    train
        The training cohort.

    Raises
    ------
    EvenhandError
        The method or one of its settings does not exist, the method needs an attribute and none
        is given, or the training rows do not fulfil its needs.
    """
    if not isinstance(settings, GroupingSettings):
        return Mitigation()
    name, chosen = method_settings(settings.fixed_method, computed=("wrong",))
    mitigation = mitigation_by(name, chosen, settings, train)
    if mitigation.groups is None and settings.method_attribute is not None and settings.is_fixed:
        raise EvenhandError(
            f"--method-attribute {settings.method_attribute}: {mitigation.text} works without "
            "an attribute. Leave it out, or name a method that needs one."
        )
    return mitigation


def mitigation_by(
    name: str, values: Mapping[str, Any], settings: GroupingSettings, train: Cohort
) -> Mitigation:
    """Return the mitigation by a method, checked against the training rows.

    Parameters
    ----------
    name, values
        The method, and its hyper-parameters.
    settings
        The settings of a job, which say by which attribute.
    train
        The training cohort.

    Raises
    ------
    EvenhandError
        As in `find_mitigation`.
    """
    mitigation = Mitigation(name, values, _groups(settings, train))
    method = mitigation.method(np.zeros(len(train), dtype=bool) if mitigation.twice else None)
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
    named: tuple[str, ...] = getattr(settings, "attribute", ())
    return named[0] if named else None
