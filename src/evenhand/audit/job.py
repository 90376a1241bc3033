"""`evenhand audit`: predictions in, metric rows and a report out."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from evenhand.audit.evaluate import evaluate
from evenhand.audit.rows import matched
from evenhand.audit.settings import AuditSettings
from evenhand.cohort.attributes import parse_bins
from evenhand.errors import EvenhandError
from evenhand.files import fingerprint
from evenhand.predictions import Columns, Predictions, read_predictions, write_predictions
from evenhand.runs import Run, open_run, start_run


def audit(settings: AuditSettings, out: Path, *, overwrite: bool = False) -> Run:
    """Audit predictions of one or several models, side by side.

    Parameters
    ----------
    settings
        The inputs (files in the contract's layout, or runs, whose models are all taken) and the
        attributes.
    out
        The run directory of the audit.
    overwrite
        Whether another or a finished run in ``out`` may be replaced.

    Raises
    ------
    EvenhandError
        An input cannot be read or breaks the contract; nothing is written then.
    """
    files = _files(settings.inputs)
    columns = Columns(
        settings.attribute, parse_bins(settings.bins), _renamed(settings.map), settings.logits
    )
    models = {name: read_predictions(path, columns) for name, path in files.items()}
    first, *others = models.values()
    for other in others:
        matched(first.of_split("test"), other.of_split("test"))
    attributes = settings.attribute or tuple(first.levels)
    facts = settings.model_copy(update={"attribute": attributes}).model_dump(mode="json")
    prints = fingerprint((), files.values())
    run = start_run(out, "audit", facts, fingerprint=prints, overwrite=overwrite)
    run.note(models=list(models), source=_source(settings.inputs))
    return write_audit(run, models, chosen=next(iter(models)))


def write_audit(run: Run, models: Mapping[str, Predictions], *, chosen: str) -> Run:
    """Put predictions into a run directory, evaluate them, and end the run."""
    for name, predictions in models.items():
        write_predictions(run.predictions(name), predictions)
    with run.phase("evaluation"):
        evaluate(run, chosen=chosen)
    run.finish(chosen=chosen)
    return run


def print_table(rows: pd.DataFrame) -> str:
    """Return the main numbers of the test split as text: each model by group, and its gaps."""
    wanted = rows["metric"].isin(["auc", "auc_worst", "auc_gap", "accuracy"])
    shown = rows[wanted & (rows["split"] == "test") & rows["against"].isna()]
    lines = [f"{'model':<12}{'metric':<12}{'group':<24}{'value':>8}  {'95 % interval':<16}{'n':>7}"]
    for row in shown.to_dict("records"):
        group = "everybody" if row["attribute"] == "*" else f"{row['attribute']}: {row['group']}"
        lines.append(
            f"{row['model']:<12}{row['metric']:<12}{group:<24}{_number(row['value']):>8}  "
            f"{_interval(row):<16}{row['n']:>7}"
        )
    return "\n".join(lines)


def _interval(row: Mapping[Hashable, Any]) -> str:
    if pd.isna(row["value"]):
        return f"undefined: {row['undefined']}"
    return "" if pd.isna(row["low"]) else f"{row['low']:.3f} to {row['high']:.3f}"


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.3f}"


def _files(inputs: Iterable[Path]) -> dict[str, Path]:
    """Return each model's predictions by a name: a run's models, or the file's stem."""
    files: dict[str, Path] = {}
    several = len(list(inputs)) > 1
    for path in inputs:
        if path.is_dir():
            run = open_run(path)
            found = {
                f"{path.resolve().name}-{name}" if several else name: run.predictions(name)
                for name in run.models()
            }
            if not found:
                raise EvenhandError(f"the run in {path} has no predictions yet; finish it first.")
        else:
            found = {path.stem: path}
        for name in found.keys() & files.keys():
            raise EvenhandError(
                f"two inputs are called {name!r}: {files[name]} and {found[name]}. Rename one."
            )
        files |= found
    return files


def _source(inputs: Iterable[Path]) -> dict[str, object]:
    """Return where the samples come from: what a single run says of them, else the files."""
    first, *others = inputs
    if first.is_dir() and not others:
        known: dict[str, object] = open_run(first).facts["source"]
        return known
    return {"reader": "predictions", "path": ", ".join(map(str, inputs)), "unit": "patient"}


def _renamed(texts: Iterable[str]) -> dict[str, str]:
    renamed = {}
    for text in texts:
        name, equals, given = text.partition("=")
        if not equals:
            raise EvenhandError(f"--map {text!r}: it is written COLUMN=NAME, as in label=y_true.")
        renamed[name] = given
    return renamed
