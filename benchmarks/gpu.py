"""Measure training on one CUDA device: images per second, model-FLOP utilisation, memory.

Prints JSON lines: the card's bf16 matrix rate; ``fit`` of a ViT-B/16 at 224 px in bf16, full and
with half of its units, compiled and not; the effect of the memory layout of channels on a
convolutional network; the input pipeline alone; seconds per trial, with and without cached
activations. Utilisation is the rate of FLOPs of a step (counted by torch, fewer with half a mask)
divided by the matrix rate measured here. ``--device cpu --quick`` tries the script on a small
network.

Imports beside Evenhand: torch, timm, numpy, pandas, pyarrow, scikit-learn, accelerate, pydantic,
PyYAML, safetensors; optuna for the trials alone, rich to show bars on a terminal.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch.utils.flop_counter import FlopCounterMode

from evenhand.cohort.phantoms.images import PhantomSettings, make_phantoms
from evenhand.cohort.splits import Splits, split_patients
from evenhand.cohort.store.batches import BatchSource
from evenhand.cohort.store.samples import store_samples
from evenhand.masks.masks import Mask, constant, full_mask, set_trainable
from evenhand.masks.strategies import find_strategy
from evenhand.networks.augment import upright
from evenhand.networks.model import Model, build_model
from evenhand.training import loop
from evenhand.training.frozen_prefix import ActivationCache
from evenhand.training.loop import Epoch, fit
from evenhand.training.predict import to_unit_range
from evenhand.training.settings import FitSettings

GOAL = 0.4  # of the measured matrix rate, full fine-tuning
MASKS = {"full": "full", "half": "random:0"}


@dataclass(frozen=True)
class Scale:
    """The networks, image size and numbers of samples and epochs of all measurements."""

    backbone: str
    convolutional: str
    image_size: int
    patients: int
    batch_size: int
    matrix: int
    epochs: int
    trials: int


FULL = Scale("vit_base_patch16_224", "resnet50", 224, 2560, 128, 8192, 4, 8)
QUICK = Scale("test_vit", "test_resnet", 32, 60, 16, 256, 2, 2)


@dataclass(frozen=True, eq=False)
class Bench:
    """The network, data and settings of all measurements."""

    scale: Scale
    device: torch.device
    splits: Splits
    network: Model

    def model(self) -> Model:
        """Return the network with random weights, always the same."""
        return deepcopy(self.network)

    def settings(self, **changes: object) -> FitSettings:
        """Return the settings of training, with changes."""
        common = {"epochs": self.scale.epochs, "batch_size": self.scale.batch_size}
        return FitSettings(device=self.device.type, precision="bf16", **{**common, **changes})


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    arguments.add_argument("--quick", action="store_true", help="a small network and few samples")
    args = arguments.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("gpu.py: torch sees no CUDA device here; --device cpu --quick tries the script.")
    scale = QUICK if args.quick else FULL
    with tempfile.TemporaryDirectory() as folder:
        network = build(scale.backbone, scale)
        bench = Bench(scale, torch.device(args.device), splits(scale, Path(folder)), network)
        rate = matrix_rate(scale.matrix, bench.device)
        report_claim("matrix_rate", None, None, {"tflops": rate / 1e12, "size": scale.matrix})
        for name in MASKS:
            for compiled in (False, True) if bench.device.type == "cuda" else (False,):
                training(bench, name, compiled, rate)
        channels(bench)
        pipeline(bench)
        trials(bench)


def build(backbone: str, scale: Scale) -> Model:
    return build_model(backbone, "none", scale.image_size, ("a", "b"), 0)


def report_claim(
    name: str, ratio: float | None, goal: float | None, detail: dict[str, object]
) -> None:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    line = {"name": f"gpu_{name}", "ratio": ratio, "better": "higher", "goal": goal}
    print(json.dumps({**line, "detail": {**detail, "device": device}}), flush=True)


def splits(scale: Scale, folder: Path) -> Splits:
    phantoms = make_phantoms(PhantomSettings(patients=scale.patients, size=scale.image_size))
    stored = store_samples(phantoms, scale.image_size, folder / "cache")
    return split_patients(stored, ["group"], (0.8, 0.1, 0.1), np.random.default_rng(0))


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], device: torch.device, repeats: int = 10) -> float:
    """Return the median time of a function, after three runs to warm up."""
    times = []
    for _ in range(repeats + 3):
        wait(device)
        start = time.perf_counter()
        work()
        wait(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[3:])


def matrix_rate(size: int, device: torch.device) -> float:
    """Return FLOPs per second of a product of two bf16 matrices."""
    first, other = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / seconds(lambda: first @ other, device)


def flops_per_image(bench: Bench, mask: Mask, batch: int = 4) -> float:
    """Count the FLOPs of one step per image, forward and backward."""
    model = bench.model().to(bench.device)
    set_trainable(model, mask)
    side = bench.scale.image_size
    with FlopCounterMode(display=False) as counter:
        model(torch.rand(batch, 3, side, side, device=bench.device)).sum().backward()
    return counter.get_total_flops() / batch


def training(bench: Bench, name: str, compiled: bool, rate: float) -> None:
    """Time the epochs of a fit, except the first, which warms up and compiles."""
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    model = bench.model()
    mask = find_strategy(MASKS[name])(model, 0)[1](0)
    settings = bench.settings(compile=compiled)
    images = images_per_second(bench, model, mask, settings)
    train, val = len(bench.splits.train), len(bench.splits.val)
    used = images * flops_per_image(bench, mask) / rate
    memory = torch.cuda.max_memory_allocated() / 1e9 if bench.device.type == "cuda" else None
    detail = {"images_per_second": images, "compiled": compiled, "peak_gb": memory}
    detail |= {"train": train, "val": val, "batch_size": settings.batch_size}
    detail |= {"backbone": bench.scale.backbone, "units": len(mask)}
    goal = GOAL if name == "full" else None
    report_claim(f"{name}{'_compiled' if compiled else ''}_utilisation", used, goal, detail)


def images_per_second(bench: Bench, model: Model, mask: Mask, settings: FitSettings) -> float:
    """Return the training images per second of a fit, whose time includes validation."""
    ends = []

    def on_epoch(epoch: Epoch) -> float:
        wait(bench.device)
        ends.append(time.perf_counter())
        return 0.0

    fit(model, bench.splits, constant(mask), settings, on_epoch=on_epoch)
    return len(bench.splits.train) / statistics.median(np.diff(ends))


def channels(bench: Bench) -> None:
    """Compare the speed of fine-tuning with channels last, as in a fit, and with channels first."""
    model, settings = build(bench.scale.convolutional, bench.scale), bench.settings()
    mask = full_mask(model.backbone)
    last = images_per_second(bench, deepcopy(model), mask, settings)
    with patch.object(loop, "place_model", lambda model, device: model.to(device)):
        first = images_per_second(bench, model, mask, settings)
    detail = {"images_per_second": last, "channels_first": first}
    detail |= {"backbone": bench.scale.convolutional, "batch_size": settings.batch_size}
    report_claim("channels_last", last / first, None, detail)


def pipeline(bench: Bench) -> None:
    """Time augmented batches from the store, without training."""
    source = BatchSource(bench.splits.train, bench.device)
    generator = torch.Generator(bench.device).manual_seed(0)
    rng, size = np.random.default_rng(0), min(bench.scale.batch_size, len(source))

    def batch() -> None:
        inputs = source.take(rng.choice(len(source), size, replace=False)).inputs
        upright(to_unit_range(inputs), generator)

    detail = {"images_per_second": size / seconds(batch, bench.device), "batch_size": size}
    report_claim("input_pipeline", None, None, detail)


def trials(bench: Bench) -> None:
    """Run a small search over the first trainable block, with and without cached activations."""
    if importlib.util.find_spec("optuna") is None:
        report_claim("seconds_per_trial", None, None, {"left_out": "optuna is not installed"})
        return
    cache = ActivationCache(30 * 10**9)
    cached, plain = search(bench, cache), search(bench, None)
    ratio = sum(item["seconds"] for item in plain) / sum(item["seconds"] for item in cached)
    medians = [statistics.median(item["seconds"] for item in result) for result in (cached, plain)]
    detail = {"median": medians[0], "median_without_kept_activations": medians[1]}
    detail |= {"epochs": bench.scale.epochs, "trials": cached, "without_kept_activations": plain}
    report_claim("seconds_per_trial", ratio, None, detail)


def search(bench: Bench, cache: ActivationCache | None) -> list[dict[str, float]]:
    """Return the first trainable block and the seconds of each trial, always of the same trials."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    val = bench.splits.val.labels
    blocks = len(bench.model().backbone.blocks)  # type: ignore[arg-type]

    def objective(trial: optuna.Trial) -> float:
        model = bench.model()
        first = trial.suggest_int("first", 0, blocks)
        mask = frozenset(f"blocks.{block}" for block in range(first, blocks))
        result: list[float] = []

        def on_epoch(epoch: Epoch) -> float:
            result.append(float(roc_auc_score(val, epoch.scores[:, 1])))
            return result[-1]

        settings = bench.settings(lr=trial.suggest_float("lr", 1e-5, 1e-3, log=True))
        fit(model, bench.splits, constant(mask), settings, on_epoch=on_epoch, cache=cache)
        return result[-1]

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=bench.scale.trials)
    return [
        {"first": trial.params["first"], "seconds": trial.duration.total_seconds()}
        for trial in study.trials
        if trial.duration is not None
    ]


if __name__ == "__main__":
    main()
