"""Compare the true target of FairTune's choice with and without early stopping of trials.

A small network is trained once, on few phantoms and for few epochs, so that a new head learns
faster than full fine-tuning but ends lower. For each seed, it is then tuned on phantoms whose
minority has lesions of less contrast, and whose stickers show part of the majority's labels:
FairTune, `full` and `head`, once with `--stopping halving` and once with `--stopping none`. Each of
the three choices (FairTune's of both searches, and `full`'s of the first) is trained with three
fresh seeds and scored on 2,000 other phantoms of the same kind. The true target is the mean of the
AUC of the worse served group over the three.

Every seed has a file of its own in the folder of all runs; after a kill, the same command
continues. The lines have the lower end of the 95 % interval (Student's, over the seeds) of two
paired differences: with stopping minus without, and FairTune with stopping minus `full`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from evenhand.cohort.prepare import prepare_cohort
from evenhand.experiments.runs import Run, open_run
from evenhand.experiments.settings import FinetuneSettings
from evenhand.experiments.task import Task, prepare_task, train_model
from evenhand.files import read_json, write_json
from evenhand.jobs.finetune.job import finetune
from evenhand.jobs.tune.contenders import FAIRTUNE, make_untrained
from evenhand.jobs.tune.job import tune
from evenhand.jobs.tune.settings import TuneSettings
from evenhand.metrics import groups_of
from evenhand.search.spaces import Choice
from evenhand.training.device import make_accelerator
from evenhand.training.predict import predict_cohorts

MARGIN = -0.01  # of the lower ends
CLEAN = "phantom:patients=800,size=32,minority=0.5,harder=0.3,shortcut=0,seed=100"
BIASED = "phantom:patients={patients},size=32,minority=0.3,harder=0.3,shortcut=0.3,seed={seed}"
PATIENTS, EXTRA = 2000, 2000
FRESH = (1001, 1002, 1003)  # seeds of the fits that are judged


@dataclass(frozen=True)
class Choices:
    """A setting that a search chose."""

    study: str
    choice: Choice


def main() -> None:
    args = arguments().parse_args()
    pretrained = pretrain(args.out)
    for seed in range(args.first, args.first + args.seeds):
        path = args.out / f"seed{seed}.json"
        if not path.exists():
            write_json(path, judge(args, pretrained, seed))
    report(args)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=4)
    return parser


def finished(root: Path) -> bool:
    return (root / "run.json").exists() and open_run(root).finished


def pretrain(out: Path) -> Path:
    """Train the network on unbiased phantoms, and return its run."""
    root = out / "pretrained"
    if not finished(root):
        settings = FinetuneSettings(
            data=CLEAN, split=(0.8, 0.1, 0.1), epochs=8, lr=3e-3, seed=1, **common(out)
        )
        finetune(settings, root)
    return root


def common(out: Path) -> dict[str, Any]:
    return {
        "attribute": ("group",),
        "backbone": "test_vit",
        "weights": "none",
        "image_size": 32,
        "batch_size": 32,
        "device": "cpu",
        "cache": out / "cache",
    }


def search_settings(
    arguments: argparse.Namespace, pretrained: Path, seed: int, stopping: str
) -> TuneSettings:
    return TuneSettings(
        data=BIASED.format(patients=PATIENTS, seed=seed),
        split=(0.3, 0.5, 0.2),
        epochs=arguments.epochs,
        trials=arguments.trials,
        confirm=2,
        confirm_seeds=2,
        lr_min=1e-4,
        lr_max=1e-2,
        stopping=stopping,
        seed=seed,
        **common(arguments.out) | {"weights": str(pretrained)},
    )


def judge(arguments: argparse.Namespace, pretrained: Path, seed: int) -> dict[str, Any]:
    """Search with and without stopping with one seed, and return the true target of each choice."""
    runs = {}
    for stopping in ("halving", "none"):
        root = arguments.out / f"seed{seed}-{stopping}"
        settings = search_settings(arguments, pretrained, seed, stopping)
        runs[stopping] = open_run(root) if finished(root) else tune(settings, root)
    task = prepare_task(settings)
    chosen = {
        "halving": chosen_of(runs["halving"], FAIRTUNE),
        "none": chosen_of(runs["none"], FAIRTUNE),
        "full": chosen_of(runs["halving"], "full"),
    }
    targets = {item: true_targets(task, settings, item) for item in {*chosen.values()}}
    return {
        "seed": seed,
        "targets": {name: targets[item] for name, item in chosen.items()},
        "chosen": {
            name: {"study": item.study, "units": len(item.choice.mask), "lr": item.choice.lr}
            for name, item in chosen.items()
        },
        "seconds": {name: run.record.seconds for name, run in runs.items()},
        "epochs": {name: epochs_of(run) for name, run in runs.items()},
    }


def trials_of(run: Run) -> pd.DataFrame:
    return pd.read_csv(run.root / "trials.csv", keep_default_na=False)


def epochs_of(run: Run) -> int:
    """Return the number of epochs that the three searches trained; confirmation does not count."""
    trials = trials_of(run)
    own = trials["study"].isin([FAIRTUNE, "full", "head"]) & (trials["adopted"] == "")
    return int(trials.loc[own & trials["state"].isin(["complete", "pruned"]), "epochs"].sum())


def chosen_of(run: Run, name: str) -> Choices:
    """Return the choice of a search of a run."""
    (study,) = [
        item for item in read_json(run.root / "search.json")["studies"] if item["name"] == name
    ]
    chosen, trials = study["chosen"], trials_of(run)
    (row,) = trials[
        (trials["study"] == chosen["study"]) & (trials["number"] == chosen["trial"])
    ].to_dict("records")
    return Choices(
        chosen["study"], Choice(frozenset(row["mask"].split()), float(row["lr"]), int(row["seed"]))
    )


def true_targets(task: Task, settings: TuneSettings, chosen: Choices) -> list[float]:
    """Return the target of each fresh fit of a choice, on phantoms that no search has seen."""
    (target,) = task.targets
    data = BIASED.format(patients=EXTRA, seed=settings.seed + 10_000)
    other = settings.model_copy(update={"data": data})
    cohort = prepare_cohort(other, settings.images, np.random.default_rng(0))
    accelerator = make_accelerator(settings)
    targets = []
    for seed in FRESH:
        choice = Choice(chosen.choice.mask, chosen.choice.lr, seed)
        start = make_untrained(task, settings, chosen.study, choice)
        model = train_model(task, *start, task.fit_settings(choice.lr, seed)).model
        rows = predict_cohorts(model, [("test", cohort)], accelerator)
        groups = {"group": groups_of(rows.group("group"))}
        targets.append(target.value(rows.labels, rows.scores, groups))
    return targets


def report(arguments: argparse.Namespace) -> None:
    """Print a line for each difference, from the seeds that are finished."""
    paths = [arguments.out / f"seed{arguments.first + k}.json" for k in range(arguments.seeds)]
    seeds = [read_json(path) for path in paths if path.exists()]
    targets = pd.DataFrame(
        [{name: np.mean(values) for name, values in seed["targets"].items()} for seed in seeds]
    )
    epochs = {name: sum(seed["epochs"][name] for seed in seeds) for name in ("halving", "none")}
    detail = {
        "seeds": len(seeds),
        "targets": targets.round(4).to_dict("records"),
        "epochs_trained": epochs,
        "chosen": [seed["chosen"] for seed in seeds],
        "settings": {k: v for k, v in vars(arguments).items() if k != "out"},
    }
    for against in ("none", "full"):
        report_claim(
            f"stopping_less_{against}", (targets["halving"] - targets[against]).tolist(), detail
        )


def report_claim(name: str, differences: Sequence[float], detail: dict[str, Any]) -> None:
    mean, error = np.mean(differences), np.std(differences, ddof=1) / np.sqrt(len(differences))
    half = student.ppf(0.975, len(differences) - 1) * error
    line = {"name": name, "ratio": round(float(mean - half), 4), "better": "higher"}
    result = {"mean": float(mean), "low": float(mean - half), "high": float(mean + half)}
    print(json.dumps({**line, "goal": MARGIN, "detail": {**result, **detail}}), flush=True)


if __name__ == "__main__":
    main()
