"""The mitigation method of a task: built for each fit, and checked before the first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evenhand.cohort.cohort import Cohort
from evenhand.errors import EvenhandError, pick
from evenhand.experiments.settings import MethodSettings
from evenhand.methods.base import TrainingMethod
from evenhand.methods.registry import find_method, method_from_text
from evenhand.tables.attributes import group_of

FIRST_EPOCHS = 0.2
"""Share of the epochs of that first training."""


@dataclass(frozen=True, eq=False)
class Mitigation:
    """How each fit of a task is mitigated.

    Attributes
    ----------
    text
        The method and its settings, as the command line takes them.
    groups
        ``(n,)`` the level of each training row; None where no attribute is given.
    """

    text: str
    groups: NDArray[np.str_] | None

    @property
    def twice(self) -> bool:
        """Whether a short first fit must find the training rows that it gets wrong."""
        return bool(find_method(self.text.partition(":")[0], "training").load().trains_twice)

    def method(self, wrong: NDArray[np.bool_] | None = None) -> TrainingMethod:
        """Return the method, new for each fit.

        Parameters
        ----------
        wrong
            ``(n,)`` which training rows a first fit got wrong, for a method that trains twice.
        """
        extra = {} if wrong is None else {"wrong": wrong}
        method: TrainingMethod = method_from_text(self.text, **extra)
        return method


def find_mitigation(settings: object, train: Cohort) -> Mitigation:
    """Return the mitigation that a job's settings name, checked against the training rows.

    Parameters
    ----------
    settings
        The settings of a job; without `MethodSettings` among them the method is ``erm``.
    train
        The training cohort.

    Raises
    ------
    EvenhandError
        The method or one of its settings does not exist, the method needs an attribute and none
        is given, or the training rows do not fulfil its needs.
    """
    if not isinstance(settings, MethodSettings):
        return Mitigation("erm", None)
    find_method(settings.method.partition(":")[0], "training")
    groups = _groups(settings, train)
    mitigation = Mitigation(settings.method, groups)
    method = mitigation.method(np.zeros(len(train), dtype=bool) if mitigation.twice else None)
    if not method.needs_attribute:
        if settings.method_attribute is not None:
            raise EvenhandError(
                f"--method-attribute {settings.method_attribute}: {settings.method} works without "
                "an attribute. Leave it out, or name a method that needs one."
            )
        return Mitigation(settings.method, None)
    if groups is None:
        raise EvenhandError(
            f"--method {settings.method} needs the groups of an attribute; give --attribute."
        )
    patients = train.table["patient_id"].to_numpy()
    method.sampler(train.labels, groups, patients, classes=len(train.classes))
    return mitigation


def _groups(settings: MethodSettings, train: Cohort) -> NDArray[np.str_] | None:
    """Return the group of each training row, by the attribute that the method uses."""
    attribute = _attribute(settings, train)
    if attribute is None:
        return None
    return group_of(train.table, attribute, train.levels).to_numpy().astype(np.str_)


def _attribute(settings: MethodSettings, train: Cohort) -> str | None:
    if settings.method_attribute is not None:
        for part in settings.method_attribute.split("*"):
            pick("--method-attribute", part, train.levels)
        return settings.method_attribute
    named: tuple[str, ...] = getattr(settings, "attribute", ())
    return named[0] if named else None
