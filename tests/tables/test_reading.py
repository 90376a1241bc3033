"""Tables as users hand them in."""

from __future__ import annotations

import gzip
from decimal import Decimal

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evenhand.errors import EvenhandError, first_few
from evenhand.tables.predictions import read_predictions
from evenhand.tables.reading import look_up, read_table, stack_tables
from evenhand.tables.table_checks import refuse_ids, refuse_rows


def test_cells_are_text_and_blanks_are_missing(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes("\ufeffid,age,insurance\n007, 45.0 ,no\n8,NA,None\n9,1,NaT\n".encode())
    table = read_table(path)
    assert table["id"].tolist() == ["007", "8", "9"]
    assert table["age"].tolist()[0] == "45.0"
    assert table["insurance"].isna().tolist() == [False, True, True]
    assert table["age"].isna().tolist() == [False, True, False]


def test_semicolons_part_columns_and_then_a_comma_parts_decimals(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(";id; age ;lost, found\n0;a,b;45,5;x\n1;7;-3,25;\n", encoding="utf-8-sig")
    table = read_table(path)
    assert table.columns.tolist() == ["Unnamed: 0", "id", "age", "lost, found"]
    assert table["id"].tolist() == ["a,b", "7"]
    assert table["age"].tolist() == ["45.5", "-3.25"]


def test_a_column_without_a_name_beside_one_that_is_called_so(tmp_path):
    path = tmp_path / "saved_twice.csv"
    path.write_text(",Unnamed: 0,a\n0,1,2\n", encoding="utf-8")
    assert read_table(path).columns.tolist() == ["Unnamed: 0.1", "Unnamed: 0", "a"]


def test_commas_are_decimals_where_a_column_holds_numbers_that_stay_apart(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('id;small;"a;b,c,d,e"\n1,2;5,3e-05;x\n1.2;,5;y\n', encoding="utf-8")
    table = read_table(path)
    assert table["id"].tolist() == ["1,2", "1.2"]
    assert table["small"].astype(float).tolist() == [5.3e-05, 0.5]


def test_rows_are_counted_as_in_a_spreadsheet(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1,2\n\n3,4\n\n", encoding="utf-8")
    assert read_table(path).index.tolist() == [2, 4]


@pytest.mark.parametrize(
    "content",
    [
        "a,b,c\n1,2,3\n\n4,5,\n\n\n",  # blank lines, and a blank last cell
        "a,b,c\n1,2,3\n,,\n4,5,",  # no line break at the end
        'a,b,c\n"1,1","2\n2",3\n"",\n4,"5, ",\n',  # quoted; a row without a value
        "a,b,c\r\n1,2,3\r\n  \r\n4,5,\r\n",
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_whole_rows_and_blank_lines_are_allowed(tmp_path, content, suffix):
    path = tmp_path / f"table{suffix}"
    path.write_bytes(gzip.compress(content.encode()) if suffix == ".csv.gz" else content.encode())
    assert read_table(path)["c"].tolist()[0] == "3"
    assert len(read_table(path)) == 2


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("a,b,c\n1,2\n1,2,3\n", "row 2"),
        ("a,b,c\n1,2,3\n\n1,2", "row 4"),
        ("a;b;c\n1;2\n1;2;\n1\n", "rows 2, 4"),
        ('a,b,c\n"x\ny",2,3\n"1,2",3\n', "row 3"),
    ],
)
def test_rows_that_are_cut_short_are_named(tmp_path, content, rows):
    path = tmp_path / "table.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(EvenhandError, match=rf"table\.csv, {rows}: fewer cells than the 3 columns"):
        read_table(path)


def test_parquet_reads_as_the_same_csv_does(tmp_path):
    frame = pd.DataFrame(
        {"id": [7, 8], "age": [45.0, None], "bmi": [18.5, 25.0], "sex": ["f", None]}
    )
    frame.to_parquet(tmp_path / "table.parquet")
    table = read_table(tmp_path / "table.parquet")
    assert table["id"].tolist() == ["7", "8"]
    assert table["age"].tolist()[0] == "45"
    assert table["bmi"].tolist() == ["18.5", "25"]
    assert table.isna().sum().to_dict() == {"id": 0, "age": 1, "bmi": 0, "sex": 1}
    assert table.index.tolist() == [2, 3]


def _flipped(content: bytes) -> bytes:
    """Return compressed bytes whose first block cannot be decompressed."""
    return content[:10] + b"\xff" * 8 + content[18:]


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_fractions_of_fewer_bits_read_as_in_a_csv(tmp_path, bits):
    table = pd.DataFrame({"dose": [0.1, 2.5, 3.0]}).astype(f"float{bits}")
    table.to_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet")["dose"].tolist() == ["0.1", "2.5", "3"]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("absent.csv", None, "there is no table"),
        ("table.ods", b"", "must end in .csv, .csv.gz, .parquet or .xlsx"),
        ("damaged.xlsx", b"PK", "cannot be read as a table"),
        ("empty.csv", b"", "cannot be read as a table: it is empty"),
        ("header.csv", b"a,b\n\n,\n", "holds no rows below its header"),
        (
            "damaged.csv.gz",
            _flipped(gzip.compress(b"a,b\n1,2\n3,4\n", mtime=0)),
            "cannot be read as a table",
        ),
        ("ragged.csv", b"a,b\n1,2\n1,2,3\n", "row 3: more cells than the 2 columns"),
        ("latin.csv", "a\nä\n".encode("latin-1"), "row 2: the byte 0xe4 .* iconv -f WINDOWS-1252"),
        ("twice.csv", b"a,b,a \n1,2,3\n", "has the column a twice"),
        ("damaged.parquet", b"PAR1", "cannot be read as a table"),
    ],
)
def test_what_is_no_table(tmp_path, name, content, problem):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EvenhandError, match=rf"(?s){name}.*{problem}|{problem}.*{name}"):
        read_table(path)


def test_refused_rows_are_named(tmp_path):
    bad = pd.Series([True, False, True], index=[2, 3, 4])
    with pytest.raises(EvenhandError, match=r"t\.csv, rows 2, 4: the age is odd\."):
        refuse_rows(bad, tmp_path / "t.csv", "the age is odd.")


def test_no_row_is_refused_where_none_is_marked(tmp_path):
    refuse_rows(pd.Series([False], index=[2]), tmp_path / "t.csv", "the age is odd.")


def test_some_says_how_many_more():
    assert first_few("abcde") == "a, b, c, d, e"
    assert first_few("abcdefg") == "a, b, c, d, e and 2 more"


def test_a_spreadsheet_reads_as_the_same_csv_does(tmp_path):
    frame = pd.DataFrame({"id": ["007", "8"], "age": [45, None], "sex": ["f", " "]})
    frame.to_excel(tmp_path / "table.xlsx", index=False)
    frame.to_csv(tmp_path / "table.csv.gz", index=False)
    table = read_table(tmp_path / "table.xlsx")
    assert table["age"].tolist()[0] == "45"
    same = read_table(tmp_path / "table.csv.gz").assign(age=table["age"])
    pd.testing.assert_frame_equal(table, same)


def test_a_missing_extra_is_named_with_its_line(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    (tmp_path / "table.xlsx").touch()
    with pytest.raises(
        EvenhandError, match=r"openpyxl is needed.*pip install 'evenhand\[readers\]'"
    ):
        read_table(tmp_path / "table.xlsx")


def test_a_look_up_keeps_rows_and_leaves_unknown_keys_blank(tmp_path):
    table = pd.DataFrame({"id": ["a", "b", "a"]}, index=[2, 3, 5])
    other = pd.DataFrame({"id": ["a"], "sex": ["f"]}, index=[2])
    result = look_up(table, "id", other, tmp_path, ("sex",))
    assert result.index.tolist() == [2, 3, 5]
    assert result["sex"].isna().tolist() == [False, True, False]


def test_a_look_up_takes_rows_that_say_the_same_once(tmp_path):
    table = pd.DataFrame({"id": ["a"]}, index=[2])
    other = pd.DataFrame({"id": ["a", "a"], "sex": ["f", "f"], "visit": [1, 2]}, index=[2, 3])
    assert look_up(table, "id", other, tmp_path, ("sex",)).values.tolist() == [["a", "f"]]


def test_a_look_up_in_a_table_with_repeated_keys_is_refused(tmp_path):
    table = pd.DataFrame({"id": ["a", "a"], "sex": ["f", "m"]}, index=[2, 3])
    with pytest.raises(EvenhandError, match="row 3: a: already named above in 'id'"):
        look_up(table, "id", table, tmp_path, ("sex",))


def test_stacked_tables_name_file_and_row():
    table = pd.DataFrame({"id": ["a"]}, index=[2])
    result = stack_tables({"od.csv": table, "os.csv": table})
    assert result.index.tolist() == ["od.csv:2", "os.csv:2"]


def test_ids_that_a_float_cannot_hold_are_refused(tmp_path):
    path = tmp_path / "ids.parquet"
    pd.DataFrame({"id": [123456789012345678.0, 5.0]}).to_parquet(path)
    ids = read_table(path)["id"]
    assert ids.iloc[1] == "5"
    with pytest.raises(EvenhandError, match="shortened"):
        refuse_ids(ids, path, "patient")


def test_parquet_of_odd_types_is_text(tmp_path):
    odd = {
        "decimal": [Decimal("0.10"), Decimal(3)],
        "bytes": [b"F", b"\xff\x00"],
        "list": [["a"], None],
        "record": [{"v": 1}, {"v": 2}],
        "half": pa.array([0.5, None], pa.float16()),
        "category": pa.array(["a", "b"]).dictionary_encode(),
    }
    pq.write_table(pa.table(odd), tmp_path / "t.parquet")
    rows = read_table(tmp_path / "t.parquet").astype(object)
    rows = rows.where(rows.notna(), None)
    assert rows.to_numpy().T.tolist() == [
        ["0.10", "3.00"],
        ["F", "ff00"],
        ["['a']", None],
        ["{'v': 1}", "{'v': 2}"],
        ["0.5", None],
        ["a", "b"],
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"ARROW1", "a Feather file"),
        (b"a,b\n", "no parquet file but something else"),
        (b"", "no parquet file but empty"),
    ],
)
def test_what_is_no_parquet_is_named(tmp_path, content, problem):
    (tmp_path / "t.parquet").write_bytes(content)
    for read in (read_table, read_predictions):
        with pytest.raises(EvenhandError, match=problem):
            read(tmp_path / "t.parquet")


