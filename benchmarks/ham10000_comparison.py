"""Compare methods on HAM10000 with an ImageNet network by `evenhand benchmark`, saving each fit.

``run`` starts one command of `evenhand benchmark` (its plan is hashed before the first fit). It
writes the scores of every finished fit (an entry in a fold with a seed) on validation and test
lesions to ``benchmarks/results/ham10000_comparison/``. After a kill, the same command continues the
run, from these files if its folder is gone. ``time`` measures one trial of each entry in one fold,
and prints how long all will take; ``collect`` writes the files of finished fits.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from evenhand.experiments.runs import Run
from evenhand.experiments.task import Task, Trained, train_model
from evenhand.files import read_json, write_json, write_text
from evenhand.jobs.benchmark.entries import ERM, Entry, list_entries
from evenhand.jobs.benchmark.fitting import SCORED, Fit, fit_record
from evenhand.jobs.benchmark.folds import Folds, entry_task, fresh_folds, prepared_folds
from evenhand.jobs.benchmark.job import begin_benchmark, benchmark
from evenhand.jobs.benchmark.plan import hash_of, lock_plan, make_plan
from evenhand.jobs.benchmark.pruning import FairPrune, prune_model
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.jobs.benchmark.trials import Trial, run_trials
from evenhand.runs import run_scope
from evenhand.tables.predictions import Predictions, read_predictions, write_predictions
from evenhand.training.predict import scored_table

RESULTS = Path(__file__).parent / "results" / "ham10000_comparison"
LARGEST = 300_000  # bytes of a file
PAUSE = 60  # seconds between two looks for finished fits
ENTRIES = {
    "strategy": ("head", "fairtune", "fairtune:both"),
    "pruning": ("beta=0.33",),
    "method": (
        *("group-balance", "group-dro", "soft-eodds"),
        *("dfr", "thresholds", "recalibrate"),
    ),
}


def settings_of(arguments: argparse.Namespace) -> BenchmarkSettings:
    """Return the settings of the benchmark."""
    return BenchmarkSettings(
        data=f"ham10000:{arguments.data}",
        label="malignant",
        attribute=("age", "sex", "sex*age"),
        backbone="tf_efficientnet_lite0",
        weights=str(arguments.weights),
        image_size=96,
        epochs=3,
        augment="none",
        precision=arguments.precision,
        device=arguments.device,
        prefix_memory=2000,
        target=("auc_worst:age",),
        primary="auc_gap:age",
        decides="chosen",
        folds=5,
        seeds=2,
        trials=6,
        lr_min=1e-4,
        lr_max=1e-2,
        workers=arguments.workers,
        cache=arguments.cache,
        **{
            kind: tuple(name for name in names if name not in arguments.without)
            for kind, names in ENTRIES.items()
        },
    )


def run(arguments: argparse.Namespace) -> None:
    """Run the benchmark, and save every finished fit."""
    settings = settings_of(arguments)
    entries = stored(settings)
    restore(settings, arguments.out, entries)
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(settings, arguments.out, entries, over))
    watch.start()
    try:
        benchmark(settings, arguments.out, notify=lambda text: print(text, flush=True))
    finally:
        over.set()
        watch.join()
    for name in ("benchmark.json", "verdicts.json"):
        write_text(RESULTS / name, (arguments.out / name).read_text())


def stored(settings: BenchmarkSettings) -> list[Entry]:
    """Return the entries that have predictions of their own."""
    return [entry for entry in list_entries(settings) if not entry.moves_decisions]


def _watch(
    settings: BenchmarkSettings, out: Path, entries: Sequence[Entry], over: threading.Event
) -> None:
    while not over.wait(PAUSE):
        collect(settings, out, entries)
    collect(settings, out, entries)


def collect(settings: BenchmarkSettings, out: Path, entries: Sequence[Entry]) -> None:
    """Write the scores of each finished fit; those of ERM after all that start from its model."""
    run = Run(out)
    for fold, seed in places(settings):
        fits = [Fit(entry, fold, seed) for entry in entries]
        finished = [fit for fit in fits if fit.predictions(run).exists()]
        waiting = any(fit.entry.is_derived for fit in fits if fit not in finished)
        for fit in finished:
            if not table_path(fit).exists() and not (fit.entry.name == ERM and waiting):
                _keep(run, fit)


def _keep(run: Run, fit: Fit) -> None:
    table = read_predictions(fit.predictions(run)).table[["split", "sample_id", "score"]]
    text = table.assign(score=[f"{score:.6g}" for score in table["score"]]).to_csv(index=False)
    assert len(text.encode()) <= LARGEST
    path = table_path(fit)
    path.parent.mkdir(parents=True, exist_ok=True)
    if fit.entry.is_candidate:
        write_json(path.with_suffix(".json"), fit_record(run, fit).model_dump())
    write_text(path, text)
    print(f"kept {fit.name}", flush=True)


def restore(settings: BenchmarkSettings, out: Path, entries: Sequence[Entry]) -> None:
    """Begin the run with the fits that an earlier run has saved, and write its plan."""
    with run_scope(), fresh_folds():
        folds = prepared_folds(settings)
        plan = make_plan(settings, list_entries(settings), folds.fingerprint)
        refuse_other_plan(plan.as_json())
        run = begin_benchmark(settings, folds, out)
        lock_plan(run, plan)
        for fold, seed in places(settings):
            for entry in entries:
                _restore(run, folds, Fit(entry, fold, seed))


def refuse_other_plan(plan: dict[str, object]) -> None:
    """Keep the plan beside the results, or see that it is theirs.

    The fingerprint of the patients holds times of files, so that it is not compared.
    """
    path = RESULTS / "plan.json"
    own = {name: value for name, value in plan.items() if name not in ("patients", "recipe")}
    if path.exists() and read_json(path)["plan"] != json.loads(json.dumps(own)):
        raise SystemExit(f"{path} is another plan; move the results away to begin anew.")
    if not path.exists():
        RESULTS.mkdir(parents=True, exist_ok=True)
        write_json(path, {"plan": own, "recipe": plan["recipe"], "hash": hash_of(plan)})


def _restore(run: Run, folds: Folds, fit: Fit) -> None:
    path = table_path(fit)
    if fit.predictions(run).exists() or not path.exists():
        return
    table = pd.read_csv(path, dtype={"sample_id": str}).set_index(["split", "sample_id"])
    splits = dict(folds.splits(fit.fold).items())
    parts = []
    for split in SCORED:
        score = table.loc[split].loc[splits[split].table["sample_id"], "score"].to_numpy()
        parts.append(scored_table(split, splits[split], np.c_[1 - score, score]))
    cohort = folds.cohort
    rows = pd.concat(parts, ignore_index=True)
    if fit.entry.is_candidate:
        write_json(fit.folder(run) / "fit.json", read_json(path.with_suffix(".json")))
    write_predictions(fit.predictions(run), Predictions(rows, cohort.classes, cohort.levels))


def places(settings: BenchmarkSettings) -> Iterator[tuple[int, int]]:
    """Yield every fold with every seed."""
    for number in range(settings.seeds):
        for fold in range(settings.folds):
            yield fold, settings.seed + number


def table_path(fit: Fit) -> Path:
    """Return the path of the scores of a fit."""
    return RESULTS / f"fold{fit.fold + 1}-seed{fit.seed}" / f"{fit.entry.name}.csv"


def measure(arguments: argparse.Namespace) -> None:
    """Time one trial of each entry in one fold, and print how long everything will take."""
    settings = settings_of(arguments)
    alone = settings.model_copy(update={"trials": 1})
    start = time.perf_counter()
    prepared_folds(settings)
    print(json.dumps({"entry": "data", "seconds": round(time.perf_counter() - start, 1)}))
    erm, total = None, 0.0
    fits = settings.folds * settings.seeds
    for entry in stored(settings):
        if entry.needs_features:
            continue
        task = entry_task(alone, Entry(ERM) if entry.is_derived else entry, 0)
        start, cpu = time.perf_counter(), time.process_time()
        if entry.stage == "pruning":
            assert erm is not None
            prune_model(task, erm, FairPrune.of(entry.pruning), 0)
            times = fits
        else:
            trained = one_trial(task, alone, entry)
            erm, times = erm or trained.model, fits * settings.trials
        wall, own = time.perf_counter() - start, time.process_time() - cpu
        total += own * times
        line = {"entry": entry.name, "seconds": round(wall, 1), "cpu_seconds": round(own, 1)}
        print(json.dumps(line | {"hours_in_all": round(own * times / 3600, 2)}), flush=True)
    print(json.dumps({"forecast_cpu_hours": round(total / 3600, 2)}))


def one_trial(task: Task, settings: BenchmarkSettings, entry: Entry) -> Trained:
    """Train the first trial of an entry in a fold."""
    models: list[Trained] = []

    def score(trial: Trial) -> float:
        model, schedule = trial.start()
        fit_settings = task.fit_settings(trial.lr, 0)
        models.append(train_model(task, model, schedule, fit_settings, mitigation=trial.mitigation))
        return models[-1].values[0]

    run_trials(task, settings, entry, 0, score)
    return models[0]


def arguments() -> argparse.ArgumentParser:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", choices=("run", "time", "collect"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data/ham10000"))
    weights = Path("../shared/weights/tf_efficientnet_lite0.safetensors")
    parser.add_argument("--weights", type=Path, default=weights)
    parser.add_argument("--out", type=Path, default=Path("runs/ham10000_comparison"))
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--without", nargs="*", default=[], help="entries to leave out")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    return parser


def main() -> None:
    """Run the command of the arguments."""
    args = arguments().parse_args()
    if args.job == "run":
        run(args)
    elif args.job == "time":
        measure(args)
    else:
        settings = settings_of(args)
        collect(settings, args.out, stored(settings))


if __name__ == "__main__":
    main()
