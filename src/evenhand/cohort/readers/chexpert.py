"""CheXpert (Irvin et al. 2019, arXiv 1901.07031), full or small, in its published layout."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from evenhand.cohort.layouts import find_entry, folders_by_name
from evenhand.cohort.published import SourceSamples, published
from evenhand.cohort.registry import DataSet, LayoutEntry, chest_labels
from evenhand.tables.attributes import race_attribute, sex_attribute, white_attribute
from evenhand.tables.bins import attribute_by_bins
from evenhand.tables.reading import look_up, read_table
from evenhand.tables.table_checks import refuse_rows, require_columns

BATCHES = "CheXpert-v1.0 batch * (train *)"
TABLE = LayoutEntry(
    "train.csv",
    "one row per image, a column of 1, 0, -1 and blank per finding",
    other="CheXpert-v1.0 batch 1 (validate & csv)/train.csv",
)
DEMOGRAPHICS = "CHEXPERT DEMO.xlsx"

CHEXPERT = DataSet(
    title="CheXpert",
    task="no finding, or one of 13 findings",
    modality="chest X-rays",
    licence="Stanford University Dataset Research Use Agreement",
    access="https://stanfordaimi.azurewebsites.net, on registration; its demographic table, too",
    layout=(
        TABLE,
        LayoutEntry("train", "folder of patients", other=BATCHES),
        LayoutEntry(
            DEMOGRAPHICS, "PATIENT, PRIMARY_RACE", required=False, columns=("PRIMARY_RACE",)
        ),
    ),
    labels=chest_labels(),
    attributes=(
        sex_attribute("Sex"),
        attribute_by_bins("age", "Age", (60,)),
        race_attribute("race", "PRIMARY_RACE"),
        white_attribute("race_white", "PRIMARY_RACE"),
    ),
    open_attributes={"view": "Frontal/Lateral"},
    caution="Misleads because software reads the labels from reports, and race comes from "
    "registration: errors of both may differ between groups.",
)


@published("chexpert", CHEXPERT)
def find_chexpert(root: Path) -> SourceSamples:
    """Find the X-rays of ``train.csv``; add race if the demographic table exists.

    Software derived the labels from reports.
    """
    path, demographics = find_entry(root, TABLE), root / DEMOGRAPHICS
    table = read_table(path)
    require_columns(table, path, ("Path",))
    # Paths begin with the original name of the data set's folder, or with no such name.
    path_text = table["Path"].str.replace("\\", "/", regex=False)
    parts = path_text.str.extract(r"(?:^|/)(train|valid|test)/(patient\d+/.+)$|^(patient\d+/.+)$")
    table["image"] = parts[0].fillna("train") + "/" + parts[1].fillna(parts[2])
    table["PATIENT"] = table["image"].str.extract(r"(patient\d+)/", expand=False)
    problem = "'Path' is not of the form …/train/patient00001/study1/view1_frontal.jpg."
    refuse_rows(table["PATIENT"].isna(), path, problem)
    table["file"] = _image_paths(table, root)
    if not demographics.exists():
        return SourceSamples(table, sample="image", patient="PATIENT", source=path)
    people = read_table(demographics)
    table = look_up(table, "PATIENT", people, demographics, ("PRIMARY_RACE",))
    return SourceSamples(
        table, sample="image", patient="PATIENT", source=path, tables=(path, demographics)
    )


def _image_paths(table: pd.DataFrame, root: Path) -> pd.Series:
    """Return the path of each image: as in the table, or in the batch folder of its patient."""
    if (root / "train").is_dir():
        return f"{root}/" + table["image"]
    folders, _ = folders_by_name(table["PATIENT"], root, f"{BATCHES}/*")
    return folders + table["image"].str.replace(r"^.*?patient\d+", "", regex=True)
