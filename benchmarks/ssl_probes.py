"""Compare a linear probe on the encoder of each SSL objective with one on the untrained encoder.

Series: the class is whether two noisy channels move together or against each other. Images: the
class is whether grey stripes are horizontal or vertical; period, phase and contrast are independent
of it. (If images differ in colour, objectives of two views learn the colour instead.) Each seed
draws 400 samples for pre-training, whose labels the probe gets afterwards, and 500 test samples.
Prints the AUC of the probe on the encoder and on the weights that pre-training starts from, with
95 % intervals of the difference over seeds (Student):

    python benchmarks/ssl_probes.py --seeds 3 --kind series
"""

from __future__ import annotations

import argparse
import json
import runpy
from collections.abc import Iterable, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from evenhand.networks.inputs import SeriesInputs
from evenhand.networks.model import Model, build_model
from evenhand.pretraining.learners import Encoder
from evenhand.pretraining.registry import SSL_OBJECTIVES

FEW = runpy.run_path(str(Path(__file__).with_name("ssl_few_labels.py")))
TRAIN, TEST = 400, 500
STEPS, BATCH, RATE, WARMUP = 150, 64, 2e-3, 0.1  # the last: share of the steps
LONGER = {"masked": 600, "mae": 450, "byol": 450, "simsiam": 450}  # steps
LENGTH, SERIES_NOISE = 24, 1.0  # steps; standard deviation
SIZE, PERIODS, TILT = 32, (7.0, 14.0), 0.2  # pixels: of an image, of its stripes; radians
CONTRAST = (0.1, 0.25)
NETWORKS = {"series": "conv1d", "images": "test_resnet"}
NOISE = {"test_resnet": 0.35, "test_vit": 0.08}  # an untrained test_resnet solves less

Labelled = tuple[Tensor, NDArray[np.int64]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="a line for each fit; those there are kept")
    parser.add_argument("--kind", action="append", choices=[*NETWORKS], help="repeatable")
    parser.add_argument("--objective", action="append", choices=[*SSL_OBJECTIVES.titles()])
    args = parser.parse_args()
    torch.set_num_threads(1)
    wanted = cases(args.kind or NETWORKS, args.objective or SSL_OBJECTIVES.titles())
    print(table(results(args.seeds, wanted, args.out)))


Case = tuple[str, str]
"""An objective, and a kind of samples that it takes."""


def cases(kinds: Iterable[str], objectives: Iterable[str]) -> list[Case]:
    """Return each objective with each kind of samples that it takes."""
    return [
        (name, kind)
        for kind in kinds
        for name in objectives
        if SSL_OBJECTIVES[name].modality in (None, kind)
    ]


def results(seeds: int, wanted: Sequence[Case], out: Path | None = None) -> pd.DataFrame:
    """Return a row for each case and seed."""
    rows = [json.loads(line) for line in out.open()] if out and out.exists() else []
    done = {(row["objective"], row["kind"], row["seed"]) for row in rows}
    for seed in range(seeds):
        for name, kind in wanted:
            if (name, kind, seed) not in done:
                rows.append(one_fit(name, kind, seed))
                if out:
                    with out.open("a") as file:
                        print(json.dumps(rows[-1]), file=file, flush=True)
    return pd.DataFrame(rows)


def network_of(name: str, kind: str) -> str:
    """Return the network that an objective trains; `mae` takes vision transformers only."""
    return "test_vit" if name == "mae" else NETWORKS[kind]


def one_fit(name: str, kind: str, seed: int) -> dict[str, object]:
    """Return the AUC of a probe before and after pre-training."""
    rng = np.random.default_rng(seed)
    network = network_of(name, kind)
    draw = series if kind == "series" else partial(stripes, noise=NOISE[network])
    train, test = (draw(count, rng) for count in (TRAIN, TEST))
    channels = train[0].shape[1]
    names = tuple(f"c{number}" for number in range(channels))
    about = SeriesInputs(
        steps=train[0].shape[2], channels=names, mean=(0.0,) * channels, std=(1.0,) * channels
    )
    model = build_model(network, "none", about if kind == "series" else SIZE, ("0", "1"), seed)
    before = probe(model, train, test)
    steps = LONGER.get(name, STEPS)
    pretrain(model, name, train[0], seed, steps)
    after = probe(model, train, test)
    about = {"objective": name, "kind": kind, "seed": seed, "steps": steps}
    return about | {"untrained": before, "trained": after}


