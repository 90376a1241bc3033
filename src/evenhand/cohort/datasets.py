"""Cohorts of images that Python code gives: torch's datasets, Hugging Face's, any sequence."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image

from evenhand.cohort.cohort import Cohort, Image, UnreadableError
from evenhand.cohort.images.arrays import channels_last
from evenhand.cohort.images.decoding import IMAGE_SIZE, MODES, Picture, fitted
from evenhand.cohort.readers.table import Samples, settled_cohort
from evenhand.cohort.registry import (
    READERS,
    SERIES,
    DataSet,
    refuse_settings,
    register_reader,
)
from evenhand.cohort.settings import DataSettings
from evenhand.errors import EvenhandError
from evenhand.networks.inputs import RGB, ImageForm, Images
from evenhand.tables.settings import ClassSettings

READER = "dataset"
SAMPLE = "position in the dataset"
ABOUT = DataSet(
    title="a dataset of Python code (Cohort.from_dataset)",
    task="the classes of a column of your data frame",
    modality="images in memory, or as the dataset reads them",
    licence="yours",
    access="made by evenhand.Cohort.from_dataset",
)
IMAGE_KEYS = ("image", "pixel_values", "img")
"""Where a mapping has its image."""


@dataclass(frozen=True, eq=False)
class DatasetImages:
    """The images of a dataset, by its positions as text.

    Attributes
    ----------
    dataset
        Gives item k by ``dataset[k]``; one thread at a time asks it.
    image
        From an item to its image.
    size
        What each image is squashed to; None leaves it as it is, of three channels.
    """

    dataset: Any
    image: Callable[[Any], Any]
    size: Images | None = None
    lock: Lock = field(default_factory=Lock)

    @property
    def ids(self) -> Sequence[str]:
        """Every position."""
        return tuple(map(str, range(len(self.dataset))))

    def __call__(self, sample_id: str) -> Image:
        """Return one image, ``(H, W, C)``."""
        try:
            with self.lock:
                item = self.image(self.dataset[int(sample_id)])
            return self._fitted(item)
        except (EvenhandError, OSError, ValueError) as error:
            raise UnreadableError(f"item {sample_id} of the dataset: {error}") from error

    def _fitted(self, item: Any) -> Image:
        """Return an image as it is asked for; as it is, with all of its channels, by default."""
        if self.size is None:
            return np.asarray(as_picture(item, None))
        return fitted(as_picture(item, ImageForm.of(self.size).channels), self.size)

    def resized(self, images: Images | None) -> DatasetImages:
        """Return the way to read the same images as ``(height, width, channels)``."""
        return replace(self, size=images or IMAGE_SIZE)


def dataset_cohort(
    dataset: Any,
    frame: pd.DataFrame,
    settings: DataSettings,
    image: Callable[[Any], Any] | None,
    version: str | None,
) -> Cohort:
    """Return the cohort of a dataset; arguments as in `Cohort.from_dataset`.

    Raises
    ------
    EvenhandError
        Lengths differ, a column is refused, an item is no image, or it changes.
    """
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise EvenhandError(
            f"{type(dataset).__name__} has no len() or cannot be asked for item k, as a stream "
            "cannot: give a dataset of known length, or list(stream)."
        )
    if len(dataset) != len(frame):
        raise EvenhandError(
            f"the dataset has {len(dataset):,} items and the frame {len(frame):,} rows; row k "
            "must be about item k."
        )
    read = DatasetImages(dataset, image or first_image)
    _refuse_chance(read)
    mark = _fingerprint(read, version)
    table = frame.reset_index(drop=True).astype("str")
    table = table.assign(**{SAMPLE: list(map(str, range(len(table))))})

    def find(names: pd.Series) -> Samples:
        return Samples(np.ones(len(names), np.bool_), (), read, (), mark)

    columns = (SAMPLE, str(settings.label), str(settings.patient))
    return settled_cohort(READER, table, Path("frame"), columns, settings, find)


def first_image(item: Any) -> Any:
    """Return the image of an item: the first of a tuple, or a mapping's by its usual names.

    Raises
    ------
    EvenhandError
        A mapping has none of these names.

    Examples
    --------
    >>> first_image(("picture", 1)), first_image({"image": "picture", "label": 1})
    ('picture', 'picture')
    """
    if isinstance(item, Mapping):
        names = [name for name in IMAGE_KEYS if name in item]
        if not names:
            raise EvenhandError(
                f"it has {', '.join(map(repr, item))} and none of {', '.join(IMAGE_KEYS)}; say "
                "where its image is: image=lambda item: item[…]."
            )
        return item[names[0]]
    return item[0] if isinstance(item, tuple | list) else item


def as_picture(image: Any, channels: int | None = RGB) -> Picture:
    """Return an image as people hold it as an RGB picture, or as an array of more channels.

    Parameters
    ----------
    image
        A PIL image; ``(H, W)``, ``(H, W, C)``, or a tensor ``(C, H, W)``, of uint8, or of floats
        from 0 to 1.
    channels
        C may be 1, 3 or so many; None: whatever it is, the shorter of both ends.

    Raises
    ------
    EvenhandError
        It is none of these.

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
        rows = _bytes(channels_last(array, channels))
    except ValueError as error:
        raise EvenhandError(f"{array.shape} is no image: {error}.") from None
    if rows.shape[2] not in MODES:
        return rows
    return PIL.Image.fromarray(rows[..., 0] if rows.shape[2] == 1 else rows).convert("RGB")


