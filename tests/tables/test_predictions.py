from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evenhand.errors import EvenhandError
from evenhand.tables.bins import NumericBins
from evenhand.tables.columns import Columns
from evenhand.tables.predictions import Predictions, read_predictions, write_predictions

GOOD = """sample_id,patient_id,split,label,score,attr_sex,age
a,p1,test,0,0.25,f,30
b,p1,test,1,0.75,f,31
c,p2,val,1,1,m,60
d,p3,val,0,0.5,,
"""


def read(tmp_path, text, columns=None, name="table.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_text(text, encoding=encoding)
    return read_predictions(path, columns)


def test_reads_csv(tmp_path):
    predictions = read(
        tmp_path, GOOD, Columns(attributes=("sex*age",), bins={"age": NumericBins((60.0,))})
    )
    assert predictions.scores.tolist() == [0.25, 0.75, 1.0, 0.5]
    assert predictions.labels.tolist() == [0, 1, 1, 0]
    assert predictions.levels == {"sex": ("f", "m"), "age": ("under 60", "60+")}
    assert predictions.table["attr_age"].tolist() == ["under 60", "under 60", "60+", "unknown"]
    assert predictions.group("sex*age").tolist() == ["f*under 60"] * 2 + ["m*60+", "unknown"]
    assert predictions.splits == ("val", "test")
    assert predictions.of_split("val").table["sample_id"].tolist() == ["c", "d"]


def test_reads_semicolons_byte_order_mark_and_decimal_commas(tmp_path):
    text = GOOD.replace(",", ";").replace("0.25", "0,25").replace("31", "60,5")
    columns = Columns(("age",), bins={"age": NumericBins((60.0,))})
    predictions = read(tmp_path, text, columns, encoding="utf-8-sig")
    assert predictions.table["attr_age"].tolist() == ["under 60", "60+", "60+", "unknown"]
    assert predictions.scores.tolist() == [0.25, 0.75, 1.0, 0.5]
    assert predictions.table.columns[0] == "sample_id"


def test_rows_that_are_in_no_bin_are_refused(tmp_path):
    columns = Columns(("age",), bins={"age": NumericBins((60.0,))})
    with pytest.raises(EvenhandError, match="row 3: the 'age' is in none of the bins"):
        read(tmp_path, GOOD.replace("31", "old"), columns)


def test_renames_columns(tmp_path):
    text = GOOD.replace("label", "y_true")
    predictions = read(tmp_path, text, Columns(renamed={"label": "y_true"}))
    assert predictions.labels.tolist() == [0, 1, 1, 0]


def test_without_patients_each_sample_may_stand_for_one(tmp_path):
    text = "sample_id,label,score\na,0,.1\nb,1,.2\n"
    with pytest.raises(EvenhandError, match="--map patient_id=sample_id"):
        read(tmp_path, text)
    predictions = read(tmp_path, text, Columns(renamed={"patient_id": "sample_id"}))
    assert predictions.table["patient_id"].tolist() == ["a", "b"]
    assert len(predictions.of_split("test")) == 2


def test_turns_logits_into_probabilities(tmp_path):
    text = "sample_id,patient_id,label,score\na,p,0,0\nb,p,1,2\n"
    scores = read(tmp_path, text, Columns(logits=True)).scores
    np.testing.assert_allclose(scores, [0.5, 1 / (1 + np.exp(-2))], rtol=1e-15)
    many = "sample_id,patient_id,label,score_0,score_1,score_2\na,p,0,1000,1000,1000\n"
    np.testing.assert_allclose(read(tmp_path, many, Columns(logits=True)).scores, [[1 / 3] * 3])


def test_evenhand_s_own_file_is_read_as_it_is(tmp_path):
    write_predictions(tmp_path / "p.parquet", nasty())
    columns = Columns(renamed={"score": "p(mel)"}, logits=True)
    assert read_predictions(tmp_path / "p.parquet", columns).scores.tolist() == [0.5] * 3


@pytest.mark.parametrize(
    ("header", "renamed"),
    [
        ("score,score_2", {}),
        ("score_1,score_4", {"score": "score_1"}),
        ("score_1,notes", {"score": "score_1"}),
        ("score_1,score_0", {}),
    ],
)
def test_two_classes_with_numbered_scores(tmp_path, header, renamed):
    text = f"sample_id,patient_id,label,{header}\na,p,0,.25,.75\nb,p,1,.5,.5\n"
    predictions = read(tmp_path, text, Columns(renamed=renamed))
    assert predictions.scores.tolist() == [0.25, 0.5]
    assert predictions.classes == ("0", "1")


def test_logits_of_two_classes_in_two_columns(tmp_path):
    text = "sample_id,patient_id,label,score_0,score_1\na,p,0,1,3\n"
    scores = read(tmp_path, text, Columns(logits=True)).scores
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-2)), rtol=1e-15)


