"""Compare FairTune with its baselines on HAM10000, for age and for sex, in five pooled folds.

The network is first trained on the seven diagnoses of 30 % of the lesions (HAM10000 identifies
lesions, not patients). The others are divided into folds, stratified by label, age and sex; each
fold is the test set once, the next one is for validation, the other three for training. Every
strategy is trained on each fold and seed at each learning rate. The rate is chosen by the worst
group's AUC on validation, as FairTune chooses mask and rate. Every fit is a run directory; after a
kill, the same command continues and repeats no finished fit.

To pool models whose scores have different scales, a test score becomes its quantile among the
validation scores of the same model; so does the threshold (Youden's, of validation). Intervals
resample lesions, each with its rows of all seeds. The last lines are JSON, one per attribute; the
table is written to ``OUT/table.md``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.errors import EvenhandError
from evenhand.evaluation.rows import groups_in
from evenhand.experiments.runs import Run, open_run
from evenhand.experiments.settings import FinetuneSettings
from evenhand.files import write_text
from evenhand.jobs.finetune.job import finetune
from evenhand.jobs.tune.job import tune
from evenhand.jobs.tune.settings import TuneSettings
from evenhand.masks.strategies import find_strategy
from evenhand.metrics import Bootstrap, Plan, Scored, as_scored, measure, youden
from evenhand.networks.model import read_model_record
from evenhand.progress import bar
from evenhand.tables.predictions import Predictions, read_predictions

ATTRIBUTES = ("age", "sex")
FAIRTUNE = "fairtune"
STRATEGIES = ("full", "head", "bitfit", "layernorm", "lora", "random")
RATES = (2.5e-4, 1e-3, 4e-3)
MALIGNANT = ("akiec", "bcc", "mel")
ACROSS = ("worst", "gap", "detectable", "equalized_odds_difference")
COLUMNS = {
    "overall AUC": ("auc", "*"),
    "worst group's AUC": ("auc_worst", None),
    "gap in AUC": ("auc_gap", None),
    "equalized-odds difference": ("equalized_odds_difference", None),
}

Job = Callable[[Path], object]


@dataclass(frozen=True)
class Fold:
    """One test fold under one seed."""

    number: int
    seed: int
    table: Path

    def root(self, out: Path) -> Path:
        """Return the folder of its runs."""
        return out / f"fold{self.number}-seed{self.seed}"


def main() -> None:
    args = arguments().parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    pretrained = pretrain(args)
    tables = fold_tables(args, pretrained)
    folds = [
        Fold(number, seed, table)
        for seed in range(args.seeds)
        for number, table in enumerate(tables)
    ]
    jobs = [job for fold in folds for job in jobs_of(args, fold)]
    with bar("runs", len(jobs)) as advance:
        for root, job in jobs:
            if not finished(root):
                job(root)
            advance(text=str(root.relative_to(args.out)))
    report(args, folds)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="HAM10000 as published")
    parser.add_argument("--out", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--backbone", default="test_vit")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--pretrain-epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    return parser


# The network, and the folds


def pretrain(arguments: argparse.Namespace) -> Path:
    """Train the network on the diagnoses of 30 % of the lesions."""
    root: Path = arguments.out / "pretrained"
    if not finished(root):
        settings = FinetuneSettings(
            data=f"ham10000:{arguments.data}",
            label="diagnosis",
            attribute=ATTRIBUTES,
            weights="none",
            patient_share=0.3,
            split=(0.8, 0.1, 0.1),
            lr=1e-3,
            **common(arguments) | {"epochs": arguments.pretrain_epochs},
        )
        finetune(settings, root)
    return root


def common(arguments: argparse.Namespace) -> dict[str, object]:
    return {
        "backbone": arguments.backbone,
        "image_size": arguments.image_size,
        "epochs": arguments.epochs,
        "batch_size": arguments.batch_size,
        "augment": "free",
        "device": "cpu",
        "cache": arguments.out / "cache",
    }


def fold_tables(arguments: argparse.Namespace, pretrained: Path) -> list[Path]:
    """Write one table per fold, with the split of each image; the folds are always the same."""
    table = pd.read_csv(arguments.data / "HAM10000_metadata.csv", dtype={"age": "str"})
    seen = pd.read_csv(pretrained / "splits.csv", dtype="str")["patient_id"]
    table = table[~table["lesion_id"].isin(seen)]
    files = {path.stem: path.resolve() for path in arguments.data.rglob("*.jpg")}
    label = np.where(table["dx"].isin(MALIGNANT), "malignant", "benign")
    table = table.assign(file=table["image_id"].map(files), label=label)
    old = pd.to_numeric(table["age"]) >= 60
    patients = table.assign(old=old).groupby("lesion_id").first()
    patients = patients.sample(frac=1, random_state=0)
    order = patients.sort_values(["label", "old", "sex"], kind="stable").index
    fold = pd.Series(np.arange(len(order)) % arguments.folds, index=order)
    place = table["lesion_id"].map(fold)
    paths = []
    for number in range(arguments.folds):
        names = {number: "test", (number + 1) % arguments.folds: "val"}
        split = place.map(lambda assigned, names=names: names.get(assigned, "train"))
        paths.append(arguments.out / f"fold{number}.csv")
        columns = ["file", "lesion_id", "label", "age", "sex"]
        write_text(paths[-1], table[columns].assign(split=split).to_csv(index=False))
    return paths


def of_fold(arguments: argparse.Namespace, fold: Fold) -> dict[str, object]:
    return common(arguments) | {
        "data": str(fold.table),
        "image_column": "file",
        "label": "label",
        "patient": "lesion_id",
        "attribute": ATTRIBUTES,
        "bins": ("age=60",),
        "weights": str(arguments.out / "pretrained"),
        "seed": fold.seed,
    }


# The runs


def jobs_of(arguments: argparse.Namespace, fold: Fold) -> Iterator[tuple[Path, Job]]:
    """Yield the folder and the function of each run of a fold."""
    for attribute in ATTRIBUTES:
        search = TuneSettings(
            target=(f"auc_worst:{attribute}",),
            trials=arguments.trials,
            confirm=0,
            baseline=(),
            lr_min=min(RATES),
            lr_max=max(RATES),
            **of_fold(arguments, fold),
        )
        yield fold.root(arguments.out) / f"{FAIRTUNE}-{attribute}", partial(tune, search)
    for strategy in filter(available, STRATEGIES):
        for lr in RATES:
            finetune_settings = FinetuneSettings(
                strategy=named(strategy, fold),
                target=tuple(f"auc_worst:{attribute}" for attribute in ATTRIBUTES),
                lr=lr,
                **of_fold(arguments, fold),
            )
            yield root_of(arguments, fold, strategy, lr), partial(finetune, finetune_settings)


def root_of(arguments: argparse.Namespace, fold: Fold, strategy: str, lr: float) -> Path:
    return fold.root(arguments.out) / f"{strategy}-{lr:g}"


def named(strategy: str, fold: Fold) -> str:
    """Return the name of a strategy with its seed; each fold and seed draws its own random mask."""
    return f"random:{100 * fold.number + fold.seed}" if strategy == "random" else strategy


def available(strategy: str) -> bool:
    try:
        find_strategy("random:0" if strategy == "random" else strategy)
    except EvenhandError:
        return False
    return True


def finished(root: Path) -> bool:
    return (root / "run.json").exists() and open_run(root).finished


def done(arguments: argparse.Namespace, fold: Fold, strategy: str) -> bool:
    """Return whether a strategy has finished all of its runs on a fold."""
    if strategy == FAIRTUNE:
        return all(finished(fold.root(arguments.out) / f"{FAIRTUNE}-{name}") for name in ATTRIBUTES)
    return all(finished(root_of(arguments, fold, strategy, lr)) for lr in RATES)


# The numbers


def chosen(arguments: argparse.Namespace, fold: Fold, strategy: str, attribute: str) -> Run:
    """Return a strategy's run of a fold: the one with the best objective on validation."""
    if strategy == FAIRTUNE:
        return open_run(fold.root(arguments.out) / f"fairtune-{attribute}")
    runs = [open_run(root_of(arguments, fold, strategy, lr)) for lr in RATES]

    def value(run: Run) -> float:
        about = read_model_record(run.folder(run.record.chosen or ""))
        return float(about.val[f"auc_worst:{attribute}"] or 0)

    return max(runs, key=value)


