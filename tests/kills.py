"""Kill jobs at any moment and give the same command again; run as a script of its own.

A process that has everything imported forks each attempt, so that hundreds of kills take minutes.
It prints one JSON object per kill: when it came, and what was wrong afterwards (nothing, it is
hoped).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.command import PHANTOMS, training

from evenhand.cli import main
from evenhand.files import read_json
from evenhand.run_files import Contents

EXTERNAL = PHANTOMS.replace("seed=1", "seed=2")
ASSESS = ("--cell", "frozen3", "--seeds", 1, "--pretrain-epochs", 1, "--pretrain-patience", 0)
PRUNE = ("--attribute", "group", "--limit", 20, "--share", 10, "--device", "cpu")
SEARCH = ("--trials", 2, "--confirm", 0, "--baseline", "head")


def words_of(job: str, base: Path, cache: Path, out: Path) -> tuple[object, ...]:
    """Return the command of a small job; ``base`` is a finished run, which it may read."""
    fit = training(cache, "--epochs", 1, "--out", out)
    kept = ("--cache", cache, "--out", out)
    return {
        "check": ("check", PHANTOMS, "--attribute", "group", *kept),
        "audit": ("audit", base, "--out", out),
        "compare": ("compare", base, base.with_name("other"), "--out", out),
        "predict": ("predict", base, EXTERNAL, *kept),
        "similarity": ("similarity", base, base.with_name("other"), *kept),
        "finetune": ("finetune", PHANTOMS, *fit),
        "pretrain": ("pretrain", PHANTOMS, *fit),
        "tune": ("tune", PHANTOMS, *fit, *SEARCH),
        "prune": ("prune", base, *PRUNE, *kept),
        "prune-search": ("prune", base, *PRUNE, "--search", 2, *kept),
        "assess": ("assess", PHANTOMS, *fit, *ASSESS),
    }[job]


JOBS = (
    *("check", "audit", "compare", "predict", "similarity", "finetune", "pretrain"),
    *("tune", "prune", "prune-search", "assess"),
)
COPIES = {"audit", "compare", "predict"}
"""Jobs whose predictions are no work of their own: they are written again."""


class Counter:
    """Counts what makes a file last, and kills this process at one of these calls."""

    def __init__(self, fatal: int, *, after: bool) -> None:
        self.count, self._fatal, self._after = 0, fatal, after

    def watch(self) -> None:
        """Watch the calls of this process from now on."""
        for name in ("fsync", "replace", "rename"):
            setattr(os, name, self._watched(getattr(os, name)))

    def _watched(self, call: Callable[..., object]) -> Callable[..., object]:
        def watched(*given: object, **more: object) -> object:
            self.count += 1
            fatal = self.count == self._fatal
            if fatal and not self._after:
                os.kill(os.getpid(), signal.SIGKILL)
            value = call(*given, **more)
            if fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return value

        return watched


def attempt(words: tuple[object, ...], log: Path, counter: Counter | None = None) -> int:
    """Start a command in a fork of this process; return the process's id."""
    process = os.fork()
    if process:
        return process
    status = 70
    try:
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        if counter:
            counter.watch()
        sys.argv = ["evenhand", *map(str, words)]
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        if counter:
            log.with_suffix(".count").write_text(str(counter.count))
    finally:
        sys.stdout.flush()
        os._exit(status)


