"""OL3I (Zambrano Chaves et al. 2023, Scientific Reports 13:21034): one CT slice per patient."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from evenhand.cohort.cohort import Read
from evenhand.cohort.images.volumes import SOFT_TISSUE, hdf5_images, hdf5_names
from evenhand.cohort.published import SourceSamples, published
from evenhand.cohort.registry import DataSet, LayoutEntry, by_value
from evenhand.tables.attributes import sex_attribute
from evenhand.tables.bins import attribute_by_bins
from evenhand.tables.reading import read_table
from evenhand.tables.table_checks import require_columns

TABLE = "clinical_data.csv"
SLICES = "l3_slices.h5"

OL3I = DataSet(
    title="OL3I",
    task="ischaemic heart disease within a year, or five",
    modality="abdominal CT, the slice at the third lumbar vertebra",
    licence="Stanford University Dataset Research Use Agreement",
    access="https://stanfordaimi.azurewebsites.net, on registration",
    layout=(
        LayoutEntry(TABLE, "one row per patient"),
        LayoutEntry(SLICES, "HDF5, an array per patient named by anon_id"),
    ),
    labels={
        f"{years}y": by_value(
            f"label_{years}y",
            {"no disease": ("0",), "ischaemic heart disease": ("1",)},
            left_out=("", "-1"),
            split=f"set_{years}y",
        )
        for years in (1, 5)
    },
    attributes=(sex_attribute("sex"), attribute_by_bins("age", "age", (60,))),
    window=SOFT_TISSUE,
    needs=("h5py",),
    caution="Misleads by its rare outcome: groups of a test set have few patients who fall ill.",
)


@published("ol3i", OL3I)
def find_ol3i(root: Path) -> SourceSamples:
    """Find the slices, shown with the soft-tissue window; each label has its own split."""
    path, slices = root / TABLE, root / SLICES
    table = read_table(path)
    require_columns(table, path, ("anon_id",))
    stored = set(hdf5_names(slices))
    # An absent slice gets a path that does not exist.
    table["file"] = [
        str(slices) if name in stored else f"{slices}/{name}" for name in table["anon_id"]
    ]
    unused_files = tuple(f"{slices}/{name}" for name in sorted(stored - set(table["anon_id"])))

    def read(rows: pd.DataFrame) -> Read:
        return hdf5_images(rows["file"], rows["anon_id"], path, SOFT_TISSUE)

    return SourceSamples(
        table,
        sample="anon_id",
        patient="anon_id",
        source=path,
        read=read,
        unused_files=unused_files,
    )
