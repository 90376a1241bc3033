"""The typed content of ``run.json``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
)
from pydantic_core import to_jsonable_python

from evenhand.cohort.cohort import Source, Stored
from evenhand.cohort.settings import DataSettings
from evenhand.errors import EvenhandError
from evenhand.evaluation.rows import DecisionThreshold
from evenhand.evaluation.settings import InputSettings
from evenhand.experiments.earlier_records import current_content
from evenhand.experiments.job_settings import settings_class
from evenhand.files import first_problem, parse_record, read_object
from evenhand.plugins import RECORDED
from evenhand.runs import SCHEMA, CommonRecord
from evenhand.settings import Settings

S = TypeVar("S", bound=Settings, covariant=True)
K = TypeVar("K", bound=Settings)

REQUIRED = ("attribute", "bins", "data", "label", "seed")
"""Settings that every version has recorded, for the jobs that have them.

A record without one of them is damaged; any other setting that a record lacks has its default.
"""


class _Part(BaseModel, frozen=True, extra="allow"):
    """A part of a record; it keeps entries that this version does not know."""


class SourceRecord(_Part):
    """The data that a run used; see `evenhand.cohort.cohort.Source`."""

    reader: str
    path: str
    unit: str = "patient"
    fingerprint: str = ""
    label: str | None = None
    slices: int | None = None
    window: tuple[float, float] | None = None
    left_out: tuple[str, ...] = ()
    stored: Stored | None = None
    levels: dict[str, tuple[str, ...]] = {}

    @classmethod
    def of(cls, source: Source, **levels: Mapping[str, tuple[str, ...]]) -> SourceRecord:
        """Return the record of a data source, without its notes: `RunRecord.notes` has them."""
        entries = {name: value for name, value in vars(source).items() if value is not None}
        del entries["notes"]
        return cls(**entries, **levels)

    @classmethod
    def of_files(cls, paths: Iterable[Path]) -> SourceRecord:
        """Return the record of predictions files."""
        return cls(reader="predictions", path=", ".join(map(str, paths)), unit="patient")


class MatchedRecord(_Part):
    """Counts of samples and patients that all compared models share, and of unmatched samples."""

    samples: int
    patients: int
    unmatched: dict[str, int]


class PruningChoice(_Part):
    """The best trial of a search over prunings, and its value on validation."""

    trial: int
    value: float
    beta: float
    share: float
    estimator: str


class Parent(_Part):
    """The model that a run started from, and the record of the model's run.

    Attributes
    ----------
    run
        The run directory, as the user named it.
    model
        The model's name in that run.
    record
        The content of that run's ``run.json``. If version 0.1 wrote the pruning, settings that both
        jobs have show the values of the pruning.
    """

    run: str
    model: str
    record: RunRecord[Settings]


@runtime_checkable
class _HasAttributes(Protocol):
    @property
    def attribute(self) -> tuple[str, ...]: ...


@runtime_checkable
class _ExcludesGroups(Protocol):
    @property
    def exclude_group(self) -> tuple[str, ...]: ...


class RunRecord(CommonRecord, Generic[S]):
    """The content of ``run.json`` for a job with settings of the class ``S``.

    Attributes
    ----------
    settings
        The settings of the job, of the class that is registered for it.
    source
        The data.
    parent
        The model that the job started from, with its run; None if the job started from no run.
    notes
        Sentences that the report shows as notes.
    pairs
        Pairs of models to compare, the first minus the second. If None, the chosen model is
        compared with each other model.
    cuts
        The decision thresholds that come from the runs that trained the models.
    answer
        The first sentences of an assessment's report.
    matched
        The samples that all compared models have; None outside comparisons.
    labelled
        Whether the samples have labels; without labels, the job computes no metrics.
    search
        The best trial of a search over prunings.
    study
        The file of the Optuna study in the run directory, once the study exists.
    """

    settings: S
    source: SourceRecord | None = None
    parent: Parent | None = None
    notes: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] | None = None
    cuts: dict[str, DecisionThreshold] = Field(default_factory=dict)
    answer: tuple[str, ...] = ()
    matched: MatchedRecord | None = None
    labelled: bool = True
    search: PruningChoice | None = None
    study: str | None = None

    @field_validator("settings", mode="plain")
    @classmethod
    def _settings_of_job(cls, value: object, info: ValidationInfo) -> Settings:
        if isinstance(value, Settings):
            return value
        return _read_settings(value, str(info.data.get("job")))

    @field_serializer("settings")
    def _recorded_settings(self, settings: Settings) -> dict[str, Any]:
        return settings.recorded()

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes whose groups the job compares."""
        return self.settings.attribute if isinstance(self.settings, _HasAttributes) else ()

    @property
    def excluded(self) -> tuple[str, ...]:
        """The groups that comparisons leave out, as ``attribute=level``."""
        return self.settings.exclude_group if isinstance(self.settings, _ExcludesGroups) else ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files and runs whose predictions the job measured; empty if it trained a model."""
        return self.settings.inputs if isinstance(self.settings, InputSettings) else ()

    @property
    def unit(self) -> str:
        """What ``patient_id`` identifies in the data: "patient", "lesion", "stay"."""
        return self.source.unit if self.source else "patient"

    def lineage(self) -> Iterator[RunRecord[Settings]]:
        """Yield this record, then its parent's record, and so on to the first run."""
        yield self
        if self.parent is not None:
            yield from self.parent.record.lineage()

    def settings_as(self, kind: type[K]) -> K:
        """Return the settings as an instance of the class ``kind``.

        Raises
        ------
        EvenhandError
            If the settings are of another class.
        """
        if not isinstance(self.settings, kind):
            raise EvenhandError(
                f"a run of {self.job!r} has settings of {type(self.settings).__name__}, not of "
                f"{kind.__name__}; name a run of another job."
            )
        return self.settings


