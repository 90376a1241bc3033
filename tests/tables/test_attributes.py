"""Rules from raw values to levels, and the groups that they make."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenhand.errors import EvenhandError, UnknownNameError
from evenhand.tables.attributes import (
    UNKNOWN,
    attribute_by_level,
    attribute_by_value,
    attribute_of_values,
    group_of,
    race_attribute,
    sex_attribute,
    white_attribute,
)
from evenhand.tables.bins import attribute_by_bins, is_measurement, parse_bins, refuse_unbinned

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
edge_lists = st.lists(finite, min_size=1, max_size=6, unique=True).map(sorted)


def test_mapped_names_levels_once_and_the_rest_unknown():
    rule = attribute_by_value("sex", "gender", {"F": "female", "W": "female", "M": "male"})
    assert rule.levels == ("female", "male")
    raw = pd.Series(["W", "F", "M", "x", None], dtype="str")
    assert rule.levels_of(raw).tolist() == ["female", "female", "male", UNKNOWN, UNKNOWN]


def test_a_rule_cannot_give_a_level_that_it_does_not_declare():
    rule = attribute_by_value("sex", "sex", {"F": "female"})
    sly = type(rule)("sex", "sex", ("male",), rule.to_level)
    assert sly.levels_of(pd.Series(["F"])).tolist() == [UNKNOWN]


def test_distinct_sorts_and_leaves_out_blanks_and_every_unknown():
    raw = pd.Series(["b", None, "a", "Unknown", "UNKNOWN", "b"], dtype="str")
    rule = attribute_of_values("skin", "skin", raw)
    assert rule.levels == ("a", "b")
    assert rule.levels_of(raw).tolist() == ["b", UNKNOWN, "a", UNKNOWN, UNKNOWN, "b"]


@pytest.mark.parametrize(
    "text",
    [
        *("NOT SPECIFIED", "UNOBTAINABLE", "UNABLE TO OBTAIN", "PATIENT DECLINED TO ANSWER", "?"),
        *("Unknown/Not Specified", "not reported", "Prefer not to say", "UNKNOWN (DEFAULT)"),
    ],
)
def test_what_was_not_learnt_is_no_level(text):
    raw = pd.Series(["CATHOLIC", text, "NOT RELIGIOUS", "+", "Hindu?"], dtype="str")
    expected = ["+", "CATHOLIC", "Hindu?", "NOT RELIGIOUS"]
    assert attribute_of_values("religion", "religion", raw).levels == tuple(expected)
    rule = attribute_by_level("language", "language", {"Catholic": ("catholic",)}, rest="other")
    levels = ["Catholic", UNKNOWN, "other", "other", "other"]
    assert rule.levels_of(raw).tolist() == levels


def test_distinct_sorts_numbers_as_numbers():
    assert attribute_of_values("scale", "scale", pd.Series(["10", "9", "1"])).levels == (
        "1",
        "9",
        "10",
    )


@pytest.mark.parametrize(
    ("edges", "levels"),
    [
        ((60,), ("under 60", "60+")),
        ((20, 40, 60, 80), ("under 20", "20-39", "40-59", "60-79", "80+")),
        ((1, 2, 4), ("under 1", "1", "2-3", "4+")),
        ((18.5, 25), ("under 18.5", "18.5 to <25", "25+")),
        ((-10, 0), ("under -10", "-10 to <0", "0+")),
    ],
)
def test_bins_are_named_as_people_say_them(edges, levels):
    assert attribute_by_bins("x", "x", edges).levels == levels


def test_bins_by_hand():
    raw = pd.Series(["59.9", "60", "0", "", "abc", None, "1e3", "-4"], dtype="str")
    levels = attribute_by_bins("age", "age", (60,)).levels_of(raw).tolist()
    low, high = "under 60", "60+"
    assert levels == [low, high, low, UNKNOWN, UNKNOWN, UNKNOWN, high, low]


@pytest.mark.parametrize("text", ["90+", "90 +", ">89", "> 89", ">=90", "≥90", "≥ 90.0"])
@pytest.mark.parametrize(("edges", "level"), [((60,), "60+"), ((89,), "89+"), ((90.5,), UNKNOWN)])
def test_the_oldest_of_all_are_in_the_last_bin_if_that_is_certain(text, edges, level):
    assert attribute_by_bins("age", "age", edges).levels_of(pd.Series([text])).tolist() == [level]


def test_a_number_above_89_is_above_89():
    rule = attribute_by_bins("age", "age", (89,), edge_below=True)
    assert rule.levels_of(pd.Series(["89", ">89"])).tolist() == ["up to 89", "over 89"]


def test_rows_that_are_in_no_bin_are_refused():
    rule = attribute_by_bins("age", "age", (60, 95))
    raw = pd.Series(["61", "old", None, "unknown", "?", "90+", "95+"], range(2, 9), dtype="str")
    with pytest.raises(EvenhandError, match=r"t.csv, rows 3, 7: .* none of .* 95\+: old, 90\+\."):
        refuse_unbinned(raw, rule, Path("t.csv"))


@given(edge_lists, st.lists(finite, min_size=1))
def test_bins_cover_every_number_once_and_in_order(edges, numbers):
    rule = attribute_by_bins("x", "x", edges)
    levels = rule.levels_of(pd.Series(sorted(numbers))).tolist()
    assert set(levels) <= set(rule.levels)
    place = [rule.levels.index(level) for level in levels]
    assert place == [sum(number >= edge for edge in edges) for number in sorted(numbers)]


@given(edge_lists)
def test_bins_have_different_names(edges):
    levels = attribute_by_bins("x", "x", edges).levels
    assert len(set(levels)) == len(levels)


@pytest.mark.parametrize("edges", [(), (60, 40), (60, 60), (math.nan,), (math.inf,)])
def test_edges_must_increase(edges):
    with pytest.raises(EvenhandError, match="finite, increasing"):
        attribute_by_bins("age", "age", edges)


@pytest.mark.parametrize("text", ["age", "age=", "age=old", "age=20;40"])
def test_bins_that_cannot_be_read_are_quoted(text):
    with pytest.raises(EvenhandError, match=f"'{text}'.*age=20,40,60,80"):
        parse_bins([text])


def test_two_sets_of_bins_for_one_attribute():
    with pytest.raises(EvenhandError, match="'age' has two sets"):
        parse_bins(["age=60", "age=40"])


@pytest.mark.parametrize(
    ("values", "measurement"),
    [
        (range(30), True),
        ([*range(30), None], True),
        (range(1, 7), False),
        ([*range(30), "90+", "x"], True),
        ([*range(30), *["unknown"] * 40], True),
        ([*range(30), *"abcdefghijklmnopqrstuvwxyzäöü", "ß"], False),
        ([None], False),
    ],
)
def test_many_numbers_are_a_measurement(values, measurement):
    raw = pd.Series([None if value is None else str(value) for value in values], dtype="str")
    assert is_measurement(raw) is measurement


LEVELS = {"sex": ("female", "male"), "age": ("under 60", "60+")}


def test_group_of_an_intersection_by_hand():
    table = pd.DataFrame(
        {"attr_sex": ["female", "male", UNKNOWN], "attr_age": ["60+", UNKNOWN, "60+"]}, [7, 8, 9]
    )
    group = group_of(table, "sex*age", LEVELS)
    assert group.tolist() == ["female*60+", UNKNOWN, UNKNOWN]
    assert group.index.tolist() == [7, 8, 9]
    assert group.cat.categories.tolist() == [
        "female*under 60",
        "female*60+",
        "male*under 60",
        "male*60+",
        UNKNOWN,
    ]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*LEVELS["sex"], UNKNOWN]), st.sampled_from([*LEVELS["age"], UNKNOWN])
        ),
        min_size=1,
    )
)
def test_an_intersection_is_known_where_all_its_parts_are(rows):
    table = pd.DataFrame(rows, columns=["attr_sex", "attr_age"])
    group = group_of(table, "sex*age", LEVELS)
    for (first, second), name in zip(rows, group, strict=True):
        assert name == (UNKNOWN if UNKNOWN in (first, second) else f"{first}*{second}")


def test_group_of_an_attribute_that_does_not_exist_names_the_nearest():
    with pytest.raises(UnknownNameError, match=r"no attribute 'agee'.*Did you mean 'age'"):
        group_of(pd.DataFrame({"attr_sex": ["male"]}), "sex*agee", LEVELS)


def test_an_edge_goes_where_the_sign_says():
    raw = pd.Series(["60", "60.5", "61", "59"])
    above = parse_bins(["age=60"])["age"].attribute("age", "age")
    below = parse_bins(["age<=60"])["age"].attribute("age", "age")
    assert above.levels_of(raw).tolist() == ["60+", "60+", "60+", "under 60"]
    assert below.levels_of(raw).tolist() == ["up to 60", "over 60", "over 60", "up to 60"]


@pytest.mark.parametrize(
    ("edges", "levels"),
    [
        ((60,), ("up to 60", "over 60")),
        ((19, 39), ("up to 19", "20-39", "over 39")),
        ((18.5, 25), ("up to 18.5", ">18.5 to 25", "over 25")),
    ],
)
def test_bins_that_hold_their_upper_edge_are_named_so(edges, levels):
    assert attribute_by_bins("x", "x", edges, edge_below=True).levels == levels


def test_named_levels_do_not_care_for_case_or_a_point_and_zero():
    rule = sex_attribute("Gender")
    raw = pd.Series(["F", "female", " M", "Male", "unknown", "", None], dtype="str")
    wanted = ["female", "female", UNKNOWN, "male", UNKNOWN, UNKNOWN, UNKNOWN]
    assert rule.levels_of(raw).tolist() == wanted
    codes = attribute_by_level("sex", "Gender", {"female": ("1",), "male": ("0",)})
    assert codes.levels_of(pd.Series(["1.0", "0", "-1", "2"])).tolist() == [
        "female",
        "male",
        UNKNOWN,
        UNKNOWN,
    ]


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("White, non-Hispanic", "White"),
        ("WHITE - RUSSIAN", "White"),
        ("Caucasian", "White"),
        ("BLACK/AFRICAN AMERICAN", "Black"),
        ("ASIAN - CHINESE", "Asian"),
        ("HISPANIC OR LATINO", "Hispanic"),
        ("Other, non-Hispanic", "Other"),
        ("Other, Hispanic", "Hispanic"),
        ("Race and Ethnicity Unknown", UNKNOWN),
        ("PATIENT DECLINED TO ANSWER", UNKNOWN),
        ("UNABLE TO OBTAIN", UNKNOWN),
        (None, UNKNOWN),
    ],
)
def test_race_in_the_words_of_hospitals(text, level):
    raw = pd.Series([text], dtype="str")
    assert race_attribute("race", "x").levels_of(raw).tolist() == [level]
    two = {"White": "White", UNKNOWN: UNKNOWN}.get(level, "non-White")
    assert white_attribute("race", "x").levels_of(raw).tolist() == [two]
