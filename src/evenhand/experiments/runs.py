"""A run with its typed record: jobs return it, and later jobs read it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evenhand.errors import EvenhandError, pick
from evenhand.experiments.records import RunRecord, read_record
from evenhand.files import DamagedError
from evenhand.launcher import is_main
from evenhand.metrics import MetricRow
from evenhand.metrics.rows import EVERYBODY
from evenhand.plugins import require_imports
from evenhand.run_files import RECORD
from evenhand.runs import RunFolder, open_folder, start_run, update_record, write_record
from evenhand.settings import Settings

METRICS = "metrics.json"

if TYPE_CHECKING:
    import pandas as pd

    from evenhand.metrics import MetricRow
    from evenhand.networks.model import Model
    from evenhand.tables.predictions import Predictions


class Run(RunFolder):
    """A run: a job's record, models, predictions and metrics in the directory ``root``.

    A function that takes the path of a run also takes a `Run`. A notebook shows the run's models
    with their main numbers.

    Attributes
    ----------
    root
        The directory.

    Examples
    --------
    >>> import tempfile, evenhand
    >>> out = Path(tempfile.mkdtemp())
    >>> lines = [f"{i},{i},{i % 2},{i % 7 / 7},{'ffmm'[i % 4]}" for i in range(40)]
    >>> header = "sample_id,patient_id,label,score,attr_sex"
    >>> _ = (out / "mine.csv").write_text(chr(10).join([header, *lines]))
    >>> run = evenhand.audit(out / "mine.csv", attribute="sex", out=out / "audit")
    >>> run.models, run.record.job, run.record.settings.seed
    (('mine',), 'audit', 0)
    >>> run.metrics.query("metric == 'auc'")[["group", "n"]].values.tolist()
    [['*', 40], ['f', 20], ['m', 20]]
    >>> run.predictions().table["score"].round(2).tolist()[:3]
    [0.0, 0.14, 0.29]
    """

    @property
    def record(self) -> RunRecord[Settings]:
        """The content of ``run.json`` as it is now.

        Raises
        ------
        EvenhandError
            If ``run.json`` is damaged, or a later version wrote it.
        """
        return read_record(self.root / RECORD)

    def note(self, **entries: Any) -> None:
        """Change entries of the record (attributes of `RunRecord`), and write ``run.json``.

        If a launcher started several processes, only the main one writes.
        """
        if unknown := entries.keys() - RunRecord.model_fields.keys():
            raise TypeError(f"a record has no {sorted(unknown)}")
        if is_main():
            write_record(self.root, update_record(self.record, entries))

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models that have predictions, in the order of the report.

        Raises
        ------
        DamagedError
            If the run is finished and its predictions are absent.
        """
        head = self.head
        absent = [name for name in head.models if not self.predictions_file(name).exists()]
        if absent and head.status == "finished":
            path = self.predictions_file(absent[0])
            raise DamagedError(path, "there is no such file, and the run is finished")
        return tuple(name for name in head.models if name not in absent)

    @property
    def metrics(self) -> pd.DataFrame:
        """A data frame of the rows of ``metrics.json``.

        Raises
        ------
        EvenhandError
            If the job writes no metrics, the run has not yet written them, or the file is damaged.
        """
        from evenhand.metrics import as_table

        return as_table(self._rows())

    def write_metrics(self, rows: list[MetricRow]) -> None:
        """Write ``metrics.json``, and remember its rows so that `metrics` need not read them."""
        from evenhand.evaluation.metrics_file import write_metrics

        path = self.root / METRICS
        write_metrics(path, rows)
        self._written.clear()
        self._written[_stamp(path)] = rows

    @cached_property
    def _written(self) -> dict[tuple[int, int, int], list[MetricRow]]:
        """Stamp of the file → the rows that `write_metrics` wrote."""
        return {}

    def _rows(self) -> list[MetricRow]:
        from evenhand.evaluation.metrics_file import read_metrics

        path = self.root / METRICS
        if not path.exists():
            raise EvenhandError(
                f"the run of {self.head.job!r} in {self.root} has no {METRICS}: either this job "
                "measures no predictions, or it is not finished (then give its command again)."
            )
        return self._written.get(_stamp(path)) or read_metrics(path)

    def predictions(self, name: str | None = None) -> Predictions:
        """Return the predictions of a model; by default, of the chosen model or the only one.

        ``.table`` of the predictions has a row for each sample.

        Raises
        ------
        EvenhandError
            If there are no predictions of that name, the run has several models and chose none, or
            the file is damaged.
        """
        from evenhand.tables.predictions import read_predictions

        models = self.models
        chosen = name or self.head.chosen or (models[0] if len(models) == 1 else None)
        if chosen is None:
            raise EvenhandError(
                f"the run in {self.root} has the predictions of {', '.join(models) or 'no model'} "
                "and chose none; name one."
            )
        pick("model", chosen, dict.fromkeys(models))
        return read_predictions(self.predictions_file(chosen))

    def model(self, name: str | None = None) -> Model:
        """Return a model, in evaluation mode on the CPU; by default, the chosen one.

        Raises
        ------
        EvenhandError
            If the run holds no model of that name or chose none, or the files are damaged.
        """
        from evenhand.networks.model import load_model

        head = self.head
        names = dict.fromkeys((*head.models, *([head.chosen] if head.chosen else [])))
        with_weights = [model for model in names if self._has_weights(model)]
        if name is None and head.chosen not in with_weights:
            raise EvenhandError(
                f"the run in {self.root} holds the models {', '.join(with_weights) or 'none'} and "
                "chose none of them; name one, or another run."
            )
        chosen = name or head.chosen or ""
        pick("model", chosen, dict.fromkeys(with_weights))
        return load_model(self.folder(chosen))

    def __fspath__(self) -> str:
        """Return the path of the directory."""
        return str(self.root)

    def _repr_html_(self) -> str:
        """Return a short table for notebooks: the job, each model's main numbers, the report."""
        head, report = self.head, self.root / "report.html"
        title = f"evenhand {head.job}: {self.root.resolve().name}"
        if head.status == "running":
            title += " (not finished)"
        link = ""
        if report.exists():
            path = Path(os.path.relpath(report)).as_posix()
            link = f'<p><a href="{escape(path)}">report</a></p>'
        return f"<p><b>{escape(title)}</b></p>{self._main_numbers()}{link}"

    def _main_numbers(self) -> str:
        from evenhand.evaluation.requests import measure_settings

        if not (self.root / METRICS).exists():
            return f"<p>{escape(', '.join(self.models))}</p>"
        return summary_table(self._rows(), measure_settings(self.record.settings).split)

    def model_with_weights(self, name: str | None = None) -> str:
        """Return the name of a model whose weights are in the run; by default, the chosen one.

        Raises
        ------
        EvenhandError
            If the run holds no weights (an audit does not), or none of that name.
        """
        head = self.head
        with_weights = [model for model in head.models if self._has_weights(model)]
        if not with_weights:
            raise EvenhandError(
                f"the run in {self.root} holds no model; name a run that does. There is no "
                f"{self.root}/models/*/model.json."
            )
        model = name or head.chosen
        if model is None:
            raise EvenhandError(
                f"the run in {self.root} holds the models {', '.join(with_weights)} and chose none "
                "of them. Name one with --model."
            )
        pick("model", model, dict.fromkeys(with_weights))
        return model

    def _has_weights(self, name: str) -> bool:
        files = ("model.json", "model.safetensors")
        return any((self.folder(name) / file).is_file() for file in files)


