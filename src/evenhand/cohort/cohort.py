"""A cohort: samples with their patients, labels and attributes, and the way to read one sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.errors import EvenhandError, pick, some
from evenhand.networks.inputs import Images
from evenhand.tables.attributes import UNKNOWN, Attribute, attribute_parts, group_of
from evenhand.tables.classes import ask_positive

Image = NDArray[np.uint8]
Values = NDArray[np.float32]
Sample = Image | Values
"""An image ``(H, W, C)``, or a series ``(T, C)`` with NaN where nothing was observed."""


class Read(Protocol):
    """The way to read one sample of a source, by its id."""

    @property
    def ids(self) -> Sequence[str]:
        """Every sample of the source, in its order; a cohort may hold fewer."""

    def __call__(self, sample_id: str) -> Sample:
        """Return the sample.

        Raises
        ------
        UnreadableError
            If the sample's file is damaged, or in a form that cannot be decoded without loss.
        """

    def resized(self, images: Images | None) -> Read:
        """Return the way to read the same samples, all in one shape.

        Images become ``(height, width, channels)``; by default ``(224, 224, 3)``.

        Parameters
        ----------
        images
            A number is the side of squares of three channels; anything else comes as an
            `evenhand.networks.inputs.ImageForm`.

        Raises
        ------
        EvenhandError
            If ``images`` is not None and the samples are series.
        """


class UnreadableError(EvenhandError):
    """A sample whose file cannot be read."""


@dataclass(frozen=True)
class Stored:
    """What a sample store holds.

    Parameters
    ----------
    dtype
        Of the numbers: "uint8" of images, "float32" of series.
    shape
        Of a sample: height, width and channels, or steps and channels.
    """

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype}, {' x '.join(map(str, self.shape))}"


@dataclass(frozen=True)
class Source:
    """Where a cohort comes from.

    Parameters
    ----------
    reader
        The reader's name.
    path
        What it read.
    unit
        What ``patient_id`` really is: "patient", "lesion", "stay".
    fingerprint
        Changes when the data do (see ``evenhand.files.fingerprint``).
    label
        What the label is, and which class counts as what.
    slices
        How many slices are cut of each volume; None where there are no volumes.
    window
        Centre and width of the window that pictures are shown through; None without one.
    left_out
        What is wrong with each sample that could not be read and was left out.
    notes
        What else must be known of the data, in sentences.
    stored
        What its sample store holds; None before there is one.
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
        """What a run keeps of it, as JSON values; its notes stand among those of the run."""
        facts = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: value for name, value in facts.items() if name != "notes"}


@dataclass(frozen=True, eq=False)
class Cohort:
    """Samples with their patients, labels and protected attributes.

    Parameters
    ----------
    table
        One row per sample: ``sample_id`` (unique text), ``patient_id`` (categorical, in sorted
        order), ``label`` (int64, 0 … C-1), a categorical ``attr_<name>`` per attribute (see
        ``Attribute.of``), and what else the reader knows: ``split`` where the source brings its
        own, ``truth_…`` where the truth is known.
    read
        The way to read one sample, by its id.
    attributes
        The rule behind each ``attr_<name>``.
    classes
        The name of each class.
    source
        Where all this comes from.
    channels
        What each channel of the series is; none where the samples are images.
    classes_ordered
        Whether it is known that the last of two classes is the positive one.
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

        Jobs take it in the place of DATA: ``evenhand.finetune(cohort, attribute="sex", out=…)``.

        Parameters
        ----------
        dataset
            Has ``len()`` and gives sample k by ``dataset[k]``, always the same: without random
            augmentation. Normalisation is the model's: values are 0 … 255, or 0 … 1.
        frame
            Row k is about ``dataset[k]``.
        label, patient, attribute
            Its columns, as a table of your own has them.
        bins, positive
            As the flags of a table: ``"age=60"``, the positive one of two classes.
        image
            From an item of ``dataset`` to its image: a PIL image, ``(H, W)``, ``(H, W, C)``, or a
            tensor ``(C, H, W)``. By default the first of a tuple; of a mapping the column that
            Hugging Face's features call an image, ``"image"`` or ``"pixel_values"``; else the item.
        series
            From an item to its series: an array ``(T, V)``, NaN where nothing was observed. By
            default the first of a tuple; of a mapping ``"series"`` or ``"values"``; else the item.
        variables
            The names of the V columns of a series. None: the items are images.
        version
            Changes when the items do. Without it every item is read once more, to see that.

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
        """The class of each sample, ``(n,)``."""
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
    """Make a cohort's table from a source's.

    Parameters
    ----------
    raw
        The source's table, as text.
    sample, patient
        Its columns of sample and patient ids.
    label
        The class of each row, 0 … C-1.
    attributes
        The rules, which name the columns that they read.
    """
    columns = {
        "sample_id": raw[sample],
        "patient_id": raw[patient].astype("category"),
        "label": label.astype("int64"),
        **{
            f"attr_{name}": attribute.of(raw[attribute.column])
            for name, attribute in attributes.items()
        },
    }
    return pd.DataFrame(columns).reset_index(drop=True)


def counts(cohort: Cohort, attribute: str) -> pd.DataFrame:
    """Count the samples of each group of an attribute or intersection.

    Returns
    -------
    pandas.DataFrame
        ``group``, ``n``, ``patients`` and ``positives`` (samples of class 1; missing for more
        than two classes), one row per group in order, empty ones and ``unknown`` too.
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
    """Return the levels of an attribute that samples have, ``unknown`` aside."""
    return sorted({*table[f"attr_{attribute}"].unique()} - {UNKNOWN})


def check_usable(cohort: Cohort, attributes: Sequence[str]) -> None:
    """Check that there is something to learn and something to compare.

    Parameters
    ----------
    cohort
        Any cohort.
    attributes
        The attributes and intersections that the user asks about.

    Raises
    ------
    EvenhandError
        If the samples have only one class, the positive one of two classes is unknown, or an
        attribute does not exist or has fewer than two levels.
    """
    left_out = cohort.source.left_out
    without = f"; left out: {some(left_out)}" if left_out else ""
    present = [cohort.classes[label] for label in sorted(cohort.table["label"].unique())]
    if len(present) < 2:
        raise EvenhandError(
            f"{cohort.source.path}: every sample has the label {present[0]!r}; two classes at "
            "least are needed. Name another label, or add samples of another class."
            if present
            else f"{cohort.source.path}: no sample is left{without}."
        )
    if not cohort.classes_ordered:
        raise ask_positive(cohort.classes, cohort.source.path)
    for name in sorted({part for attribute in attributes for part in attribute_parts(attribute)}):
        pick("attribute", name, cohort.attributes)
        levels = known_levels(cohort.table, name)
        if len(levels) < 2:
            raise EvenhandError(
                f"{cohort.source.path}: the attribute {name!r} has "
                f"{f'one level, {levels[0]!r}' if levels else 'no known level'}; there is nothing "
                "to compare. Name an attribute with two levels at least, or other --bins."
            )
