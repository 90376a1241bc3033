"""Compare the wall time of a search for a fair mask by `evenhand tune` with the plain way.

The plain way is that of the field's public code: a flat space of bits, every trial trained to its
end, each JPEG decoded in every epoch, forward and backward through every layer, and the objective
as the mean over validation batches. Ours is the job itself: staged space, known masks first,
successive halving, samples from the store, cached activations of frozen layers. Both have the same
pre-trained network, cohort, epochs, number of trials and range of learning rates. The store is
built beforehand, and its time is in the detail; activations are computed within our time.

Both choices are then evaluated alike: the objective of the best trial's network on all validation
rows at once, without a cache. The test split is never read. The detail of each pair has our time by
parts of a fit. One line has the time of a head-only and a last-block trial relative to a full one,
with cached activations; one has the peak of memory against the budget.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import optuna
import torch

from evenhand.cohort.store.batches import BatchSource
from evenhand.experiments.task import Task, prepare_task, train_model
from evenhand.jobs.tune.job import tune
from evenhand.jobs.tune.settings import TuneSettings
from evenhand.masks.masks import find_units
from evenhand.masks.strategies import find_strategy
from evenhand.masks.units import find_family, is_transformer
from evenhand.networks.model import Model, load_model, save_model
from evenhand.training import loop
from evenhand.training.device import make_accelerator
from evenhand.training.frozen_prefix import ActivationFiles
from evenhand.training.predict import class_probabilities
from evenhand.training.steps import Steps
from trial import arguments as trial_arguments
from trial import loader, plain_epoch, plain_validation
from trial import settings as data_flags

MARGIN = -0.01  # of the paired difference in the true validation objective
GOALS = {"speed": 5.0, "head": 0.05, "last-1": 0.20}
RATES = (1e-4, 3e-3)
TIMED_PARTS = {
    "activations of frozen layers": (ActivationFiles, "make"),
    "forward and backward": (Steps, "take"),
    "validation": (loop, "class_probabilities"),
}
PHASES = ("search fairtune", "chosen fits")  # the plain way has its network from the search


def main() -> None:
    args = arguments().parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        base = settings(args, Path(folder))
        prepared = time.perf_counter() - start
        pairs = [pair(base, Path(folder), seed) for seed in range(args.seeds)]
        report(pairs, {"prepared_in_seconds": prepared, **about(base)})
        shares(base)


def arguments() -> argparse.ArgumentParser:
    parser = trial_arguments()
    parser.description = __doc__
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--pretrain-epochs", type=int, default=6)
    parser.add_argument("--prefix-memory", type=int, default=200)
    parser.set_defaults(backbone="test_vit", epochs=8)
    return parser


def settings(arguments: argparse.Namespace, folder: Path) -> TuneSettings:
    """Prepare the store and a pre-trained network, and return the settings of both ways."""
    expected = data_flags(arguments, folder).model_dump()
    expected |= {
        "space": "staged",
        "trials": arguments.trials,
        "confirm": 0,
        "baseline": (),
        "lr_min": RATES[0],
        "lr_max": RATES[1],
        "prefix_memory": arguments.prefix_memory,
    }
    base = TuneSettings.model_validate(expected)
    early = base.model_copy(
        update={
            "epochs": arguments.pretrain_epochs,
            "prefix_memory": 0,
            "seed": 99,
            "target": ("auc",),
        }
    )
    task = prepare_task(early)
    full = find_strategy("full")(task.model(), 99)
    model = train_model(task, *full, task.fit_settings(1e-3)).model
    save_model(folder / "pretrained", model)
    return base.model_copy(update={"weights": str(folder / "pretrained" / "model.safetensors")})


def about(base: TuneSettings) -> dict[str, Any]:
    task = prepare_task(base)
    return {
        "backbone": base.backbone,
        "image_size": base.image_size,
        "epochs": base.epochs,
        "trials": base.trials,
        "train_images": len(task.splits.train),
        "val_images": len(task.splits.val),
        "objective": base.target[0],
        "threads": torch.get_num_threads(),
        "data": task.splits.train.source.reader,
    }


def pair(base: TuneSettings, folder: Path, seed: int) -> dict[str, Any]:
    """Search both ways with one seed."""
    both = base.model_copy(update={"seed": seed})
    task = prepare_task(both.model_copy(update={"prefix_memory": 0}))
    result: dict[str, Any] = {"seed": seed}
    with peak_memory() as peak:
        start, used = time.perf_counter(), time.process_time()
        model = plain_search(task, both, seed)
        result["plain_seconds"] = time.perf_counter() - start
        result["plain_cpu_seconds"] = time.process_time() - used
    result["plain_peak_mb"] = peak()
    result["plain_value"] = value(task, model)
    used = time.process_time()
    with peak_memory() as peak, shares_of_time() as spent:
        run = tune(both.model_copy(update={"cache": folder / f"cache{seed}"}), folder / str(seed))
    result["ours_peak_mb"] = peak()
    result["ours_cpu_seconds"] = time.process_time() - used  # with everything that the job does
    result["phases"] = run.record.seconds
    result["ours_seconds"] = sum(result["phases"][name] for name in PHASES)
    result["ours_shares"] = spent(result["ours_seconds"])
    result["ours_value"] = value(task, load_model(run.folder("fairtune")))
    return result


def plain_search(task: Task, both: TuneSettings, seed: int) -> Model:
    """Return the network of the best trial by the mean over validation batches."""
    backbone = task.model().backbone
    family = find_family(backbone, "norm-attn-mlp" if is_transformer(backbone) else "conv-norm")
    best: dict[str, Any] = {"score": -np.inf, "model": None}
    loaders = [loader(task, split) for split in ("train", "val")]

    def objective(trial: optuna.Trial) -> float:
        mask = [unit.name for unit in family.units if trial.suggest_int(unit.name, 0, 1)]
        lr = trial.suggest_float("lr", *RATES, log=True)
        model = task.model()
        units = find_units(model.backbone, frozenset(mask))
        tuned = [*model.head.parameters(), *(p for unit in units for p in unit.parameters)]
        optimizer = torch.optim.AdamW(tuned, lr=lr, fused=True)
        for _ in range(both.epochs):
            plain_epoch(task, model, optimizer, loaders[0])
            score = plain_validation(model, loaders[1])
        if score > best["score"]:
            best.update(score=score, model=model)
        return score

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective, n_trials=both.trials)
    model: Model = best["model"]
    return model


def value(task: Task, model: Model) -> float:
    """Return the objective of a network on all validation rows at once."""
    accelerator = make_accelerator(task.settings)
    source = BatchSource(task.splits.val, accelerator.device)
    return task.values(class_probabilities(model.to(accelerator.device), source, accelerator))[0]


def report(pairs: list[dict[str, Any]], detail: dict[str, Any]) -> None:
    ratios = [pair["plain_seconds"] / pair["ours_seconds"] for pair in pairs]
    gains = [pair["ours_value"] - pair["plain_value"] for pair in pairs]
    cpu_ratios = sorted(pair["plain_cpu_seconds"] / pair["ours_cpu_seconds"] for pair in pairs)
    detail |= {"ratios": sorted(ratios), "ratios_of_cpu_time": cpu_ratios, "pairs": pairs}
    report_claim("search_speed", statistics.median(ratios), "higher", GOALS["speed"], detail)
    spread = statistics.stdev(gains) if len(gains) > 1 else None
    report_claim("search_objective_difference", statistics.mean(gains), "higher", MARGIN,
        {"differences": gains, "standard_deviation": spread, "seeds": len(gains)})  # fmt: skip


def shares(base: TuneSettings) -> None:
    """Time trials of three strategies in turn; the first of each fills the cache."""
    with tempfile.TemporaryDirectory() as folder:
        task = prepare_task(base.model_copy(update={"cache": Path(folder)}))
        assert task.activations is not None
        with peak_memory() as peak:
            names = ("full", "head", "last-1")
            rounds = [{name: fit_seconds(task, name) for name in names} for _ in range(8)][1:]
        for name in ("head", "last-1"):
            result = [item[name] / item["full"] for item in rounds]
            detail = {
                "shares": sorted(result),
                "seconds": [(item[name], item["full"]) for item in rounds],
            }
            report_claim(
                f"search_{name}_share", statistics.median(result), "lower", GOALS[name], detail
            )
        detail = {"peak_growth_mb": peak(), "budget_mb": base.prefix_memory}
        report_claim("search_memory", peak() / base.prefix_memory, "lower", None, detail)


def fit_seconds(task: Task, name: str) -> float:
    start = time.perf_counter()
    train_model(task, *find_strategy(name)(task.model(), 0), task.fit_settings(RATES[0]))
    return time.perf_counter() - start


@contextmanager
def shares_of_time() -> Iterator[Callable[[float], dict[str, float]]]:
    """Time the parts of fits; yield a function from total seconds to the share of each part."""
    spent = dict.fromkeys(TIMED_PARTS, 0.0)

    def timed(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return real(*arguments, **named)
            finally:
                spent[name] += time.perf_counter() - start

        return call

    with ExitStack() as stack:
        for name, (owner, part) in TIMED_PARTS.items():
            stack.enter_context(patch.object(owner, part, timed(name, getattr(owner, part))))
        yield lambda seconds: {
            **{name: round(value / seconds, 3) for name, value in spent.items()},
            "models, Optuna and the rest": round(1 - sum(spent.values()) / seconds, 3),
        }


@contextmanager
def peak_memory() -> Iterator[Callable[[], float]]:
    """Sample the process's own memory, without mapped files; yield a function of its growth."""
    begin, peak, done = anonymous(), [0.0], threading.Event()

    def sample() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], anonymous() - begin)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield lambda: round(peak[0], 1)
    finally:
        done.set()
        thread.join()


def anonymous() -> float:
    """Return the megabytes of memory that belong to no file (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def report_claim(
    name: str, ratio: float, better: str, goal: float | None, detail: dict[str, Any]
) -> None:
    line = {"name": name, "ratio": round(ratio, 4), "better": better, "goal": goal}
    print(json.dumps({**line, "detail": detail}), flush=True)


if __name__ == "__main__":
    main()
