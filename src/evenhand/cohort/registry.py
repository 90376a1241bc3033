"""The register of readers: one function per kind of data set."""

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
"""Makes a cohort from what follows ``reader:`` in DATA, and from the settings."""


@dataclass(frozen=True)
class Entry:
    """A file or folder of a data set's layout.

    Parameters
    ----------
    name
        Its path below the root; ``*`` and ``**`` stand for whatever is there.
    what
        What it holds.
    required
        Whether the data set cannot be read without it.
    other
        Its path where the data set is packed in another way; none if empty.
    columns
        The columns that attributes read from it, where it is not required.
    """

    name: str
    what: str
    required: bool = True
    other: str = ""
    columns: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The paths that it may have."""
        return (self.name, self.other) if self.other else (self.name,)

    def __str__(self) -> str:
        return " or ".join(self.names)


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """What a reader reads, as ``evenhand datasets`` shows it.

    Parameters
    ----------
    title, task, modality, licence, access
        In words; ``access`` says where to get the data, and on which terms.
    layout
        The files and folders below the root.
    unit
        What ``patient_id`` really is: "patient", "lesion", "stay", "image".
    labels
        The conventions for the label, by name; the first is the default.
    attributes
        The rules for attributes whose levels are known.
    open_attributes
        Columns of attributes whose levels are the values that occur, by the attribute's name.
    slices
        How many slices are cut of each volume unless ``--slices`` says; 0 where there are none.
    window
        Centre and width of the window that pictures are shown through; None without one.
    needs
        Modules of the extra ``readers`` without which it cannot be read.
    caution
        When the data mislead.
    yours
        Where the user's own data say what its labels, attributes and layout are: how, by fact.
    """

    title: str
    task: str
    modality: str
    licence: str
    access: str
    layout: tuple[Entry, ...] = ()
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
    """A data set, and the function that opens it."""

    name: str
    about: DataSet
    open: Open


READERS: Registry[Reader] = Registry("reader", "cohort/readers", ("register_reader", "published"))
"""The readers by name."""


def register_reader(name: str, about: DataSet) -> Callable[[Open], Open]:
    """Register a function as the reader of the name that DATA begins with.

    It checks its input as a whole before it returns, names file and row of what it refuses, and
    reads no sample. Published data sets take ``evenhand.cohort.published.published`` instead,
    which does all that they have in common.
    """

    def register(function: Open) -> Open:
        reader = Reader(name, about, function)
        READERS.add(name, reader, module=function.__module__, title=about.title)
        return function

    return register


LONG_TABLE = ("series_table", "series_step", "series_steps", "series_variable")
"""The settings of a long table of series."""

SERIES = ("series_column", *LONG_TABLE, "static")
"""The settings that say how a table of one's own holds series, and what is read beside them."""


def refuse_settings(name: str, settings: DataSettings, unused: tuple[str, ...]) -> None:
    """Refuse settings that a reader has no use for.

    Raises
    ------
    EvenhandError
        If one of these settings has a value.
    """
    flags = [f"--{field.replace('_', '-')}" for field in unused if getattr(settings, field)]
    if flags:
        raise EvenhandError(
            f"{' and '.join(flags)} cannot be given with {name}: data, which say it themselves or "
            "have no use for it. Leave it out."
        )
