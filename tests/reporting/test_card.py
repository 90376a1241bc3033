from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from tests.records import make_record

from evenhand.cohort.cohort import Stored
from evenhand.evaluation.settings import AuditSettings
from evenhand.experiments.records import SourceRecord
from evenhand.experiments.settings import FinetuneSettings
from evenhand.jobs.tune.settings import TuneSettings
from evenhand.reporting import Report, model_card

EVIL = "a|b\n<script>alert(1)</script> [x](http://y) *z*"
ENTRIES: dict[str, Any] = {
    "seed": 3,
    "source": SourceRecord(reader="predictions", path="mine.csv"),
    "notes": ("Few can be helped.",),
    "versions": {"numpy": "2.4"},
}
RECORD = make_record(**ENTRIES)


def test_front_matter_is_yaml_with_the_overall_results(audit: Report) -> None:
    _, front, body = model_card(RECORD, audit.rows, "model").split("---\n", 2)
    expected = yaml.safe_load(front)
    assert expected["library_name"] == "evenhand"
    assert expected["datasets"] == ["predictions"]
    (result,) = expected["model-index"][0]["results"]
    assert {"type": "auc", "name": "AUC", "value": 0.777} in result["metrics"]
    assert body.lstrip().startswith("# model")


def test_a_file_keeps_its_name_where_a_job_of_ours_calls_a_model_so(
    make_rows: Callable[..., list[dict[str, Any]]], make_report: Callable[..., Report]
) -> None:
    rows = make_report(make_rows("auc", 0.71, 0.83, model="before")).rows
    assert "# The unpruned model\n" in model_card(RECORD, rows, "before")
    record = make_record(settings=AuditSettings(inputs=(Path("mine/before.csv"),)), **ENTRIES)
    assert "# before\n" in model_card(record, rows, "before")


def test_the_card_says_how_the_model_was_trained(audit: Report) -> None:
    settings = FinetuneSettings(data="phantom:", method="group-dro:rate=0.05")
    text = model_card(make_record("finetune", settings, **ENTRIES), audit.rows, "model")
    trained = (
        "- strategy: full\n- method: group-dro:rate=0.05\n- weights: pretrained\n- made by evenhand"
    )
    assert trained in text


def test_groups_and_gaps_with_intervals_and_counts(audit: Report) -> None:
    text = model_card(RECORD, audit.rows, "model").replace("\N{NO-BREAK SPACE}", " ")
    groups, gaps = text.split("## Results by group")[1].split("## Gaps between groups")
    assert "| group | samples | patients | AUC (95 % interval) | Sensitivity (95" in groups
    line = "| age: 60+ | 150 | 300 | 0.710 (0.660 to 0.760) | 61.0 % (56.0 to 66.0 %) |"
    assert line in groups
    assert "| age | AUC gap | 0.120 (0.070 to 0.170) |" in gaps
    assert "Few can be helped." in gaps


def test_the_answer_comes_first_in_words_and_in_one_row_per_attribute(audit: Report) -> None:
    text = model_card(RECORD, audit.rows, "model", positive="malignant").replace("\xa0", " ")
    short = text.split("# model\n\n## In short\n\n")[1].split("## ")[0]
    assert (
        "**Age: a gap in sensitivity and AUC.** Where age is 60+, the model finds 61 of " in short
    )
    assert "In AUC, too, the groups differ" in short
    row = "| by age | 0.777 (0.727 to 0.827) | 60+ 0.710 (0.660 to 0.760) | under 60 0.830"
    assert row in short
    assert len(text.splitlines()) < 80


def test_undefined_is_told_with_its_reason_and_names_are_harmless(
    make_row: Callable[..., dict[str, Any]], make_report: Callable[..., Report]
) -> None:
    rows = make_report([make_row("auc", None, attribute="age", group=EVIL)]).rows
    line = next(x for x in model_card(RECORD, rows, "model").splitlines() if x.startswith("| age:"))
    assert "undefined: no positives among 400 samples" in line
    assert "<" not in line
    assert r"a\|b" in line
    assert r"\[x\]" in line


def test_the_card_says_how_scores_become_decisions(
    make_rows: Callable[..., list[dict[str, Any]]], make_report: Callable[..., Report]
) -> None:
    rows = make_rows("sensitivity", 0.61, 0.84)
    decided = [row | {"threshold": 0.6516826} for row in rows]
    text = model_card(RECORD, make_report(decided).rows, "model")
    assert "- decision: positive if the score is at least 0.651683\n" in text
    by_group = [
        row | {"threshold": {"60+": 0.25, "under 60": 0.75}.get(row["group"])} for row in rows
    ]
    text = model_card(RECORD, make_report(by_group).rows, "model")
    assert "at least 0.75 (age: under 60) and 0.25 (age: 60+)\n" in text


def test_the_card_says_how_images_become_inputs(audit: Report) -> None:
    source = SourceRecord(reader="table", path="mine.csv", stored=Stored("uint8", (32, 32, 3)))
    text = model_card(make_record(**(ENTRIES | {"source": source})), audit.rows, "model")
    assert "- stored samples: uint8, 32 x 32 x 3\n- input of the network: float32, channels" in text
    assert "bicubic" in text


def test_a_run_without_a_method_has_no_empty_line_about_it(audit: Report) -> None:
    settings = TuneSettings(data="phantom:")
    text = model_card(make_record("tune", settings, **ENTRIES), audit.rows, "model")
    assert "- method" not in text
    assert "- strategy: full\n" in text


def test_attributes_without_worst_group_make_no_empty_table(
    make_row: Callable[..., dict[str, Any]], make_report: Callable[..., Report]
) -> None:
    rows = make_report([make_row("auc", 0.8, attribute="age", group="60+")]).rows
    assert "| everyone | worst group |" not in model_card(RECORD, rows, "model")