def _bytes(array: np.ndarray[Any, Any]) -> Image:
    """Return an array as uint8."""
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if array.dtype.kind != "f" or not (low >= 0 and high <= 1):
        raise EvenhandError(
            f"an image of {array.dtype} with values from {low:g} to {high:g}: give uint8, or "
            "floats from 0 to 1, before any normalisation, which is the model's."
        )
    return np.round(255 * array).astype(np.uint8)


def _refuse_chance(read: DatasetImages) -> None:
    """Refuse a dataset whose first image is another one each time."""
    if read.ids and not all(np.array_equal(read("0"), read("0")) for _ in range(3)):
        raise EvenhandError(
            "the dataset gives another image each time it is asked for item 0. Give it without "
            "random augmentation: training has its own (--augment)."
        )


def _fingerprint(read: DatasetImages, version: str | None) -> str:
    """Return a hash of the version that the caller names, else of every image."""
    digest = hashlib.sha256(f"{len(read.dataset)}\n{version}".encode())
    if version is None:
        for name in read.ids:
            image = read(name)
            digest.update(repr(image.shape).encode() + image.tobytes())
    return digest.hexdigest()


_handed_over: dict[str, Cohort] = {}


def hand_over(cohort: Cohort) -> str:
    """Return DATA that stands for a cohort in jobs of this process.

    Examples
    --------
    >>> from evenhand.cohort.phantoms.images import PhantomSettings, make_phantoms
    >>> hand_over(make_phantoms(PhantomSettings(patients=10, size=16))).partition(":")[0]
    'dataset'
    """
    if READER not in READERS:
        register_reader(READER, ABOUT)(_take)
    rows = pd.util.hash_pandas_object(cohort.table, index=False).to_numpy().tobytes()
    key = hashlib.sha256(cohort.source.fingerprint.encode() + rows).hexdigest()[:16]
    _handed_over[key] = cohort
    return f"{READER}:{key}"


def _take(path: str, settings: DataSettings) -> Cohort:
    """Return a cohort that this process has handed over."""
    columns = ("label", "patient", "image_column", *SERIES, "bins", "slices")
    refuse_settings(READER, settings, (*columns, *ClassSettings.model_fields))
    if path not in _handed_over:
        raise EvenhandError(
            f"dataset:{path} was made by Cohort.from_dataset in another process, and is not known "
            "here. Give the cohort itself; or, for workers and commands, register a reader that "
            "makes it (evenhand.register_reader) in a module, and name that with --import."
        )
    return _handed_over[path]
