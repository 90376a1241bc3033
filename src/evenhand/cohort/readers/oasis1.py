"""OASIS-1 (Marcus et al. 2007, J. Cogn. Neurosci. 19:1498): cross-sectional brain MRI."""

from __future__ import annotations

from pathlib import Path

from evenhand.cohort.images.volumes import cut_nifti
from evenhand.cohort.layouts import files_by_name, find_entry
from evenhand.cohort.published import SourceSamples, published
from evenhand.cohort.registry import DataSet, LayoutEntry, by_value
from evenhand.tables.attributes import sex_attribute
from evenhand.tables.bins import attribute_by_bins
from evenhand.tables.reading import read_table
from evenhand.tables.table_checks import require_columns

TABLE = LayoutEntry("oasis_cross-sectional*", "one row per session")
VOLUME = "_t88_masked_gfc"
FORMATS = (f"{VOLUME}.img", f"{VOLUME}.nii.gz", f"{VOLUME}.nii")
DEMENTIA = ("0.5", "1", "2", "3")

OASIS1 = DataSet(
    title="OASIS-1",
    task="dementia (CDR above 0)",
    modality="brain MRI, axial slices of the atlas-registered, skull-stripped volume",
    licence="OASIS Data Use Agreement",
    access="https://sites.wustl.edu/oasisbrains, on registration",
    layout=(
        TABLE,
        LayoutEntry(
            "**/OAS1_*_t88_masked_gfc.*",
            "volumes, Analyze or NIfTI, as in disc1/OAS1_0001_MR1/PROCESSED/MPRAGE/T88_111",
        ),
    ),
    labels={
        "dementia": by_value("CDR", {"healthy": ("0",), "dementia": DEMENTIA}, left_out=("",)),
        "blank-healthy": by_value("CDR", {"healthy": ("0", ""), "dementia": DEMENTIA}),
    },
    attributes=(sex_attribute("M/F"), attribute_by_bins("age", "Age", (60,))),
    slices=1,
    needs=("nibabel",),
    caution="Misleads by age: young persons have no dementia rating, and dementia goes with age.",
)


@published("oasis1", OASIS1)
def find_oasis1(root: Path) -> SourceSamples:
    """Find the volumes; a second session (MR2) belongs to the same patient."""
    path = find_entry(root, TABLE)
    table = read_table(path)
    require_columns(table, path, ("ID",))
    id_length = len("OAS1_0001_MR1")
    files, unused_files = files_by_name(
        table["ID"], root, "*", FORMATS, key=lambda name: name[:id_length]
    )
    table = table.assign(file=files, patient=table["ID"].str[: len("OAS1_0001")])
    return SourceSamples(
        table,
        sample="ID",
        patient="patient",
        source=path,
        read_slice=cut_nifti,
        unused_files=unused_files,
    )
