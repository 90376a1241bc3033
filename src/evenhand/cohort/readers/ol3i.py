"""OL3I (Zambrano Chaves et al. 2023, Scientific Reports 13:21034): one CT slice per patient."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from evenhand.cohort.attributes import sex
from evenhand.cohort.bins import binned
from evenhand.cohort.labels import by_value
from evenhand.cohort.layouts import files_by_name
from evenhand.cohort.published import Samples, published
from evenhand.cohort.registry import DataSet, Entry
from evenhand.cohort.tables import read_table, require_columns
from evenhand.cohort.volumes import SOFT_TISSUE, open_dicom

TABLE = "clinical_data.csv"
IMAGES = "l3_slices"

OL3I = DataSet(
    title="OL3I",
    task="ischaemic heart disease within a year, or five",
    modality="abdominal CT, the slice at the third lumbar vertebra",
    licence="Stanford University Dataset Research Use Agreement",
    access="https://stanfordaimi.azurewebsites.net, on registration",
    layout=(
        Entry(TABLE, "one row per patient"),
        Entry(IMAGES, "folder of DICOM files named by anon_id"),
    ),
    labels={
        f"{years}y": by_value(
            f"label_{years}y",
            {"no disease": ("0",), "ischaemic heart disease": ("1",)},
            left_out=("", "-1"),
        )
        for years in (1, 5)
    },
    attributes=(sex("sex"), binned("age", "age", (60,))),
    needs=("pydicom",),
)


@published("ol3i", OL3I)
def find_ol3i(root: Path) -> Samples:
    """Find the slices, shown through a window for soft tissue."""
    path = root / TABLE
    table = read_table(path)
    require_columns(table, path, ("anon_id",))
    files, unlisted = files_by_name(table["anon_id"], root, IMAGES, (".dcm",))
    opened = partial(open_dicom, window=SOFT_TISSUE)
    table = table.assign(file=files)
    return Samples(table, "anon_id", "anon_id", path, (path,), open=opened, unlisted=unlisted)
