"""Read a user's tree with a folder for each class: ``folders:ROOT``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path

import pandas as pd

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.images.decoding import NO_ROW
from evenhand.cohort.layouts import check_layout, read_status, refuse_outside, walk
from evenhand.cohort.readers.table import table_cohort
from evenhand.cohort.registry import SERIES, DataSet, refuse_settings, register_reader
from evenhand.cohort.settings import DataSettings
from evenhand.errors import EvenhandError, count_text, first_few
from evenhand.tables.reading import look_up, read_table
from evenhand.tables.table_checks import refuse_blank, require_columns

METADATA = "metadata.csv"
TABLES = (".csv", ".tsv", ".tab", ".txt", ".parquet", ".xlsx", ".xls")
IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validating"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_MASKS = re.compile(r"(ground[\W_]?truth|gt|.*masks?|segmentations?|segs?)", re.IGNORECASE)
_OF_MASK = re.compile(r"[\W_](mask|seg|segmentation)([\W_]?\d+)?$")

FOLDERS = DataSet(
    title="a tree of your own, with a folder per class",
    task="the classes that the folders are named by",
    modality="images in files",
    licence="yours",
    access="ROOT/CLASS/….jpg, or ROOT/train/CLASS/….jpg with val and test beside it; patients "
    "(--patient COLUMN) and attributes in ROOT/metadata.csv, whose column file names the images",
    unit="image",
    yours={
        "patients": f"a column of {METADATA} (--patient), else each image counts as one",
        "labels": "the names of the folders",
        "attributes": f"columns of {METADATA}",
        "layout": "CLASS/….jpg or train/CLASS/….jpg: images by class\n"
        f"{METADATA}: file, patients and attributes (optional)",
    },
    caution="Misleads where patients are not given: images of one person can then lie in training "
    "and test.",
)


@register_reader("folders", FOLDERS)
def read_folders(path: str, settings: DataSettings) -> Cohort:
    """Read a tree with a folder for each class; by default, each image is a patient."""
    refuse_settings("folders", settings, ("label", "image_column", *SERIES, "slices"))
    root = Path(path)
    check_layout(root, FOLDERS)
    tree = _read_tree(root)
    table, metadata = tree.table, _metadata_in(root)
    absent: tuple[str, ...] = ()
    if metadata.is_file():
        refuse_outside([metadata], root)
        descriptions = read_table(
            metadata, ids=("file", *([settings.patient] if settings.patient else []))
        )
        require_columns(descriptions, metadata, ("file",))
        refuse_blank(descriptions, metadata, ("file",))
        paths = descriptions["file"].map(partial(os.path.join, root)).astype(object)
        status = read_status(paths, metadata, root)
        absent = status.absent(metadata, skip=settings.skip_unreadable)
        descriptions["file"] = status.files.str.removeprefix(f"{root}{os.sep}").astype("str")
        table = _with_metadata(table, descriptions, metadata, settings.patient)
    source = metadata if metadata.is_file() else root
    columns = ("file", "class", settings.patient or "file")
    cohort = table_cohort("folders", table, source, columns, settings, root)
    source_facts = replace(cohort.source, path=str(root), left_out=absent, notes=tree.notes)
    return replace(cohort, source=source_facts)


def _metadata_in(root: Path) -> Path:
    """Return the table of metadata, which may be absent.

    Raises
    ------
    EvenhandError
        If there are several tables with that name, which differ in capitals or format.
    """
    stem = Path(METADATA).stem
    others = sorted(
        path
        for path in root.iterdir()
        if path.stem.lower() == stem and path.suffix.lower() in TABLES
    )
    if others and others != [root / METADATA]:
        raise EvenhandError(
            f"{root} has {' and '.join(path.name for path in others)}, but the only table of "
            f"patients and attributes must be {METADATA}. Keep one table with this name, and move "
            "others out."
        )
    return root / METADATA


@dataclass(frozen=True)
class _Tree:
    """The images of a tree of folders, and notes on how it was read."""

    table: pd.DataFrame  # file, class and, if the tree has splits, split
    notes: tuple[str, ...]


def _read_tree(root: Path) -> _Tree:
    """Return file, class and split (if the tree has splits) of each image."""
    images, masks = _without_masks(_images(root))
    if not images:
        raise EvenhandError(
            f"{root} has no folder of images: give the folder that holds one folder per class, "
            f"with files that end in {', '.join(IMAGES)}."
        )
    rows = [(path, *_class_and_split(folders)) for path, folders in _order_folders(images, root)]
    table = pd.DataFrame(rows, columns=["file", "class", "split"], dtype="str")
    _refuse_parts(set(table["class"]), root)
    outside = table["file"][table["split"].isna()]
    if len(outside) == len(table):
        _refuse_two_levels(images, root)
        table = table.drop(columns="split")
    elif len(outside):
        raise EvenhandError(
            f"{root}: {len(outside)} of {len(table)} images lie beside the splits: "
            f"{first_few(outside)}. Move them into a split, or out of the folder."
        )
    notes = (f"{count_text(len(masks), 'mask')} beside images left out: {first_few(masks)}.",)
    return _Tree(table.set_axis(pd.Index([NO_ROW] * len(table))), notes if masks else ())


def split_of(folder: str) -> str | None:
    """Return the split that a folder's name means, ignoring capitals; None if it is no split.

    Examples
    --------
    >>> split_of("Training"), split_of("VAL"), split_of("test_set"), split_of("melanoma")
    ('train', 'val', 'test', None)
    """
    name = re.sub(r"[\W_]*(set|data|images)$", "", folder.lower())
    return SPLITS.get(name)


def _order_folders(
    images: dict[str, tuple[str, ...]], root: Path
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each image with its folders: the split (if any), the class, and further folders.

    In some trees the classes are above the splits (CLASS/train/….jpg); in most, the splits are
    above the classes (train/CLASS/….jpg).
    """
    below = all(len(folders) > 1 and split_of(folders[1]) for folders in images.values())
    above = any(split_of(folders[0]) for folders in images.values())
    if below and above:
        raise EvenhandError(
            f"{root} has splits in two levels of folders, as in {next(iter(images))}. Keep one."
        )
    for path, folders in images.items():
        yield path, (folders[1], folders[0], *folders[2:]) if below else folders


