"""A user's own table of images."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from tests.data.table import make_frame, make_table, write_frame

from evenhand.cohort.readers import open_cohort
from evenhand.cohort.settings import DataSettings
from evenhand.errors import EvenhandError

COLUMNS = {"image_column": "photo", "label": "finding", "patient": "person"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_table(tmp_path, patients=10)


def opened(path: Path, **more):
    return open_cohort(DataSettings(**{"data": str(path), **COLUMNS, **more}))


def with_labels(path: Path, labels: list[object]) -> Path:
    frame = make_frame(10)
    return write_frame(path, frame.assign(finding=[str(x) for x in labels] * (20 // len(labels))))


def test_a_table_may_be_named_with_its_reader(path):
    assert opened(f"table:{path}").table.equals(opened(path).table)


def test_attributes_are_those_that_are_named(path):
    cohort = opened(path, attribute=("skin",))
    assert list(cohort.attributes) == ["skin"]
    assert cohort.levels["skin"] == ("I", "II", "III")
    levels = cohort.table.drop_duplicates("patient_id")["attr_skin"].tolist()
    assert levels[:5] == ["I", "II", "III", "unknown", "unknown"]


def test_numbers_need_bins(path):
    frame = make_frame(10).assign(years=[str(year) for year in range(20, 40)])
    write_frame(path, frame)
    with pytest.raises(EvenhandError, match=r"'years' is a number with .*--bins years=60"):
        opened(path, attribute=("years",))
    cohort = opened(path, attribute=("skin*years",), bins=("years=25",))
    assert cohort.levels["years"] == ("under 25", "25+")


def test_texts_among_numbers_are_in_a_bin_or_refused(path):
    years = ["90+", *(str(year) for year in range(20, 39))]
    write_frame(path, make_frame(10).assign(years=years))
    request = {"attribute": ("years",), "bins": ("years=25",)}
    assert opened(path, **request).table["attr_years"].tolist()[:2] == ["25+", "under 25"]
    write_frame(path, make_frame(10).assign(years=["old", *years[1:]]))
    with pytest.raises(EvenhandError, match="row 2: the 'years' is in none of the bins under 25"):
        opened(path, **request)


def test_bins_of_an_attribute_that_is_not_named(path):
    with pytest.raises(EvenhandError, match="no attribute for --bins: 'years'"):
        opened(path, attribute=("skin",), bins=("years=25",))


@pytest.mark.parametrize(
    ("labels", "classes", "codes"),
    [
        (["mel", "nv"], ("nv", "mel"), [1, 0]),
        (["b", "a", "c", "a", "b"], ("a", "b", "c"), [1, 0, 2]),
        ([1, 0], ("0", "1"), [1, 0]),
        (["1.0", "0.0"], ("0", "1"), [1, 0]),
        ([10, 9, 11, 9, 10], ("9", "10", "11"), [1, 0, 2]),
        ([1, -1], ("-1", "1"), [1, 0]),
        ([True, False], ("False", "True"), [1, 0]),
        ([2, 0, 1, 2], ("0", "1", "2"), [2, 0, 1, 2]),
    ],
)
def test_classes_are_sorted_and_recorded(path, labels, classes, codes):
    cohort = opened(with_labels(path, labels))
    assert cohort.classes == classes
    assert cohort.labels[: len(codes)].tolist() == codes
    assert cohort.source.label == f"finding: {', '.join(classes)}"


def test_a_measurement_is_no_label(path):
    with pytest.raises(EvenhandError, match="rows 2, 4, 6, 8, 10 and 5 more: the label 'finding'"):
        opened(with_labels(path, [0.25, 1]))


def test_one_class(path):
    with pytest.raises(EvenhandError, match="every sample has the label 'a'"):
        opened(with_labels(path, ["a"]))


def test_its_own_split_is_kept(path):
    split = [("train", "val", "test")[n // 2 % 3] for n in range(20)]
    write_frame(path, make_frame(10).assign(split=split))
    assert opened(path).table["split"].tolist() == split


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"split": "dev"}, "rows 2, 3, 4, 5, 6 and 15 more: the split must be one of train, val"),
        ({"split": ["train", "val"] * 10}, "10 patients are in two splits: 0000 .train and val"),
        ({"photo": "images/000.png"}, "images/000.png: already named above in 'photo'"),
        ({"person": ["1", ""] * 10}, "rows 3, 5, 7, 9, 11 and 5 more: the column 'person' is bl"),
        ({"finding": ["a", "NA", "b", "a"] * 5}, "rows 3, 7, .*: the column 'finding' is blank"),
        ({"photo": [f"images/{n:03d}.png" for n in range(19)] + ["x.png"]}, "row 21: 1 of 20 fi"),
        ({"skin": "I"}, "attribute 'skin' has one level, 'I'"),
    ],
)
def test_what_is_refused(path, change, problem):
    write_frame(path, make_frame(10).assign(**change))
    with pytest.raises(EvenhandError, match=rf"cohort\.csv[,:] .*{problem}"):
        opened(path, attribute=("skin",))


def test_columns_that_are_not_there_are_named_together(path):
    with pytest.raises(EvenhandError, match="has no column 'pic', 'sex'; it has: photo, person"):
        opened(path, image_column="pic", attribute=("sex",))


def test_columns_must_be_said(path):
    with pytest.raises(
        EvenhandError, match="a table needs --image-column or --series-column and --patient"
    ):
        opened(path, image_column=None, patient=None)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("ham1000:somewhere", "no reader 'ham1000'.*Did you mean 'ham10000'"),
        ("somewhere", "'somewhere' names no data: give READER:PATH with one of .*phantom, table"),
        ("absent.csv", "there is no table absent.csv"),
    ],
)
def test_data_that_is_not_there(data, problem):
    with pytest.raises(EvenhandError, match=problem):
        opened(data)


def test_leading_zeros_of_patients_stay(path):
    assert opened(path).table["patient_id"][0] == "0000"
    assert pd.api.types.is_string_dtype(opened(path).table["patient_id"])
