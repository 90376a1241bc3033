"""How often the demo works: `evenhand demo` on other seeds.

Each seed draws new phantoms for pre-training and tuning, new initial weights and new searches. The
demo works where the AUC of the worse-served group on test patients is higher by .03 or more under
FairTune than under full fine-tuning, and no group's is lower by more than .02.

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

from scipy.stats import binomtest

from evenhand.experiments.runs import Run
from evenhand.files import read_json
from evenhand.jobs.demo import pretraining, searching
from evenhand.jobs.finetune.job import finetune
from evenhand.jobs.tune.job import tune

GAIN, LOSS = 0.03, -0.02


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--first", type=int, default=1, help="the first seed; the demo's own is 0")
    parser.add_argument("--seeds", type=int, default=20)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    lines = given.out / "seeds.jsonl"
    seeds = range(given.first, given.first + given.seeds)
    for seed in seeds:
        if seed not in {one["seed"] for one in read(lines)}:
            outcome = outcome_of(seed, given.out / f"seed{seed}")
            with lines.open("a", encoding="utf-8") as file:
                print(json.dumps(outcome), file=file)
    counted = [one for one in read(lines) if one["seed"] in seeds]
    print("\n".join(map(json.dumps, counted)))
    print(json.dumps(summary(counted)))


def read(lines: Path) -> list[dict[str, Any]]:
    """Return the finished seeds; a last line that a kill cut short is left out."""
    text = lines.read_text("utf-8") if lines.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def outcome_of(seed: int, out: Path) -> dict[str, Any]:
    """Run the demo on a seed, and return each group's AUC on test patients."""
    start = time.process_time()
    if not (out / "pretrained" / "report.html").exists():
        finetune(pretraining(seed), out / "pretrained", overwrite=True)
    settings = searching(out / "pretrained", seed, confirm=2, confirm_seeds=3)
    run = tune(settings, out / "tuned", overwrite=True)
    by_model = {name: aucs(run, name) for name in ("full", "fairtune")}
    changes = {g: by_model["fairtune"][g] - auc for g, auc in by_model["full"].items()}
    gain = min(by_model["fairtune"].values()) - min(by_model["full"].values())
    shutil.rmtree(out)
    return {
        "seed": seed,
        **by_model,
        "gain_of_worst": gain,
        "worked": gain >= GAIN and min(changes.values()) >= LOSS,
        "seconds": time.process_time() - start,
    }


def aucs(run: Run, model: str) -> dict[str, float]:
    """Return the AUC on test patients of each group."""
    return {
        row["group"]: row["value"]
        for row in read_json(run.root / "metrics.json")["rows"]
        if (row["model"], row["split"], row["metric"]) == (model, "test", "auc")
        and row["against"] is None
        and row["attribute"] == "group"
        and row["group"] in ("majority", "minority")
    }


def summary(outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how many seeds worked, and the interval of their share."""
    worked = sum(one["worked"] for one in outcomes)
    share = binomtest(worked, len(outcomes)).proportion_ci(method="exact")
    counts = {"worked": worked, "seeds": len(outcomes)}
    return {**counts, "low": round(share.low, 3), "high": round(share.high, 3)}


if __name__ == "__main__":
    main()
