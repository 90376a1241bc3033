"""A run with its typed record: what jobs return, and what later jobs read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from evenhand.errors import EvenhandError, pick
from evenhand.experiments.records import RunRecord, read_record
from evenhand.files import DamagedError
from evenhand.launcher import is_main
from evenhand.run_files import RECORD
from evenhand.runs import RunFolder, changed, open_folder, start_run, write_record
from evenhand.settings import Settings


class Run(RunFolder):
    """One job and everything about it, in the directory ``root``."""

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

    def held_model(self, name: str | None = None) -> str:
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


def begin_run(
    root: Path,
    job: str,
    settings: Settings,
    *,
    fingerprint: str,
    reads: Iterable[Path] = (),
    overwrite: bool = False,
) -> Run:
    """Open a directory for a job, as `evenhand.runs.start_run` does, with the job's settings.

    Settings that say where the job works and how much room it may take are not kept.
    """
    folder = start_run(
        root, job, settings.kept(), fingerprint=fingerprint, reads=reads, overwrite=overwrite
    )
    return Run(folder.root)


def open_run(root: Path | str) -> Run:
    """Return the run in a directory.

    Raises
    ------
    EvenhandError
        There is no run in it, it is damaged, or it was written by a later version.
    """
    run = Run(open_folder(root).root)
    run.record  # noqa: B018  (refuses a damaged one)
    return run


def finished_run(root: Path) -> Run:
    """Return the run in a directory, which has come to its end.

    Raises
    ------
    EvenhandError
        There is no run in it, or one that is not finished.
    """
    run = open_run(root)
    if not run.finished:
        raise EvenhandError(f"the run in {root} is not finished; give its command again.")
    return run