@pytest.mark.parametrize(
    ("header", "absent"), [("score_1,notes", "score"), ("score_0,score_2", "score_1")]
)
def test_numbered_scores_that_are_not_enough(tmp_path, header, absent):
    text = f"sample_id,patient_id,label,{header}\na,p,0,.25,.75\n"
    with pytest.raises(EvenhandError, match=f"no column '{absent}'.*--map {absent}=COLUMN"):
        read(tmp_path, text)


def test_parquet_and_csv_of_one_table_are_read_alike(tmp_path):
    table = pd.DataFrame(
        {
            "sample_id": [1.0, 2.0, 3.0, 4.0, 5.0],
            "patient_id": [1, 1, 2, 3, 4],
            "label": [0.0, 1.0, 0.0, 1.0, 1.0],
            "score": [0.1, 0.25, 1.0, 0.5, 0.75],
            "attr_sex": ["f", "f ", "", "nan", "m"],
            "attr_stage": [1.0, 2.0, np.nan, 2.0, 1.0],
        }
    )
    table.to_parquet(tmp_path / "t.parquet")
    table.to_csv(tmp_path / "t.csv", index=False)
    parquet, csv = (read_predictions(tmp_path / f"t.{kind}") for kind in ("parquet", "csv"))
    assert parquet.levels == {"sex": ("f", "m"), "stage": ("1", "2")}
    assert parquet.table["attr_sex"].tolist() == ["f", "f", "unknown", "unknown", "m"]
    assert parquet.table["sample_id"].tolist() == ["1", "2", "3", "4", "5"]
    ids = ["sample_id", "attr_stage"]  # a CSV that pandas wrote says 1.0, as the user sees there
    pd.testing.assert_frame_equal(parquet.table.drop(columns=ids), csv.table.drop(columns=ids))


def test_rows_are_counted_with_the_blank_ones(tmp_path):
    text = GOOD.replace("b,p1", "\n,,,,,,\nb,p1").replace("0.75", "1.75")
    with pytest.raises(EvenhandError, match="row 5: scores must be"):
        read(tmp_path, text)
    assert read(tmp_path, text.replace("1.75", "0.75")).table.index.tolist() == [0, 1, 2, 3]


def test_levels_are_not_binned(tmp_path):
    words = GOOD.replace("30\n", "under 50\n")
    with pytest.raises(EvenhandError, match=r"row \d: the 'age' is in none .*: under 50\."):
        read(tmp_path, words, Columns(("age",), bins={"age": NumericBins((60.0,))}))


def test_bins_that_a_file_of_evenhand_has_already(tmp_path):
    columns = Columns(("age",), bins={"age": NumericBins((60.0,))})
    before = read(tmp_path, GOOD, columns)
    write_predictions(tmp_path / "p.parquet", before)
    after = read_predictions(tmp_path / "p.parquet", columns)
    pd.testing.assert_frame_equal(after.table, before.table)
    with pytest.raises(EvenhandError, match=r"none of the bins under 50, 50\+: under 60\."):
        read_predictions(tmp_path / "p.parquet", Columns(bins={"age": NumericBins((50.0,))}))


