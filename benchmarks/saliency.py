"""Compare the curvature of two groups with a training pass of the same batch: time and memory.

Half of the batch is of each group, and every weight of a convolution or linear layer gets its
second derivative by group. The plain way is one forward and backward pass in training mode. Ratios
of CPU time are medians of paired runs; memory is the increase of the resident set, each way in a
process of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional as F  # noqa: N812

from evenhand.networks.model import Model, build_model
from evenhand.pruning.curvature import GroupBatch, find_estimator
from evenhand.pruning.loop import prunable

SIZE = 64  # pixels
BACKBONES = {"resnet18": "resnet18", "vit_tiny": "vit_tiny_patch16_224"}
CASES = (  # backbone, batch, estimator, classes, goal
    ("resnet18", 32, "ggn-mc", 2, 1.5),
    ("resnet18", 32, "fisher", 2, 2.0),
    ("resnet18", 32, "ggn", 2, 4.0),
    ("resnet18", 32, "ggn-mc", 7, 1.5),
    ("resnet18", 32, "ggn", 7, 14.0),
    ("resnet18", 16, "ggn-mc", 2, 1.5),
    ("resnet18", 16, "ggn-mc", 7, 1.5),
    ("resnet18", 16, "fisher", 2, None),
    ("resnet18", 16, "ggn", 2, None),
    ("vit_tiny", 32, "ggn-mc", 2, 1.5),
    ("vit_tiny", 32, "ggn-mc", 7, 1.5),
    ("vit_tiny", 32, "fisher", 2, None),
    ("vit_tiny", 32, "ggn", 2, None),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=(), help="names of claims")
    parser.add_argument("--memory-of", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory_of:
        name, batch, estimator, classes = args.memory_of
        print(memory(name, int(batch), estimator, int(classes)))
        return
    for case in CASES:
        name, batch, estimator, classes, goal = case
        claim = f"saliency_{estimator}_{name}_batch{batch}_classes{classes}"
        if not args.only or claim in args.only:
            print(json.dumps(time_claim(claim, case, args.repeats)), flush=True)
            if goal is not None:
                print(json.dumps(memory_claim(claim, case, args.threads)), flush=True)


def time_claim(claim: str, case: tuple[str, int, str, int, float | None], repeats: int) -> object:
    name, batch, estimator, classes, goal = case
    plain, ours = both(name, batch, estimator, classes)
    pairs = [(seconds(plain), seconds(ours)) for _ in range(repeats + 1)][1:]  # one to warm up
    ratios = sorted(mine / theirs for theirs, mine in pairs)
    return {
        "name": claim,
        "ratio": round(statistics.median(ratios), 2),
        "better": "lower",
        "goal": goal,
        "detail": {
            "ratios": [round(ratio, 2) for ratio in ratios],
            "plain_milliseconds": round(1e3 * statistics.median(t for t, _ in pairs)),
            "ours_milliseconds": round(1e3 * statistics.median(t for _, t in pairs)),
            "threads": torch.get_num_threads(),
        },
    }


def memory_claim(claim: str, case: tuple[str, int, str, int, float | None], threads: int) -> object:
    name, batch, estimator, classes, _ = case
    plain, ours = (
        measured(["--memory-of", name, str(batch), way, str(classes), "--threads", str(threads)])
        for way in ("plain", estimator)
    )
    return {
        "name": f"{claim}_memory",
        "ratio": round(ours / plain, 2),
        "better": "lower",
        "goal": 2.0,
        "detail": {"plain_megabytes": round(plain / 1e6), "ours_megabytes": round(ours / 1e6)},
    }


def measured(flags: list[str]) -> float:
    command = [sys.executable, __file__, *flags]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def memory(name: str, batch: int, way: str, classes: int) -> int:
    """Return the peak memory in bytes, less what the process with model and batch needs (Linux)."""
    plain, ours = both(name, batch, "fisher" if way == "plain" else way, classes)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    (plain if way == "plain" else ours)()
    return resident("VmHWM") - before


def resident(kind: str) -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition(f"{kind}:")[2].split()[0])


def both(
    name: str, batch: int, estimator: str, classes: int
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return one plain training pass and one batch of curvature as functions."""
    names = [str(number) for number in range(classes)]
    model: Model = build_model(BACKBONES[name], "none", SIZE, names, seed=0)
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(batch, SIZE, SIZE, 3, generator=rng).permute(0, 3, 1, 2)
    labels = torch.randint(0, classes, (batch,), generator=rng)
    half = batch // 2
    groups = GroupBatch(images, labels, {"a": slice(0, half), "b": slice(half, batch)})
    chosen = prunable(model, ("conv", "linear"))
    curvature = find_estimator(estimator)(1, rng)

    def plain() -> None:
        model.train()
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()

    def ours() -> None:
        curvature(model, [groups], chosen)

    return plain, ours


def seconds(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
