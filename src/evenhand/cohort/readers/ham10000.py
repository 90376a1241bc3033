"""HAM10000 (Tschandl et al. 2018, Scientific Data 5:180161), in its published layout."""

from __future__ import annotations

from pathlib import Path

from evenhand.cohort.layouts import files_by_name, find_entry
from evenhand.cohort.published import SourceSamples, published
from evenhand.cohort.registry import DataSet, LayoutEntry, by_value
from evenhand.tables.attributes import sex_attribute
from evenhand.tables.bins import attribute_by_bins
from evenhand.tables.reading import read_table
from evenhand.tables.table_checks import require_columns

METADATA = LayoutEntry("HAM10000_metadata*", "one row per image, .csv or .tab")
IMAGES = "HAM10000_images*"
DIAGNOSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")

HAM10000 = DataSet(
    title="HAM10000",
    task="malignant skin lesion, or one of seven diagnoses",
    modality="dermatoscopic images",
    licence="CC BY-NC 4.0",
    access="https://doi.org/10.7910/DVN/DBW86T, free",
    layout=(
        METADATA,
        LayoutEntry(IMAGES, "folders of JPEGs named by image_id"),
    ),
    unit="lesion",
    labels={
        "malignant": by_value(
            "dx",
            {"benign": ("bkl", "df", "nv", "vasc"), "malignant": ("akiec", "bcc", "mel")},
        ),
        "bcc-benign": by_value(
            "dx", {"benign": ("bcc", "bkl", "df", "nv", "vasc"), "malignant": ("akiec", "mel")}
        ),
        "diagnosis": by_value("dx", {name: (name,) for name in DIAGNOSES}),
    },
    attributes=(sex_attribute("sex"), attribute_by_bins("age", "age", (60,))),
    open_attributes={"localization": "localization"},
    caution="Misleads because the data name lesions, not patients: two lesions of one patient can "
    "lie in training and test.",
)


@published("ham10000", HAM10000)
def find_ham10000(root: Path) -> SourceSamples:
    """Find dermatoscopic images of pigmented lesions; lesions are known, patients are not."""
    metadata = find_entry(root, METADATA)
    table = read_table(metadata, like=".csv")  # as published it may be .tab, or have no suffix
    require_columns(table, metadata, ("image_id", "lesion_id"))
    files, unused_files = files_by_name(table["image_id"], root, IMAGES, (".jpg",))
    table = table.assign(file=files)
    return SourceSamples(
        table,
        sample="image_id",
        patient="lesion_id",
        source=metadata,
        unused_files=unused_files,
    )
