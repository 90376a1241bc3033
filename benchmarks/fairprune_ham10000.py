"""FairPrune on HAM10000: where it helps, where it does not, and against what.

For each seed and label a ResNet-18 is trained from random weights. For each attribute the curvature
of both groups is then computed once, and every β and pruned share reuses it: the network is pruned
in one shot, and as controls by magnitude and by Optimal Brain Damage on all data. Iterated
pruning at β = .33 removes weights step by step, and channels where that is asked for. Thresholds
come from validation rows, and so does the choice among the cells; every cell is shown on the test
rows, too, but none is chosen by them.

Whatever is done lies in ``--out`` and is not done again: the same command goes on after a kill.
``--table`` prints what is there as tables for people.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from evenhand.audit.rows import metric_rows
from evenhand.files import read_json, write_json
from evenhand.finetune import FinetuneSettings, finetune
from evenhand.measure import Plan
from evenhand.models.model import Model
from evenhand.prune import PruneSettings
from evenhand.prune.loop import curvature_of, start, steps
from evenhand.prune.remove import remove_weights, remover
from evenhand.prune.saliency import error_change, saliency
from evenhand.prune.state import State
from evenhand.prune.task import PruneTask, make_task
from evenhand.train.predict import predict

BETAS = (0.0, 0.1, 0.33, 0.5, 0.7, 0.9)
SHARES = (10, 20, 30, 40, 50, 60)  # percent of the prunable weights
ACROSS = ("eopp0_sum", "eopp1_sum", "eodd_fairprune_sum")
SHOWN = ("auc", "accuracy", "auc_worst", "auc_gap", *ACROSS)
BUDGET = 0.01  # of the AUC on validation

Cell = dict[str, Any]


def main() -> None:
    given = arguments().parse_args()
    if given.table:
        print(table(given.out))
        return
    for seed in range(given.seeds):
        for label in given.label:
            run = trained(given, label, seed)
            for attribute in given.attribute:
                for kind in given.kind:
                    file = given.out / "cells" / f"{run.name}-{attribute}-{kind}.json"
                    if not file.exists():
                        about = {"backbone": given.backbone, "label": label, "seed": seed}
                        task = task_of(given, run, attribute, kind)
                        cells = [{**about, "attribute": attribute, **c} for c in KINDS[kind](task)]
                        write_json(file, cells)
                        print(json.dumps({"name": file.stem, "cells": len(cells)}), flush=True)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="ham10000:../shared/data/ham10000")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--label", nargs="+", default=["malignant", "diagnosis"])
    parser.add_argument("--attribute", nargs="+", default=["age", "sex"])
    parser.add_argument("--kind", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--table", action="store_true")
    return parser


def trained(given: argparse.Namespace, label: str, seed: int) -> Path:
    """Return the run of a network trained from random weights; its seed also makes the splits."""
    out: Path = given.out / f"{given.backbone}-{label}-{seed}"
    if not (out / "report.html").exists():
        settings = FinetuneSettings(
            data=given.data,
            label=label,
            attribute=("sex", "age"),
            cache=given.cache,
            backbone=given.backbone,
            weights="none",
            image_size=64,
            epochs=given.epochs,
            lr=1e-3,
            augment="free",
            seed=seed,
            device="cpu",
        )
        finetune(settings, out)
    return out


def task_of(given: argparse.Namespace, run: Path, attribute: str, kind: str) -> PruneTask:
    settings = PruneSettings(
        run=run,
        attribute=(attribute,),
        cache=given.cache,
        device="cpu",
        budget=None,
        structure="channel" if kind == "channels" else "weight",
    )
    return make_task(settings)


def one_shot(task: PruneTask) -> Iterator[Cell]:
    """Prune once at each β and share, and by the controls; one curvature serves them all."""
    state = start(task)
    h = curvature_of(task, task.model, tuple(state.kept), 1)
    theta = {name: task.model.get_parameter(name).detach() for name in state.kept}
    yield cell(task, task.model, method="before", beta=None, share=0)
    worst, others = task.roles.unprivileged, task.roles.betas
    total = sum(others.values())
    for beta in BETAS:
        scores = saliency(theta, h, worst, {g: beta * b / total for g, b in others.items()})
        yield from pruned(task, state, scores, method="fairprune", beta=beta)
    sizes = {group: len(own) / sum(map(len, task.positions.values()))
             for group, own in task.positions.items()}  # fmt: skip
    everyone = {name: sum(sizes[g] * of[name] for g, of in h.items()) for name in theta}
    yield from pruned(task, state, error_change(theta, everyone), method="obd", beta=None)
    magnitude = {name: value.abs() for name, value in theta.items()}
    yield from pruned(task, state, magnitude, method="magnitude", beta=None)


def pruned(
    task: PruneTask, state: State, scores: dict[str, Tensor], **about: Any
) -> Iterator[Cell]:
    for share in SHARES:
        after = remove_weights(state, scores, round(state.total * share / 100))
        yield cell(task, after.model, share=share, **about)


def iterated(task: PruneTask) -> Iterator[Cell]:
    """Prune a tenth of what is left, again and again, with fresh curvature each time."""
    first = start(task)
    row = {"step": 0, "left": first.left, "sparsity": 0.0, **task.before}
    for state, done in steps(task, first, [row], remover(task.settings.structure)):
        share = round(100 * state.sparsity, 1)
        method = f"iterated, {task.settings.structure}s"
        seconds = {"seconds": done["seconds"]}
        yield cell(
            task, state.model, method=method, beta=task.settings.beta, share=share, **seconds
        )


KINDS = {"one-shot": one_shot, "iterated": iterated, "channels": iterated}


def cell(task: PruneTask, model: Model, **about: Any) -> Cell:
    """Return what one model is worth on validation and test."""
    splits = [(name, part) for name, part in task.splits.items() if name != "train"]
    predictions = predict(model, splits, task.accelerator)
    attribute = task.settings.attribute[0]
    plan = Plan(metrics=("auc", "accuracy"), across=("worst", "gap", *ACROSS), bootstrap=None)
    found: Cell = dict(about)
    for split in ("val", "test"):
        rows = metric_rows(predictions, [attribute], model="", seed=0, plan=plan, split=split)
        across = rows[rows["group"] == "*"].set_index("metric")["value"]
        found[split] = {
            name: None if np.isnan(across[name]) else float(across[name]) for name in SHOWN
        }
        found[split]["n"] = int(rows.loc[rows["attribute"] == "*", "n"].iloc[0])
    found["unprivileged"] = task.roles.unprivileged
    return found


def table(out: Path) -> str:
    """Return every result as Markdown: the mean over seeds, and the span from least to most."""
    cells = [one for file in sorted((out / "cells").glob("*.json")) for one in read_json(file)]
    frame = pd.json_normalize(cells)
    blocks = []
    for (backbone, label, attribute), part in frame.groupby(["backbone", "label", "attribute"]):
        seeds = sorted(part["seed"].unique())
        blocks.append(
            f"### {backbone}, {label}, by {attribute} (seeds {', '.join(map(str, seeds))})"
        )
        blocks.append(chosen(part))
        blocks.append(grid(part))
    return "\n\n".join(blocks)


def chosen(part: pd.DataFrame) -> str:
    """Return, by method, the change on test of the cell that validation chooses, by seed."""
    before = part[part["method"] == "before"].set_index("seed")
    columns = [f"test.{name}" for name in SHOWN]
    lines = [heading("method", "chosen on validation: β, share", *SHOWN)]
    lines.append(line("before", "", *(spread(before[name]) for name in columns)))
    for method, own in part[part["method"] != "before"].groupby("method", sort=False):
        picked = [pick_cell(of, before.loc[seed]) for seed, of in own.groupby("seed")]
        said = "; ".join(describe(one) for one in picked)
        values = pd.DataFrame(picked)
        lines.append(line(str(method), said, *(spread(values[name]) for name in columns)))
    return "\n".join(lines)


def pick_cell(cells: pd.DataFrame, before: pd.Series) -> pd.Series:
    """Return the cell of least AUC gap on validation within the budget; the untouched is one."""
    allowed = cells[cells["val.auc"] >= before["val.auc"] - BUDGET]
    better = allowed[allowed["val.auc_gap"] < before["val.auc_gap"]]
    return before if better.empty else better.loc[better["val.auc_gap"].idxmin()]


def describe(one: pd.Series) -> str:
    if one["method"] == "before":
        return "none"
    beta = "" if pd.isna(one["beta"]) else f"{one['beta']:g}, "
    return f"{beta}{one['share']:g} %"


def grid(part: pd.DataFrame) -> str:
    """Return every cell's mean over seeds on test."""
    lines = [heading("method", "β", "share", *SHOWN)]
    order = part.groupby(["method", "beta", "share"], sort=False, dropna=False)
    for (method, beta, share), own in order:
        values = [f"{own[f'test.{name}'].mean():.3f}" for name in SHOWN]
        shown = "" if pd.isna(beta) else f"{beta:g}"
        lines.append(line(str(method), shown, f"{share:g} %", *values))
    return "\n".join(lines)


def spread(values: pd.Series) -> str:
    if len(values) == 1:
        return f"{values.iloc[0]:.3f}"
    return f"{values.mean():.3f} ({values.min():.3f} to {values.max():.3f})"


def heading(*names: str) -> str:
    return f"{line(*names)}\n|{'---|' * len(names)}"


def line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