def test_a_parquet_column_that_comes_twice(tmp_path):
    pq.write_table(pa.table([["a"], ["b"]], names=["sex", "sex"]), tmp_path / "t.parquet")
    with pytest.raises(EvenhandError, match="has the column sex twice"):
        read_table(tmp_path / "t.parquet")


def test_a_long_cell_is_read(tmp_path):
    (tmp_path / "t.csv").write_text(f'a,b\n1,"{"x, " * 100_000}"\n')
    assert len(read_table(tmp_path / "t.csv")["b"].iloc[0]) > 200_000


def test_a_workbook_of_charts_alone_is_refused(tmp_path):
    book = openpyxl.Workbook()
    book.create_chartsheet("chart").add_chart(openpyxl.chart.BarChart())
    del book["Sheet"]
    book.save(tmp_path / "table.xlsx")
    with pytest.raises(EvenhandError, match=r"table\.xlsx cannot be read .*no sheet of cells"):
        read_table(tmp_path / "table.xlsx")


def test_a_parquet_file_whose_metadata_name_no_type_is_refused(tmp_path):
    table = pa.Table.from_pandas(pd.DataFrame({"a": [1, 2]}))
    metadata = table.schema.metadata[b"pandas"].replace(b"int64", b"in464")
    pq.write_table(table.replace_schema_metadata({"pandas": metadata}), tmp_path / "table.parquet")
    with pytest.raises(EvenhandError, match=r"table\.parquet cannot be read .*damaged inside"):
        read_table(tmp_path / "table.parquet")
