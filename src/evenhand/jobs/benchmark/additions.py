"""Entries that are added to a benchmark whose plan is locked."""

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
    """What a command adds to a run.

    Attributes
    ----------
    before
        The settings of the run as they are now.
    after
        The same with the new entries.
    """

    before: BenchmarkSettings
    after: BenchmarkSettings


def find_addition(settings: BenchmarkSettings, out: Path) -> Addition:
    """Return what ``--add`` adds to a run.

    Raises
    ------
    EvenhandError
        The folder holds no benchmark, one with another recipe, or one with all these entries.
    """
    there = _settings_in(out)
    if there is None:
        raise EvenhandError(f"--add: {out} holds no benchmark to which entries could be added.")
    free = ENTRIES if _is_pretrained(there) else (*ENTRIES, "pretrain_epochs")
    before = settings.model_copy(update={name: getattr(there, name) for name in free})
    kept, own = there.recorded(), before.recorded()
    others = [name for name in own if kept.get(name) != own[name]]
    if others:
        what = "; ".join(f"{name} was {kept.get(name)!r}, is {own[name]!r}" for name in others)
        raise EvenhandError(
            f"--add: the plan of {out} is locked, and this command changes more than its entries "
            f"({what}). Give the same recipe, or name another --out."
        )
    union = {
        name: tuple(dict.fromkeys((*getattr(there, name), *getattr(settings, name))))
        for name in ENTRIES
    }
    after = settings.model_copy(update=union)
    if after.recorded() == there.recorded() and open_run(out).finished:
        raise EvenhandError(f"--add: every entry of this command is in {out} already.")
    return Addition(before, after)


def _is_pretrained(settings: BenchmarkSettings) -> bool:
    return any(start.startswith(SSL) for start in settings.start)


def refuse_other_entries(settings: BenchmarkSettings, out: Path) -> None:
    """Refuse to go on with other entries than those of the plan.

    Raises
    ------
    EvenhandError
        The folder holds a benchmark with other entries.
    """
    there = _settings_in(out)
    if there is None:
        return
    lists = ((getattr(there, name), getattr(settings, name)) for name in ENTRIES)
    changed = sorted({entry for old, new in lists for entry in {*old} ^ {*new}})
    if changed:
        raise EvenhandError(
            f"{out} holds a benchmark whose plan is locked, and this command differs in its "
            f"entries ({', '.join(changed)}). --add adds new ones, which are exploratory; else "
            "name another --out, or give --overwrite."
        )


def _settings_in(out: Path) -> BenchmarkSettings | None:
    """Return the settings of the benchmark in a folder; None where there is none."""
    if not (out / RECORD).is_file():
        return None
    settings = open_run(out).record.settings
    return settings if isinstance(settings, BenchmarkSettings) else None
