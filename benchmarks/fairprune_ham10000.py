"""Compare FairPrune on HAM10000 with magnitude pruning and Optimal Brain Damage.

For each seed and label, a ResNet-18 is trained from random weights. For each attribute, the
curvature of both groups is computed once and used for every β and pruned share: the network is
pruned in one step, and as controls by magnitude and by Optimal Brain Damage on all data. Iterated
pruning at β = .33 removes weights, or on request channels, step by step. Thresholds and the choice
among prunings come from validation rows; every pruning is also shown on the test rows, but none is
chosen by them.

Results are in ``--out`` and are not repeated: after a kill, the same command continues, and several
processes share the work by ``--label``, ``--attribute``, ``--kind`` and ``--seeds``. ``--table``
prints the results as tables, with paired intervals for the prunings that validation chooses, and
writes every pruning to ``cells.csv``.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, cast

import pandas as pd
from torch import Tensor

from evenhand.evaluation.rows import metric_rows, paired_rows
from evenhand.experiments.settings import FinetuneSettings
from evenhand.files import read_json, write_json, write_text
from evenhand.jobs.finetune.job import finetune
from evenhand.jobs.prune.loop import initial_state, pruning_steps, step_curvature
from evenhand.jobs.prune.settings import PruneSettings
from evenhand.jobs.prune.task import PruneTask, make_prune_task
from evenhand.metrics import Plan
from evenhand.networks.model import Model
from evenhand.pruning.channels import remove_weights, remover
from evenhand.pruning.loop import PruningState
from evenhand.pruning.saliency import error_change, saliency
from evenhand.tables.predictions import read_predictions, write_predictions
from evenhand.training.predict import predict_cohorts

BETAS = (0.0, 0.1, 0.33, 0.5, 0.7, 0.9)
SHARES = (10, 20, 30, 40, 50, 60)  # percent of the prunable weights
METRICS = ("auc", "accuracy")
EQUALIZED = ("eopp0_sum", "eopp1_sum", "eodd_fairprune_sum")
ACROSS = ("worst", "gap", *EQUALIZED)
SHOWN = ("auc", "accuracy", "auc_worst", "auc_gap", *EQUALIZED)
PLAN = Plan(metrics=METRICS, across=ACROSS)
BUDGET = 0.01  # of the AUC on validation

Cell = dict[str, Any]


def main() -> None:
    args = arguments().parse_args()
    if args.table:
        print(table(args.out))
        return
    for kind, seed, label, attribute in product(args.kind, args.seeds, args.label, args.attribute):
        run = trained(args, label, seed)
        root = args.out / "cells" / f"{run.name}-{attribute}-{kind}"
        if not (root / "cells.json").exists():
            about = {"backbone": args.backbone, "label": label, "seed": seed}
            task = task_of(args, run, attribute, kind)
            judged = ParityNumbers(task, root, tuple(args.betas), tuple(args.shares))
            cells = [{**about, "attribute": attribute, **item} for item in KINDS[kind](judged)]
            write_json(root / "cells.json", cells)
            print(json.dumps({"name": root.name, "cells": len(cells)}), flush=True)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="ham10000:../shared/data/ham10000")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--label", nargs="+", default=["malignant", "diagnosis"])
    parser.add_argument("--attribute", nargs="+", default=["age", "sex"])
    parser.add_argument("--kind", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--betas", nargs="+", type=float, default=BETAS)
    parser.add_argument("--shares", nargs="+", type=int, default=SHARES, help="percent")
    parser.add_argument("--table", action="store_true")
    return parser


def trained(arguments: argparse.Namespace, label: str, seed: int) -> Path:
    """Return the run of a network trained from random weights; its seed also makes the splits."""
    out: Path = arguments.out / f"{arguments.backbone}-{label}-{seed}"
    if not (out / "report.html").exists():
        settings = FinetuneSettings(
            data=arguments.data,
            label=label,
            attribute=("sex", "age"),
            cache=arguments.cache,
            backbone=arguments.backbone,
            weights="none",
            image_size=64,
            epochs=arguments.epochs,
            lr=1e-3,
            augment="free",
            seed=seed,
            device="cpu",
        )
        finetune(settings, out)
    return out


def task_of(arguments: argparse.Namespace, run: Path, attribute: str, kind: str) -> PruneTask:
    settings = PruneSettings(
        run=run,
        attribute=(attribute,),
        cache=arguments.cache,
        device="cpu",
        budget=None,
        structure="channel" if kind == "channels" else "weight",
    )
    return make_prune_task(settings)


@dataclass(frozen=True)
class ParityNumbers:
    """The model to prune, the folder for predictions, and the settings of one-shot pruning."""

    task: PruneTask
    root: Path
    betas: tuple[float, ...]  # of one-shot pruning, as are the shares
    shares: tuple[int, ...]

    def cell(self, model: Model, **about: Any) -> Cell:
        """Return the numbers of one model on validation and test, without intervals."""
        task, attribute = self.task, self.task.settings.attribute[0]
        splits = [(name, part) for name, part in task.splits.items() if name != "train"]
        predictions = predict_cohorts(model, splits, task.accelerator)
        shown = "-".join(f"{value:g}" if isinstance(value, float) else str(value)
                         for name, value in about.items() if name != "seconds")  # fmt: skip
        file = self.root / f"{shown}.parquet"
        self.root.mkdir(parents=True, exist_ok=True)
        write_predictions(file, predictions)
        result = {**about, "file": file.name, "unprivileged": task.roles.unprivileged}
        plan = Plan(metrics=METRICS, across=ACROSS, bootstrap=None)
        for split in ("val", "test"):
            rows = metric_rows(predictions, [attribute], model="", seed=0, plan=plan, split=split)
            values = {name: float(value_of(rows, name)["value"]) for name in SHOWN}
            result[split] = {name: None if math.isnan(v) else v for name, v in values.items()}
        return result


def one_shot(judged: ParityNumbers) -> Iterator[Cell]:
    """Prune in one step by FairPrune at each β and share, and by two controls."""
    task = judged.task
    state = initial_state(task)
    h = step_curvature(task, task.model, tuple(state.mask), 1)
    theta = {name: task.model.get_parameter(name).detach() for name in state.mask}
    yield judged.cell(task.model, method="before", beta=None, share=0)
    worst, others = task.roles.unprivileged, task.roles.betas
    total = sum(others.values())
    for beta in judged.betas:
        scores = saliency(theta, h, worst, {g: beta * b / total for g, b in others.items()})
        yield from pruned(judged, state, scores, method="fairprune", beta=beta)
    sizes = {group: len(own) / sum(map(len, task.positions.values()))
             for group, own in task.positions.items()}  # fmt: skip
    everyone = {name: sum(sizes[g] * values[name] for g, values in h.items()) for name in theta}
    yield from pruned(judged, state, error_change(theta, everyone), method="obd", beta=None)
    magnitude = {name: value.abs() for name, value in theta.items()}
    yield from pruned(judged, state, magnitude, method="magnitude", beta=None)


def pruned(
    judged: ParityNumbers, state: PruningState, scores: dict[str, Tensor], **about: Any
) -> Iterator[Cell]:
    for share in judged.shares:
        after = remove_weights(state, scores, round(state.total * share / 100))
        yield judged.cell(after.model, share=share, **about)


def iterated(judged: ParityNumbers) -> Iterator[Cell]:
    """Prune a tenth of the remaining parameters at a time, with new curvature in each step."""
    task = judged.task
    first, settings = initial_state(task), task.settings
    row = {"step": 0, "left": first.left, "sparsity": 0.0, **task.before}
    method = f"iterated, {settings.structure}s"
    for step in pruning_steps(task, first, [row], remover(settings.structure)):
        share = round(100 * step.state.sparsity, 1)
        about = {"method": method, "beta": settings.beta, "share": share}
        yield judged.cell(step.state.model, **about, seconds=step.row["seconds"])


KINDS = {"one-shot": one_shot, "iterated": iterated, "channels": iterated}


def value_of(rows: pd.DataFrame, name: str) -> pd.Series:
    """Return the row of a number: over all patients, or across the groups of the attribute."""
    return rows[(rows["metric"] == name) & (rows["group"] == "*")].iloc[0]


def table(out: Path) -> str:
    """Return every result as Markdown, and write all cells to ``cells.csv``."""
    frame = read_cells(out)
    write_text(out / "cells.csv", frame.round(4).to_csv(index=False, lineterminator="\n"))
    blocks = []
    for about, part in frame.groupby(["backbone", "label", "attribute"]):
        blocks.append("### {}, {}, by {}".format(*about))
        blocks.append(chosen(out, part))
        blocks.append(grid(part))
    return "\n\n".join(blocks)


def read_cells(out: Path) -> pd.DataFrame:
    """Return all prunings; ``file`` is the path of a pruning's predictions below ``out``."""
    cells = []
    for file in sorted(out.glob("cells/*/cells.json")):
        name = f"cells/{file.parent.name}"
        cells += [{**item, "file": f"{name}/{item['file']}"} for item in read_json(file)]
    return pd.json_normalize(cells)


