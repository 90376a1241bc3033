from __future__ import annotations

import pytest

from evenhand.errors import count_text
from evenhand.metrics import FAIRNESS, METRICS
from evenhand.reporting.estimates import Estimate
from evenhand.reporting.text.vocabulary import (
    PERCENT,
    TERMS,
    display_name,
    duration,
    join_words,
    out_of_hundred,
    plain,
    signed,
    term,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (plain(0.84217), "0.842"),
        (plain(-0.5, 1), "−0.5"),
        (plain(-0.0001), "0.000"),
        (PERCENT.text(0.61249), "61.2\N{NO-BREAK SPACE}%"),
        (signed("0.040"), "+0.040"),
        (signed("−0.040"), "−0.040"),
        (signed("0.000"), "0.000"),
        (out_of_hundred(0.605), "61"),
        (out_of_hundred(0.285), "29"),
        (out_of_hundred(1.0), "100"),
        (count_text(1, "patient"), "1 patient"),
        (count_text(1204, "patient"), "1,204 patients"),
        (join_words(["sex"]), "sex"),
        (join_words(["sex", "age", "site"], "or"), "sex, age or site"),
        (duration(4.21), "4.2 s"),
        (duration(59.97), "1 min 0 s"),
        (duration(7300), "2 h 1 min"),
        (display_name("female*60+"), "female × 60+"),
        (term("auc", "worst").label, "AUC of the worst group"),
        (term("sensitivity", "gap").label, "Sensitivity gap"),
        (term("made_up").label, "made up"),
    ],
)
def test_as_people_read_it(text: str, expected: str) -> None:
    assert text == expected


def test_numbers_across_groups_by_their_parts() -> None:
    assert not Estimate(base="demographic_parity_difference").is_of_group
    assert not Estimate(base="auc", aggregate="gap").is_of_group
    assert Estimate(base="auc").is_of_group
    assert term("auc", "gap").better == "lower"
    assert term("auc", "difference").better == "higher"
    assert term("error_rate").better == "lower"
    assert term("calibration_slope").better == "neither"


def test_every_registered_metric_has_words() -> None:
    for name in (*METRICS, *FAIRNESS):
        assert term(name).label
        assert term(name).meaning.format(positive="malignant")
    assert set(TERMS) <= set(METRICS)
    assert term("log_loss", "worst").better == "lower"


def test_differences_of_shares_are_points() -> None:
    assert term("sensitivity").scale.text(0.14) == "14.0\N{NO-BREAK SPACE}%"
    assert term("sensitivity", "worst").scale.text(0.14) == "14.0\N{NO-BREAK SPACE}%"
    for kind in ("gap", "difference"):
        assert term("sensitivity", kind).scale.text(0.14) == "14.0\N{NO-BREAK SPACE}points"
    assert term("auc", "gap").scale.text(0.14) == "0.140"
    assert term("sensitivity", "ratio").scale.text(1.4) == "1.400"