def _class_and_split(folders: tuple[str, ...]) -> tuple[str, str | None]:
    split = split_of(folders[0])
    return (folders[1], split) if split else (folders[0], None)


def _refuse_parts(classes: set[str], root: Path) -> None:
    """Refuse a tree whose folders are not classes, but images and their masks."""
    masks = {name for name in classes if _MASKS.fullmatch(name)}
    images = {name for name in classes if re.fullmatch(r"(images?|imgs?|inputs?)", name.lower())}
    if masks and images and masks | images == classes:
        raise EvenhandError(
            f"{root} has the folders {first_few(sorted(classes))}, which are images and masks and "
            "no classes. Give a table of the images with --image-column and --label."
        )


def _refuse_two_levels(images: dict[str, tuple[str, ...]], root: Path) -> None:
    """Refuse a tree in which the folders of the top level hold the same subfolders.

    These top-level folders may be splits, sites or years above the classes, or classes above the
    patients.
    """
    below: dict[str, set[str]] = {}
    for folders in images.values():
        below.setdefault(folders[0], set()).add(folders[1] if len(folders) > 1 else "")
    for first, other in combinations(sorted(below), 2):
        fewer, more = sorted((below[first], below[other]), key=len)
        if len(fewer) > 1 and fewer <= more and "" not in fewer:
            raise EvenhandError(
                f"{root}: the folders {first!r} and {other!r} both hold "
                f"{first_few(sorted(fewer))}, so it is not clear which level names the classes. "
                "Splits must be called train, val and test; without splits, give the folder of one "
                "level of classes, or a table with --image-column."
            )


def _without_masks(
    images: Iterator[tuple[str, tuple[str, ...]]],
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Return the images with their folders, and the masks.

    Masks lie in a folder of masks below a class (CLASS/masks beside CLASS/images), or beside their
    image (1_mask.png beside 1.png).
    """
    every = dict(images)
    stems = {path.rpartition(".")[0].lower() for path in every}
    with_images = {  # folders that hold images other than masks, directly or further down
        folders[:depth]
        for folders in set(every.values())
        for depth in range(1, len(folders) + 1)
        if len(folders) == depth or not _MASKS.fullmatch(folders[depth])
    }

    def is_mask(path: str, folders: tuple[str, ...]) -> bool:
        first = 2 if split_of(folders[0]) else 1  # the first level below the class
        for depth in range(first, len(folders)):
            if _MASKS.fullmatch(folders[depth]):
                return folders[:depth] in with_images
        stem = path.rpartition(".")[0].lower()
        image = _OF_MASK.sub("", stem)
        return image != stem and image in stems

    masks = [path for path, folders in every.items() if is_mask(path, folders)]
    left_out = set(masks)
    return {path: folders for path, folders in every.items() if path not in left_out}, masks


def _with_metadata(
    table: pd.DataFrame, descriptions: pd.DataFrame, metadata: Path, patient: str | None
) -> pd.DataFrame:
    """Return the images with the columns of ``metadata.csv``, indexed by its rows."""
    added = [name for name in descriptions.columns if name not in table.columns]
    described = look_up(table, "file", descriptions, metadata, added)
    row = pd.Series(descriptions.index, descriptions["file"])
    row = row[~row.index.duplicated()].reindex(table["file"], fill_value=NO_ROW)
    unnamed = table["file"][row.to_numpy() == NO_ROW]
    needed = [name for name in (patient, "split") if name in added]
    if needed and len(unnamed):
        raise EvenhandError(
            f"{metadata} has no row for {len(unnamed)} of {len(table)} images: "
            f"{first_few(unnamed)}. Add rows with {' and '.join(map(repr, needed))}, or remove the "
            "images."
        )
    return described.set_axis(pd.Index(row))


def _images(root: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the path below the root, and its folders, of each image in a folder.

    Hidden files and files in ``__MACOSX``, which programs create, are ignored.
    """
    for path in walk(root, root):
        *folders, name = parts = Path(path).relative_to(root).parts
        if any(part.startswith(".") or part == "__MACOSX" for part in parts):
            continue
        classes = folders[1:] if folders and split_of(folders[0]) else folders
        if classes and name.lower().endswith(IMAGES):
            yield path[len(str(root)) + 1 :], tuple(folders)
