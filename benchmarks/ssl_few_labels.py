"""Test "pre-training without labels narrows the gap" with a positive and a negative control.

A series of the majority shows its class by a level, which a few labels teach. The plant shows the
class in the minority, and also in the majority:

- relation: whether two noisy channels move together or against each other. Untrained features
  hardly show it, and every view of a patient keeps it, so pre-training learns it;
- swing: how fast a channel swings (negative control: untrained features already show it).

Each seed draws 400 training patients, of whom a tenth has labels (8 of 80 of the minority), and
2,000 test patients. SimCLR pre-trains the encoder for series on all 400 without labels. Four models
learn from the 40 labels: supervised (everything, from the weights that pre-training starts from),
pre-trained (everything, from the encoder), and a linear head on each of the two encoders, which are
frozen (`frozen` and `frozen untrained`). Prints each group's AUC and the difference of the gap
(majority minus minority) from supervised's, with 95 % intervals over seeds (Student):

    python benchmarks/ssl_few_labels.py --seeds 10      # 3 minutes of CPU time
"""

from __future__ import annotations

import argparse
import json
from copy import deepcopy
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from evenhand.networks.encoders.conv1d import Conv1dEncoder
from evenhand.networks.encoders.layers import hold_last
from evenhand.pretraining.registry import SSL_OBJECTIVES
from evenhand.pretraining.views.series import view_series

PLANTS = ("relation", "swing")
WAYS = ("supervised", "pre-trained", "frozen", "frozen untrained")
TRAIN, TEST, STEPS = {"majority": 320, "minority": 80}, {"majority": 1000, "minority": 1000}, 24
LABELLED = 10  # one in so many training patients of each group
PERIODS = (9.0, 5.0)  # steps of a swing, by class
LEVEL, SWING, NOISE = 0.8, 1.5, 0.7
TOGETHER = 0.95  # correlation of two channels, or less of it against each other
PRETRAINING, BATCH, FIT, RATE = 60, 96, 60, 1e-3

Patients = tuple[Tensor, NDArray[np.int64], NDArray[np.bool_]]  # series, labels, in the minority


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, help="a line for each seed; those there are kept")
    args = parser.parse_args()
    rows = results(args.seeds, args.out)
    print(table(rows))


def results(seeds: int, out: Path | None = None) -> pd.DataFrame:
    """Return a row for each plant and seed."""
    rows = [json.loads(line) for line in out.open()] if out and out.exists() else []
    done = {(row["plant"], row["seed"]) for row in rows}
    for plant in PLANTS:
        for seed in range(seeds):
            if (plant, seed) not in done:
                rows.append({"plant": plant, "seed": seed, **one_seed(plant, seed)})
                if out:
                    with out.open("a") as file:
                        print(json.dumps(rows[-1]), file=file)
    return pd.DataFrame(rows)


def one_seed(plant: str, seed: int) -> dict[str, float]:
    rng = np.random.default_rng([seed, PLANTS.index(plant)])
    train, test = draw(plant, TRAIN, rng), draw(plant, TEST, rng)
    labelled = np.arange(len(train[1])) % LABELLED == 0  # patients come in order of their group
    few = (train[0][labelled], train[1][labelled], train[2][labelled])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        untrained = Conv1dEncoder(2 * train[0].shape[1])
        pretrained = pretrain(deepcopy(untrained), train[0], seed)
        head = nn.Linear(untrained.head_hidden_size, 2)
        scores = {
            "supervised": tuned(deepcopy(untrained), deepcopy(head), few, test[0]),
            "pre-trained": tuned(deepcopy(pretrained), deepcopy(head), few, test[0]),
            "frozen": headed(pretrained, train[0], few, test[0]),
            "frozen untrained": headed(untrained, train[0], few, test[0]),
        }
    return {
        f"{way} {group}": float(roc_auc_score(test[1][rows], score[rows]))
        for way, score in scores.items()
        for group, rows in (("majority", ~test[2]), ("minority", test[2]))
    }


