"""PAPILA (Kovalyk et al. 2022, Scientific Data 9:291), in its published layout."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from evenhand.cohort.layouts import files_by_name, find_entry
from evenhand.cohort.published import SourceSamples, published
from evenhand.cohort.registry import DataSet, LayoutEntry, by_value
from evenhand.errors import EvenhandError
from evenhand.tables.attributes import attribute_by_level
from evenhand.tables.bins import attribute_by_bins
from evenhand.tables.reading import read_table, stack_tables
from evenhand.tables.table_checks import require_columns

EYES = ("OD", "OS")
IMAGES = "FundusImages"

TABLES = {
    "OD": LayoutEntry("ClinicalData/patient_data_od.*", "one row per patient, right eyes"),
    "OS": LayoutEntry("ClinicalData/patient_data_os.*", "one row per patient, left eyes"),
}

PAPILA = DataSet(
    title="PAPILA",
    task="glaucoma",
    modality="fundus photographs, both eyes",
    licence="CC BY 4.0",
    access="https://doi.org/10.6084/m9.figshare.14798004, free",
    layout=(
        *TABLES.values(),
        LayoutEntry(IMAGES, "folder of RET002OD.jpg, RET002OS.jpg, …"),
    ),
    labels={
        "glaucoma": by_value("Diagnosis", {"healthy": ("0",), "glaucoma": ("1",)}, left_out=("2",)),
        "suspect-glaucoma": by_value(
            "Diagnosis", {"healthy": ("0",), "glaucoma or suspect": ("1", "2")}
        ),
        "three": by_value("Diagnosis", {"healthy": ("0",), "glaucoma": ("1",), "suspect": ("2",)}),
    },
    attributes=(
        attribute_by_level("sex", "Gender", {"female": ("1",), "male": ("0",)}),
        attribute_by_bins("age", "Age", (60,)),
    ),
    caution="Misleads by its size: the groups of a test set have few patients with glaucoma. Two "
    "eyes of a patient are much alike.",
)


@published("papila", PAPILA)
def find_papila(root: Path) -> SourceSamples:
    """Find fundus photographs; both eyes of a patient stay together."""
    clinical = root / "ClinicalData"
    paths = {eye: find_entry(root, TABLES[eye]) for eye in EYES}
    table = stack_tables({path.name: _read_eye(path, eye) for eye, path in paths.items()})
    table["image"] = "RET" + table["ID"].str.removeprefix("#").str.zfill(3) + table["eye"]
    table["file"], unused_files = files_by_name(table["image"], root, IMAGES, (".jpg",))
    return SourceSamples(
        table,
        sample="image",
        patient="ID",
        source=clinical,
        tables=tuple(paths.values()),
        unused_files=unused_files,
    )


def _read_eye(path: Path, eye: str) -> pd.DataFrame:
    """Read the table of one eye; in the spreadsheets, the header takes several rows."""
    table = read_table(path)
    is_patient = table.iloc[:, 0].str.match(r"#\d+$").fillna(False).astype(bool)
    if not is_patient.any():
        raise EvenhandError(f"{path} names no patient: its first column must hold ids, as #002.")
    header = table[~is_patient].bfill().head(1)
    names = {
        column: header[column].iloc[0]
        for column in table.columns[1:]
        if column.startswith("Unnamed:") and len(header)
    }
    table = table[is_patient].rename(columns={table.columns[0]: "ID", **names})
    require_columns(table, path, ("Age", "Gender", "Diagnosis"))
    return table.assign(eye=eye)
