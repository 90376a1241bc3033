"""Attributes of a user's own table: what cannot be is refused, what is implausible is named."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from evenhand.errors import EvenhandError
from evenhand.tables.attributes import UNKNOWN
from evenhand.tables.bins import NumericBins
from evenhand.tables.own_attributes import impossible_ages, read_own_attribute
from evenhand.tables.settings import ValueSettings
from evenhand.tables.values import read_values

SOURCE = Path("t.csv")


def read(name, values, patients=None, bins=None, **settings):
    raw = pd.Series(values, range(2, 2 + len(values)), dtype="str", name=name)
    who = patients or [f"p{k}" for k in range(len(values))]
    patients = pd.Series(who, raw.index, dtype="str")
    return read_own_attribute(
        name, raw, patients, SOURCE, bins, read_values(ValueSettings(**settings))
    )


def levels(own):
    return own.rule.levels_of(own.raw).tolist()


@pytest.mark.parametrize("name", ["age", "Age", "patientAge", "age_years", "AGE (years)"])
def test_ages_that_nobody_has(name):
    raw = pd.Series(["-1", "0", "120", "121", "299", "300", "999", "inf", "90+", "unknown"])
    wanted = [True, False, False, True, True, False, True, True, False, False]
    assert impossible_ages(name, raw).tolist() == wanted


@pytest.mark.parametrize("name", ["age_months", "bmi", "stage", "gestational_age_weeks", "page"])
def test_other_numbers_may_be_what_they_like(name):
    assert impossible_ages(name, pd.Series(["-1", "999", "-inf"])).tolist() == [False, False, True]


def test_an_age_that_stands_for_missing_is_refused_or_unknown():
    ages = ["25", "999", "70", "300"]
    with pytest.raises(EvenhandError, match=r"row 3: .* 999, .*--unknown-value age=999$"):
        read("age", ages, bins=NumericBins((60,)))
    own = read("age", ages, bins=NumericBins((60,)), unknown_value=("age=999",))
    assert levels(own) == ["under 60", UNKNOWN, "60+", "60+"]
    assert "taken as 90 and over" in own.notes[0]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("19{:02d}-03-01", "holds dates, 40 different ones"),
        ("{:02d}.03.1990", "holds dates"),
        ("{} years", "holds numbers with their unit"),
        ("0{:02d}Y", "holds numbers with their unit"),
        ("ward of {}", "has 40 levels.*40 of them have one patient each"),
        ("{}", "is a number with 40 values"),
    ],
)
def test_what_has_about_as_many_levels_as_patients(value, problem):
    with pytest.raises(EvenhandError, match=f"t.csv: .*{problem}"):
        read("x", [value.format(k + 10) for k in range(40)] * 2, [f"p{k}" for k in range(40)] * 2)


def test_many_groups_of_several_patients_are_groups():
    own = read("site", [f"site {k % 40}" for k in range(120)])
    assert own.rule.levels[:3] == ("site 0", "site 1", "site 2")


PATIENTS = ["a", "a", "a", "b", "b", "c"]
SEXES = ["F", "M", "F", "F", "M", "M"]


@pytest.mark.parametrize("name", ["sex", "Gender", "race", "patient_sex", "raceEthnicity"])
def test_one_patient_has_one_sex(name):
    with pytest.raises(EvenhandError, match=rf"rows 2, .*2 patients .*--conflict {name}=majority"):
        read(name, SEXES, PATIENTS)


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ("majority", ["F", "F", "F", UNKNOWN, UNKNOWN, "M"]),
        ("unknown", [UNKNOWN] * 5 + ["M"]),
        ("keep", SEXES),
    ],
)
def test_the_user_says_what_counts(how, wanted):
    assert levels(read("sex", SEXES, PATIENTS, conflict=(f"sex={how}",))) == wanted


def test_a_patient_of_whom_less_is_known_once_has_one_value():
    assert levels(read("sex", ["F", None, "unknown", "M"], ["a", "a", "a", "b"])) == [
        *("F", UNKNOWN, UNKNOWN, "M")
    ]


def test_other_attributes_may_differ_and_a_rare_difference_is_named():
    patients = [f"p{k // 2}" for k in range(40)]
    assert read("view", ["front", "side"] * 20, patients).notes == ()
    insured = ["yes"] * 39 + ["no"]
    (note,) = read("insured", insured, patients).notes
    assert "1 patient with several values" in note
    assert "rows 40, 41 of t.csv" in note
    assert "--conflict insured=majority" in note


def test_spellings_are_refused_and_merged():
    values = ["Male", "male", "Female", "F"]
    with pytest.raises(EvenhandError, match=r"--merge sex=Male,male --merge sex=Female,F$"):
        read("sex", ["Male", *values, "Female"])
    own = read("sex", values, merge=("sex=Man,Male,male", "sex=Woman,Female,F"))
    assert levels(own) == ["Man", "Man", "Woman", "Woman"]
    assert own.rule.levels == ("Man", "Woman")


def test_codes_for_unknown_are_named_with_their_flag():
    values = ["F", "M", "U", "X", "9"]
    (note,) = read("sex", values).notes
    assert note.endswith("give --unknown-value sex=9,U,X")
    own = read("sex", values, unknown_value=("sex=9,U", "sex=X"))
    assert levels(own) == ["F", "M", UNKNOWN, UNKNOWN, UNKNOWN]
    assert own.notes == ()


@pytest.mark.parametrize("rule", [{}, {"conflict": ("sex=majority",)}])
def test_two_spellings_in_one_patient_are_no_conflict(rule):
    with pytest.raises(EvenhandError, match=r"several spellings.*--merge sex=Male,male"):
        read("sex", ["Male", "male", "Male", "F", "F"], ["a", "a", "c", "b", "d"], **rule)


@pytest.mark.parametrize("rule", [{}, {"unknown_value": ("code=9",)}, {"merge": ("code=1,2.0",)}])
def test_whole_numbers_are_the_same_levels_with_and_without_a_fraction(rule):
    with_fraction = read("code", ["0.0", "1.0", "2.0", "2.5", "9.0"], **rule)
    without = read("code", ["0", "1", "2", "2.5", "9"], **rule)
    assert with_fraction.rule.levels == without.rule.levels
    assert levels(with_fraction) == levels(without)
    assert levels(read("version", ["1.0.0", "01.0", "1.10"])) == ["1.0.0", "01.0", "1.10"]


def test_both_formats_in_one_column_are_still_refused():
    with pytest.raises(EvenhandError, match=r"'0' \(1\) and '0\.0' \(1\).*--merge code=0,0\.0"):
        read("code", ["0", "0.0", "1"])
    assert read("code", ["0", "0.0", "1"], merge=("code=0.0,0",)).rule.levels == ("0", "1")