def end(process: int) -> int:
    """Wait for a process, and return its exit status; below 0 is the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def units(out: Path, job: str) -> dict[str, object]:
    """Return the finished units of work of a run, each with what changes when it is repeated."""
    found: dict[str, object] = {}
    if job not in COPIES:
        for path in out.glob("models/*/predictions.parquet"):
            found[str(path)] = (path.stat().st_mtime_ns, path.read_bytes())
        for path in out.glob("encoders/*/model.json"):
            found[str(path)] = path.stat().st_mtime_ns
    words = (
        "SELECT study_id, number, value, datetime_complete FROM trials "
        "LEFT JOIN trial_values USING (trial_id) WHERE state IN ('COMPLETE', 'PRUNED')"
    )
    if (out / "study.db").exists():
        with (
            contextlib.closing(sqlite3.connect(out / "study.db")) as base,
            contextlib.suppress(sqlite3.OperationalError),  # a kill came before its tables
        ):
            found |= {f"trial {row[:2]}": row[2:] for row in base.execute(words)}
    return found


@dataclass(frozen=True)
class Bench:
    """Where kills of a job are tried, and what an undisturbed run of it gives."""

    job: str
    folder: Path
    base: Path
    warm: Path  # a cache that holds the samples

    def words(self, cache: Path) -> tuple[object, ...]:
        return words_of(self.job, self.base, cache, self.folder / "out")

    def reference(self) -> tuple[int, float, dict[str, bytes]]:
        """Return how many calls a whole run makes, how long it takes, and its predictions."""
        start = time.perf_counter()
        log = self.folder / "log"
        status = end(attempt(self.words(self.warm), log, Counter(0, after=False)))
        seconds = time.perf_counter() - start
        assert status in (0, 1), log.read_text()
        count = int(log.with_suffix(".count").read_text())
        predictions = self.predictions()
        shutil.rmtree(self.folder / "out")
        return count, seconds, predictions

    def predictions(self) -> dict[str, bytes]:
        found = (self.folder / "out").glob("models/*/predictions.parquet")
        return {path.parent.name: path.read_bytes() for path in found}

    def kill(
        self, moment: int | float, rng: random.Random, expected: dict[str, bytes]
    ) -> list[str]:
        """Kill the job once, give its command again, and return what is wrong then."""
        out, log = self.folder / "out", self.folder / "log"
        cache = self.warm
        if rng.random() < 0.3 and self.job not in ("audit", "compare"):  # it decodes, too
            cache = self.folder / "cold"
        counter = Counter(moment, after=rng.random() < 0.5) if isinstance(moment, int) else None
        process = attempt(self.words(cache), log, counter)
        if counter is None:
            time.sleep(moment)
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, rng.choice([signal.SIGKILL, signal.SIGTERM]))
        end(process)
        before = units(out, self.job)
        again = end(attempt(self.words(cache), log))
        finished = out.exists() and read_json(out / "run.json")["status"] == "finished"
        wrong = []
        if again not in (0, 1) and not (finished and "holds a finished run" in log.read_text()):
            wrong.append(f"blocked: {log.read_text()[-600:]}")
        else:
            wrong += list(self._compare(before, expected, cache))
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(self.folder / "cold", ignore_errors=True)
        return wrong

    def _compare(
        self, before: dict[str, object], expected: dict[str, bytes], cache: Path
    ) -> Iterator[str]:
        out = self.folder / "out"
        after = units(out, self.job)
        yield from (f"lost: {name}" for name in before.keys() - after.keys())
        yield from (
            f"repeated: {name}" for name, value in before.items() if after.get(name, value) != value
        )
        if self.predictions() != expected:
            yield "other predictions than those of an undisturbed run"
        contents = Contents.of(out)
        yield from (f"left: {path}" for path in (*contents.temporary, *contents.strange))
        left = [*cache.rglob(".*.part"), *cache.rglob(".part-*"), *self.temporary()]
        yield from (f"left: {path}" for path in left)
        if (out / "steps").exists():
            yield "left: steps"

    def temporary(self) -> list[Path]:
        return [*Path(tempfile.gettempdir()).glob("evenhand-*")]


def make_base(folder: Path) -> tuple[Path, Path]:
    """Return a finished run that jobs read, beside another one, and a cache that holds samples."""
    cache = folder / "warm"
    for name, more in (("base", ()), ("other", ("--strategy", "head"))):
        words = (
            "finetune",
            PHANTOMS,
            *training(cache, "--epochs", 1, "--out", folder / name),
            *more,
        )
        assert end(attempt(words, folder / "log")) == 0, (folder / "log").read_text()
    return folder / "base", cache


def run(jobs: list[str], kills: int, seed: int) -> None:
    """Kill each job so many times: at some of its calls, and at random times, by halves."""
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        folder = Path(name)
        (folder / "tmp").mkdir()
        tempfile.tempdir = str(folder / "tmp")
        base, warm = make_base(folder)
        for job in jobs:
            kill_job(Bench(job, folder, base, warm), kills, random.Random(f"{job} {seed}"))


def kill_job(bench: Bench, kills: int, rng: random.Random) -> None:
    """Kill a job so many times, and print what came of each."""
    count, seconds, expected = bench.reference()
    moments: list[int | float] = list(range(1, count + 1))
    rng.shuffle(moments)
    moments = moments[: (kills + 1) // 2]
    moments += [rng.uniform(0, seconds) for _ in range(kills - len(moments))]
    for moment in moments:
        wrong = bench.kill(moment, rng, expected)
        line = {"job": bench.job, "moment": moment, "of": count, "wrong": wrong}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("jobs", choices=JOBS, nargs="+")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    run(**vars(parser.parse_args()))
