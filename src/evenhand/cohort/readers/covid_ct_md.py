"""COVID-CT-MD (Afshar et al. 2021, Scientific Data 8:121): chest CT as series of DICOM files."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from evenhand.cohort.images.dicom import cut_dicom_series, localizer_remark
from evenhand.cohort.images.volumes import LUNG
from evenhand.cohort.layouts import folders_by_name
from evenhand.cohort.published import SourceSamples, published
from evenhand.cohort.registry import DataSet, LayoutEntry, by_value
from evenhand.tables.attributes import sex_attribute
from evenhand.tables.bins import attribute_by_bins
from evenhand.tables.reading import read_table
from evenhand.tables.table_checks import require_columns

TABLE = "Clinical-data.csv"
COVID, CAP, NORMAL = ("COVID-19",), ("CAP",), ("Normal",)

COVID_CT_MD = DataSet(
    title="COVID-CT-MD",
    task="COVID-19, against community-acquired pneumonia (CAP) and healthy lungs",
    modality="chest CT, axial slices",
    licence="CC BY-NC 4.0",
    access="https://doi.org/10.6084/m9.figshare.12991592, free",
    layout=(
        LayoutEntry(TABLE, "one row per patient"),
        LayoutEntry(
            "* Cases", "COVID-19 Cases, Cap Cases, Normal Cases: one DICOM folder per patient"
        ),
    ),
    labels={
        "covid": by_value("Diagnosis", {"other": (*CAP, *NORMAL), "COVID-19": COVID}),
        "abnormal": by_value("Diagnosis", {"normal": NORMAL, "abnormal": (*COVID, *CAP)}),
        "diagnosis": by_value("Diagnosis", {"normal": NORMAL, "CAP": CAP, "COVID-19": COVID}),
    },
    attributes=(sex_attribute("Patient Gender"), attribute_by_bins("age", "Patient Age", (60,))),
    slices=1,
    window=LUNG,
    needs=("pydicom",),
    caution="Misleads by its size: the groups of a test set have few patients with each outcome.",
)


@published("covid_ct_md", COVID_CT_MD)
def find_covid_ct_md(root: Path) -> SourceSamples:
    """Find the CT series, shown with the lung window; ages are written as ``045Y``."""
    path = root / TABLE
    table = read_table(path)
    require_columns(table, path, ("Folder", "Patient Age"))
    table["Patient Age"] = table["Patient Age"].str.extract(r"^(\d+)Y?$", expand=False)
    table["file"], unused_files = folders_by_name(table["Folder"], root, "* Cases/*")
    read_slice = partial(cut_dicom_series, window=LUNG)
    return SourceSamples(
        table,
        sample="Folder",
        patient="Folder",
        source=path,
        read_slice=read_slice,
        volume_remark=localizer_remark,
        unused_files=unused_files,
    )
