"""Compare encoders of series on PhysioNet 2012: AUC, AUPRC and challenge score in five folds.

Patients are divided into folds, stratified by death, sex and age; a fifth of the training patients
is for validation, which chooses the epoch and the threshold. Each recipe is trained once in each
fold. A line is printed for each fit; after a kill, the same command continues with the fits that
are missing in ``--out``. ``--table`` prints the means over the folds, with intervals over the
patients of each fold (resampled, paired between recipes), and the difference from the first recipe.

    python benchmarks/series_encoders.py data/physionet2012 --out runs/encoders
    python benchmarks/series_encoders.py data/physionet2012 --out runs/encoders --table
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.prepare import prepare_cohort
from evenhand.cohort.splits import Splits, assign_folds, fold_splits
from evenhand.experiments.settings import FinetuneSettings
from evenhand.experiments.task import task_from_splits, train_model
from evenhand.masks.strategies import find_strategy
from evenhand.tables.predictions import Predictions, read_predictions, write_predictions
from evenhand.training.device import make_accelerator
from evenhand.training.predict import predict_cohorts

FOLDS, VAL_SHARE, RESAMPLES = 5, 0.2, 1000
ATTRIBUTES = ("sex", "age")
STATIC = ("age", "sex", "height", "icu")
ASSESS = {  # the recipe of `evenhand assess`
    "lr": 1e-3, "batch_size": 128, "patience": 5, "head": "hidden", "class_weights": "balanced",
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """An encoder, its inputs besides the series, and its training settings."""

    backbone: str
    static: tuple[str, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)


GRU = {"lr": 3e-3, "patience": 6}
PATCH = {"lr": 1e-3, "patience": 6}
RECIPES = {
    "conv1d": Recipe("conv1d", more=ASSESS),
    "conv1d, static": Recipe("conv1d", STATIC, ASSESS),
    "gru": Recipe("gru", more=GRU),
    "gru, height and icu": Recipe("gru", ("height", "icu"), GRU),
    "gru, static": Recipe("gru", STATIC, GRU),
    "gru, static, swad": Recipe("gru", STATIC, {**GRU, "method": "swad"}),
    "patch_transformer": Recipe("patch_transformer", more=PATCH),
    "patch_transformer, static": Recipe("patch_transformer", STATIC, PATCH),
    "trees": Recipe("trees"),
    "trees, static": Recipe("trees", STATIC),
}


def main() -> None:
    args = arguments().parse_args()
    torch.set_num_threads(1)
    if args.table:
        print(table(args.out, args.recipe))
        return
    for name in args.recipe:
        for fold in range(FOLDS):
            file = file_of(args.out, name, fold, args.seed)
            if not file.exists():
                print(json.dumps(fit(args, name, fold, file)), flush=True)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of PhysioNet 2012")
    parser.add_argument("--out", type=Path, required=True, help="folder of predictions")
    parser.add_argument("--recipe", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument(
        "--seed", type=int, default=0, help="of the fits; folds are always the same"
    )
    parser.add_argument("--table", action="store_true")
    return parser


def file_of(out: Path, name: str, fold: int, seed: int) -> Path:
    """Return the path of the predictions of a fit."""
    return out / f"{name.replace(', ', '-').replace(' ', '_')}-fold{fold}-seed{seed}.parquet"


def settings_of(arguments: argparse.Namespace, recipe: Recipe) -> FinetuneSettings:
    values = {
        "data": f"physionet2012:{arguments.data}",
        "attribute": ATTRIBUTES,
        "static": recipe.static,
        "cache": arguments.cache,
        "backbone": "conv1d" if recipe.backbone == "trees" else recipe.backbone,
        "weights": "none",
        "target": ("auc",),
        "epochs": arguments.epochs,
        "device": "cpu",
    }
    return FinetuneSettings.model_validate(values | recipe.more)


def splits_of(cohort: Cohort, fold: int) -> Splits:
    """Return the splits of a fold, which are the same for every recipe and seed."""
    place = assign_folds(cohort, FOLDS, ATTRIBUTES, np.random.default_rng(0))
    rng = np.random.default_rng([0, fold])
    return fold_splits(cohort, place == fold, VAL_SHARE, ATTRIBUTES, rng)


def fit(arguments: argparse.Namespace, name: str, fold: int, file: Path) -> dict[str, Any]:
    """Train a recipe in a fold, save its predictions, and return their numbers."""
    recipe = RECIPES[name]
    settings = settings_of(arguments, recipe)
    cohort = prepare_cohort(settings, None, np.random.default_rng(0))
    splits = splits_of(cohort, fold)
    start, cpu = time.perf_counter(), time.process_time()
    make = fit_trees if recipe.backbone == "trees" else fit_encoder
    predictions = make(settings, splits, arguments.seed)
    spent = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_predictions(file, predictions)
    val, test = rows(predictions, "val"), rows(predictions, "test")
    worth = {metric: float(value(*test)) for metric, value in METRICS.items()}
    worth["challenge"] = challenge_score(*test, best_threshold(*val))
    about = {"recipe": name, "fold": fold, "seed": arguments.seed, "n": len(test[0])}
    numbers = {"deaths": int(test[0].sum()), **worth, **spent}
    return about | {key: round(number, 4) for key, number in numbers.items()}


def fit_encoder(settings: FinetuneSettings, splits: Splits, seed: int) -> Predictions:
    task = task_from_splits(settings, splits)
    model, schedule = find_strategy("full")(task.model(seed), seed)
    trained = train_model(task, model, schedule, task.fit_settings(settings.lr, seed))
    parts = [(name, part) for name, part in splits.items() if name != "train"]
    return predict_cohorts(trained.model, parts, make_accelerator(settings))


def fit_trees(settings: FinetuneSettings, splits: Splits, seed: int) -> Predictions:
    """Fit boosted trees on mean, extremes, spread, first, last value and count of each channel."""
    trees = HistGradientBoostingClassifier(
        max_iter=200, learning_rate=0.04, l2_regularization=5, max_leaf_nodes=10,
        min_samples_leaf=30, max_features=0.2, random_state=seed,
    )  # fmt: skip
    trees.fit(summaries(splits.train), splits.train.labels)
    tables = []
    for name, part in splits.items():
        if name != "train":
            score = trees.predict_proba(summaries(part))[:, 1]
            tables.append(part.table.assign(split=name, score=score))
    return Predictions(pd.concat(tables, ignore_index=True), splits.val.classes, splits.val.levels)


def summaries(cohort: Cohort) -> NDArray[np.float64]:
    """Return the summaries ``(n, 7C)`` of each series."""
    frames = [pd.DataFrame(cohort.read(name)) for name in cohort.table["sample_id"]]
    of_one: list[Callable[[pd.DataFrame], pd.Series]] = [
        lambda frame: frame.mean(), lambda frame: frame.min(), lambda frame: frame.max(),
        lambda frame: frame.std(), lambda frame: frame.count(),
        lambda frame: frame.bfill().iloc[0], lambda frame: frame.ffill().iloc[-1],
    ]  # fmt: skip
    return np.array([np.concatenate([make(frame) for make in of_one]) for frame in frames])


Rows = tuple[NDArray[np.int64], NDArray[np.float64]]
METRICS: dict[str, Callable[..., float]] = {
    "auc": roc_auc_score,
    "auprc": average_precision_score,
}


def rows(predictions: Predictions, split: str) -> Rows:
    """Return labels and scores of a split."""
    part = predictions.table[predictions.table["split"] == split]
    return part["label"].to_numpy(), part["score"].to_numpy()


def best_threshold(labels: NDArray[np.int64], score: NDArray[np.float64]) -> float:
    """Return the threshold with the highest challenge score on these rows."""
    precision, sensitivity, thresholds = precision_recall_curve(labels, score)
    return float(thresholds[np.minimum(precision, sensitivity)[:-1].argmax()])


def challenge_score(
    labels: NDArray[np.int64], score: NDArray[np.float64], threshold: float
) -> float:
    """Return min(sensitivity, precision), event 1 of the challenge (Silva et al. 2012)."""
    flagged = score >= threshold
    hits = float((flagged & (labels == 1)).sum())
    return min(hits / max(1, labels.sum()), hits / max(1, flagged.sum()))


def table(out: Path, names: list[str]) -> str:
    """Return the means over folds with 95 % intervals, as a table."""
    drawn: dict[str, dict[str, NDArray[np.float64]]] = {}
    lines = [
        "| recipe | AUC | AUPRC | challenge score | AUC minus the first |",
        "|---|---|---|---|---|",
    ]
    for name in names:
        files = [sorted(out.glob(file_of(out, name, fold, 0).name)) for fold in range(FOLDS)]
        if not all(files):
            continue
        drawn[name] = resampled([read_predictions(file[0]) for file in files])
        first = next(iter(drawn.values()))["auc"]
        cells = [interval(drawn[name][metric]) for metric in ("auc", "auprc", "challenge")]
        less = "" if len(drawn) == 1 else interval(drawn[name]["auc"] - first, sign=True)
        lines.append(f"| {name} | {' | '.join(cells)} | {less} |")
    return "\n".join(lines)


def resampled(folds: list[Predictions]) -> dict[str, NDArray[np.float64]]:
    """Return the means over folds, of all patients first and then of resampled patients."""
    values = {key: np.zeros(RESAMPLES + 1) for key in (*METRICS, "challenge")}
    for fold, predictions in enumerate(folds):
        labels, score = rows(predictions, "test")
        threshold = best_threshold(*rows(predictions, "val"))
        rng = np.random.default_rng([1, fold])  # the same draws for every recipe
        for draw in range(RESAMPLES + 1):
            place = rng.integers(len(labels), size=len(labels)) if draw else np.arange(len(labels))
            own = labels[place], score[place]
            for key, metric in METRICS.items():
                values[key][draw] += metric(*own) / len(folds)
            values["challenge"][draw] += challenge_score(*own, threshold) / len(folds)
    return values


def interval(values: NDArray[np.float64], *, sign: bool = False) -> str:
    low, high = np.percentile(values[1:], (2.5, 97.5))
    form = "+.3f" if sign else ".3f"
    texts = [f"{number:{form}}".replace("0.", ".") for number in (values[0], low, high)]
    return f"{texts[0]} ({texts[1]} to {texts[2]})"


if __name__ == "__main__":
    main()