def draw(plant: str, sizes: dict[str, int], rng: np.random.Generator) -> Patients:
    """Return series ``(n, C, T)``, labels, and whether each patient is of the minority."""
    minority = np.repeat([False, True], [sizes["majority"], sizes["minority"]])
    n = len(minority)
    label = rng.integers(2, size=n)
    level = LEVEL * (np.where(minority, 0.5, label) - 0.5)[:, None]
    channels = {"relation": relations, "swing": swings}[plant](label, rng)
    channels.append(level + NOISE * rng.standard_normal((n, STEPS)))
    return torch.tensor(np.stack(channels, axis=1), dtype=torch.float32), label, minority


def relations(label: NDArray[np.int64], rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """Return two pairs of channels; the relation of the first pair is the class."""
    channels = []
    for together in (label, rng.integers(2, size=len(label))):
        first, other = rng.standard_normal((2, len(label), STEPS))
        side = (2 * together - 1)[:, None]
        channels += [first, TOGETHER * side * first + (1 - TOGETHER**2) ** 0.5 * other]
    return channels


def swings(label: NDArray[np.int64], rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """Return a channel that swings; its frequency is the class."""
    turns = np.arange(STEPS) / np.take(PERIODS, label)[:, None] + rng.random((len(label), 1))
    swing = SWING * np.sin(2 * np.pi * turns)
    return [swing + NOISE * rng.standard_normal((len(label), STEPS))]


def pretrain(encoder: Conv1dEncoder, series: Tensor, seed: int) -> Conv1dEncoder:
    """Train an encoder on two views of each series, as `evenhand pretrain` does."""
    method = SSL_OBJECTIVES.find("simclr")
    network = nn.Sequential(encoder, method.head(encoder.head_hidden_size)).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-4)
    rng = torch.Generator().manual_seed(seed)
    for _ in range(PRETRAINING):
        batch = series[torch.randperm(len(series), generator=rng)[:BATCH]]
        views = torch.cat([view_series(batch, rng), view_series(batch, rng)])
        optimizer.zero_grad()
        method.loss(*network(hold_last(views)).chunk(2)).backward()
        optimizer.step()
    return encoder


def tuned(
    encoder: Conv1dEncoder, head: nn.Linear, few: Patients, series: Tensor
) -> NDArray[np.float64]:
    """Tune everything on the labelled patients; return the scores of the test patients."""
    network = nn.Sequential(encoder, head).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    inputs, labels = hold_last(few[0]), torch.tensor(few[1])
    for _ in range(FIT):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs), labels).backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        scores: NDArray[np.float64] = network(hold_last(series)).softmax(1)[:, 1].double().numpy()
    return scores


@torch.no_grad()
def headed(
    encoder: Conv1dEncoder, train: Tensor, few: Patients, series: Tensor
) -> NDArray[np.float64]:
    """Return the scores of a linear head on features, on the scale of all training patients."""
    encoder.eval()
    every, own, others = (encoder(hold_last(values)).numpy() for values in (train, few[0], series))
    scaler = StandardScaler().fit(every)  # labels are not read
    head = LogisticRegression(max_iter=2000).fit(scaler.transform(own), few[1])
    scores: NDArray[np.float64] = head.decision_function(scaler.transform(others))
    return scores


def gap_change(rows: pd.DataFrame, plant: str, way: str) -> NDArray[np.float64]:
    """Return the gap of a way to train minus that of supervised, for each seed."""
    own = rows[rows["plant"] == plant]
    gaps = [own[f"{name} majority"] - own[f"{name} minority"] for name in (way, WAYS[0])]
    change: NDArray[np.float64] = (gaps[0] - gaps[1]).to_numpy(float)
    return change


def interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the mean over seeds with Student's 95 % interval."""
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return values.mean(), values.mean() - half, values.mean() + half


def table(rows: pd.DataFrame) -> str:
    lines = ["| plant | model | majority | minority | change of the gap |", "|---" * 5 + "|"]
    for plant, way in product(PLANTS, WAYS):
        own = rows[rows["plant"] == plant]
        cells = [show(own[f"{way} {group}"].to_numpy(float)) for group in TRAIN]
        change = "" if way == WAYS[0] else show(gap_change(rows, plant, way))
        lines.append(f"| {plant} | {way} | {' | '.join(cells)} | {change} |")
    return "\n".join(lines)


def show(values: NDArray[np.float64]) -> str:
    mean, low, high = interval(values)
    return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})".replace("0.", ".").replace("-", "\u2212")


if __name__ == "__main__":
    main()