def test_an_asterisk_is_no_level(tmp_path):
    predictions = read(tmp_path, GOOD.replace(",m,", ",*,"))
    assert predictions.levels == {"sex": ("f",)}
    assert predictions.table["attr_sex"].tolist() == ["f", "f", "unknown", "unknown"]


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("score,", "points,", "no column 'score'"),
        ("0.25", "", "row 2: score must be a finite number"),
        ("0.25", "inf", "row 2: score must be a finite number"),
        ("0.25", "1.25", r"row 2: scores must be probabilities.*--logits"),
        ("0.25", "high", "row 2: score must be a finite number, not high"),
        ("b,p1,test,1", "b,p1,test,1.5", "row 3: label must be a whole number"),
        ("b,p1,test,1", "b,p1,test,2", "row 3: labels must be 0 … 1"),
        ("b,p1,test,1", "b,p1,test,-1", "row 3: labels must be 0 … 1"),
        ("b,p1", "a,p1", "rows 2, 3: sample ids must be unique; these occur twice: a"),
        ("c,p2,val", "c,p1,val", "rows 2, 3, 4: a patient must be in one split.*p1"),
        ("c,p2,val", "c,,val", "row 4: patient_id is missing"),
        ("c,p2,val", "c,p2,dev", "row 4: split must be one of train, val, test"),
        ("attr_sex", "label", "column label twice"),
    ],
)
def test_says_what_is_wrong_and_where(tmp_path, before, after, says):
    assert before in GOOD
    with pytest.raises(EvenhandError, match=says) as error:
        read(tmp_path, GOOD.replace(before, after, 1))
    assert "table.csv" in str(error.value)


def test_a_measurement_needs_bins(tmp_path):
    rows = "".join(f"s{i},p{i},{i % 2},0.5,{20 + i}\n" for i in range(30))
    with pytest.raises(EvenhandError, match=r"30 values from 20 to 49.*--bins age=60"):
        read(tmp_path, "sample_id,patient_id,label,score,age\n" + rows, Columns(("age",)))


def test_attribute_that_is_not_there(tmp_path):
    with pytest.raises(EvenhandError, match="no column 'attr_race' or 'race'"):
        read(tmp_path, GOOD, Columns(("race",)))


@pytest.mark.parametrize("name", ["table.csv", "table.parquet", "table.xlsx"])
def test_damaged_or_other_files(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(EvenhandError, match="there is no file"):
        read_predictions(path)
    path.write_bytes(b"")
    with pytest.raises(EvenhandError, match=name):
        read_predictions(path)


def test_a_table_without_rows(tmp_path):
    with pytest.raises(EvenhandError, match="holds no rows"):
        read(tmp_path, GOOD.splitlines()[0] + "\n")


def nasty(n_classes=2):
    table = pd.DataFrame(
        {
            "sample_id": ["a", "b", "c"],
            "patient_id": ["1", "1", "2"],
            "split": ["val", "val", "test"],
            "label": [0, 1, n_classes - 1],
            "attr_site": ["<b>,\n'\"", "unknown", "z"],
        }
    )
    columns = ["score"] if n_classes == 2 else [f"score_{c}" for c in range(n_classes)]
    table[columns] = np.full((3, len(columns)), 1 / n_classes)
    classes = tuple(f"class {c}" for c in range(n_classes))
    return Predictions(table, classes, {"site": ("z", "<b>,\n'\"", "nobody")})


@pytest.mark.parametrize("n_classes", [2, 3, 12])
def test_what_is_written_is_read(tmp_path, n_classes):
    before = nasty(n_classes)
    write_predictions(tmp_path / "p.parquet", before)
    after = read_predictions(tmp_path / "p.parquet")
    assert after.classes == before.classes
    assert after.levels == before.levels
    np.testing.assert_array_equal(after.scores, before.scores)
    for column in before.table:
        assert after.table[column].tolist() == before.table[column].tolist()


def test_same_content_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_predictions(tmp_path / f"{name}.parquet", nasty())
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_writes_nothing_that_breaks_the_contract(tmp_path):
    bad = nasty()
    bad.table.loc[0, "score"] = np.nan
    with pytest.raises(EvenhandError, match="row 2: scores must be probabilities"):
        write_predictions(tmp_path / "p.parquet", bad)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_whose_name_begins_with_a_tilde_is_nobodys_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    predictions = read(tmp_path, GOOD)
    write_predictions(Path("~nobody/p.parquet"), predictions)
    assert (tmp_path / "~nobody" / "p.parquet").is_file()
    assert read_predictions(Path("~nobody/p.parquet")).labels.tolist() == [0, 1, 1, 0]
