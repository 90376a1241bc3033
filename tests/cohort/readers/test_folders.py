"""A tree of the user's own, with a folder per class."""

from __future__ import annotations

import shutil
import unicodedata

import pandas as pd
import pytest
from tests.data.folders import make_folders
from tests.data.pictures import write_picture

from evenhand.cohort.cohort import UnreadableError
from evenhand.cohort.readers import open_cohort
from evenhand.cohort.settings import DataSettings
from evenhand.errors import EvenhandError


def opened(root, **more):
    classes = {path.name for path in root.rglob("*") if path.is_dir()}
    obvious = {} if not {"a", "b"} <= classes else {"positive": "b"}
    return open_cohort(DataSettings(data=f"folders:{root}", **(obvious | more)))


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
    result = opened(tmp_path)
    assert result.classes == wanted.classes
    assert result.table.equals(wanted.table)


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


def tree(root, *paths: str):
    """Write a picture at each path, and return the root."""
    for number, path in enumerate(paths):
        write_picture(root / path, number)
    return root


@pytest.mark.parametrize(
    "names",
    [
        {"Training": "train", "Testing": "test"},
        {"TRAIN": "train", "Validation": "val", "test": "test"},
        {"train_set": "train", "Test-Data": "test", "valid": "val"},
        {"validating": "val", "training images": "train"},
    ],
)
def test_splits_in_any_spelling_are_no_labels(tmp_path, names):
    paths = [f"{top}/{label}/{n}.png" for top in names for label in "ab" for n in range(2)]
    cohort = opened(tree(tmp_path, *paths))
    assert cohort.classes == ("a", "b")
    for top, split in names.items():
        rows = cohort.table["sample_id"].str.startswith(f"{top}/")
        assert set(cohort.table["split"][rows]) == {split}


def test_splits_below_the_classes(tmp_path):
    paths = [
        f"{label}/{split}/{n}.png" for label in "ab" for split in ("train", "test") for n in "12"
    ]
    cohort = opened(tree(tmp_path, *paths))
    assert cohort.classes == ("a", "b")
    assert (
        cohort.table["split"].eq("train").equals(cohort.table["sample_id"].str.contains("/train/"))
    )


@pytest.mark.parametrize("tops", [("site1", "site2"), ("2019", "2020"), ("first", "second")])
def test_two_levels_that_may_both_be_classes_are_refused(tmp_path, tops):
    paths = [f"{top}/{label}/1.png" for top in tops for label in ("healthy", "sick", "worse")]
    with pytest.raises(
        EvenhandError, match=r"both hold healthy, sick.*which level names the class"
    ):
        opened(tree(tmp_path, *paths[:-1]))


def test_patients_below_classes_are_no_second_level_of_classes(tmp_path):
    paths = [f"{label}/{label}{patient}/1.png" for label in "ab" for patient in range(3)]
    assert opened(tree(tmp_path, *paths)).classes == ("a", "b")


@pytest.mark.parametrize("masks", ["masks", "Mask", "lung_masks", "segmentation", "Ground_Truth"])
def test_masks_beside_images_are_no_images(tmp_path, masks):
    paths = [
        f"{label}/{kind}/{n}.png" for label in "ab" for kind in ("images", masks) for n in "12"
    ]
    cohort = opened(tree(tmp_path, *paths))
    assert cohort.table["sample_id"].str.contains("/images/").all()
    assert len(cohort) == 4
    assert cohort.source.notes == (
        f"4 masks beside images left out: a/{masks}/1.png, a/{masks}/2.png, b/{masks}/1.png, "
        f"b/{masks}/2.png.",
    )


def test_masks_beside_their_images_in_one_folder(tmp_path):
    names = ("scan (1).png", "scan (1)_mask.png", "scan (1)_mask_1.png", "a_mask.png")
    cohort = opened(tree(tmp_path, *(f"{label}/{name}" for label in "ab" for name in names)))
    assert sorted(cohort.table["sample_id"]) == [
        *("a/a_mask.png", "a/scan (1).png", "b/a_mask.png", "b/scan (1).png")
    ]


def test_classes_may_be_called_after_masks(tmp_path):
    paths = [
        f"{top}/{label}/1.png" for top in ("train", "test") for label in ("mask", "without_mask")
    ]
    assert opened(tree(tmp_path, *paths)).classes == ("without_mask", "mask")


@pytest.mark.parametrize("above", ["", "train/"])
def test_images_and_masks_are_no_classes(tmp_path, above):
    with pytest.raises(EvenhandError, match="images, masks, which are images and masks and no cl"):
        opened(tree(tmp_path, f"{above}images/1.png", f"{above}masks/1.png"))


@pytest.mark.parametrize("name", ["metadata.tsv", "Metadata.csv", "metadata.xlsx"])
def test_two_tables_of_metadata_are_refused(tmp_path, name):
    root = make_folders(tmp_path, 9)
    (root / name).write_text("which one?")
    with pytest.raises(EvenhandError, match=r"has .*metadata.csv.*must be metadata.csv"):
        opened(root)
    (root / "metadata.csv").unlink()
    with pytest.raises(EvenhandError, match=r"must be metadata.csv"):
        opened(root)


def test_metadata_of_files_whose_letters_the_disk_has_decomposed(tmp_path):
    root = make_folders(tmp_path, 9)
    table = pd.read_csv(root / "metadata.csv", dtype="str")
    for name in table["file"]:
        new = root / name.replace("_", "_ä_")
        (root / name).rename(new.with_name(unicodedata.normalize("NFD", new.name)))
    table["file"] = table["file"].str.replace("_", "_ä_")
    table.to_csv(root / "metadata.csv", index=False)
    cohort = opened(root, patient="person", attribute=("sex",))
    assert cohort.table["patient_id"].nunique() == 9
    assert set(cohort.table["attr_sex"]) == {"female", "male", "unknown"}