def _stamp(path: Path) -> tuple[int, int, int]:
    """Return a file's inode, size and time of change, which differ after each write."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def begin_run(
    root: Path,
    job: str,
    settings: Settings,
    *,
    fingerprint: str,
    reads: Iterable[Path] = (),
    overwrite: bool = False,
    goes_on: bool = False,
) -> Run:
    """Open a directory for a job with `evenhand.runs.start_run`, and return its `Run`.

    The record leaves out settings about the machine: where the job works, how much memory and disk
    it may use.
    """
    folder = start_run(
        root,
        job,
        settings.recorded(),
        fingerprint=fingerprint,
        reads=reads,
        overwrite=overwrite,
        goes_on=goes_on,
    )
    return Run(folder.root)


def open_run(root: str | os.PathLike[str]) -> Run:
    """Return the run in a directory.

    Raises
    ------
    EvenhandError
        If the directory holds no run, the run is damaged, or a later version wrote it.
    """
    run = Run(open_folder(root).root)
    run.record  # noqa: B018  (a damaged record raises)
    return run


def finished_run(root: str | os.PathLike[str]) -> Run:
    """Return the finished run in a directory.

    Raises
    ------
    EvenhandError
        If the directory holds no run, the run is not finished, or it needs a module of
        ``--import``.
    """
    run = open_run(root)
    if not run.finished:
        raise EvenhandError(f"the run in {root} is not finished; give its command again.")
    require_imports(run.root, run.head.settings)
    return run


PREFERRED = ("auc", "accuracy")
"""The metrics of a summary: the first of these that the run has, else the run's first metric."""
ACROSS = ("worst", "gap")


def summary_table(rows: Sequence[MetricRow], split: str) -> str:
    """Return an HTML table: a metric of each model for everybody, its worst group and its gap.

    Parameters
    ----------
    rows
        The rows of ``metrics.json``.
    split
        The split to show.
    """
    shown = [
        row for row in rows if row.split == split and row.against is None and row.group == EVERYBODY
    ]
    overall = [row for row in shown if row.attribute == EVERYBODY]
    measured = [row.base for row in overall]
    metric = next((name for name in (*PREFERRED, *measured) if name in measured), None)
    columns: dict[str, tuple[str, str | None]] = {f"{metric}, everybody": (EVERYBODY, None)}
    for attribute in dict.fromkeys(row.attribute for row in shown):
        if attribute != EVERYBODY:
            columns |= {
                f"{metric}, {aggregate} by {attribute}": (attribute, aggregate)
                for aggregate in ACROSS
            }
    cells = {
        (row.model, (row.attribute, row.aggregate)): row for row in shown if row.base == metric
    }
    lines = [
        [
            str(row.model),
            f"{row.n:,}",
            *(_cell(cells.get((row.model, column))) for column in columns.values()),
        ]
        for row in overall
        if row.base == metric
    ]
    return _table(["model", "samples", *columns], lines) if lines else ""


def _cell(row: MetricRow | None) -> str:
    """Return a value with its interval as text; empty if there is no row."""
    if row is None:
        return ""
    if row.value is None:
        return "undefined"
    has_interval = row.low is not None and row.high is not None
    interval = f" ({row.low:.3f} to {row.high:.3f})" if has_interval else ""
    return f"{row.value:.3f}{interval}"


def _table(head: list[str], lines: list[list[str]]) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in lines
    )
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
