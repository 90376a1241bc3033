"""The run directory: one job, and everything about it."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from evenhand.errors import EvenhandError, pick
from evenhand.files import read_json, write_json
from evenhand.launcher import is_main

SCHEMA = 1
PACKAGES = ("evenhand", "torch", "timm", "accelerate", "optuna", "numpy", "scipy", "pandas")


@dataclass(frozen=True)
class Run:
    """A run directory: ``run.json``, ``models/<name>/``, ``metrics.json``, ``report.html``.

    Every change of ``run.json`` is written at once, so that a killed run tells how far it came.
    """

    root: Path

    @property
    def facts(self) -> dict[str, Any]:
        """What ``run.json`` holds now."""
        facts: dict[str, Any] = read_json(self.root / "run.json")
        return facts

    @property
    def finished(self) -> bool:
        """Whether the job came to its end."""
        return bool(self.facts["status"] == "finished")

    def note(self, **facts: Any) -> None:
        """Add facts to ``run.json``; a name that is there already gets the new value.

        Of a launcher's processes the main one writes.
        """
        if is_main():
            write_json(self.root / "run.json", {**self.facts, **facts})

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the wall time of the block, in seconds, to the phase of that name."""
        start = time.perf_counter()
        yield
        seconds = dict(self.facts["seconds"])
        spent = seconds.get(name, 0.0) + time.perf_counter() - start
        self.note(seconds={**seconds, name: round(spent, 3)})

    def model(self, name: str) -> Path:
        """Return the folder of one model of the run."""
        return self.root / "models" / name

    def models(self) -> tuple[str, ...]:
        """Return the names of the models that have predictions, in the order they were reported."""
        return tuple(name for name in self.facts["models"] if self.predictions(name).exists())

    def held_model(self, name: str | None = None) -> str:
        """Return the name of a model whose weights the run holds: by default, the one it chose.

        Raises
        ------
        EvenhandError
            It holds none, as an audit of other runs does, or none of that name.
        """
        held = [one for one in self.facts["models"] if (self.model(one) / "model.json").is_file()]
        if not held:
            raise EvenhandError(f"the run in {self.root} holds no model; name one that does.")
        found: str = name or self.facts["chosen"]
        pick("model", found, dict.fromkeys(held))
        return found

    def predictions(self, name: str) -> Path:
        """Return the path of one model's predictions."""
        return self.model(name) / "predictions.parquet"

    def finish(self, *, chosen: str | None = None) -> None:
        """Mark the job as done, with the model that it recommends."""
        self.note(status="finished", chosen=chosen)


def start_run(
    root: Path,
    job: str,
    settings: Mapping[str, Any],
    *,
    fingerprint: str,
    reads: Iterable[Path] = (),
    overwrite: bool = False,
) -> Run:
    """Open a directory for a job: a new one, or the one of the same job that was killed.

    Parameters
    ----------
    root
        The directory. It may be absent, empty, or hold an unfinished run of the same job.
    job
        The command's name.
    settings
        The job's settings as JSON values; ``seed`` is among them.
    fingerprint
        Fingerprint of the data that the job reads.
    reads
        The files, folders and runs that the job reads; what is not there is passed over.
    overwrite
        Whether a finished or different run in that directory may be replaced.

    Raises
    ------
    EvenhandError
        The directory holds something else: another job, other settings, other data, a finished
        run, or files that are no run at all. Or what the job reads lies in it.
    """
    run = Run(root)
    _refuse_own_folder(root, reads)
    if (root / "run.json").exists():
        if not overwrite:
            _check_same(run, job, settings, fingerprint)
            return run
        _clear(root)
    elif root.exists() and any(root.iterdir()):
        raise EvenhandError(
            f"{root} is not empty and holds no run. Name another folder with --out, or empty it."
        )
    facts = {
        "schema": SCHEMA,
        "job": job,
        "status": "running",
        "settings": dict(settings),
        "seed": settings["seed"],
        "chosen": None,
        "models": [],
        "fingerprint": fingerprint,
        "versions": package_versions(),
        "seconds": {},
    }
    write_json(root / "run.json", facts)
    return run


def open_run(root: Path | str) -> Run:
    """Return the run in a directory.

    Raises
    ------
    EvenhandError
        There is no run in it, or it was written by a later version.
    """
    root = Path(root)
    if not (root / "run.json").is_file():
        raise EvenhandError(f"{root} is no run directory: it has no run.json.")
    run = Run(root)
    if run.facts["schema"] > SCHEMA:
        raise EvenhandError(
            f"{root}/run.json has schema {run.facts['schema']}; this version of Evenhand reads up "
            f"to {SCHEMA}. Install a newer one."
        )
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


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers depend on."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # run from a source tree
            continue
    return versions


def _check_same(run: Run, job: str, settings: Mapping[str, Any], fingerprint: str) -> None:
    facts = run.facts
    if facts["job"] != job:
        raise EvenhandError(
            f"{run.root} holds a run of {facts['job']!r}, not of {job!r}. Name another folder "
            "with --out, or replace it with --overwrite."
        )
    if run.finished:
        raise EvenhandError(
            f"{run.root} holds a finished run. Name another folder with --out, or replace it "
            "with --overwrite."
        )
    changed = sorted(
        name
        for name in {*facts["settings"], *settings}
        if facts["settings"].get(name) != settings.get(name)
    )
    if changed:
        what = "; ".join(
            f"{name} was {facts['settings'].get(name)!r}, is {settings.get(name)!r}"
            for name in changed
        )
        raise EvenhandError(
            f"{run.root} holds an unfinished run with other settings ({what}). Give the same "
            "settings to continue it, another --out, or --overwrite."
        )
    if facts["fingerprint"] != fingerprint:
        raise EvenhandError(
            f"the data have changed since the unfinished run in {run.root} began. Name another "
            "folder with --out, or start again with --overwrite."
        )


def _refuse_own_folder(root: Path, reads: Iterable[Path]) -> None:
    """Refuse a directory that holds what its run reads: replacing the run would remove it."""
    for path in reads:
        here = path != Path() and path.exists()  # data that are made from a seed have no path
        if here and path.resolve().is_relative_to(root.resolve()):
            raise EvenhandError(
                f"{path} is read by this run, and cannot be or lie in the run's own folder, "
                f"{root}. Name another folder with --out."
            )


def _clear(root: Path) -> None:
    """Empty a run directory; ``run.json``, which marks it as one, goes last."""
    for path in sorted(root.iterdir(), key=lambda path: path.name == "run.json"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
