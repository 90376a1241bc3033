from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.records import make_record

from evenhand.jobs.similarity.settings import SimilaritySettings
from evenhand.reporting.estimates import Estimate
from evenhand.reporting.sections.provenance import fact_tables
from evenhand.reporting.sections.undefined import undefined

ROW = Estimate(
    model="m", split="test", attribute="age", group="60+", base="auc", level=0.95, n=9, patients=8,
    positives=0, undefined="why",
)  # fmt: skip


def test_facts_become_tables_and_none_is_lost() -> None:
    settings = SimilaritySettings(runs=(Path("a"), Path("b")))
    entries = {
        "seconds": {"search": 75, "evaluation": 3},
        "extra": {"a": 1, "b": [2, 3]},
        "notes": (),
    }
    run, inputs, time = fact_tables(make_record("similarity", settings, **entries))
    about = ("job", "seed", "fingerprint", "schema", "models", "notes", "extra.a", "extra.b")
    assert tuple(name for name, _ in run.rows) == about
    assert run.rows[-1] == ("extra.b", "2, 3")
    assert (inputs.title, [name for name, _ in inputs.rows]) == ("Settings", [*settings.recorded()])
    assert {("bandwidth", "1.0"), ("data", "none"), ("layer", "none")} <= {*inputs.rows}
    assert (time.title, time.rows) == ("Time", (("search", "1 min 15 s"),))


def test_undefined_numbers_are_gathered_by_group_and_reason() -> None:
    rows = [
        ROW,
        replace(ROW, base="sensitivity"),
        replace(ROW, base="specificity", undefined="other"),
        replace(ROW, group="*", base="auc", aggregate="worst"),
        replace(ROW, group="*", base="auc", aggregate="gap"),
        replace(ROW, attribute="*", group="*"),
        replace(ROW, against="other"),
        replace(ROW, value=0.5, undefined=None),
    ]
    assert [(gone.group, gone.metrics, gone.reason, gone.n) for gone in undefined(rows)] == [
        ("60+", "AUC and Sensitivity", "why", 9),
        ("60+", "Specificity", "other", 9),
        ("across groups", "AUC", "why", 9),
        ("everyone", "AUC", "why", 9),
    ]
