"""Kill jobs at any moment and give the same command again; run as a script of its own.

A process that has everything imported forks each attempt, so that hundreds of kills take minutes.
Who is killed, and how, is in `KINDS`.
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
ADJUST = ("--method", "thresholds", "--attribute", "group")
BENCHMARK = (
    *("--folds", 2, "--seeds", 1, "--these-models", "--trials", 2, "--strategy", "head"),
    *("--method", "thresholds", "--method", "dfr", "--pruning", "beta=0.33,limit=20"),
)
SEARCH = ("--trials", 2, "--confirm", 0, "--baseline", "head")


def words_of(job: str, base: Path, cache: Path, out: Path) -> tuple[object, ...]:
    """Return the command of a small job; ``base`` is a finished run, which it may read."""
    fit = training(cache, "--epochs", 1, "--out", out)
    search = ("tune", PHANTOMS, *fit, *SEARCH, "--workers", 2)
    folders = ("--cache", cache, "--out", out)
    return {
        "check": ("check", PHANTOMS, "--attribute", "group", *folders),
        "audit": ("audit", base, "--out", out),
        "compare": ("compare", base, base.with_name("other"), "--out", out),
        "predict": ("predict", base, EXTERNAL, *folders),
        "similarity": ("similarity", base, base.with_name("other"), *folders),
        "finetune": ("finetune", PHANTOMS, *fit),
        "pretrain": ("pretrain", PHANTOMS, *fit),
        "tune": ("tune", PHANTOMS, *fit, *SEARCH),
        "tune-workers": search,
        "tune-ray": (*search, "--engine", "ray"),
        "finetune-beside": ("finetune", PHANTOMS, *fit),  # beside `PARTNER`, with the same cache
        "export": ("export", base, "--format", "safetensors", "--out", out / "model.safetensors"),
        "prune": ("prune", base, *PRUNE, *folders),
        "prune-search": ("prune", base, *PRUNE, "--search", 2, *folders),
        "assess": ("assess", PHANTOMS, *fit, *ASSESS),
        "adjust": ("adjust", base, *ADJUST, "--out", out),
        "benchmark": ("benchmark", PHANTOMS, *fit, *BENCHMARK),
        "benchmark-workers": ("benchmark", PHANTOMS, *fit, *BENCHMARK, "--workers", 2),
    }[job]


JOBS = (
    *("check", "audit", "compare", "predict", "similarity", "finetune", "pretrain"),
    *("tune", "tune-workers", "tune-ray", "prune", "prune-search", "assess"),
    *("finetune-beside", "export", "adjust", "benchmark", "benchmark-workers"),
)
COPIES = {"adjust", "audit", "benchmark", "benchmark-workers", "compare", "predict"}
"""Jobs whose predictions are no work of their own: they are written again."""

DECODES = set(JOBS) - {
    "adjust",
    "audit",
    "compare",
    "export",
    "prune",
    "prune-search",
    "similarity",
}
"""Jobs that are tried with an empty cache, too."""

KINDS = ("kill", "terminate", "scheduler", "child")
"""The process is killed, or ended by SIGTERM; all of its processes are ended by SIGTERM, and killed
soon after, as a scheduler does it; or one of its children is killed: a worker, or Ray's node."""

PARTNER = "pretrain"
GRACE = 0.5  # seconds that a scheduler waits here
GONE = 30.0  # seconds in which the processes of a job that has ended have to end


class Counter:
    """Counts what makes a file last, and kills this process at one of these calls."""

    def __init__(self, fatal: int, *, after: bool) -> None:
        self.count, self._fatal, self._after = 0, fatal, after

    def watch(self) -> None:
        """Watch the calls of this process from now on."""
        for name in ("fsync", "replace", "rename"):
            setattr(os, name, self._watched(getattr(os, name)))

    def _watched(self, call: Callable[..., object]) -> Callable[..., object]:
        def watched(*arguments: object, **more: object) -> object:
            self.count += 1
            fatal = self.count == self._fatal
            if fatal and not self._after:
                os.kill(os.getpid(), signal.SIGKILL)
            value = call(*arguments, **more)
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
        os.setsid()
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


def strike(process: int, kind: str, rng: random.Random) -> None:
    """Kill a job in one of the ways in `KINDS`."""
    with contextlib.suppress(ProcessLookupError):
        if kind == "terminate":
            os.kill(process, signal.SIGTERM)
        elif kind == "scheduler":
            os.killpg(process, signal.SIGTERM)
            time.sleep(GRACE)
            os.killpg(process, signal.SIGKILL)
        else:
            children = session(process) - {process} if kind == "child" else {process}
            os.kill(rng.choice(sorted(children or {process})), signal.SIGKILL)


def session(leader: int) -> set[int]:
    """Return the living processes of the session that a process leads, or has led."""
    members = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, number = path.read_text().rpartition(")")[2].split()[:4]
            if int(number) == leader and state != "Z":
                members.add(int(path.parent.name))
    return members


def outlasting(leader: int) -> set[int]:
    """Return the processes of a session that do not end in time, and kill them."""
    until = time.monotonic() + GONE
    while (left := session(leader)) and time.monotonic() < until:
        time.sleep(0.1)
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return left