def series(count: int, rng: np.random.Generator) -> Labelled:
    """Return series ``(n, 4, T)`` of two pairs; the relation of the first pair is the class."""
    labels = rng.integers(2, size=count)
    channels = []
    for together in (labels, rng.integers(2, size=count)):
        period, phase = rng.uniform(8, 20, count), rng.uniform(0, 2 * np.pi, count)
        turns = 2 * np.pi * np.arange(LENGTH) / period[:, None] + phase[:, None]
        first = rng.uniform(0.7, 1.5, count)[:, None] * np.sin(turns)
        channels += [first, (2 * together - 1)[:, None] * first]
    values = np.stack(channels, axis=1) + SERIES_NOISE * rng.standard_normal((count, 4, LENGTH))
    return torch.tensor(values, dtype=torch.float32), labels


def stripes(count: int, rng: np.random.Generator, noise: float) -> Labelled:
    """Return images ``(n, 3, H, W)`` whose class is the direction of their stripes."""
    labels = rng.integers(2, size=count)
    angle = np.pi / 2 * labels + rng.uniform(-TILT, TILT, count)
    phase = rng.uniform(0, 2 * np.pi, count)
    row, column = np.mgrid[:SIZE, :SIZE]
    along = np.cos(angle)[:, None, None] * row + np.sin(angle)[:, None, None] * column
    turns = along / rng.uniform(*PERIODS, count)[:, None, None]
    wave = np.sin(2 * np.pi * turns + phase[:, None, None])[:, None]
    contrast = rng.uniform(*CONTRAST, (count, 1, 1, 1))
    errors = noise * rng.standard_normal((count, 3, SIZE, SIZE))
    images = np.clip(0.5 + contrast * wave + errors, 0, 1)
    return torch.tensor(images, dtype=torch.float32), labels


def pretrain(model: Model, name: str, samples: Tensor, seed: int, steps: int) -> None:
    """Train the backbone of a model in place, as `evenhand pretrain` does."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        learner = SSL_OBJECTIVES[name].make(Encoder.of_model(model, len(samples))).train()
        weights = [parameter for parameter in learner.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=1e-4)
        rng = torch.Generator().manual_seed(seed)
        for step in range(steps):
            rate = min((step + 1) / (WARMUP * steps), 0.5 * (1 + np.cos(np.pi * step / steps)))
            optimizer.param_groups[0]["lr"] = RATE * rate
            batch = model.scale(samples[torch.randperm(len(samples), generator=rng)[:BATCH]])
            learner(*learner.draw(batch, rng)).backward()
            optimizer.step()
            optimizer.zero_grad()
            learner.after_step((step + 1) / steps)


@torch.no_grad()
def probe(model: Model, train: Labelled, test: Labelled) -> float:
    """Return the test AUC of logistic regression on representations of training samples."""
    frozen = deepcopy(model).eval()
    features = [frozen.features(samples).numpy() for samples, _ in (train, test)]
    scaler = StandardScaler().fit(features[0])
    head = LogisticRegression(max_iter=2000, C=0.1).fit(scaler.transform(features[0]), train[1])
    return float(roc_auc_score(test[1], head.decision_function(scaler.transform(features[1]))))


def table(rows: pd.DataFrame) -> str:
    lines = ["| objective | samples | network | steps | untrained | pre-trained | difference |"]
    lines.append("|---" * 7 + "|")
    for name, kind in dict.fromkeys(zip(rows["objective"], rows["kind"], strict=True)):
        own = rows[(rows["objective"] == name) & (rows["kind"] == kind)]
        means = (own["untrained"].mean(), own["trained"].mean())
        shown = " | ".join(f"{mean:.3f}".lstrip("0") for mean in means)
        gain = FEW["show"]((own["trained"] - own["untrained"]).to_numpy(float))
        steps = own["steps"].iloc[0]
        lines.append(
            f"| `{name}` | {kind} | {network_of(name, kind)} | {steps} | {shown} | {gain} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
