"""HAM10000 (Tschandl et al. 2018, Scientific Data 5:180161), in its published layout."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from evenhand.cohort.attributes import Attribute, binned, distinct, mapped, parse_bins
from evenhand.cohort.cohort import Cohort, Source, cohort_table
from evenhand.cohort.images import image_files
from evenhand.cohort.registry import reader, refuse_settings
from evenhand.cohort.settings import DataSettings
from evenhand.cohort.tables import (
    read_table,
    refuse_blank,
    refuse_repeated,
    refuse_rows,
    require_columns,
)
from evenhand.errors import EvenhandError, pick
from evenhand.files import fingerprint

METADATA = "HAM10000_metadata.csv"
FOLDERS = ("HAM10000_images_part_1", "HAM10000_images_part_2", "HAM10000_images")
DIAGNOSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
MALIGNANT = {"malignant": ("akiec", "bcc", "mel"), "bcc-benign": ("akiec", "mel")}
LABELS = (*MALIGNANT, "diagnosis")


@reader("ham10000")
def read_ham10000(path: str, settings: DataSettings) -> Cohort:
    """Read dermatoscopic images of pigmented lesions, with sex, age and localization.

    The label ``malignant`` counts akiec, bcc and mel as malignant, ``bcc-benign`` only akiec and
    mel, and ``diagnosis`` is the seven diagnoses. The data know lesions, not patients.
    """
    refuse_settings("ham10000", settings, ("patient", "image_column"))
    root = Path(path)
    metadata = root / METADATA
    table = read_table(metadata)
    needed = ("lesion_id", "image_id", "dx")
    require_columns(table, metadata, (*needed, "age", "sex", "localization"))
    refuse_blank(table, metadata, needed)
    refuse_repeated(table, metadata, "image_id")
    label, classes, meaning = _label(table["dx"], metadata, settings.label or LABELS[0])
    attributes = _attributes(table, settings)
    paths = _paths(root, table["image_id"])
    return Cohort(
        table=cohort_table(table, "image_id", "lesion_id", label, attributes),
        read=image_files(paths, table["image_id"], metadata),
        attributes=attributes,
        classes=classes,
        source=Source(
            reader="ham10000",
            path=str(root),
            unit="lesion",
            fingerprint=fingerprint(paths, [metadata]),
            label=meaning,
        ),
    )


def _label(dx: pd.Series, metadata: Path, name: str) -> tuple[pd.Series, tuple[str, ...], str]:
    """Return the class of each row, the classes, and what the label means."""
    pick("label of ham10000", name, dict.fromkeys(LABELS))
    known = ", ".join(DIAGNOSES)
    refuse_rows(~dx.isin(DIAGNOSES), metadata, f"no such diagnosis (dx); there are: {known}.")
    if name == "diagnosis":
        code = {diagnosis: code for code, diagnosis in enumerate(DIAGNOSES)}
        return dx.map(code), DIAGNOSES, f"diagnosis: {known}"
    malignant = MALIGNANT[name]
    meaning = f"{name}: {', '.join(malignant)} are malignant, the other diagnoses benign"
    return dx.isin(malignant).astype("int64"), ("benign", "malignant"), meaning


def _attributes(table: pd.DataFrame, settings: DataSettings) -> dict[str, Attribute]:
    bins = parse_bins(settings.bins)
    for name in bins:
        pick("numeric attribute of ham10000", name, {"age": None})
    return {
        "sex": mapped("sex", "sex", {"female": "female", "male": "male"}),
        "age": binned("age", "age", bins.get("age", (60,))),
        "localization": distinct("localization", "localization", table["localization"]),
    }


def _paths(root: Path, image_id: pd.Series) -> pd.Series:
    folders = [root / folder for folder in FOLDERS if (root / folder).is_dir()]
    if not folders:
        raise EvenhandError(f"{root} has no folder of images: {' and '.join(FOLDERS[:2])}.")
    found = {path.stem: path for folder in folders for path in folder.glob("*.jpg")}
    return pd.Series(
        [found.get(name, folders[0] / f"{name}.jpg") for name in image_id],
        index=image_id.index,
        dtype=object,
    )
