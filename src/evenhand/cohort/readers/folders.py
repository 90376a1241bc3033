"""A tree of your own with a folder per class: ``folders:ROOT``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.images import NO_ROW
from evenhand.cohort.layouts import check_layout, look_at, refuse_outside, walk
from evenhand.cohort.readers.table import own_cohort
from evenhand.cohort.refusals import refuse_blank, require_columns
from evenhand.cohort.registry import SERIES, DataSet, reader, refuse_settings
from evenhand.cohort.settings import DataSettings
from evenhand.cohort.tables import look_up, read_table
from evenhand.errors import EvenhandError, some

METADATA = "metadata.csv"
IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

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
)


@reader("folders", FOLDERS)
def read_folders(path: str, settings: DataSettings) -> Cohort:
    """Read a folder per class; without ``--patient`` each image counts as a patient."""
    refuse_settings("folders", settings, ("label", "image_column", *SERIES, "slices"))
    root = Path(path)
    check_layout(root, FOLDERS)
    table = _found(root)
    metadata = root / METADATA
    absent: tuple[str, ...] = ()
    if metadata.is_file():
        refuse_outside([metadata], root)
        about = read_table(
            metadata, ids=("file", *([settings.patient] if settings.patient else []))
        )
        require_columns(about, metadata, ("file",))
        refuse_blank(about, metadata, ("file",))
        named = about["file"].map(partial(os.path.join, root)).astype(object)
        absent = look_at(named, metadata, root).absent(metadata, skip=settings.skip_unreadable)
        table = _described(table, about, metadata, settings.patient)
    source = metadata if metadata.is_file() else root
    columns = ("file", "class", settings.patient or "file")
    cohort = own_cohort("folders", table, source, columns, settings, root)
    return replace(cohort, source=replace(cohort.source, path=str(root), left_out=absent))


def _found(root: Path) -> pd.DataFrame:
    """Return file, class and split (where the tree has them) of each image."""
    table = pd.DataFrame(_images(root), columns=["file", "class", "split"], dtype="str")
    if table.empty:
        raise EvenhandError(
            f"{root} has no folder of images: give the folder that holds one folder per class, "
            f"with files that end in {', '.join(IMAGES)}."
        )
    aside = table["file"][table["split"].isna()]
    if len(aside) == len(table):
        table = table.drop(columns="split")
    elif len(aside):
        raise EvenhandError(
            f"{root}: {len(aside)} of {len(table)} images lie beside the splits: {some(aside)}. "
            "Move them into one of these, or out of the folder."
        )
    return table.set_axis(pd.Index([NO_ROW] * len(table)))


def _described(
    table: pd.DataFrame, about: pd.DataFrame, metadata: Path, patient: str | None
) -> pd.DataFrame:
    """Return the images with what ``metadata.csv`` says of them, indexed by its rows."""
    known = [name for name in about.columns if name not in table.columns]
    found = look_up(table, "file", about, metadata, known)
    row = pd.Series(about.index, about["file"])
    row = row[~row.index.duplicated()].reindex(table["file"], fill_value=NO_ROW)
    unnamed = table["file"][row.to_numpy() == NO_ROW]
    needed = [name for name in (patient, "split") if name in known]
    if needed and len(unnamed):
        raise EvenhandError(
            f"{metadata} has no row for {len(unnamed)} of {len(table)} images: {some(unnamed)}. "
            f"Add it, with {' and '.join(map(repr, needed))}, or take them out of the folders."
        )
    return found.set_axis(pd.Index(row))


def _images(root: Path) -> Iterator[tuple[str, str, str | None]]:
    """Yield path below the root, class and split of each image that lies in a class's folder.

    What systems and programs put beside images, under a hidden name or ``__MACOSX``, is none.
    """
    for path in walk(root, root):
        *folders, name = parts = Path(path).relative_to(root).parts
        if any(part.startswith(".") or part == "__MACOSX" for part in parts):
            continue
        split = SPLITS.get(folders[0].lower()) if folders else None
        classes = folders[1:] if split else folders
        if classes and name.lower().endswith(IMAGES):
            yield path[len(str(root)) + 1 :], classes[0], split