def chosen(out: Path, part: pd.DataFrame) -> str:
    """Return the test changes of the pruning that validation chooses, by seed and method."""
    lines = [heading("seed", "method", "chosen: β, share", *SHOWN)]
    for seed, own in part.groupby("seed"):
        before = own[own["method"] == "before"].iloc[0]
        attribute, plain = before["attribute"], read_predictions(out / before["file"])
        rows = metric_rows(plain, [attribute], model="", seed=0, plan=PLAN)
        lines.append(line(str(seed), "before", "", *(interval(rows, name) for name in SHOWN)))
        for method, cells in own[own["method"] != "before"].groupby("method", sort=False):
            cell = pick_cell(cells, before)
            if cell is None:
                lines.append(line(str(seed), str(method), "none", *("" for _ in SHOWN)))
                continue
            pair = read_predictions(out / cell["file"]), plain
            rows = paired_rows(pair, [attribute], names=("after", "before"), seed=0, plan=PLAN)
            changes = (interval(rows, name, "+.3f") for name in SHOWN)
            lines.append(line(str(seed), str(method), describe(cell), *changes))
    return "\n".join(lines)


def pick_cell(cells: pd.DataFrame, before: pd.Series) -> pd.Series | None:
    """Return the pruning with the least AUC gap on validation within the budget, or None."""
    allowed = cells[cells["val.auc"] >= before["val.auc"] - BUDGET]
    better = allowed[allowed["val.auc_gap"] < before["val.auc_gap"]]
    return None if better.empty else better.loc[better["val.auc_gap"].idxmin()]


def describe(row: pd.Series) -> str:
    beta = "" if pd.isna(row["beta"]) else f"{row['beta']:g}, "
    return f"{beta}{row['share']:g} %"


def interval(rows: pd.DataFrame, name: str, form: str = ".3f") -> str:
    value = value_of(rows, name)
    if math.isnan(value["low"]):  # `value["method"]` says why
        return f"{value['value']:{form}}"
    return f"{value['value']:{form}} ({value['low']:{form}} to {value['high']:{form}})"


def grid(part: pd.DataFrame) -> str:
    """Return each pruning's mean over seeds on test, except channels, whose shares vary by seed."""
    lines = [heading("method", "β", "share", *SHOWN)]
    same = part[part["method"] != "iterated, channels"]
    order = same.groupby(["method", "beta", "share"], sort=False, dropna=False)
    for key, own in order:
        method, beta, share = cast(tuple[str, float, float], key)
        values = [f"{own[f'test.{name}'].mean():.3f}" for name in SHOWN]
        shown = "" if pd.isna(beta) else f"{beta:g}"
        lines.append(line(method, shown, f"{share:g} %", *values))
    return "\n".join(lines)


def heading(*names: str) -> str:
    return f"{line(*names)}\n|{'---|' * len(names)}"


def line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
