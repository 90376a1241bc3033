"""Compare layouts and precisions of training on the CPU with channels first in fp32.

`step` measures forward, loss, backward and AdamW on one random batch. `fit` measures a fit of the
job, with reading, augmentation and validation. Both count CPU seconds of this process in
alternating pairs, so that other work on the machine matters less; set `OMP_NUM_THREADS=1`. `seeds`
trains the same recipe with several seeds in each precision, and prints the differences of the
targets. `reuse` makes steps in two processes in turn, of which one reuses freed memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from evenhand.experiments.settings import TrainingSettings
from evenhand.experiments.task import Task, prepare_task, train_model
from evenhand.masks.strategies import find_strategy
from evenhand.networks.model import build_model
from evenhand.training import loop
from evenhand.training.device import place_model, reuse_freed_memory
from input_pipeline import data_settings

NETWORKS = {"resnet18": 64, "vit_tiny_patch16_224": 64, "tf_efficientnet_lite0": 96}
WAYS = {
    "channels_first_fp32": (False, "fp32"),
    "channels_last_fp32": (True, "fp32"),
    "channels_first_bf16": (False, "bf16"),
    "channels_last_bf16": (True, "bf16"),
}
PLAIN = "channels_first_fp32"
FIT_WAYS = (PLAIN, "channels_last_fp32", "channels_last_bf16")
BATCH, LR = 64, 3e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("step", "fit", "seeds", "reuse"))
    parser.add_argument("--data", help="ham10000:PATH; JPEGs of phantoms where it is absent")
    parser.add_argument("--network", nargs="*", choices=tuple(NETWORKS), default=tuple(NETWORKS))
    parser.add_argument("--weights", default="none", help="file of the network's weights")
    parser.add_argument("--patient-share", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5, help="pairs, or seeds")
    flags = parser.parse_args()
    for name in flags.network:
        if flags.what == "step":
            show_ratios("step", name, step_seconds(name, flags.repeats))
            continue
        if flags.what == "reuse":
            show_ratios("reuse", name, reuse_seconds(name, flags.repeats))
            continue
        with tempfile.TemporaryDirectory() as folder:
            settings = fit_settings(flags, name, Path(folder))
            if flags.what == "fit":
                show_ratios("fit", name, fit_seconds(prepare_task(settings), flags.repeats))
            else:
                show_seeds(settings, flags.repeats)


def step_seconds(name: str, repeats: int) -> dict[str, list[float]]:
    return in_turn({way: step_of(name, *kind) for way, kind in WAYS.items()}, repeats)


def reuse_seconds(name: str, repeats: int) -> dict[str, list[float]]:
    """Return CPU seconds of a step in fp32 with channels last, by whether memory is reused."""
    context = get_context("spawn")
    with (
        ProcessPoolExecutor(1, context) as plain,
        ProcessPoolExecutor(1, context, initializer=reuse_freed_memory) as reusing,
    ):
        pools = {PLAIN: plain, "reuse": reusing}
        rounds = [
            {way: pool.submit(seconds_in_process, name).result() for way, pool in pools.items()}
            for _ in range(repeats + 1)
        ]
    return {way: [taken[way] for taken in rounds[1:]] for way in pools}


def seconds_in_process(name: str) -> float:
    """Return the CPU seconds of a step; the process keeps the network for the next call."""
    return seconds(step_of(name, last=True, precision="fp32"))


@lru_cache
def step_of(name: str, last: bool, precision: str) -> Callable[[], None]:
    """Return a function that makes a training step on a batch."""
    size = NETWORKS[name]
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(BATCH, 3, size, size, generator=rng)
    labels = torch.randint(0, 2, (BATCH,), generator=rng)
    model = build_model(name, "none", NETWORKS[name], ("a", "b"), seed=0)
    model = (place_model(model, torch.device("cpu")) if last else model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, fused=True)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def fit_settings(flags: argparse.Namespace, name: str, folder: Path) -> TrainingSettings:
    changes = {
        "attribute": ("age",) if flags.data else ("attr_sex",),
        "cache": folder / "cache",
        "patient_share": flags.patient_share,
        "backbone": name,
        "weights": flags.weights,
        "image_size": NETWORKS[name],
        "batch_size": BATCH,
        "epochs": flags.epochs,
        "target": ("auc", "auc_worst"),
        "augment": "free",
        "device": "cpu",
    }
    return TrainingSettings(**data_settings(flags.data, folder).model_dump() | changes)


def fit_seconds(task: Task, repeats: int) -> dict[str, list[float]]:
    return in_turn({way: fit_of(task, *WAYS[way]) for way in FIT_WAYS}, repeats)


def fit_of(task: Task, last: bool, precision: str) -> Callable[[], None]:
    """Return a function that makes a fit with everything tuned."""
    settings = task.fit_settings(LR).model_copy(update={"precision": precision})

    def fit() -> None:
        with layout(last):
            train_model(task, *find_strategy("full")(task.model(), 0), settings)

    return fit


@contextmanager
def layout(last: bool) -> Iterator[None]:
    if last:
        yield
        return
    with patch.object(loop, "place_model", lambda model, device: model.to(device)):
        yield


def in_turn(works: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Return the CPU seconds of each function, round by round; the first round warms up."""
    rounds = [{name: seconds(work) for name, work in works.items()} for _ in range(repeats + 1)]
    return {name: [taken[name] for taken in rounds[1:]] for name in works}


def seconds(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def show_ratios(task: str, network: str, taken: dict[str, list[float]]) -> None:
    for way, own in taken.items():
        ratios = sorted(plain / new for plain, new in zip(taken[PLAIN], own, strict=True))
        detail = {
            "ratios": [round(ratio, 2) for ratio in ratios],
            "cpu_seconds": round(statistics.median(own), 3),
            "threads": torch.get_num_threads(),
            "processor": torch.cpu.get_capabilities().get("cpu_name"),
        }
        name = f"cpu_{task}_{network}_{way}"
        line = {"name": name, "ratio": round(statistics.median(ratios), 2), "better": "higher"}
        print(json.dumps({**line, "goal": None, "detail": detail}), flush=True)


def show_seeds(settings: TrainingSettings, count: int) -> None:
    """Train with each seed in both precisions, and print the targets on validation patients."""
    values: dict[str, list[tuple[float, ...]]] = {"fp32": [], "bf16": []}
    for seed in range(count):
        for precision, own in values.items():
            task = prepare_task(settings.model_copy(update={"seed": seed, "precision": precision}))
            own.append(train_model(task, *find_strategy("full")(task.model(), seed),
                             task.fit_settings(LR)).values)  # fmt: skip
    by_precision = {name: np.array(own) for name, own in values.items()}  # (seeds, targets)
    differences = by_precision["bf16"] - by_precision["fp32"]
    for place, target in enumerate(settings.target):
        own = differences[:, place]
        detail = {
            "differences": own.round(4).tolist(),
            "standard_error": round(float(own.std(ddof=1) / np.sqrt(count)), 4),
            **{name: value[:, place].round(4).tolist() for name, value in by_precision.items()},
            "spread_of_seeds_in_fp32": round(float(by_precision["fp32"][:, place].std(ddof=1)), 4),
        }
        line = {"name": f"cpu_bf16_{settings.backbone}_{target}", "ratio": round(own.mean(), 4)}
        print(json.dumps({**line, "better": "higher", "goal": None, "detail": detail}), flush=True)


if __name__ == "__main__":
    main()
