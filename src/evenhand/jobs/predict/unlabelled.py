"""The results for samples without labels: scores, and counts of flagged samples by group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from evenhand.evaluation.rows import DecisionThreshold, groups_in
from evenhand.experiments.runs import Run
from evenhand.files import DamagedError, write_text
from evenhand.reporting.page import section_page
from evenhand.reporting.part import Part, Table, part_section
from evenhand.reporting.text.numbers import PERCENT
from evenhand.reporting.text.vocabulary import display_name
from evenhand.spreadsheets import unquote_formulas, write_csv
from evenhand.tables.predictions import Predictions, write_predictions

COLUMNS = ("attribute", "group", "n", "patients", "flagged")


def write_scores(run: Run, name: str, predictions: Predictions, cut: DecisionThreshold) -> Run:
    """Write scores without labels, ``groups.csv`` and a page, and finish the run.

    ``predictions.parquet`` has the usual columns except ``label``. ``groups.csv`` counts samples
    and patients of each group and, for two classes, flagged samples (score ≥ threshold).
    """
    write_predictions(run.predictions_file(name), predictions, labelled=False)
    counts = flagged_counts(predictions, run.record.attributes, cut)
    write_csv(run.root / "groups.csv", counts)
    run.note(chosen=name)
    write_unlabelled_page(run)
    run.finish(chosen=name)
    return run


def flagged_counts(
    predictions: Predictions, attributes: Sequence[str], cut: DecisionThreshold
) -> pd.DataFrame:
    """Count samples, patients and flagged samples, of everybody and of each group."""
    rows = predictions.table.assign(flagged=np.nan)
    if len(predictions.classes) == 2:
        rows = rows.assign(flagged=predictions.scores >= cut.thresholds(predictions))

    def count(part: pd.DataFrame) -> tuple[int, int, object]:
        return len(part), part["patient_id"].nunique(), part["flagged"].sum(min_count=1)

    counts = [("*", "*", *count(rows))]
    for attribute, groups in groups_in(predictions, attributes).items():
        for level in groups.levels:
            counts.append((attribute, level, *count(rows.iloc[groups.rows(level)])))
    return pd.DataFrame(counts, columns=list(COLUMNS)).astype({"flagged": "Int64"})


def _read_counts(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path).astype({"flagged": "Int64"})
    except (OSError, ValueError, KeyError) as error:
        raise DamagedError(path, f"it cannot be read as counts of groups ({error})") from error
    return table.assign(**{name: unquote_formulas(table[name]) for name in ("attribute", "group")})


def write_unlabelled_page(run: Run) -> None:
    """Write the report of a run without labels, from the files of the run."""
    record = run.record
    counts = _read_counts(run.root / "groups.csv")
    table = Table(
        "Samples of each group",
        ("Group", "Samples", "Patients", "Flagged"),
        tuple(_row(*row) for row in counts.itertuples(index=False, name=None)),
    )
    part = Part(sentences=record.notes, tables=(table,))
    path = record.source.path if record.source else ""
    introduction = f"{counts['n'][0]:,} samples of {path}, scored by {record.chosen}."
    section = part_section("groups", "Scores without labels", part)
    page = section_page(
        f"evenhand predict: {run.root.resolve().name}", introduction, (section,), record
    )
    write_text(run.root / "report.html", page)


def printed_counts(run: Run) -> Iterator[str]:
    """Yield the table of counts of a run without labels, and then its notes, as text."""
    yield _read_counts(run.root / "groups.csv").to_string(index=False, na_rep="")
    for note in run.record.notes:
        yield f"\n{note}"


def _row(attribute: str, group: str, n: int, patients: int, flagged: int) -> tuple[str, ...]:
    name = "everybody" if attribute == "*" else f"{display_name(attribute)}: {display_name(group)}"
    share = "" if pd.isna(flagged) else f"{flagged:,} ({PERCENT.text(flagged / max(n, 1))})"
    return name, f"{n:,}", f"{patients:,}", share
