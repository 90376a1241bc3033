"""ISIC 2019 (Combalia et al. 2019, arXiv 1908.02288), its training set as published."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from evenhand.cohort.layouts import files_by_name
from evenhand.cohort.published import SourceSamples, published
from evenhand.cohort.registry import DataSet, LayoutEntry, by_value
from evenhand.tables.attributes import sex_attribute
from evenhand.tables.bins import attribute_by_bins
from evenhand.tables.reading import look_up, read_table
from evenhand.tables.table_checks import refuse_rows, require_columns

TRUTH = "ISIC_2019_Training_GroundTruth.csv"
METADATA = "ISIC_2019_Training_Metadata.csv"
IMAGES = "ISIC_2019_Training_Input*"
DIAGNOSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
BENIGN = ("NV", "BKL", "DF", "VASC")

ISIC2019 = DataSet(
    title="ISIC 2019",
    task="malignant skin lesion, or one of eight diagnoses",
    modality="dermatoscopic images",
    licence="CC BY-NC 4.0",
    access="https://challenge.isic-archive.com/data/#2019, free",
    layout=(
        LayoutEntry(TRUTH, "one row per image, a column of 0 and 1 per diagnosis"),
        LayoutEntry(METADATA, "age, sex, site and lesion of each image"),
        LayoutEntry(IMAGES, "folder of JPEGs"),
    ),
    unit="lesion",
    labels={
        "malignant": by_value(
            "diagnosis", {"benign": BENIGN, "malignant": ("AK", "BCC", "MEL", "SCC")}
        ),
        "ak-benign": by_value(
            "diagnosis", {"benign": ("AK", *BENIGN), "malignant": ("BCC", "MEL", "SCC")}
        ),
        "diagnosis": by_value("diagnosis", {name: (name,) for name in DIAGNOSES}),
    },
    attributes=(sex_attribute("sex"), attribute_by_bins("age", "age_approx", (60,))),
    open_attributes={"site": "anatom_site_general"},
    caution="Misleads because the data name lesions, not patients: two lesions of one patient can "
    "lie in training and test. HAM10000 is part of it, so it is no external test set.",
)


@published("isic2019", ISIC2019)
def find_isic2019(root: Path) -> SourceSamples:
    """Find dermatoscopic images; an image without a lesion id is a lesion of its own."""
    truth, metadata = root / TRUTH, root / METADATA
    table = read_table(truth)
    require_columns(table, truth, ("image", *DIAGNOSES))
    columns = ("age_approx", "anatom_site_general", "lesion_id", "sex")
    table = look_up(table, "image", read_table(metadata), metadata, columns)
    files, unused_files = files_by_name(table["image"], root, IMAGES, (".jpg",))
    table = table.assign(
        lesion=table["lesion_id"].fillna(table["image"]),
        diagnosis=_diagnosis(table, truth),
        file=files,
    )
    return SourceSamples(
        table,
        sample="image",
        patient="lesion",
        source=truth,
        tables=(truth, metadata),
        unused_files=unused_files,
    )


def _diagnosis(table: pd.DataFrame, truth: Path) -> pd.Series:
    """Return the diagnosis of each row: the one column that holds 1."""
    marked = table[list(DIAGNOSES)].apply(pd.to_numeric, errors="coerce") == 1
    problem = f"exactly one of {', '.join(DIAGNOSES)} must be 1. Correct the rows, or remove them."
    refuse_rows(marked.sum(axis=1) != 1, truth, problem)
    diagnosis: pd.Series = marked.idxmax(axis=1)
    return diagnosis
