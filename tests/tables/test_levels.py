"""Levels come in the order that people expect, and the positive class is the last or asked for."""

from __future__ import annotations

import random

import pytest

from evenhand.errors import EvenhandError
from evenhand.tables.attributes import level_order, likely_unknown
from evenhand.tables.classes import order_classes


@pytest.mark.parametrize(
    "ordered",
    [
        ["<30", "30-59", "60+"],
        ["under 20", "20-39", "40-59", "60-79", "80+"],
        ["up to 60", "61-75", "over 75"],
        ["<18.5", "18.5 to <25", "25 to <30", ">=30"],
        ["-1", "0", "9", "10"],
        ["2", "10", "high", "low"],
        ["site 2", "site 10"],
        ["I", "II", "III"],
        ["≤40", "41–60", ">60"],
    ],
)
def test_levels_sort_as_people_expect(ordered):
    mixed = random.Random(0).sample(ordered, len(ordered))
    assert sorted(mixed, key=level_order) == ordered


def test_codes_that_often_stand_for_unknown():
    assert likely_unknown(["F", "M", "U", "X", "9", "-", "."]) == ("U", "X", "9", "-", ".")
    assert likely_unknown(["0", "1", "9", "99"]) == ("9", "99")
    assert likely_unknown(["7", "8", "9", "10"]) == ()
    assert likely_unknown(["+", "-"]) == likely_unknown(["-1", "1"]) == ()


@pytest.mark.parametrize(
    ("negative", "positive"),
    [
        *(("0", "1"), ("-1", "1"), ("False", "True"), ("no", "yes"), ("benign", "malignant")),
        *(("healthy", "xyz"), ("NV", "MEL"), ("alive", "died"), ("no finding", "finding")),
        *(("non-toxic", "toxic"), ("zero", "positive"), ("Normal", "Abnormal"), ("N", "Y")),
    ],
)
def test_the_obvious_positive_class_is_the_last(negative, positive):
    for values in ([negative, positive], [positive, negative]):
        classes = order_classes(values, None, "dx")
        assert (classes.names, classes.ordered) == ((negative, positive), True)


@pytest.mark.parametrize(
    "values", [("icu", "ward"), ("1", "2"), ("a", "b"), ("F", "M"), ("0", "2")]
)
def test_what_is_not_obvious_is_asked_for(values):
    assert not order_classes(values, None, "dx").ordered
    for positive in values:
        assert order_classes(values, positive, "dx").names[1] == positive


def test_a_positive_class_that_is_none_of_two():
    with pytest.raises(EvenhandError, match="Did you mean 'icu'"):
        order_classes(["icu", "ward"], "ucu", "unit")
    with pytest.raises(EvenhandError, match="has 3 classes"):
        order_classes(["a", "b", "c"], "a", "unit")
    assert order_classes(["b", "a", "c"], None, "unit").names == ("a", "b", "c")