def quantiles(scores: NDArray[np.float64], val: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the quantiles of scores among the validation scores of the same model, 0 … 1."""
    return np.interp(scores, np.sort(val), np.linspace(0, 1, len(val)))


def pooled(
    arguments: argparse.Namespace, folds: Iterable[Fold], strategy: str, attribute: str
) -> tuple[Scored, Predictions]:
    tables, thresholds = [], []
    for fold in folds:
        run = chosen(arguments, fold, strategy, attribute)
        predictions = read_predictions(run.predictions_file(run.record.chosen))
        val, test = predictions.of_split("val"), predictions.of_split("test")
        cut = youden(val.labels, val.scores)
        thresholds.append(np.full(len(test), quantiles(np.array([cut]), val.scores)[0]))
        tables.append(test.table.assign(score=quantiles(test.scores, val.scores)))
    rows = Predictions(
        pd.concat(tables, ignore_index=True), predictions.classes, predictions.levels
    )
    patients = rows.table["patient_id"].to_numpy()
    threshold = np.concatenate(thresholds)
    return (
        as_scored(rows.labels, rows.scores, patients=patients, threshold=threshold),
        rows,
    )


def report(arguments: argparse.Namespace, folds: list[Fold]) -> None:
    """Print a line of JSON for each attribute, and write the tables, from what is finished."""
    folds = [
        fold for fold in folds if all(done(arguments, fold, name) for name in ("full", FAIRTUNE))
    ]
    names = [
        name
        for name in (*STRATEGIES, FAIRTUNE)
        if folds and all(done(arguments, fold, name) for fold in folds)
    ]
    text = []
    for attribute in ATTRIBUTES if folds else ():
        rows = numbers(arguments, folds, names, attribute)
        text.append(as_markdown(rows, attribute))
        values = rows[(rows["metric"] == "auc_worst") & rows["against"].isna()].set_index("model")
        ratio = values.loc[FAIRTUNE, "value"] / values.loc["full", "value"]
        detail = {
            "folds_and_seeds": [(fold.number, fold.seed) for fold in folds],
            "settings": {k: v for k, v in vars(arguments).items() if k not in ("data", "out")},
            "rows": json.loads(rows.to_json(orient="records")),
        }
        line = {"name": f"fairtune_ham10000_{attribute}", "ratio": round(float(ratio), 4)}
        print(json.dumps(line | {"better": "higher", "goal": 1.0, "detail": detail}))
    write_text(arguments.out / "table.md", "\n\n".join(text) + "\n")


def numbers(
    arguments: argparse.Namespace, folds: list[Fold], names: list[str], attribute: str
) -> pd.DataFrame:
    plan = Plan(metrics=("auc",), across=ACROSS, bootstrap=Bootstrap(replicates=1000))
    full, _ = pooled(arguments, folds, "full", attribute)
    tables = []
    for strategy in names:
        own, rows = pooled(arguments, folds, strategy, attribute)
        groups = groups_in(rows, (attribute,))
        for against in (None, full) if strategy != "full" else (None,):
            result = measure(own, groups, plan, rng=np.random.default_rng(0), against=against)
            name = None if against is None else "full"
            tables.append(result.assign(model=strategy, against=name))
    return pd.concat(tables, ignore_index=True)


def as_markdown(rows: pd.DataFrame, attribute: str) -> str:
    lines = [
        f"| {attribute} | {' | '.join(COLUMNS)} | worst group − full's |",
        f"|---|{'---|' * (len(COLUMNS) + 1)}",
    ]
    for model in rows["model"].unique():
        own = rows[(rows["model"] == model) & rows["against"].isna()]
        cells = [cell(own, metric, group or attribute) for metric, group in COLUMNS.values()]
        paired = rows[(rows["model"] == model) & (rows["against"] == "full")]
        cells.append(cell(paired, "auc_worst", attribute) if len(paired) else "–")
        lines.append(f"| {model} | {' | '.join(cells)} |")
    result = rows[rows["metric"] == "auc_detectable"].groupby("model")["value"].max()
    text = ", ".join(f"{model} {value:.3f}" for model, value in result.items())
    return "\n".join([*lines, "", f"Detectable gap in AUC by {attribute}: {text}."])


def cell(rows: pd.DataFrame, metric: str, attribute: str) -> str:
    values = rows[
        (rows["metric"] == metric) & (rows["attribute"] == attribute) & (rows["group"] == "*")
    ]
    result: Mapping[str, float] = values.iloc[0]
    return f"{result['value']:.3f} ({result['low']:.3f} to {result['high']:.3f})"


if __name__ == "__main__":
    main()
