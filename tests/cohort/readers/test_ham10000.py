"""HAM10000 in its published layout."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from tests.data.ham10000 import make_ham10000, read_metadata, write_metadata

from evenhand.cohort.cohort import count_groups
from evenhand.cohort.readers import open_cohort
from evenhand.cohort.settings import DataSettings
from evenhand.errors import EvenhandError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_ham10000(tmp_path / "ham", lesions=16)


def opened(root: Path, **more):
    return open_cohort(DataSettings(data=f"ham10000:{root}", **more))


def edit(root: Path, row: int, **cells: str) -> None:
    """Change cells of a row, counted as in a spreadsheet."""
    table = read_metadata(root)
    for column, value in cells.items():
        table.loc[row - 2, column] = value
    write_metadata(root, table)


def by_id(cohort, column: str) -> dict[str, object]:
    return dict(zip(cohort.table["sample_id"], cohort.table[column], strict=True))


@pytest.mark.parametrize(
    ("label", "classes", "codes"),
    [
        ("malignant", ("benign", "malignant"), [0, 1, 0, 1, 0, 1, 0, 0]),
        ("bcc-benign", ("benign", "malignant"), [0, 1, 0, 0, 0, 1, 0, 0]),
        (
            "diagnosis",
            ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"),
            [5, 4, 2, 1, 5, 0, 3, 6],
        ),
    ],
)
def test_label_conventions(root, label, classes, codes):
    cohort = opened(root, label=label)
    assert cohort.classes == classes
    first = cohort.table.drop_duplicates("patient_id")["label"].tolist()[:8]
    assert first == codes  # of nv, mel, bkl, bcc, nv, akiec, df, vasc
    assert cohort.source.label.startswith(label)


def test_malignant_is_the_default(root):
    assert opened(root).source == opened(root, label="malignant").source


def test_an_unknown_label_names_those_there_are(root):
    with pytest.raises(EvenhandError, match=r"no label of ham10000 'malign'.*Did you mean 'malig"):
        opened(root, label="malign")


def test_patients_are_lesions(root):
    cohort = opened(root)
    assert cohort.source.unit == "lesion"
    assert cohort.table["patient_id"][1] == cohort.table["patient_id"][2] == "HAM_0000001"


def test_attributes_by_hand(root):
    cohort = opened(root)
    table = cohort.table.drop_duplicates("patient_id")
    low, high, unknown = "under 60", "60+", "unknown"
    assert table["attr_age"].tolist()[:6] == [low, high, unknown, low, high, low]
    assert table["attr_sex"].tolist()[:5] == ["male", "female", "female", "male", unknown]
    assert table["attr_localization"].tolist()[:3] == ["back", "face", unknown]
    assert cohort.levels["localization"] == ("back", "face", "lower extremity")


def test_age_in_five_bins(root):
    cohort = opened(root, bins=("age=20,40,60,80",))
    assert cohort.levels["age"] == ("under 20", "20-39", "40-59", "60-79", "80+")
    levels = cohort.table.drop_duplicates("patient_id")["attr_age"].tolist()[:6]
    assert levels == ["40-59", "60-79", "unknown", "under 20", "80+", "40-59"]


def test_bins_of_something_else(root):
    with pytest.raises(EvenhandError, match="no numeric attribute of ham10000 'agee'"):
        opened(root, bins=("agee=60",))


def test_later_releases_have_a_column_more(root):
    wanted = opened(root).table
    write_metadata(root, read_metadata(root).assign(dataset="vidir_modern"))
    assert opened(root).table.equals(wanted)


def test_one_folder_of_images_is_accepted(root):
    wanted = opened(root)
    whole = root / "HAM10000_images"
    whole.mkdir()
    for part in ("HAM10000_images_part_1", "HAM10000_images_part_2"):
        for path in (root / part).iterdir():
            path.rename(whole / path.name)
        (root / part).rmdir()
    assert opened(root).table.equals(wanted.table)


def test_images_that_no_row_names_are_no_samples(root):
    image = next(root.glob("*/*.jpg"))
    shutil.copy(image, image.with_name("ISIC_9999999.jpg"))
    assert "ISIC_9999999" not in set(opened(root).table["sample_id"])


@pytest.mark.parametrize("name", ["HAM10000_metadata.tab", "HAM10000_metadata"])
def test_metadata_as_dataverse_hands_them_out(root, name):
    wanted = opened(root)
    table = read_metadata(root)
    (root / "HAM10000_metadata.csv").unlink()
    table.to_csv(root / name, sep="\t", index=False, quoting=csv.QUOTE_NONNUMERIC)
    assert opened(root).table.equals(wanted.table)


def test_two_tables_of_metadata_are_refused(root):
    (root / "HAM10000_metadata.tab").write_text("which one?", encoding="utf-8")
    both = r"has 2 of HAM10000_metadata\* .*: HAM10000_metadata.csv, HAM10000_metadata.tab"
    with pytest.raises(EvenhandError, match=both):
        opened(root)


def test_ids_that_end_like_files_are_found(root):
    wanted = opened(root)
    table = read_metadata(root)
    table["image_id"] += ([".jpg", ".JPG"] * len(table))[: len(table)]
    write_metadata(root, table)
    result = opened(root)
    assert list(result.read.files.values()) == list(wanted.read.files.values())
    assert result.source.notes == wanted.source.notes


def test_no_metadata(root):
    (root / "HAM10000_metadata.csv").unlink()
    with pytest.raises(
        EvenhandError, match=r"Missing: HAM10000_metadata\* \(one row per image, .*\)\. The fold"
    ):
        opened(root)


def test_missing_columns_are_named_together(root):
    write_metadata(root, read_metadata(root).drop(columns=["age", "dx"]))
    with pytest.raises(EvenhandError, match=r"metadata.csv has no column 'dx', 'age'; it has: les"):
        opened(root)


def test_no_folder_of_images(root):
    for folder in root.glob("HAM10000_images*"):
        shutil.rmtree(folder)
    with pytest.raises(EvenhandError, match=r"Missing: HAM10000_images\* \(folders of JPEGs"):
        opened(root)


def test_absent_images_are_named_with_rows(root):
    names = sorted(path.stem for path in root.glob("*/*.jpg"))
    for name in names[1:8]:
        next(root.glob(f"*/{name}.jpg")).unlink()
    with pytest.raises(EvenhandError) as error:
        opened(root)
    text = str(error.value)
    assert "metadata.csv, rows 3, 4, 5, 6, 7 and 2 more: 7 of 24 files are absent" in text
    assert f"{names[1]}.jpg" in text


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ({"dx": "melanoma"}, "row 7: 'dx' has a value that belongs to no class; .*akiec, bcc"),
        ({"dx": ""}, "row 7: the column 'dx' is blank"),
        ({"lesion_id": ""}, "row 7: the column 'lesion_id' is blank"),
        ({"image_id": "ISIC_0024306"}, "row 7: ISIC_0024306: already named above"),
        ({"image_id": "ISIC_1"}, r"row 7: 1 of 24 files is absent: .*ISIC_1\.jpg"),
    ],
)
def test_rows_that_are_refused(root, cells, problem):
    edit(root, 7, **cells)
    with pytest.raises(EvenhandError, match=rf"HAM10000_metadata\.csv, {problem}"):
        opened(root)


def test_one_class(root):
    write_metadata(root, read_metadata(root).assign(dx="nv"))
    with pytest.raises(EvenhandError, match="every sample has the label 'benign'"):
        opened(root)


def test_settings_of_a_table_are_refused(root):
    with pytest.raises(EvenhandError, match="--patient and --image-column cannot be given"):
        opened(root, patient="lesion_id", image_column="image_id")


def test_an_attribute_that_is_not_there(root):
    with pytest.raises(EvenhandError, match="no attribute 'skin'; there are: age, localization"):
        opened(root, attribute=("sex*skin",))


def test_the_published_files(shared_data):
    cohort = opened(shared_data / "ham10000")
    assert len(cohort) == cohort.table["patient_id"].nunique() == 4500
    sex = count_groups(cohort, "sex").set_index("group")
    assert sex["n"].to_dict() == {"female": 2076, "male": 2397, "unknown": 27}
    age = count_groups(cohort, "age").set_index("group")
    assert age["n"].to_dict() == {"under 60": 2962, "60+": 1508, "unknown": 30}
    assert sex["positives"].sum() == age["positives"].sum() == 379 + 194 + 130
    diagnosis = opened(shared_data / "ham10000", label="diagnosis")
    result = diagnosis.table["label"].value_counts(sort=False).sort_index().tolist()
    assert result == [130, 194, 436, 48, 379, 3249, 64]


def test_an_open_attribute_with_a_zero_fraction_is_the_whole_number(root):
    edit(root, 2, localization="1.0")
    edit(root, 3, localization="1")
    edit(root, 4, localization="2.0")
    levels = opened(root, attribute=("localization",)).levels["localization"]
    assert levels[:2] == ("1", "2")
    assert "1.0" not in levels
