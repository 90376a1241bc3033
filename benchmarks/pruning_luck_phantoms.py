"""Measure the luck of choosing a step of real prunings, against the truth on new patients.

For each seed, a small network is trained on phantoms without a planted difference between the
groups, and pruned by `evenhand prune`'s own functions: its loop, its two halves of the validation
patients and its choice of the step with the smallest AUC gap. The untouched model and the chosen
step then score 4,000 new phantoms. A gap is larger in few patients than in many, even without a
choice; so the truth of a value or of a change is its mean over random draws of as many of these
new phantoms as a half has, with equal numbers of each label in each group. Prints, for each
``--beta``, the mean errors of the chosen and of the confirmed numbers over seeds, with 95 %
intervals (Student), and how often the intervals of both changes contain the truth:

    python benchmarks/pruning_luck_phantoms.py FOLDER --runs 20

FOLDER keeps networks and finished seeds; the same command continues.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from evenhand.cohort.phantoms.images import PhantomSettings, describe_settings, make_phantoms
from evenhand.cohort.store.samples import store_samples
from evenhand.experiments.settings import FinetuneSettings
from evenhand.jobs.finetune.job import finetune
from evenhand.jobs.prune.judge import Judge
from evenhand.jobs.prune.loop import curve_row, initial_state, pruning_steps
from evenhand.jobs.prune.luck import measure_luck
from evenhand.jobs.prune.settings import PruneSettings
from evenhand.jobs.prune.task import PruneTask, make_prune_task
from evenhand.networks.model import Model
from evenhand.pruning.channels import remover
from evenhand.reporting.sections.luck import Span
from evenhand.tables.predictions import Predictions
from evenhand.training.predict import predict_cohorts

GAP = "auc_gap"
NEW, DRAWS = 4000, 200  # new phantoms, and draws of them
PHANTOMS = PhantomSettings(
    patients=600, size=32, minority=0.5, prevalence=0.5, harder=0, shortcut=0
)
BETAS = (0.33, 0.0)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pruned:
    """The steps of a pruning: their models, numbers and predictions, and the chosen step."""

    models: Sequence[Model]
    rows: Sequence[Mapping[str, float]]
    predictions: Sequence[Predictions]
    best: int


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--beta", type=float, nargs="+", default=list(BETAS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    lines = arguments.folder / "seeds.jsonl"
    finished = {(row["seed"], row["beta"]) for row in read(lines)}
    for seed in range(arguments.runs):
        for beta in arguments.beta:
            if (seed, beta) not in finished:
                outcome = outcome_of(seed, beta, arguments.folder)
                with lines.open("a", encoding="utf-8") as file:
                    print(json.dumps(outcome), file=file)
    table = pd.DataFrame(read(lines))
    for beta in arguments.beta:
        rows = table[(table["beta"] == beta) & (table["seed"] < arguments.runs)]
        print(json.dumps({"beta": beta, **summary(rows)}))


def read(lines: Path) -> list[dict[str, float]]:
    """Return the finished seeds, without a last line that a kill cut short."""
    text = lines.read_text("utf-8") if lines.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def outcome_of(seed: int, beta: float, folder: Path) -> dict[str, float]:
    """Prune a network of a seed; return announced and true numbers of the chosen step."""
    task = task_of(seed, beta, folder)
    pruned = prune_network(task)
    chosen, first = pruned.rows[pruned.best], pruned.rows[0]
    result = measure_luck(task.judge, pruned.predictions, pruned.best)
    first_true, chosen_true = true_gaps(task, pruned, seed, folder)
    return {
        "seed": seed,
        "beta": beta,
        "step": pruned.best,
        "loss_of_auc": first["auc"] - chosen["auc"],
        "chosen": chosen[GAP],
        "confirmed": chosen[f"confirm:{GAP}"],
        "chosen_change": chosen[GAP] - first[GAP],
        "confirmed_change": chosen[f"confirm:{GAP}"] - first[f"confirm:{GAP}"],
        "truth": float(chosen_true[1:].mean()),
        "true_change": float((chosen_true - first_true)[1:].mean()),
        "truth_of_all": float(chosen_true[0]),
        "true_change_of_all": float((chosen_true - first_true)[0]),
        **({} if result is None else ends("chosen", result.gain)),
        **({} if result is None else ends("confirmed", result.confirmed_gain)),
    }


def ends(name: str, span: Span) -> dict[str, float]:
    _, low, high = span
    if low is None or high is None:
        return {}
    return {f"{name}_low": low, f"{name}_high": high}


def task_of(seed: int, beta: float, folder: Path) -> PruneTask:
    """Train the network of a seed if there is none, and return its pruning."""
    out, cache = folder / f"seed{seed}", folder / "cache"
    data = describe_settings("phantom", PHANTOMS.model_copy(update={"seed": seed}))
    common = {"attribute": ("group",), "cache": cache, "device": "cpu", "seed": seed}
    if not (out / "report.html").exists():
        recipe = {"data": data, "split": (0.6, 0.3, 0.1), "backbone": "test_resnet"}
        recipe |= {"weights": "none", "image_size": PHANTOMS.size, "strategy": "scratch"}
        recipe |= {"epochs": 8, "lr": 2e-3, "batch_size": 32}
        finetune(FinetuneSettings.model_validate(recipe | common), out)
    settings = {"run": out, "beta": beta, "budget": None, "estimator": "ggn", "batches": 8}
    task = make_prune_task(PruneSettings.model_validate(settings | common))
    if task.judge.halves is None:
        raise RuntimeError("too few validation patients for two halves")
    return task


def prune_network(task: PruneTask) -> Pruned:
    """Prune to the limit, and choose a step as `evenhand prune` does."""
    state = initial_state(task)
    rows = [curve_row(0, state, task.before, 0.0)]
    models, predictions = [state.model], [task.untouched]
    for step in pruning_steps(task, state, rows, remover("weight")):
        rows.append(step.row)
        models.append(step.state.model)
        predictions.append(step.predictions)
    return Pruned(models, rows, predictions, task.judge.best_step(rows))


def true_gaps(task: PruneTask, pruned: Pruned, seed: int, folder: Path) -> tuple[Floats, Floats]:
    """Return the gaps of the untouched and the chosen model on new phantoms.

    The first value is of all new phantoms, the others are of draws of the size of a half.
    """
    new = PHANTOMS.model_copy(update={"patients": NEW, "seed": 1_000_000 + seed})
    cohort = store_samples(make_phantoms(new), task.model.spec.images, folder / "cache")
    models = (pruned.models[0], pruned.models[pruned.best])
    scored = [predict_cohorts(model, [("val", cohort)], task.accelerator) for model in models]
    counts = half_counts(task.judge, pruned.predictions[0])
    rng = np.random.default_rng(seed)
    drawn = [np.arange(NEW), *(draw(scored[0].table, counts, rng) for _ in range(DRAWS))]
    first, chosen = (np.array([gap(item.table.iloc[rows]) for rows in drawn]) for item in scored)
    return first, chosen


def half_counts(judge: Judge, predictions: Predictions) -> Mapping[tuple[int, str], int]:
    """Return the number of patients of the choosing half, by label and group."""
    assert judge.halves is not None
    half = judge.halves.split(predictions)[0].table
    return Counter(zip(half["label"].astype(int), half["attr_group"].astype(str), strict=True))


def draw(
    table: pd.DataFrame, counts: Mapping[tuple[int, str], int], rng: np.random.Generator
) -> NDArray[np.intp]:
    """Return the positions of random rows, so many of each label and group."""
    labels, groups = table["label"].to_numpy(), table["attr_group"].astype(str).to_numpy()
    places = [
        rng.choice(np.flatnonzero((labels == label) & (groups == group)), n, replace=False)
        for (label, group), n in sorted(counts.items())
    ]
    return np.concatenate(places)


def gap(table: pd.DataFrame) -> float:
    aucs = [
        roc_auc_score(rows["label"], rows["score"])
        for _, rows in table.groupby("attr_group", observed=True)
    ]
    return float(np.ptp(aucs))


def summary(table: pd.DataFrame) -> dict[str, object]:
    """Return mean errors over seeds, of all prunings and of those that chose a pruned step."""
    result: dict[str, object] = {"runs": len(table), "pruned_runs": int((table["step"] > 0).sum())}
    for name, rows in (("all", table), ("pruned", table[table["step"] > 0])):
        result[name] = {
            "chosen_error": interval(rows["chosen"] - rows["truth"]),
            "confirmed_error": interval(rows["confirmed"] - rows["truth"]),
            "chosen_change_error": interval(rows["chosen_change"] - rows["true_change"]),
            "confirmed_change_error": interval(rows["confirmed_change"] - rows["true_change"]),
            "true_change": interval(rows["true_change_of_all"]),
            "chosen_less_all": interval(rows["chosen"] - rows["truth_of_all"]),
            "confirmed_less_all": interval(rows["confirmed"] - rows["truth_of_all"]),
            "loss_of_auc": interval(rows["loss_of_auc"]),
        }
    for name in ("chosen", "confirmed"):
        if f"{name}_low" in table:
            rows = table[table[f"{name}_low"].notna()]
            held = rows["true_change"].between(rows[f"{name}_low"], rows[f"{name}_high"])
            result[f"{name}_interval_holds"] = f"{int(held.sum())} of {len(rows)}"
    return result


def interval(values: pd.Series[float]) -> list[float]:
    """Return the mean with its 95 % interval."""
    mean = float(values.mean())
    reach = float(student.ppf(0.975, len(values) - 1) * values.sem()) if len(values) > 1 else 0.0
    return [round(number, 4) for number in (mean, mean - reach, mean + reach)]


if __name__ == "__main__":
    main()
