from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.records import make_record

from evenhand.jobs.similarity.settings import SimilaritySettings
from evenhand.reporting.estimates import Estimate
from evenhand.reporting.sections.provenance import fact_tables, undefined

ROW = Estimate("m", "test", "age", "60+", "auc", None, None, None, 0.95, 9, 8, 0, undefined="why")


def test_facts_become_tables_and_none_is_lost() -> None:
    settings = SimilaritySettings(runs=(Path("a"), Path("b")))
    entries = {"seconds": {"search": 75}, "extra": {"a": 1, "b": [2, 3]}, "notes": ()}
    run, given, time = fact_tables(make_record("similarity", settings, **entries))
    about = ("job", "seed", "fingerprint", "schema", "models", "notes", "extra.a", "extra.b")
    assert tuple(name for name, _ in run.rows) == about
    assert run.rows[-1] == ("extra.b", "2, 3")
    assert (given.title, [name for name, _ in given.rows]) == ("Settings", [*settings.kept()])
    assert {("bandwidth", "1.0"), ("data", "none"), ("layer", "none")} <= {*given.rows}
    assert (time.title, time.rows) == ("Time", (("search", "1 min 15 s"),))


def test_undefined_numbers_are_gathered_by_group_and_reason() -> None:
    rows = [
        ROW,
        replace(ROW, metric="sensitivity"),
        replace(ROW, metric="specificity", undefined="other"),
        replace(ROW, group="*", metric="auc_worst"),
        replace(ROW, group="*", metric="auc_gap"),
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
