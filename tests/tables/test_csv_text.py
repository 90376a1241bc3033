"""CSV files as machines elsewhere write them: read alike, or refused with the row."""

from __future__ import annotations

import gzip

import pandas as pd
import pytest

from evenhand.errors import EvenhandError
from evenhand.tables.reading import read_table

PLAIN = "id,name,n\n1,Müller,2.5\n2,b,3\n"


def written(tmp_path, content, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "above"),
    [
        (PLAIN.encode(), 0),
        (PLAIN.encode("utf-8-sig"), 0),
        (PLAIN.encode("utf-16"), 0),
        (PLAIN.replace(",", "\t").encode("utf-16"), 0),
        ("id,name,n\n1,Muller,2.5\n2,b,3\n".encode("utf-16-le"), 0),
        (b"\xfe\xff" + PLAIN.encode("utf-16-be"), 0),
        (b"sep=;\n" + PLAIN.replace(",", ";").encode(), 1),
        (b'"sep=,"\r\n' + PLAIN.replace("\n", "\r\n").encode(), 1),
        (b"\n\n" + PLAIN.encode(), 2),
        (b",,\n" + PLAIN.encode(), 1),
        (b"# made by us, on Monday\n# twice\n" + PLAIN.encode(), 2),
    ],
)
def test_one_table_in_many_forms(tmp_path, content, above):
    table = read_table(written(tmp_path, content))
    assert table["id"].tolist() == ["1", "2"]
    assert table["n"].tolist() == ["2.5", "3"]
    assert table["name"].tolist()[0].replace("ü", "u") == "Muller"
    assert table.index.tolist() == [2 + above, 3 + above]


def test_a_packed_table_in_utf_16(tmp_path):
    path = written(tmp_path, gzip.compress(PLAIN.encode("utf-16")), "t.csv.gz")
    assert read_table(path)["name"].tolist() == ["Müller", "b"]


def test_a_header_may_begin_with_a_hash(tmp_path):
    path = written(tmp_path, b"#id,name\n1,a\n")
    assert read_table(path).columns.tolist() == ["#id", "name"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (PLAIN.encode("latin-1"), "row 2: the byte 0xfc is not UTF-8.*iconv -f WINDOWS-1252"),
        (b"a,b\n1,2\n3\0,4\n", "row 3: it holds a NUL byte"),
        (b'a,b\n1,"2\n3,4\n', "row 2: a quotation mark opens there and none closes it"),
        (b'a,b,c\n1,2,"x\n1,2,y"\n1,2,z\n', "row 2: a quotation mark opens there and closes only"),
        (b"a,b\n1,2\n# note\n3,4\n", "row 3: a comment among the rows"),
        (b"# a\n\na,b\n1,2\n3\n", "row 5: fewer cells"),
        (b"a,b\n1,2\n1,2,3\n\n1,2,\n", "rows 3, 5: more cells than the 2 columns"),
        (b"# a\na,b\n1,2\n1,2,3\n", r"row 4: more cells .* \(row 4 has 3\)"),
        (b"a,a\xe2\x80\x8b\n1,2\n", "has the column a twice"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_row(tmp_path, content, problem):
    with pytest.raises(EvenhandError, match=f"(?s)t.csv.*{problem}"):
        read_table(written(tmp_path, content))


def test_a_note_of_several_lines_stays(tmp_path):
    table = read_table(written(tmp_path, b'a,b,c\n1,"x, y\nz",2\n'))
    assert table["b"].tolist() == ["x, y z"]


def test_ids_of_a_semicolon_file_stay_as_they_stand(tmp_path):
    path = written(tmp_path, b"id;score\n1,003;0,25\n1,004;1,5\n")
    assert read_table(path, ids=("id",))["id"].tolist() == ["1,003", "1,004"]
    assert read_table(path, ids=("id",))["score"].tolist() == ["0.25", "1.5"]


def test_none_and_nat_are_blank_in_every_kind(tmp_path):
    frame = pd.DataFrame({"a": ["x", "None", "NaT", " nan "], "b": ["1", "2", "3", "4"]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_excel(tmp_path / "t.xlsx", index=False)
    for path in sorted(tmp_path.glob("t.*")):
        assert read_table(path)["a"].isna().tolist() == [False, True, True, True], path


def test_the_index_of_a_data_frame_is_read(tmp_path):
    path = tmp_path / "t.parquet"
    frame = pd.DataFrame({"sex": ["f", "m"]}, index=pd.Index(["s1", "s2"], name="sample_id"))
    frame.to_parquet(path)
    assert read_table(path)["sample_id"].tolist() == ["s1", "s2"]
    frame.rename_axis(None).to_parquet(path)
    assert read_table(path)["index"].tolist() == ["s1", "s2"]
    frame.assign(sample_id=["a", "b"]).reset_index(drop=True).to_parquet(path)
    assert read_table(path).columns.tolist() == ["sex", "sample_id"]


def test_merged_cells_are_refused(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (("who", "sex"), ("a", "f"), ("b", None), ("c", "m")):
        book.active.append(row)
    book.active.merge_cells("B2:B3")
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(EvenhandError, match=r"rows 2, 3: merged cells \(B2:B3\)"):
        read_table(tmp_path / "t.xlsx")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"PK\x03\x04\xe0\xe1", "an Excel workbook"),
        (b"\n<!DOCTYPE HTML>\n<p>Sign in</p>\n", "a web page"),
        (b"<html><body>", "a web page"),
        (b'<?xml version="1.0"?>\n<a/>\n', "is XML"),
        (b'[{"id": 1, "label": 0},\n{"id": 2, "label": 1}]\n', "is JSON"),
        (b'{\n"id": [1]\n}\n', "is JSON"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"{\\rtf1 a,b}\n", "RTF"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:a\n", "a Git LFS pointer"),
        (gzip.compress(PLAIN.encode(), mtime=0), "packed by gzip"),
    ],
)
def test_another_kind_of_file_is_named(tmp_path, content, kind):
    with pytest.raises(EvenhandError, match=kind):
        read_table(written(tmp_path, content))
