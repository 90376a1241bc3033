"""MIMIC-CXR-JPG (Johnson et al. 2019, arXiv 1901.07042), with the patients' table of MIMIC-IV."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from evenhand.cohort.layouts import find_entry, find_optional
from evenhand.cohort.published import SourceSamples, published
from evenhand.cohort.registry import CHEST_FINDINGS, NO_REPORT, DataSet, LayoutEntry, chest_labels
from evenhand.tables.attributes import race_attribute, sex_attribute, white_attribute
from evenhand.tables.bins import attribute_by_bins
from evenhand.tables.reading import look_up, read_table
from evenhand.tables.table_checks import require_columns

METADATA = LayoutEntry("mimic-cxr-2.*-metadata.csv*", "one row per image")
LABELS = LayoutEntry("mimic-cxr-2.*-chexpert.csv*", "one row per study, a column per finding")
PATIENTS = LayoutEntry(
    "patients.csv*",
    "subject_id, gender, anchor_age; from MIMIC-IV",
    required=False,
    columns=("gender", "anchor_age"),
)
ADMISSIONS = LayoutEntry(
    "admissions.csv*",
    "subject_id, admittime, race, insurance, language; from MIMIC-IV",
    required=False,
    columns=("race", "insurance", "language"),
)
FINDINGS = ("No Finding", *CHEST_FINDINGS)

MIMIC_CXR = DataSet(
    title="MIMIC-CXR-JPG",
    task="no finding, or one of 13 findings",
    modality="chest X-rays",
    licence="PhysioNet Credentialed Health Data License 1.5.0",
    access="https://physionet.org/content/mimic-cxr-jpg, after training and a signed agreement",
    layout=(
        METADATA,
        LABELS,
        LayoutEntry("files", "p10/p10000032/s50414267/….jpg"),
        PATIENTS,
        ADMISSIONS,
    ),
    labels=chest_labels(),
    attributes=(
        sex_attribute("gender"),
        attribute_by_bins("age", "anchor_age", (60,)),
        race_attribute("race", "race"),
        white_attribute("race_white", "race"),
    ),
    open_attributes={"insurance": "insurance", "language": "language", "view": "ViewPosition"},
    caution="Misleads because software reads the labels from reports, and race comes from "
    "registration: errors of both may differ between groups.",
)


@published("mimic_cxr", MIMIC_CXR)
def find_mimic_cxr(root: Path) -> SourceSamples:
    """Find the listed X-rays; race, insurance and language are those of the first admission."""
    path, labels_path = find_entry(root, METADATA), find_entry(root, LABELS)
    table, labels = read_table(path), read_table(labels_path)
    require_columns(table, path, ("dicom_id", "subject_id", "study_id", "ViewPosition"))
    table = look_up(table, "study_id", labels, labels_path, FINDINGS)
    table.loc[~table["study_id"].isin(labels["study_id"]), list(FINDINGS)] = NO_REPORT
    patient = table["subject_id"]
    table["file"] = (
        f"{root}/files/p" + patient.str[:2] + "/p" + patient + "/s" + table["study_id"] + "/"
    ) + (table["dicom_id"] + ".jpg")
    table, patients = _add_columns(table, root, PATIENTS)
    table, admissions = _add_columns(table, root, ADMISSIONS)
    return SourceSamples(
        table,
        sample="dicom_id",
        patient="subject_id",
        source=path,
        tables=(path, labels_path, *patients, *admissions),
    )


def _add_columns(
    table: pd.DataFrame, root: Path, entry: LayoutEntry
) -> tuple[pd.DataFrame, list[Path]]:
    """Add the columns of an optional table; return the images, and the path if it exists."""
    path = find_optional(root, entry)
    if path is None:
        return table, []
    people = read_table(path)
    if entry is ADMISSIONS:
        require_columns(people, path, ("subject_id", "admittime"))
        people = people.sort_values("admittime", kind="stable").drop_duplicates("subject_id")
    return look_up(table, "subject_id", people, path, entry.columns), [path]
