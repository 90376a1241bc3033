"""A cohort: samples with their patients, labels and attributes, and a function to read a sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.errors import EvenhandError, first_few, pick
from evenhand.networks.inputs import Images
from evenhand.tables.attributes import UNKNOWN, Attribute, attribute_parts, group_of
from evenhand.tables.classes import unclear_positive

Image = NDArray[np.uint8]
Values = NDArray[np.float32]
Sample = Image | Values
"""An image ``(H, W, C)``, or a series ``(T, C)`` with NaN for values that were not observed."""


class Read(Protocol):
    """Reads single samples of a source by their id."""

    @property
    def ids(self) -> Sequence[str]:
        """The ids of all samples of the source, in order; a cohort may hold fewer."""

    def __call__(self, sample_id: str) -> Sample:
        """Return the sample.

        Raises
        ------
        UnreadableError
            If the sample's file is damaged, or in a form that cannot be decoded without loss.
        """

    def resized(self, images: Images | None) -> Read:
        """Return a reader of the same samples in one shape.

        Images become ``(height, width, channels)``; by default ``(224, 224, 3)``.

        Parameters
        ----------
        images
            The form of the images (`evenhand.networks.inputs.ImageForm`), or the side of square
            images with three channels.

        Raises
        ------
        EvenhandError
            If ``images`` is not None and the samples are series.
        """


class UnreadableError(EvenhandError):
    """The error for a sample whose file cannot be read."""


@dataclass(frozen=True)
class Stored:
    """The type and shape of the samples in a sample store.

    Parameters
    ----------
    dtype
        The type of the numbers: "uint8" for images, "float32" for series.
    shape
        The shape of a sample: height, width and channels, or steps and channels.
    """

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype}, {' x '.join(map(str, self.shape))}"


@dataclass(frozen=True)
class Source:
    """The origin of a cohort.

    Parameters
    ----------
    reader
        The name of the reader.
    path
        The path that it read.
    unit
        What ``patient_id`` identifies: "patient", "lesion", "stay".
    fingerprint
        A hash that changes when the data change (see ``evenhand.files.fingerprint``).
    label
        The name and the meaning of the label.
    slices
        The number of slices of each volume; None if there are no volumes.
    window
        Centre and width of the intensity window of images; None without one.
    left_out
        A sentence for each sample that was left out because it could not be read.
    notes
        Further sentences about the data for the report.
    stored
        The type and shape of the stored samples; None without a sample store.
    """

    reader: str
    path: str
    unit: str
    fingerprint: str
    label: str
    slices: int | None = None
    window: tuple[float, float] | None = None
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    stored: Stored | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """The source as JSON values for a run's record; the notes are among the run's notes."""
        facts = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: value for name, value in facts.items() if name != "notes"}


@dataclass(frozen=True, eq=False)
class Cohort:
    """Samples with their patients, labels and protected attributes.

    Parameters
    ----------
    table
        A row for each sample: ``sample_id`` (unique text), ``patient_id`` (categorical, in sorted
        order), ``label`` (int64, 0 … C-1), a categorical ``attr_<name>`` for each attribute (see
        ``Attribute.levels_of``), and optionally ``split`` (the source's own) and ``truth_…`` (of
        phantoms).
    read
        Reads one sample by its id.
    attributes
        Name → the rule of ``attr_<name>``.
    classes
        The names of the classes.
    source
        The origin of the data.
    channels
        The names of the channels of series; empty for images.
    classes_ordered
        False if there are two classes and it is unknown which one is positive.
    """

    table: pd.DataFrame
    read: Read
    attributes: Mapping[str, Attribute]
    classes: tuple[str, ...]
    source: Source
    channels: tuple[str, ...] = ()
    classes_ordered: bool = True

    def __len__(self) -> int:
        return len(self.table)

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,
        frame: pd.DataFrame,
        *,
        label: str,
        patient: str,
        attribute: str | Sequence[str] = (),
        bins: str | Sequence[str] = (),
        positive: str | None = None,
        image: Callable[[Any], Any] | None = None,
        series: Callable[[Any], Any] | None = None,
        variables: Sequence[str] = (),
        version: str | None = None,
    ) -> Cohort:
        """Return a cohort of the images or series of a torch or Hugging Face ``Dataset``.

        Jobs take it in place of DATA: ``evenhand.finetune(cohort, attribute="sex", out=…)``.

        Parameters
        ----------
        dataset
            An object with ``len()`` whose item ``dataset[k]`` is the same at each access (no
            random augmentation). Pixel values are 0 … 255 or 0 … 1; the model normalises them.
        frame
            A data frame; row k describes ``dataset[k]``.
        label, patient, attribute
            Names of columns of ``frame``.
        bins
            Bins of numeric attributes, as the flag ``--bins``: ``"age=60"``.
        positive
            The positive class of two.
        image
            Function from an item to its image: a PIL image, an array ``(H, W)`` or ``(H, W, C)``,
            or a tensor ``(C, H, W)``. By default, the first element of a tuple; the entry of a
            mapping that Hugging Face's features call an image, or ``"image"`` or
            ``"pixel_values"``; else the item.
        series
            Function from an item to its series: an array ``(T, V)`` with NaN for values that were
            not observed. By default, the first element of a tuple; the entry ``"series"`` or
            ``"values"`` of a mapping; else the item.
        variables
            The names of the V columns of a series. If it is empty, the items are images.
        version
            Text that changes when the items change. By default, all items are read, to detect
            changes.

        Raises
        ------
        EvenhandError
            If lengths differ, a column is refused, or an item is neither an image nor a series.

        Examples
        --------
        >>> images = [np.full((8, 8), 40 * k, np.uint8) for k in range(4)]
        >>> frame = pd.DataFrame({"dx": [0, 1, 0, 1], "id": [1, 1, 2, 3], "sex": list("ffmm")})
        >>> cohort = Cohort.from_dataset(images, frame, label="dx", patient="id", attribute="sex")
        >>> cohort.levels, cohort.read("3").shape
        ({'sex': ('f', 'm')}, (8, 8, 3))
        """
        from evenhand.cohort.datasets import Items, dataset_cohort
        from evenhand.cohort.settings import DataSettings

        settings = DataSettings(
            data="dataset:", label=label, patient=patient, positive=positive,
            attribute=(attribute,) if isinstance(attribute, str) else tuple(attribute),
            bins=(bins,) if isinstance(bins, str) else tuple(bins),
        )  # fmt: skip
        return dataset_cohort(
            dataset, frame, settings, Items(image, series, tuple(variables), version)
        )

    @property
    def labels(self) -> NDArray[np.int64]:
        """``(n,)`` class of each sample, 0 … C-1."""
        return self.table["label"].to_numpy(np.int64)

    @property
    def levels(self) -> dict[str, tuple[str, ...]]:
        """The levels of each attribute, in order."""
        return {name: attribute.levels for name, attribute in self.attributes.items()}

    def select(self, rows: NDArray[Any] | pd.Series) -> Cohort:
        """Return the cohort of some rows: a mask ``(n,)``, or positions in any order."""
        table = self.table.iloc[np.asarray(rows)].reset_index(drop=True)
        return replace(self, table=table)


def cohort_table(
    raw: pd.DataFrame,
    sample: str,
    patient: str,
    label: pd.Series,
    attributes: Mapping[str, Attribute],
) -> pd.DataFrame:
    """Return the table of a cohort from the table of a source.

    Parameters
    ----------
    raw
        The source's table, as text.
    sample, patient
        The names of its columns of sample ids and patient ids.
    label
        The class of each row, 0 … C-1.
    attributes
        Name → rule; a rule names the column that it reads.
    """
    columns = {
        "sample_id": raw[sample],
        "patient_id": raw[patient].astype("category"),
        "label": label.astype("int64"),
        **{
            f"attr_{name}": attribute.levels_of(raw[attribute.column])
            for name, attribute in attributes.items()
        },
    }
    return pd.DataFrame(columns).reset_index(drop=True)


def count_groups(cohort: Cohort, attribute: str) -> pd.DataFrame:
    """Count samples and patients of each group of an attribute or intersection.

    Returns
    -------
    pandas.DataFrame
        A row for each group in order, including empty groups and ``unknown``, with ``group``,
        ``n`` (samples), ``patients`` and ``positives`` (samples of class 1; missing for more than
        two classes).
    """
    group = group_of(cohort.table, attribute, cohort.levels)
    by_group = cohort.table.groupby(group, observed=False)
    table = pd.DataFrame({"n": by_group.size(), "patients": by_group["patient_id"].nunique()})
    positives = by_group["label"].sum() if len(cohort.classes) == 2 else pd.NA
    return (
        table.assign(positives=pd.Series(positives, table.index, dtype="Int64"))
        .rename_axis("group")
        .reset_index()
        .astype({"group": "str"})
    )


def known_levels(table: pd.DataFrame, attribute: str) -> list[str]:
    """Return the levels of an attribute that occur, without ``unknown``."""
    return sorted({*table[f"attr_{attribute}"].unique()} - {UNKNOWN})


def check_usable(cohort: Cohort, attributes: Sequence[str]) -> None:
    """Check that a cohort has two classes, and each attribute two levels.

    Parameters
    ----------
    cohort
        Any cohort.
    attributes
        The attributes and intersections that the user names.

    Raises
    ------
    EvenhandError
        If the samples have only one class, the positive one of two classes is unknown, or an
        attribute does not exist or has fewer than two levels.
    """
    left_out = cohort.source.left_out
    without = f"; left out: {first_few(left_out)}" if left_out else ""
    present = [cohort.classes[label] for label in sorted(cohort.table["label"].unique())]
    if len(present) < 2:
        raise EvenhandError(
            f"{cohort.source.path}: every sample has the label {present[0]!r}; at least two "
            "classes are needed. Name another label, or add samples of another class."
            if present
            else f"{cohort.source.path}: no sample is left{without}."
        )
    if not cohort.classes_ordered:
        raise unclear_positive(cohort.classes, cohort.source.path)
    for name in sorted({part for attribute in attributes for part in attribute_parts(attribute)}):
        pick("attribute", name, cohort.attributes)
        levels = known_levels(cohort.table, name)
        if len(levels) < 2:
            raise EvenhandError(
                f"{cohort.source.path}: the attribute {name!r} has "
                f"{f'one level, {levels[0]!r}' if levels else 'no known level'}; there is nothing "
                "to compare. Name an attribute with two levels at least, or other --bins."
            )
