"""Make cohorts from Python objects: datasets of torch and Hugging Face, or any sequence."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image

from evenhand.cohort.cohort import Cohort, Image, Read, UnreadableError
from evenhand.cohort.images.arrays import with_channels_last
from evenhand.cohort.images.decoding import IMAGE_SIZE, MODES, Picture, fit_picture
from evenhand.cohort.readers.table import TableSamples, build_cohort
from evenhand.cohort.registry import (
    READERS,
    SERIES,
    DataSet,
    refuse_settings,
    register_reader,
)
from evenhand.cohort.series.items import SeriesItems, first_series, sample_in
from evenhand.cohort.series.recordings import Series, whole_recordings
from evenhand.cohort.settings import DataSettings
from evenhand.errors import EvenhandError, first_few
from evenhand.networks.inputs import RGB, ImageForm, Images
from evenhand.tables.settings import ClassSettings

READER = "dataset"
SAMPLE = "position in the dataset"
ABOUT = DataSet(
    title="a dataset of Python code (Cohort.from_dataset)",
    task="the classes of a column of your data frame",
    modality="images or series in memory, or as the dataset reads them",
    licence="yours",
    access="made by evenhand.Cohort.from_dataset",
    caution="Misleads where patients are not given: samples of one person can then lie in training "
    "and test.",
)
IMAGE_KEYS = ("image", "pixel_values", "img")
"""The usual keys of the image in a mapping."""


@dataclass(frozen=True, eq=False)
class DatasetImages:
    """Reads the images of a dataset; a sample's id is its position as text.

    Attributes
    ----------
    dataset
        Returns item k as ``dataset[k]``; only one thread at a time reads it.
    image
        Function from an item to its image.
    size
        The size to which images are resized; None keeps the original size.
    """

    dataset: Any
    image: Callable[[Any], Any]
    size: Images | None = None
    lock: Lock = field(default_factory=Lock)

    @property
    def ids(self) -> Sequence[str]:
        """All positions, as text."""
        return tuple(map(str, range(len(self.dataset))))

    def __call__(self, sample_id: str) -> Image:
        """Return one image, ``(H, W, C)``."""
        try:
            with self.lock:
                item = self.image(self.dataset[int(sample_id)])
            return self._as_image(item)
        except (EvenhandError, OSError, ValueError) as error:
            raise UnreadableError(f"item {sample_id} of the dataset: {error}") from error

    def _as_image(self, item: Any) -> Image:
        """Return an image resized to `size`, or unchanged with all channels if `size` is None."""
        if self.size is None:
            return np.asarray(as_picture(item, None))
        return fit_picture(as_picture(item, ImageForm.of(self.size).channels), self.size)

    def resized(self, images: Images | None) -> DatasetImages:
        """Return a reader of the same images as ``(height, width, channels)``."""
        return replace(self, size=images or IMAGE_SIZE)


@dataclass(frozen=True, eq=False)
class Items:
    """The arguments of `Cohort.from_dataset` that describe the items of a dataset.

    Attributes
    ----------
    image
        Function from an item to its image; None for the usual forms of items.
    series
        Function from an item to its series; None for the usual forms of items.
    variables
        The names of the columns of a series; empty for images.
    version
        Text that changes when the items change; None reads the items to detect changes.
    """

    image: Callable[[Any], Any] | None = None
    series: Callable[[Any], Any] | None = None
    variables: tuple[str, ...] = ()
    version: str | None = None

    def check(self) -> None:
        """Refuse arguments that contradict each other.

        Raises
        ------
        EvenhandError
            If ``variables`` repeats a name, or ``image`` or ``series`` does not fit it.
        """
        if len(set(self.variables)) < len(self.variables):
            raise EvenhandError(f"variables {self.variables}: give each a different name.")
        if self.variables and self.image is not None:
            raise EvenhandError(
                "image= is for images, and variables= makes the items series: give series= instead."
            )
        if self.series is not None and not self.variables:
            raise EvenhandError(
                "series= needs variables=, the names of the columns of each array (time, "
                "variables), as in variables=('pulse', 'lactate')."
            )


def dataset_cohort(
    dataset: Any, frame: pd.DataFrame, settings: DataSettings, items: Items
) -> Cohort:
    """Return the cohort of a dataset; for the parameters see `Cohort.from_dataset`.

    Raises
    ------
    EvenhandError
        If lengths differ, a column is refused, or an item is neither an image nor a series, or
        changes between two reads.
    """
    items.check()
    _require_sequence(dataset)
    if len(dataset) != len(frame):
        raise EvenhandError(
            f"the dataset has {len(dataset):,} items and the frame {len(frame):,} rows; row k "
            "must be about item k."
        )
    source: DatasetImages | SeriesItems
    if items.variables:
        source = SeriesItems(dataset, items.series or first_series, items.variables)
    else:
        source = DatasetImages(dataset, items.image or _image_column(dataset) or first_image)
    _refuse_random_items(source)
    fingerprint = _fingerprint(source, items)
    read: Read = source if isinstance(source, DatasetImages) else _whole_series(source)
    table = frame.reset_index(drop=True).astype("str")
    table = table.assign(**{SAMPLE: list(map(str, range(len(table))))})

    def find(names: pd.Series) -> TableSamples:
        exists = np.ones(len(names), np.bool_)
        return TableSamples(exists, (), read, channels=items.variables, fingerprint=fingerprint)

    columns = (SAMPLE, str(settings.label), str(settings.patient))
    return build_cohort(READER, table, Path("frame"), columns, settings, find)


def _whole_series(source: SeriesItems) -> Series:
    steps = source.steps()
    return whole_recordings(source.ids, partial(source.load, steps), steps)


def _require_sequence(dataset: Any) -> None:
    """Refuse objects from which item k cannot be read."""
    if isinstance(dataset, Mapping):
        raise EvenhandError(
            f"a {type(dataset).__name__} of {first_few(map(repr, dataset))} holds several "
            "datasets: give one of them, or concatenate them."
        )
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise EvenhandError(
            f"{type(dataset).__name__} has no len(), or its items cannot be read by index, as in "
            "a stream: give a dataset of known length, or list(stream)."
        )


def _image_column(dataset: Any) -> Callable[[Any], Any] | None:
    """Return the function that reads the column of images of a Hugging Face dataset; else None.

    The column is detected by the name of its feature's class, so the library need not be installed.
    """
    features = getattr(dataset, "features", None)
    if not isinstance(features, Mapping):
        return None
    names = [name for name, kind in features.items() if type(kind).__name__ == "Image"]
    if len(names) > 1:
        raise EvenhandError(
            f"the dataset has {len(names)} columns of images ({first_few(names)}); choose one: "
            f"image=lambda item: item[{names[0]!r}]."
        )
    return itemgetter(names[0]) if names else None


def first_image(item: Any) -> Any:
    """Return the image of an item: the first of a tuple, or a mapping's value under a usual key.

    Raises
    ------
    EvenhandError
        If a mapping has none of the usual keys (`IMAGE_KEYS`).

    Examples
    --------
    >>> first_image(("picture", 1)), first_image({"image": "picture", "label": 1})
    ('picture', 'picture')
    """
    return sample_in(item, "image", IMAGE_KEYS, (tuple, list))


def as_picture(image: Any, channels: int | None = RGB) -> Picture:
    """Return an image of any usual form as an RGB picture, or as an array with more channels.

    Parameters
    ----------
    image
        A PIL image; ``(H, W)``, ``(H, W, C)``, or a tensor ``(C, H, W)``, of uint8, or of floats
        from 0 to 1.
    channels
        The accepted C, in addition to 1 and 3. None accepts any number; C is then the shorter of
        the first and the last axis, unless one of them is 3.

    Raises
    ------
    EvenhandError
        If ``image`` is not an image in one of these forms.

    Examples
    --------
    >>> as_picture(np.ones((4, 6))).size
    (6, 4)
    """
    if isinstance(image, PIL.Image.Image):
        return image.convert("RGB")
    array = np.asarray(image.detach().cpu() if hasattr(image, "detach") else image)
    if channels is None:
        ends = (array.shape[0], array.shape[-1]) if array.ndim == 3 else (RGB,)
        channels = RGB if RGB in ends else min(ends)
    try:
        pixels = _as_uint8(with_channels_last(array, channels))
    except ValueError as error:
        raise EvenhandError(f"{array.shape} is no image: {error}.") from None
    if pixels.shape[2] not in MODES:
        return pixels
    return PIL.Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")


def _as_uint8(array: np.ndarray[Any, Any]) -> Image:
    """Return an array as uint8."""
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if array.dtype.kind != "f" or not (low >= 0 and high <= 1):
        raise EvenhandError(
            f"an image of {array.dtype} with values from {low:g} to {high:g}: give uint8, or "
            "floats from 0 to 1, without normalisation (the model does it)."
        )
    return np.round(255 * array).astype(np.uint8)


def _refuse_random_items(read: DatasetImages | SeriesItems) -> None:
    """Refuse a dataset whose first item differs between accesses."""
    if read.ids and not all(read("0").tobytes() == read("0").tobytes() for _ in range(3)):
        kind = "series" if isinstance(read, SeriesItems) else "image"
        raise EvenhandError(
            f"the dataset gives another {kind} at each access to item 0. Give it without random "
            "augmentation: training has its own (--augment)."
        )


def _fingerprint(read: DatasetImages | SeriesItems, items: Items) -> str:
    """Return a hash of the user's version, or of every item if there is no version."""
    digest = hashlib.sha256(f"{len(read.dataset)}\n{items.version}".encode())
    if items.version is None:
        for name in read.ids:
            item = read(name)
            digest.update(repr(item.shape).encode() + item.tobytes())
    return digest.hexdigest()


