"""A tree of the user's own, with a folder per class."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest
from tests.data.folders import make_folders
from tests.data.pictures import write_picture

from evenhand.cohort import DataSettings, UnreadableError, open_cohort
from evenhand.errors import EvenhandError


def opened(root, **more):
    return open_cohort(DataSettings(data=f"folders:{root}", **more))


def test_classes_are_the_folders(tmp_path):
    cohort = opened(make_folders(tmp_path, 9), patient="person")
    assert cohort.classes == ("healthy", "glaucoma")
    sick = cohort.table["sample_id"].str.startswith("glaucoma/")
    assert cohort.table["label"].eq(1).equals(sick)
    assert cohort.table["patient_id"].nunique() == 9
    assert cohort.source.unit == "patient"


def test_without_a_table_each_image_is_a_patient(tmp_path):
    (make_folders(tmp_path, 9) / "metadata.csv").unlink()
    cohort = opened(tmp_path)
    assert cohort.table["patient_id"].tolist() == cohort.table["sample_id"].tolist()
    assert cohort.source.unit == "image"


def test_splits_of_the_tree_are_kept(tmp_path):
    for part in ("train", "valid", "Test"):
        make_folders(tmp_path / part, 6)
        (tmp_path / part / "metadata.csv").unlink()
    cohort = opened(tmp_path)
    assert set(cohort.table["split"]) == {"train", "val", "test"}
    assert cohort.classes == ("healthy", "glaucoma")
    assert cohort.table["split"].eq("val").equals(cohort.table["sample_id"].str[:6] == "valid/")


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"label": "x"}, "--label cannot be given with folders"),
        ({"patient": "whom"}, "metadata.csv has no column 'whom'; it has: file, class, person"),
        ({"attribute": ("age",)}, "'age' is a number with .*--bins age=60"),
    ],
)
def test_what_is_refused(tmp_path, more, problem):
    with pytest.raises(EvenhandError, match=problem):
        opened(make_folders(tmp_path, 12), **more)


@pytest.mark.parametrize(
    "name",
    ["healthy/.ipynb_checkpoints/0-checkpoint.png", "__MACOSX/healthy/0.png", ".cache/x/0.png"],
)
def test_what_programs_leave_in_folders_is_no_sample(tmp_path, name):
    wanted = opened(make_folders(tmp_path, 9))
    write_picture(tmp_path / name, 1)
    found = opened(tmp_path)
    assert found.classes == wanted.classes
    assert found.table.equals(wanted.table)


def test_images_beside_the_splits_are_listed(tmp_path):
    root = make_folders(tmp_path / "train", 9).parent
    write_picture(root / "healthy" / "new.png", 1)
    with pytest.raises(EvenhandError, match="1 of 19 images lie beside the splits: healthy/new"):
        opened(root)


def test_images_without_a_row_are_listed_when_their_patients_are_needed(tmp_path):
    root = make_folders(tmp_path, 9)
    write_picture(root / "healthy" / "new.png", 1)
    with pytest.raises(EvenhandError, match=r"1 of 19 images: healthy/new.png\. Add .*'person'"):
        opened(root, patient="person")
    cohort = opened(root, attribute=("sex",))
    alone = cohort.table["sample_id"] == "healthy/new.png"
    assert cohort.table["attr_sex"][alone].tolist() == ["unknown"]


def test_messages_have_the_rows_of_the_table(tmp_path):
    root = make_folders(tmp_path, 9)
    table = pd.read_csv(root / "metadata.csv", dtype="str")
    table.loc[4, "person"] = ""
    table.to_csv(root / "metadata.csv", index=False)
    with pytest.raises(EvenhandError, match=r"metadata.csv, row 6: the column 'person' is blank"):
        opened(root, patient="person")
    image = root / table["file"][5]
    image.write_bytes(b"")
    (root / "healthy" / "new.png").write_bytes(b"")
    read = opened(root).read
    with pytest.raises(UnreadableError, match=r"metadata.csv, row 7\) cannot"):
        read(table["file"][5])
    with pytest.raises(UnreadableError, match=r"new.png cannot"):
        read("healthy/new.png")


@pytest.mark.parametrize("metadata", [True, False])
def test_a_link_that_leads_outside(tmp_path, metadata):
    root = make_folders(tmp_path / "data", 9)
    if not metadata:
        (root / "metadata.csv").unlink()
    image = next(root.rglob("*.png"))
    shutil.copy(image, tmp_path / "outside.png")
    (image.parent / "other.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(EvenhandError, match=r"other.png .*leads? outside .*data"):
        opened(root)


def test_a_folder_without_images(tmp_path):
    with pytest.raises(EvenhandError, match="has no folder of images: give the folder"):
        opened(tmp_path)
