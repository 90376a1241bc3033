"""What data sets there are, and whether a folder is one of them."""

from __future__ import annotations

import shutil

import pytest
from tests.command import evenhand
from tests.conftest import ROOT
from tests.data.ham10000 import make_ham10000

from evenhand.cohort import registry
from evenhand.cohort.datasets import READER as HANDED_OVER
from evenhand.cohort.listing import _label_text
from evenhand.cohort.registry import DataSet


def test_every_data_set_is_listed_with_its_facts():
    listed = evenhand("datasets").out
    for name, reader in registry.READERS.items():
        assert f"{name}:PATH  {reader.about.title}" in listed
        for fact in (reader.about.task, reader.about.licence, reader.about.access):
            assert fact in listed
        for entry in reader.about.layout:
            assert f"{entry}: {entry.what}" in listed


def test_data_of_ones_own_are_listed_with_where_their_facts_come_from():
    listed = evenhand("datasets").out.split("\n\n")
    folders = next(text for text in listed if text.startswith("folders:"))
    table = next(text for text in listed if text.startswith("table:"))
    assert "labels:      the names of the folders" in folders
    assert "attributes:  columns of metadata.csv" in folders
    assert "patients:    a column of metadata.csv (--patient)" in folders
    assert "layout:      CLASS/….jpg" in folders
    assert "labels:      a column of yours" in table
    assert "attributes:  columns of yours" in table
    assert "layout:      PATH: the table" in table


def test_verify_counts_what_is_found(tmp_path):
    root = make_ham10000(tmp_path / "ham", lesions=16)
    shutil.copy(next(root.glob("*/*.jpg")), root / "HAM10000_images_part_1" / "ISIC_9.jpg")
    ended = evenhand("datasets", "verify", f"ham10000:{root}")
    assert ended.status == 0
    assert f"{root} is HAM10000." in ended.out
    assert "found: HAM10000_metadata.csv (one row per image, .csv or .tab)" in ended.out
    assert "found: HAM10000_images_part_1, HAM10000_images_part_2 (" in ended.out
    assert "*" not in ended.out
    assert "24 samples of 16 lesions" in ended.out
    assert "classes: benign 12, malignant 12" in ended.out
    assert "1 file that no sample uses" in ended.out
    assert "ISIC_9.jpg" in ended.out


@pytest.mark.parametrize("name", ["HAM10000_metadata.csv", "HAM10000_images_part_1"])
def test_verify_says_what_is_missing(tmp_path, name):
    root = make_ham10000(tmp_path / "ham", lesions=16)
    (root / name).rename(root / "elsewhere")
    ended = evenhand("datasets", "verify", f"ham10000:{root}")
    assert ended.status == 2
    assert "Missing: HAM10000_metadata*" in ended.err or "are absent" in ended.err
    assert "Missing" in ended.err or "leave them out with --skip-unreadable" in ended.err


def test_the_guide_has_the_table_of_the_registry():
    head = "| reader | data set | task | samples | labels | attributes | `patient_id` is a |"
    rows = [
        f"| `{name}:` | {about.title} | {about.task} | {about.modality} | "
        f"{_label_text(about)} | {attributes_of(about)} | {about.unit} |"
        for name, about in sorted((name, values.about) for name, values in registry.READERS.items())
        if name != HANDED_OVER  # registered once some test has handed a cohort over
    ]
    guide = (ROOT / "docs" / "guides" / "datasets.md").read_text(encoding="utf-8")
    assert "\n".join([head, "|---" * 7 + "|", *rows]) in guide


def attributes_of(about: DataSet) -> str:
    """Name the attributes, those of movable bins with the flag that moves them."""
    rules = [f"{rule.name}{' (`--bins`)' if rule.numeric else ''}" for rule in about.attributes]
    return ", ".join([*rules, *about.open_attributes]) or about.yours["attributes"]
