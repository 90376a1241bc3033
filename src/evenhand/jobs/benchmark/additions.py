"""Add entries to a benchmark whose plan is locked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evenhand.errors import EvenhandError
from evenhand.experiments.runs import open_run
from evenhand.jobs.benchmark.entries import SSL
from evenhand.jobs.benchmark.settings import ENTRIES, BenchmarkSettings
from evenhand.run_files import RECORD


@dataclass(frozen=True)
class Addition:
    """The settings of a run before and after entries are added.

    Attributes
    ----------
    before
        The present settings of the run.
    after
        The same settings with the new entries.
    """

    before: BenchmarkSettings
    after: BenchmarkSettings


def find_addition(settings: BenchmarkSettings, out: Path) -> Addition:
    """Return the settings of a run before and after ``--add``.

    Raises
    ------
    EvenhandError
        If the folder holds no benchmark, one with another recipe, or one with all these entries.
    """
    present = _settings_in(out)
    if present is None:
        raise EvenhandError(
            f"--add: {out} holds no benchmark. Name the folder of one with --out, or leave --add "
            "out."
        )
    may_change = ENTRIES if _has_pretraining(present) else (*ENTRIES, "pretrain_epochs")
    before = settings.model_copy(update={name: getattr(present, name) for name in may_change})
    old, new = present.recorded(), before.recorded()
    changed = [name for name in new if old.get(name) != new[name]]
    if changed:
        changes = "; ".join(f"{name} was {old.get(name)!r}, is {new[name]!r}" for name in changed)
        raise EvenhandError(
            f"--add: the plan of {out} is locked, and this command changes more than its entries "
            f"({changes}). Give the same recipe, or name another --out."
        )
    union = {
        name: tuple(dict.fromkeys((*getattr(present, name), *getattr(settings, name))))
        for name in ENTRIES
    }
    after = settings.model_copy(update=union)
    if after.recorded() == present.recorded() and open_run(out).finished:
        raise EvenhandError(
            f"--add: {out} has every entry of this command already. Name a new entry."
        )
    return Addition(before, after)


def _has_pretraining(settings: BenchmarkSettings) -> bool:
    return any(start.startswith(SSL) for start in settings.start)


def refuse_other_entries(settings: BenchmarkSettings, out: Path) -> None:
    """Refuse to continue a benchmark with other entries than those of its plan.

    Raises
    ------
    EvenhandError
        If the folder holds a benchmark with other entries.
    """
    present = _settings_in(out)
    if present is None:
        return
    lists = ((getattr(present, name), getattr(settings, name)) for name in ENTRIES)
    changed = sorted({entry for old, new in lists for entry in {*old} ^ {*new}})
    if changed:
        raise EvenhandError(
            f"{out} holds a benchmark whose plan is locked, and this command has other entries "
            f"({', '.join(changed)}). Give --add to add new ones, which are exploratory; or name "
            "another --out, or give --overwrite."
        )


def _settings_in(out: Path) -> BenchmarkSettings | None:
    """Return the settings of the benchmark in a folder; None if there is no benchmark."""
    if not (out / RECORD).is_file():
        return None
    settings = open_run(out).record.settings
    return settings if isinstance(settings, BenchmarkSettings) else None
