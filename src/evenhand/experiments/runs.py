"""A run with its typed record: what jobs return, and what later jobs read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evenhand.errors import EvenhandError, pick
from evenhand.experiments.records import RunRecord, read_record
from evenhand.files import DamagedError
from evenhand.launcher import is_main
from evenhand.plugins import require_imports
from evenhand.run_files import RECORD
from evenhand.runs import RunFolder, changed, open_folder, start_run, write_record
from evenhand.settings import Settings

METRICS = "metrics.json"

if TYPE_CHECKING:
    import pandas as pd

    from evenhand.metrics import MetricRow
    from evenhand.networks.model import Model
    from evenhand.tables.predictions import Predictions


class Run(RunFolder):
    """One job and everything about it, in the directory ``root``.

    Wherever a path of a run is taken, the run itself will do. In a notebook it shows its models
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
            It is damaged, or was written by a later version.
        """
        return read_record(self.root / RECORD)

    def note(self, **entries: Any) -> None:
        """Change entries of the record, and write it; the names are those of `RunRecord`.

        Of a launcher's processes the main one writes.
        """
        if unknown := entries.keys() - RunRecord.model_fields.keys():
            raise TypeError(f"a record has no {sorted(unknown)}")
        if is_main():
            write_record(self.root, changed(self.record, entries))

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models that have predictions, in the order they were reported.

        Raises
        ------
        DamagedError
            The run is finished, and predictions are absent.
        """
        head = self.head
        absent = [name for name in head.models if not self.predictions_file(name).exists()]
        if absent and head.status == "finished":
            path = self.predictions_file(absent[0])
            raise DamagedError(path, "there is no such file, and the run is finished")
        return tuple(name for name in head.models if name not in absent)

    @property
    def metrics(self) -> pd.DataFrame:
        """The rows of ``metrics.json``, with its columns.

        Raises
        ------
        EvenhandError
            The job measures no predictions, has not come so far, or the file is damaged.
        """
        from evenhand.metrics import as_table

        return as_table(self._rows())

    def write_metrics(self, rows: list[MetricRow]) -> None:
        """Write the rows of ``metrics.json``; this object need not read them again."""
        from evenhand.evaluation.metrics_file import write_metrics

        path = self.root / METRICS
        write_metrics(path, rows)
        self._written.clear()
        self._written[_stamp(path)] = rows

    @cached_property
    def _written(self) -> dict[tuple[int, int, int], list[MetricRow]]:
        """The rows that this object has written, by the stamp of the file."""
        return {}

    def _rows(self) -> list[MetricRow]:
        from evenhand.evaluation.metrics_file import read_metrics

        path = self.root / METRICS
        if not path.exists():
            raise EvenhandError(
                f"the run of {self.head.job!r} in {self.root} has no {METRICS}: the job measures "
                "no predictions, or has not come so far."
            )
        return self._written.get(_stamp(path)) or read_metrics(path)

    def predictions(self, name: str | None = None) -> Predictions:
        """Return the predictions of a model: by default, of the chosen one or the only one.

        The attribute ``table`` of what is returned has a row per sample.

        Raises
        ------
        EvenhandError
            There are none of that name, the run chose none of several, or the file is damaged.
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
        """Return a model, a torch module in evaluation mode on the CPU; by default the chosen one.

        Raises
        ------
        EvenhandError
            The run holds none of that name, chose none, or the files are damaged.
        """
        from evenhand.networks.checkpoints import load_model

        head = self.head
        names = dict.fromkeys((*head.models, *([head.chosen] if head.chosen else [])))
        held = [model for model in names if self._holds(model)]
        if name is None and head.chosen not in held:
            raise EvenhandError(
                f"the run in {self.root} holds the models {', '.join(held) or 'none'} and chose "
                "none of them; name one, or another run."
            )
        chosen = name or head.chosen or ""
        pick("model", chosen, dict.fromkeys(held))
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
        from evenhand.experiments.summary import summary_table

        if not (self.root / METRICS).exists():
            return f"<p>{escape(', '.join(self.models))}</p>"
        return summary_table(self._rows(), measure_settings(self.record.settings).split)

    def model_with_weights(self, name: str | None = None) -> str:
        """Return the name of a model whose weights the run holds: by default, the one it chose.

        Raises
        ------
        EvenhandError
            It holds none, as an audit of other runs does, or none of that name.
        """
        head = self.head
        held = [model for model in head.models if self._holds(model)]
        if not held:
            raise EvenhandError(
                f"the run in {self.root} holds no model; name a run that does. There is no "
                f"{self.root}/models/*/model.json."
            )
        model = name or head.chosen or ""
        pick("model", model, dict.fromkeys(held))
        return model

    def _holds(self, name: str) -> bool:
        files = ("model.json", "model.safetensors")
        return any((self.folder(name) / file).is_file() for file in files)


def _stamp(path: Path) -> tuple[int, int, int]:
    """Return what changes when a file is written: its inode, size and time of change."""
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
    """Open a directory for a job, as `evenhand.runs.start_run` does, with the job's settings.

    Settings that say where the job works and how much room it may take are not kept.
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
        There is no run in it, it is damaged, or it was written by a later version.
    """
    run = Run(open_folder(root).root)
    run.record  # noqa: B018  (refuses a damaged one)
    return run


def finished_run(root: str | os.PathLike[str]) -> Run:
    """Return the run in a directory, which has come to its end.

    Raises
    ------
    EvenhandError
        There is no run in it, one that is not finished, or one that needs a module of ``--import``.
    """
    run = open_run(root)
    if not run.finished:
        raise EvenhandError(f"the run in {root} is not finished; give its command again.")
    require_imports(run.root, run.head.settings)
    return run