_stored_cohorts: dict[str, Cohort] = {}


def store_in_process(cohort: Cohort) -> str:
    """Store a cohort in this process, and return the DATA with which jobs find it.

    Examples
    --------
    >>> from evenhand.cohort.phantoms.images import PhantomSettings, make_phantoms
    >>> store_in_process(make_phantoms(PhantomSettings(patients=10, size=16))).partition(":")[0]
    'dataset'
    """
    if READER not in READERS:
        register_reader(READER, ABOUT)(_read_stored_cohort)
    rows = pd.util.hash_pandas_object(cohort.table, index=False).to_numpy().tobytes()
    key = hashlib.sha256(cohort.source.fingerprint.encode() + rows).hexdigest()[:16]
    _stored_cohorts[key] = cohort
    return f"{READER}:{key}"


def _read_stored_cohort(path: str, settings: DataSettings) -> Cohort:
    """Return a cohort that `store_in_process` stored."""
    unused = ("label", "patient", "image_column", *SERIES, "bins", "slices")
    refuse_settings(READER, settings, (*unused, *ClassSettings.model_fields))
    if path not in _stored_cohorts:
        raise EvenhandError(
            f"dataset:{path} was made by Cohort.from_dataset in another process, so it does not "
            "exist in this one. Give the cohort itself. For workers and commands, register a "
            "reader that makes it (evenhand.register_reader) in a module of --import."
        )
    return _stored_cohorts[path]