def units(out: Path, job: str) -> dict[str, object]:
    """Return the finished units of work of a run, each with what changes when it is repeated."""
    result: dict[str, object] = {}
    if job not in COPIES:
        for path in out.glob("models/*/predictions.parquet"):
            result[str(path)] = (path.stat().st_mtime_ns, path.read_bytes())
        for path in out.glob("encoders/*/model.json"):
            result[str(path)] = path.stat().st_mtime_ns
    for path in out.glob("fits/*/*/predictions.parquet"):
        result[str(path)] = (path.stat().st_mtime_ns, path.read_bytes())
    words = (
        "SELECT study_id, number, value, datetime_complete FROM trials "
        "LEFT JOIN trial_values USING (trial_id) WHERE state IN ('COMPLETE', 'PRUNED')"
    )
    if (out / "study.db").exists():
        with (
            contextlib.closing(sqlite3.connect(out / "study.db")) as base,
            contextlib.suppress(sqlite3.OperationalError),  # a kill came before its tables
        ):
            result |= {f"trial {row[:2]}": row[2:] for row in base.execute(words)}
    return result


@dataclass(frozen=True)
class Bench:
    """Where kills of a job are tried, and what an undisturbed run of it gives."""

    job: str
    folder: Path
    base: Path
    warm: Path  # a cache that holds the samples

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def words(self, cache: Path) -> tuple[object, ...]:
        return words_of(self.job, self.base, cache, self.out)

    def reference(self) -> tuple[int, float, dict[str, bytes]]:
        """Return how many calls a whole run makes, how long it takes, and its predictions."""
        start = time.perf_counter()
        status = end(attempt(self.words(self.warm), self.log, Counter(0, after=False)))
        seconds = time.perf_counter() - start
        assert status in (0, 1), self.log.read_text()
        count = int(self.log.with_suffix(".count").read_text())
        predictions = self.predictions()
        shutil.rmtree(self.out)
        return count, seconds, predictions

    def predictions(self) -> dict[str, bytes]:
        result = self.out.glob("models/*/predictions.parquet")
        return {path.parent.name: path.read_bytes() for path in result}

    def kill(
        self, moment: int | float, rng: random.Random, expected: dict[str, bytes]
    ) -> tuple[str, list[str]]:
        """Kill the job once, give its command again; return how, and what is wrong then."""
        cache = self.warm
        if self.job == "finetune-beside" or (rng.random() < 0.3 and self.job in DECODES):
            cache = self.folder / "cold"
        with self._partner(cache) as wrong:
            kind, leaders = self._killed(moment, rng, cache)
            before = units(self.out, self.job)
            leaders.append(attempt(self.words(cache), self.log))
            again = end(leaders[-1])
            if again not in (0, 1) and not self._is_finished():
                wrong.append(f"blocked: {self.log.read_text()[-600:]}")
            else:
                wrong += self._compare(before, expected, cache)
        wrong += [f"left: process {left}" for leader in leaders for left in outlasting(leader)]
        for folder in (self.out, self.folder / "cold", self.folder / "partner"):
            shutil.rmtree(folder, ignore_errors=True)
        return kind, wrong

    def _killed(
        self, moment: int | float, rng: random.Random, cache: Path
    ) -> tuple[str, list[int]]:
        """Start the job and kill it; return how, and the process."""
        counter = Counter(moment, after=rng.random() < 0.5) if isinstance(moment, int) else None
        process = attempt(self.words(cache), self.log, counter)
        kind = "call" if counter else rng.choice(KINDS if "-" in self.job else KINDS[:3])
        if counter is None:
            time.sleep(moment)
            strike(process, kind, rng)
        end(process)
        return kind, [process]

    @contextlib.contextmanager
    def _partner(self, cache: Path) -> Iterator[list[str]]:
        """Have another job work with the same cache during the block, which must not suffer."""
        wrong: list[str] = []
        if self.job != "finetune-beside":
            yield wrong
            return
        log, out = self.folder / "partner.log", self.folder / "partner"
        process = attempt(words_of(PARTNER, self.base, cache, out), log)
        yield wrong
        if end(process):
            wrong.append(f"the other job: {log.read_text()[-600:]}")

    def _is_finished(self) -> bool:
        text = self.log.read_text()
        if self.job == "export":
            files = (self.out / "model.safetensors", self.out / "model.md")
            return "already there" in text and all(file.is_file() for file in files)
        is_run = (self.out / "run.json").exists()
        status = read_json(self.out / "run.json")["status"] if is_run else None
        return status == "finished" and "holds a finished run" in text

    def _compare(
        self, before: dict[str, object], expected: dict[str, bytes], cache: Path
    ) -> Iterator[str]:
        after = units(self.out, self.job)
        yield from (f"lost: {name}" for name in before.keys() - after.keys())
        yield from (
            f"repeated: {name}" for name, value in before.items() if after.get(name, value) != value
        )
        if self.predictions() != expected:
            yield "other predictions than those of an undisturbed run"
        contents = Contents.of(self.out)
        strange = () if self.job == "export" else contents.strange
        yield from (f"left: {path}" for path in (*contents.temporary, *strange))
        left = [
            *self.out.rglob(".*.part"),
            *cache.rglob(".*.part"),
            *cache.rglob(".part-*"),
            *self.temporary(),
        ]
        yield from (f"left: {path}" for path in left)
        if (self.out / "steps").exists():
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
        os.environ["RAY_TMPDIR"] = str(folder / "ray")
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
        kind, wrong = bench.kill(moment, rng, expected)
        line = {"job": bench.job, "kind": kind, "moment": moment, "of": count, "wrong": wrong}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("jobs", choices=JOBS, nargs="+")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    run(**vars(parser.parse_args()))
