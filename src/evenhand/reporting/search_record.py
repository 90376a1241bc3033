"""The typed content of ``search.json``."""

from __future__ import annotations

from pydantic import BaseModel, Field

TargetValues = dict[str, float | None]
"""Values by the name of their target; None where a training diverged."""


class _Part(BaseModel, frozen=True, extra="allow", populate_by_name=True):
    """A part of the record; entries that this version does not know are kept."""


class TargetRecord(_Part):
    """A target of the search.

    Attributes
    ----------
    name, direction
        The name and the direction.
    bound
        Whether the pessimistic end of its interval counted.
    """

    name: str
    direction: str = ""
    bound: bool = False


class ObjectiveRecord(_Part):
    """A candidate's value of one target.

    Attributes
    ----------
    searched
        The value in the search.
    again, mean, mean_low, mean_high
        The values with fresh seeds, their mean and its 95 % interval.
    optimism, optimism_low, optimism_high
        How much better the value in the search is than the mean, and its 95 % interval.
    """

    searched: float | None
    again: tuple[float | None, ...] = ()
    mean: float | None
    mean_low: float | None = None
    mean_high: float | None = None
    optimism: float | None = None
    optimism_low: float | None = None
    optimism_high: float | None = None


class CandidateRecord(_Part):
    """A trial that was trained again.

    Attributes
    ----------
    study
        The study of the trial; None for the study of this record.
    trial, seeds
        The number of the trial, and the number of fresh seeds.
    objectives
        Its values by target.
    """

    study: str | None = None
    trial: int
    seeds: int
    objectives: dict[str, ObjectiveRecord]


class ChosenRecord(_Part):
    """The chosen trial with its settings, and the seed of the delivered fit."""

    study: str
    trial: int | None
    seed: int | None = None
    lr: float | None = None
    method: str = "erm"
    method_settings: dict[str, float | str] = {}


class GroupValue(_Part):
    """The AUC of a group on test patients."""

    attribute: str
    group: str
    value: float | None


class FitRecord(_Part):
    """A fit of the chosen setting: its targets on validation and test, and its AUC by group."""

    seed: int
    val: TargetValues
    test: TargetValues
    auc: tuple[GroupValue, ...]


class ImportanceRecord(_Part):
    """The mean of a target over trials with a unit or method, less that over other trials.

    Attributes
    ----------
    objective
        The name of the target.
    difference, low, high
        The difference of the means and its 95 % interval.
    trials_with, trials_without
        The numbers of trials.
    """

    objective: str
    difference: float
    low: float
    high: float
    trials_with: int = Field(alias="with")
    trials_without: int = Field(alias="without")


class UnitImportance(ImportanceRecord):
    """The importance of a unit."""

    unit: str

    @property
    def name(self) -> str:
        """The unit or method."""
        return self.unit


class MethodImportance(ImportanceRecord):
    """The importance of a mitigation method."""

    method: str

    @property
    def name(self) -> str:
        """The unit or method."""
        return self.method


class FactorRecord(_Part):
    """The share of a target's variance that depends on ``mask``, ``method`` or ``rate``.

    Attributes
    ----------
    objective
        The name of the target.
    explained
        The share of the variance of held-out trials that a random forest explains.
    lost
        The decrease of this share when the factor is shuffled.
    trials
        The number of trials.
    """

    factor: str
    objective: str
    explained: float
    trials: int
    lost: float


class StudyRecord(_Part):
    """The results of a study.

    Attributes
    ----------
    name
        Its name; ``""`` stands for all trials.
    trial, chosen
        The number of the chosen trial (None if it belongs to another study), and the trial with
        its study. Both are None if nothing was chosen yet.
    trained, adopted, front
        The numbers of trained trials and of trials taken from baselines; the numbers of the trials
        on the Pareto front.
    confirmed, fits
        The trials that were trained again, and the fits of the chosen trial.
    units, methods, factors
        The importance of units, of methods, and of mask, method and rate. ``factors`` is None if
        there is only one method.
    """

    name: str = ""
    trial: int | None = None
    chosen: ChosenRecord | None = None
    trained: int = 0
    adopted: int = 0
    front: tuple[int, ...] = ()
    confirmed: tuple[CandidateRecord, ...] = ()
    fits: tuple[FitRecord, ...] = ()
    units: tuple[UnitImportance, ...] = ()
    methods: tuple[MethodImportance, ...] = ()
    factors: tuple[FactorRecord, ...] | None = None


class SearchRecord(_Part):
    """Targets, the rule that picks from a Pareto front, and the studies."""

    schema_version: int = Field(1, alias="schema")
    objectives: tuple[TargetRecord, ...]
    pick: str = "ideal"
    studies: tuple[StudyRecord, ...]
