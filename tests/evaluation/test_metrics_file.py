from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from evenhand.errors import EvenhandError
from evenhand.evaluation.metrics_file import read_metrics, write_metrics
from evenhand.metrics import COLUMNS, MetricRow
from evenhand.metrics.rows import Key

FIRST = Path(__file__).parent / "metrics_schema_1.json"
"""Rows of an audit and a comparison that the version before schema 2 has written."""

ROW = MetricRow(base="auc", aggregate="difference", attribute="sex", group="f", reference="a; b",
                model="m", split="test", value=0.1, n=3, patients=2)  # fmt: skip


def test_rows_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "metrics.json"
    rows = [ROW, MetricRow(base="log_loss", undefined="no samples")]
    write_metrics(path, rows)
    assert read_metrics(path) == rows
    written = json.loads(path.read_text())
    assert written["schema"] == 2
    assert all(tuple(row) == COLUMNS for row in written["rows"])
    assert written["rows"][0]["metric"] == "auc_difference"


def test_schema_1_gets_its_columns():
    before = json.loads(FIRST.read_text())["rows"]
    rows = read_metrics(FIRST)
    for old, new in zip(before, rows, strict=True):
        assert new.metric == old["metric"]
        for name in ("model", "against", "attribute", "group", "value", "low", "p_adjusted", "n"):
            assert getattr(new, name) == old[name]
        assert "from " not in f"{new.note}{new.interval_method}"
        assert "approximate" not in f"{new.note}{new.interval_method}"
    alone = {row.key: row for row in rows if row.against is None}
    gap, worst = (alone[Key("group", "*", "auc", name)] for name in ("gap", "worst"))
    assert gap.p_method == "99 permutations of patients, Holm over 15"
    assert (worst.interval_method, worst.approximate) == ("simultaneous", "6 patients")
    difference = alone[Key("group", "majority", "sensitivity", "difference")]
    assert (difference.reference, difference.interval_method) == ("minority", "logit t and exact")
    reach = alone[Key("group", "majority", "auc", "detectable")]
    assert (reach.reference, reach.interval_method) == ("minority", None)
    assert reach.note == "80 % power, two-sided 5 %, bootstrap error"
    assert alone[Key("group", "*", "equalized_odds_difference")].aggregate is None
    assert alone[Key("group", "majority", "auc", "less_overall")].interval_method
    error = alone[Key("group", "minority", "ece", "difference")]
    assert error.reference == "majority"
    assert error.no_interval.startswith("chance alone moves bins off the diagonal")
    paired = {row.key: row for row in rows if row.against}
    constant = paired[Key("group", "minority", "balanced_accuracy")]
    assert constant.no_interval == "the same in every resample: 'minority', 'minority'"
    assert paired[Key("group", "*", "auc", "worst")].note == "biased where groups are close"
    assert paired[Key("*", "*", "auc")].interval_method.startswith("t, patients (bootstrap)")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"metric": "auc_gap"}, "row 0 has the metric 'auc_gap', where 'auc_dif"),
        ({"base": None}, "row 0 has a value of the wrong type (base"),
        ({"n": "3"}, "row 0 has a value of the wrong type (n"),
    ],
)
def test_a_row_that_contradicts_itself(tmp_path, change, problem):
    path = tmp_path / "metrics.json"
    write_metrics(path, [ROW])
    file = json.loads(path.read_text())
    file["rows"][0] |= change
    path.write_text(json.dumps(file))
    with pytest.raises(EvenhandError, match=re.escape(problem)):
        read_metrics(path)
    del file["rows"][0]["reference"]
    path.write_text(json.dumps(file))
    with pytest.raises(EvenhandError, match="row 0 lacks 'reference'"):
        read_metrics(path)
