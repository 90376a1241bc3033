"""Harvard-GF3300 (Luo et al. 2024, IEEE TMI 43:2623): maps of the retinal nerve fibre layer."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from evenhand.cohort.images.arrays import open_npz
from evenhand.cohort.layouts import files_by_name, find_entry
from evenhand.cohort.published import SourceSamples, published
from evenhand.cohort.registry import DataSet, LayoutEntry, by_value
from evenhand.tables.attributes import attribute_by_level, sex_attribute
from evenhand.tables.bins import attribute_by_bins
from evenhand.tables.reading import read_table
from evenhand.tables.table_checks import require_columns

TABLE = LayoutEntry("**/data_summary.csv", "one row per patient")
SPLITS = {"training": "train", "validation": "val", "test": "test"}
THICKNESS = (-2.0, 350.0)  # micrometres; -2 marks missing values

GF3300 = DataSet(
    title="Harvard-GF3300",
    task="glaucoma",
    modality="optical coherence tomography, thickness maps of the retinal nerve fibre layer",
    licence="CC BY-NC-ND 4.0",
    access="https://ophai.hms.harvard.edu/datasets/harvard-gf3300, on request",
    layout=(TABLE, LayoutEntry("**/data_*.npz", "npz files in Training, Validation and Test")),
    labels={"glaucoma": by_value("glaucoma", {"healthy": ("no",), "glaucoma": ("yes",)})},
    attributes=(
        sex_attribute("gender"),
        attribute_by_bins("age", "age", (60,)),
        attribute_by_level(
            "race", "race", {"Asian": ("asian",), "Black": ("black",), "White": ("white",)}
        ),
        attribute_by_level(
            "ethnicity",
            "ethnicity",
            {"non-Hispanic": ("non-hispanic",), "Hispanic": ("hispanic",)},
        ),
    ),
    open_attributes={"language": "language"},
    caution="Misleads about prevalence and shares of the races: they are those of the design, not "
    "of a clinic.",
)


@published("gf3300", GF3300)
def find_gf3300(root: Path) -> SourceSamples:
    """Find the maps; the published splits are kept."""
    path = find_entry(root, TABLE)
    table = read_table(path)
    require_columns(table, path, ("filename", "use"))
    name = table["filename"].str.removesuffix(".npz")
    files, unused_files = files_by_name(name, root, "*", (".npz",))
    split = table["use"].str.casefold().map(SPLITS)
    table = table.assign(name=name, file=files, split=split)
    open_map = partial(open_npz, key="rnflt", span=THICKNESS)
    return SourceSamples(
        table,
        sample="name",
        patient="name",
        source=path,
        open=open_map,
        unused_files=unused_files,
    )
