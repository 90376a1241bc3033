"""Compare a search by two workers with one by one worker, and measure the start of workers.

`start` prints the CPU seconds until two workers have imported what a fit needs, with the process
that they are forked from; the rest is wall time, for idle machines. Both searches draw their own
trials, and no trial is stopped early, so that both train the same number of epochs: every unit of
the network is tuned in each trial, and only the learning rate is searched. The time that the two
processes take to start and to open the data counts. The process that they are forked from starts
with the command, before the data are prepared.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import tempfile
import time
from functools import partial
from pathlib import Path

import psutil

from evenhand.experiments.runs import begin_run
from evenhand.experiments.study_storage import open_storage
from evenhand.experiments.task_cache import FitContext, cached_task
from evenhand.experiments.trials import search
from evenhand.jobs.tune.contenders import allowed_methods, contenders
from evenhand.jobs.tune.fitting import score_choice
from evenhand.jobs.tune.settings import TuneSettings
from evenhand.runs import run_scope
from evenhand.search.study import open_study
from evenhand.workers import Job, WorkerSettings, expect_workers, open_engine

TRIALS = 6
GOAL = 1.6
MODULE = "evenhand.jobs.tune.job"
TWO = WorkerSettings(workers=2, worker_cpus=1)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("part", nargs="?", default="search", choices=["search", "start"])
    expect_workers(TWO, MODULE)
    if arguments.parse_args().part == "start":
        start()
    else:
        compare()


def start() -> None:
    with open_engine(TWO) as engine:
        times = [value for _, value in engine.run([Job(name, spent) for name in "ab"])]
    forked_from = {parent: seconds for _, parent, seconds in times if parent != os.getpid()}
    seconds = {"workers": [own for own, *_ in times], "forked_from": [*forked_from.values()]}
    total = round(sum(map(sum, seconds.values())), 2)
    result = {"name": "start_of_two_workers_cpu_seconds", "ratio": total, "better": "lower"}
    print(json.dumps({**result, "goal": None, "detail": seconds}))


def spent() -> tuple[float, int, float]:
    """Return CPU seconds of this worker with its imports, its parent's id and CPU seconds."""
    importlib.import_module(MODULE)
    times = psutil.Process(os.getppid()).cpu_times()
    return round(time.process_time(), 2), os.getppid(), round(times.user + times.system, 2)


def compare() -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = search_settings(Path(folder))
        cached_task(settings)  # decodes the samples, once for both
        seconds = {workers: timed(settings, Path(folder), workers) for workers in (2, 1)}
    detail = {
        "seconds": {workers: round(taken, 1) for workers, taken in seconds.items()},
        "trials": TRIALS,
        "epochs": settings.epochs,
        "backbone": settings.backbone,
        "cpus": os.cpu_count(),
    }
    ratio = round(seconds[1] / seconds[2], 2)
    result = {"name": "two_workers", "ratio": ratio, "better": "higher", "goal": GOAL}
    print(json.dumps({**result, "detail": detail}))


def search_settings(folder: Path) -> TuneSettings:
    return TuneSettings(
        data="phantom:patients=600,seed=1",
        attribute=("group",),
        backbone="test_vit",
        weights="none",
        image_size=64,
        epochs=8,
        baseline=("full",),
        device="cpu",
        cache=folder / "cache",
    )


def timed(settings: TuneSettings, folder: Path, workers: int) -> float:
    task = cached_task(settings)
    _, full = contenders(task, settings, allowed_methods(task, settings))
    study = open_study(
        open_storage(f"sqlite:///{folder / f'{workers}.db'}"),
        "benchmark/full",
        [target.direction for target in task.targets],
        "same",
        prune_until=0,
    )
    with run_scope():
        run = begin_run(folder / str(workers), "tune", settings, fingerprint=task.fingerprint)
    score = partial(score_choice, FitContext(settings, task.fingerprint, run), "full")
    start = time.perf_counter()
    with open_engine(WorkerSettings(workers=workers, worker_cpus=1)) as engine:
        search(study, full.space, score, TRIALS, 0, engine)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
