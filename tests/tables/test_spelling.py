"""Text is read in one form, and values that differ in their spelling alone are found."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenhand.errors import EvenhandError
from evenhand.tables.settings import ValueSettings
from evenhand.tables.spelling import (
    abbreviations,
    clean,
    clean_column,
    join_values,
    refuse_spellings,
    spelling_key,
    spellings,
)
from evenhand.tables.values import read_values


@pytest.mark.parametrize(
    "text",
    [
        "Ma\u0308nner",
        " M\u00e4nner ",
        "M\u00e4n\u200bner",
        "M\u00e4nner\u00a0",
        "\ufeffM\u00e4nner",
        "M\u00e4nner\u200e",
    ],
)
def test_what_nobody_sees_does_not_count(text):
    assert clean(text) == "M\u00e4nner"


@given(st.text())
def test_clean_text_is_clean_and_composed(text):
    assert clean(clean(text)) == clean(text)
    assert unicodedata.is_normalized("NFC", clean(text))


@given(st.lists(st.text() | st.none(), min_size=1))
def test_a_column_is_cleaned_as_its_values_are(values):
    column = pd.Series(values, dtype="str")
    wanted = [None if value is None else clean(value) for value in values]
    result = [None if pd.isna(value) else value for value in clean_column(column)]
    assert result == wanted


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Male", "male"),
        ("0", "0.0"),
        ("10", "010"),
        ("-1", "\u22121"),
        ("1.5", "1,50"),
        ("African-American", "african  american"),
        ("not_known", "Not known"),
        ("\u041c", "M"),  # a Cyrillic letter
        ("20\u201339", "20-39"),
        ("\u226560", ">=60"),
        ("\uff26", "F"),  # full width
    ],
)
def test_one_value_in_two_spellings(first, second):
    assert spelling_key(first) == spelling_key(second)
    assert spellings({first: 2, second: 1}) == [(first, second)]


@pytest.mark.parametrize(
    ("first", "second"),
    [("A+", "A-"), ("1", "-1"), ("20-39", "2039"), ("<60", "60"), ("I", "II"), ("10", "100")],
)
def test_other_values_stay_apart(first, second):
    assert spellings({first: 2, second: 1}) == []


def test_a_first_letter_is_named_and_that_of_a_sex_is_refused():
    assert spellings({"F": 3, "Female": 2, "M": 4}) == [("Female", "F")]
    assert abbreviations({"White": 3, "W": 2, "Black": 1}) == [("White", "W")]
    assert abbreviations({"I": 3, "VIII": 2, "A": 1, "AB": 1}) == []


def test_the_message_is_the_line_that_merges():
    raw = pd.Series(["Male", "male", "Male", "a, b", "A, b"])
    with pytest.raises(EvenhandError) as error:
        refuse_spellings("sex", raw, Path("t.csv"))
    words = str(error.value).partition("merge them: ")[2]
    texts = tuple(text.strip("' ") for text in words.split("--merge ")[1:])
    values = read_values(ValueSettings(merge=texts))
    assert values.apply("sex", raw).nunique() == 2


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1), min_size=2, unique=True
    )
)
def test_any_values_can_be_written_in_a_flag(values):
    values = list(dict.fromkeys(map(clean, values)))
    if len(values) > 1 and all(values):
        merged = read_values(ValueSettings(merge=(f"x={join_values(values)}",))).merged["x"]
        assert merged == dict.fromkeys(values[1:], values[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"merge": ("sex",)}, "as in --merge sex=Male,male"),
        ({"merge": ("sex=Male",)}, "not of the form"),
        ({"merge": ("sex=M,m", "sex=F,m")}, "two names"),
        ({"merge": ("sex=a,b", "sex=b,c")}, "two names"),
        ({"unknown_value": ("sex=",)}, "as in --unknown-value sex=U,X"),
        ({"conflict": ("sex=first",)}, "there are: keep, majority, unknown"),
        ({"conflict": ("sex=keep", "sex=majority")}, "gives two rules for 'sex'"),
    ],
)
def test_rules_that_say_nothing_or_two_things(settings, message):
    with pytest.raises(EvenhandError, match=message):
        read_values(ValueSettings(**settings))
