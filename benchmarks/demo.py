"""Run `evenhand demo` on other seeds, and count how often it works.

Each seed draws new phantoms for pre-training and tuning, new initial weights and new searches. The
demo works if the equalised odds difference on test patients is smaller by .03 or more under
FairTune than under full fine-tuning, and no group's AUC is lower by more than .02.

    python benchmarks/demo.py --out FOLDER --first 1 --seeds 20    # a line a seed; resumable

The last line is the share of seeds that worked, with its 95 % interval (Clopper–Pearson).
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from evenhand.jobs.demo import TARGET, pretrain_settings, search_settings
from evenhand.jobs.finetune.job import finetune
from evenhand.jobs.tune.job import tune
from evenhand.metrics import EVERYBODY

GAIN, LOSS = 0.03, -0.02
MODELS, GROUPS = ("full", "fairtune"), ("majority", "minority")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--first", type=int, default=1, help="the first seed; the demo's own is 0")
    parser.add_argument("--seeds", type=int, default=20)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    lines = arguments.out / "seeds.jsonl"
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    for seed in seeds:
        if seed not in {row["seed"] for row in read(lines)}:
            outcome = outcome_of(seed, arguments.out / f"seed{seed}")
            with lines.open("a", encoding="utf-8") as file:
                print(json.dumps(outcome), file=file)
    counted = [row for row in read(lines) if row["seed"] in seeds]
    print("\n".join(map(json.dumps, counted)))
    print(json.dumps(summary(counted)))


def read(lines: Path) -> list[dict[str, Any]]:
    """Return the finished seeds, without a last line that a kill cut short."""
    text = lines.read_text("utf-8") if lines.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def outcome_of(seed: int, out: Path) -> dict[str, Any]:
    """Run the demo on a seed; return each model's equalised odds difference, and AUC by group."""
    start = time.process_time()
    if not (out / "pretrained" / "report.html").exists():
        finetune(pretrain_settings(seed), out / "pretrained", overwrite=True)
    settings = search_settings(out / "pretrained", seed, confirm=2, confirm_seeds=3)
    run = tune(settings, out / "tuned", overwrite=True)
    rows = run.metrics[run.metrics["split"] == "test"]
    odds = {model: value(rows, model, TARGET, EVERYBODY) for model in MODELS}
    aucs = {m: {group: value(rows, m, "auc", group) for group in GROUPS} for m in MODELS}
    changes = [aucs["fairtune"][group] - aucs["full"][group] for group in GROUPS]
    gain = odds["full"] - odds["fairtune"]
    shutil.rmtree(out)
    return {
        "seed": seed,
        "odds_difference": odds,
        "auc": aucs,
        "gain": gain,
        "worked": gain >= GAIN and min(changes) >= LOSS,
        "seconds": time.process_time() - start,
    }


def value(rows: pd.DataFrame, model: str, metric: str, group: str) -> float:
    """Return a number of a model by group."""
    of_model = rows[(rows["model"] == model) & rows["against"].isna()]
    cell = of_model[(of_model["attribute"] == "group") & (of_model["group"] == group)]
    return float(cell.loc[cell["metric"] == metric, "value"].item())


def summary(outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how many seeds worked, and the interval of their share."""
    worked = sum(outcome["worked"] for outcome in outcomes)
    share = binomtest(worked, len(outcomes)).proportion_ci(method="exact")
    counts = {"worked": worked, "seeds": len(outcomes)}
    return {**counts, "low": round(share.low, 3), "high": round(share.high, 3)}


if __name__ == "__main__":
    main()
