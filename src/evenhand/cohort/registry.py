"""The registry of readers: one function for each kind of data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.labels import Label
from evenhand.cohort.settings import DataSettings
from evenhand.errors import EvenhandError
from evenhand.registry import Registry
from evenhand.tables.attributes import Attribute

Open = Callable[[str, DataSettings], Cohort]
"""Returns a cohort, given the text after ``reader:`` in DATA and the settings."""


@dataclass(frozen=True)
class LayoutEntry:
    """A file or folder of a data set's layout.

    Parameters
    ----------
    name
        The path below the root; ``*`` and ``**`` are wildcards.
    what
        The content, in words.
    required
        Whether the data set cannot be read without it.
    other
        An alternative path, in copies with another layout; "" without one.
    columns
        The columns that attributes read from it, if it is not required.
    """

    name: str
    what: str
    required: bool = True
    other: str = ""
    columns: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The paths that the entry may have."""
        return (self.name, self.other) if self.other else (self.name,)

    def __str__(self) -> str:
        return " or ".join(self.names)


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """The description of the data of a reader, as `evenhand datasets` shows it.

    Parameters
    ----------
    title, task, modality, licence, access
        Texts; ``access`` says where to get the data, and on which terms.
    layout
        The files and folders below the root.
    unit
        What ``patient_id`` identifies: "patient", "lesion", "stay", "image".
    labels
        Name → convention for the label; the first one is the default.
    attributes
        The rules for attributes with fixed levels.
    open_attributes
        Name → column, for attributes whose levels are the values that occur.
    slices
        The default number of slices of each volume; 0 if there are no volumes.
    window
        Centre and width of the intensity window of images; None without one.
    needs
        Modules of the extra ``readers`` that the reader needs.
    caution
        A sentence on when the data mislead.
    yours
        For readers of the user's own data: heading (``labels`` …) → how the user gives it.
    """

    title: str
    task: str
    modality: str
    licence: str
    access: str
    layout: tuple[LayoutEntry, ...] = ()
    unit: str = "patient"
    labels: Mapping[str, Label] = field(default_factory=dict)
    attributes: tuple[Attribute, ...] = ()
    open_attributes: Mapping[str, str] = field(default_factory=dict)
    slices: int = 0
    window: tuple[float, float] | None = None
    needs: tuple[str, ...] = ()
    caution: str = ""
    yours: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reader:
    """The description of a data set, and the function that opens it."""

    name: str
    about: DataSet
    open: Open


READERS: Registry[Reader] = Registry("reader", "cohort/readers", ("register_reader", "published"))
"""Name → reader."""


def register_reader(name: str, about: DataSet) -> Callable[[Open], Open]:
    """Register the decorated function as the reader ``name``, with which DATA begins.

    The function must check its whole input, name file and row in its errors, and read no sample.
    For published data sets use ``evenhand.cohort.published.published``, which does the common work.
    """

    def register(function: Open) -> Open:
        reader = Reader(name, about, function)
        READERS.add(name, reader, module=function.__module__, title=about.title)
        return function

    return register


LONG_TABLE = ("series_table", "series_step", "series_steps", "series_variable")
"""The settings of a long table of series."""

SERIES = ("series_column", *LONG_TABLE, "static")
"""The settings of series in a user's own table, and of static variables."""


def refuse_settings(name: str, settings: DataSettings, unused: tuple[str, ...]) -> None:
    """Refuse settings in ``unused``, which do not apply to a reader.

    Raises
    ------
    EvenhandError
        If one of these settings has a value.
    """
    flags = [f"--{field.replace('_', '-')}" for field in unused if getattr(settings, field)]
    if flags:
        raise EvenhandError(
            f"{' and '.join(flags)} cannot be given with {name}: these data define it themselves "
            "or do not use it. Leave it out."
        )
