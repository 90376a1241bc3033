"""Fitzpatrick17k (Groh et al. 2021, arXiv 2104.09957): its table, and the images it names."""

from __future__ import annotations

from pathlib import Path

from evenhand.cohort.layouts import files_by_name
from evenhand.cohort.published import SourceSamples, published
from evenhand.cohort.registry import DataSet, LayoutEntry, by_value, each_value
from evenhand.tables.attributes import attribute_by_level
from evenhand.tables.reading import read_table
from evenhand.tables.table_checks import require_columns

TABLE = "fitzpatrick17k.csv"
PARTITION = ("benign", "malignant", "non-neoplastic")
TYPES = ("I", "II", "III", "IV", "V", "VI")
SCALE = "fitzpatrick_scale"

FITZPATRICK17K = DataSet(
    title="Fitzpatrick17k",
    task="malignant skin disease, or one of 3, 9 or 114 conditions",
    modality="clinical photographs",
    licence="CC BY-NC-SA 3.0",
    access="table at https://github.com/mattgroh/fitzpatrick17k, images from the addresses in it",
    layout=(
        LayoutEntry(TABLE, "one row per image"),
        LayoutEntry("*/", "folder of any name, with images named by md5hash"),
    ),
    unit="image",
    labels={
        "malignant": by_value(
            "three_partition_label",
            {"other": ("benign", "non-neoplastic"), "malignant": ("malignant",)},
        ),
        "three": by_value("three_partition_label", {name: (name,) for name in PARTITION}),
        "nine": each_value("nine_partition_label"),
        "condition": each_value("label"),
    },
    attributes=(
        attribute_by_level(
            "skin_type", SCALE, {name: (str(n),) for n, name in enumerate(TYPES, start=1)}
        ),
        attribute_by_level(
            "skin_tone", SCALE, {"I-III": ("1", "2", "3"), "IV-VI": ("4", "5", "6")}
        ),
    ),
    caution="Misleads because patients are unknown: images of one person can lie in training and "
    "test. Skin types were judged from the photograph.",
)


@published("fitzpatrick17k", FITZPATRICK17K)
def find_fitzpatrick17k(root: Path) -> SourceSamples:
    """Find photographs of skin conditions; patients and lesions are unknown."""
    path = root / TABLE
    table = read_table(path)
    require_columns(table, path, ("md5hash",))
    files, unused_files = files_by_name(table["md5hash"], root, "*", (".jpg", ".jpeg", ".png"))
    table = table.assign(file=files)
    return SourceSamples(
        table, sample="md5hash", patient="md5hash", source=path, unused_files=unused_files
    )