Parent.model_rebuild()


def read_record(path: Path) -> RunRecord[Settings]:
    """Read a ``run.json``; a file of an earlier version is converted to this version's form.

    Raises
    ------
    EvenhandError
        If the file is absent or damaged, or a later version wrote it.
    """
    content = current_content(read_object(path, SCHEMA), path)
    return parse_record(RunRecord[Settings], content, path, strict=True)


def data_fingerprint(record: RunRecord[Any]) -> str | None:
    """Return the fingerprint of the data that a run read; None if it recorded none."""
    return record.source.fingerprint if record.source is not None else None


def data_settings(record: RunRecord[Settings]) -> DataSettings:
    """Return the settings with which a run read its data.

    A job that starts from a run's model reads that run's data, with the changes that the job's own
    settings make.

    Raises
    ------
    EvenhandError
        If the run read no data set, like an audit of predictions.
    """
    settings = record.settings
    if isinstance(settings, DataSettings):
        names = DataSettings.model_fields.keys() - {"imports"}
        return DataSettings(**{name: getattr(settings, name) for name in names})
    if record.parent is None:
        raise EvenhandError(f"a run of {record.job!r} reads no data set; name a run that does.")
    shared = type(settings).model_fields.keys() & DataSettings.model_fields.keys()
    changes = {name: getattr(settings, name) for name in shared}
    return data_settings(record.parent.record).model_copy(update=changes)


def _read_settings(value: object, job: str) -> Settings:
    """Return the settings of a job from JSON values.

    Values that equal the default are left out, because some settings exclude each other.
    """
    try:
        kind = settings_class(job)
    except EvenhandError as error:
        raise ValueError(str(error)) from None
    if not isinstance(value, dict):
        raise ValueError("it is not an object")
    for name in REQUIRED:
        if name in kind.model_fields and name not in value:
            raise ValueError(f"it lacks {name!r}")
    values = {
        name: setting for name, setting in value.items() if not _is_default(kind, name, setting)
    }
    try:
        settings = kind.model_validate(values, context=RECORDED)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from None
    for name, setting in settings.recorded().items():
        # The text "5" is not the number 5. An earlier version may have recorded a single value
        # where this version has a tuple.
        if name in values and setting not in (values[name], [values[name]]):
            raise ValueError(f"{name} is {values[name]!r}, but must be {setting!r}")
    return settings


def _is_default(kind: type[Settings], name: str, value: object) -> bool:
    field = kind.model_fields.get(name)
    return (
        field is not None
        and not field.is_required()
        and to_jsonable_python(field.get_default()) == value
    )
