"""Test FairTune where its premise holds: a small minority that a large network overfits.

A network of three hidden layers is trained on many vectors of both groups, and then tuned on few.
The minority's sign of the label stays the one already learnt; the majority's is new in part. So
tuning serves the majority, and can only fit noise in the minority. Three cases:

- few: 16 of 200 training patients are of the minority;
- many: 100 of 200 are (negative control: the minority has no fewer patients to overfit);
- untrained: 16 of 200, but from random weights (negative control: no sign is known before, so that
  tuning less helps nobody).

Each of the eight masks of the three layers is tuned at two learning rates (the head always is), and
a search that tries them all chooses the mask and rate with the highest `min_auc` (AUC of the
worse served group) on 1,000 validation vectors; `full`, everything tuned, has the same two rates.
Prints the gap in AUC (majority minus minority) on training, validation and 4,000 test vectors
against the number of tuned parameters, from the head alone upwards at the first rate, and the
choice minus `full`, on test; means over seeds with 95 % intervals (Student):

    python benchmarks/tuning_less.py --seeds 12 --figure gaps.svg      # 3 minutes of CPU time
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score
from torch import nn

CASES = ("few", "many", "untrained")
MAJORITY, MINORITY = "majority", "minority"
FEATURES, WIDTH, LAYERS = 32, 32, ("0", "2", "4")
RATES = (1e-3, 4e-3)
STEPS, BEFORE = 200, 300
PATIENTS, FEW = 200, 16
PARTS = ("train", "validation", "test")
NESTED = ((), ("4",), ("2", "4"), LAYERS)  # from the head alone upwards

Vectors = tuple[torch.Tensor, torch.Tensor, NDArray[np.bool_]]  # features, labels, in the minority


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--figure", type=Path, help="draw the gaps into this file, as SVG")
    args = parser.parse_args()
    rows = results(args.seeds)
    print(gaps_table(rows), choices_table(rows), sep="\n\n")
    if args.figure:
        draw(rows, args.figure)


def results(seeds: int) -> pd.DataFrame:
    """Return a row for each case, seed, mask and learning rate."""
    every = product(CASES, range(seeds))
    return pd.DataFrame([row for case, seed in every for row in one_seed(case, seed)])


def one_seed(case: str, seed: int) -> Iterator[dict[str, object]]:
    """Yield a row for each mask and learning rate."""
    rng = np.random.default_rng([seed, CASES.index(case)])
    minority = PATIENTS // 2 if case == "many" else FEW
    parts = {
        "train": vectors(rng, PATIENTS - minority, minority),
        "validation": vectors(rng, 500, 500),
        "test": vectors(rng, 2000, 2000),
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = untrained()
        if case != "untrained":
            fit(network, vectors(rng, 1000, 1000, new=0.0), LAYERS, 3e-3, BEFORE)
        head = untrained()[-1]
        for mask, rate in product(masks(), RATES):
            tuned = deepcopy(network)
            tuned[-1] = deepcopy(head)
            count = fit(tuned, parts["train"], mask, rate, STEPS)
            yield {
                "case": case,
                "seed": seed,
                "mask": mask,
                "rate": rate,
                "parameters": count,
                **{
                    f"{part} {g}": v
                    for part, values in parts.items()
                    for g, v in aucs(tuned, values)
                },
            }


def masks() -> Iterator[tuple[str, ...]]:
    for bits in product((False, True), repeat=len(LAYERS)):
        yield tuple(layer for layer, bit in zip(LAYERS, bits, strict=True) if bit)


def vectors(rng: np.random.Generator, majority: int, minority: int, new: float = 0.35) -> Vectors:
    """Return features, labels and the minority's rows; `new` is the majority's new sign."""
    rare = np.arange(majority + minority) >= majority
    labels = rng.integers(0, 2, len(rare))
    side = (2 * labels - 1)[:, None]
    features = rng.normal(size=(len(rare), FEATURES))
    features[:, :8] += 0.35 * side * ~rare[:, None]
    features[:, 8:16] += 0.35 * side * rare[:, None]
    features[:, 16:24] += new * side * ~rare[:, None]
    features[:, 24] += 2.0 * rare  # tells the groups apart
    return torch.tensor(features, dtype=torch.float32), torch.tensor(labels), rare


def untrained() -> nn.Sequential:
    sizes = (FEATURES, WIDTH, WIDTH, WIDTH)
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 2))


def fit(
    network: nn.Sequential, data: Vectors, mask: tuple[str, ...], rate: float, steps: int
) -> int:
    """Tune the layers of a mask and the head; return their number of parameters."""
    network.requires_grad_(False)
    for name in (*mask, str(len(network) - 1)):
        network.get_submodule(name).requires_grad_(True)
    own = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(own, lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    inputs, labels, _ = data
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs), labels).backward()
        optimizer.step()
        schedule.step()
    return sum(parameter.numel() for parameter in own)


@torch.no_grad()
def aucs(network: nn.Module, data: Vectors) -> Iterator[tuple[str, float]]:
    inputs, labels, rare = data
    scores = network(inputs).softmax(1)[:, 1].numpy()
    for group, rows in ((MAJORITY, ~rare), (MINORITY, rare)):
        yield group, float(roc_auc_score(labels.numpy()[rows], scores[rows]))


def gaps(rows: pd.DataFrame, case: str) -> pd.DataFrame:
    """Return the gap of each seed by the number of tuned parameters, from the head upwards."""
    own = rows[(rows["case"] == case) & rows["mask"].isin(NESTED) & (rows["rate"] == RATES[0])]
    columns = {part: own[f"{part} {MAJORITY}"] - own[f"{part} {MINORITY}"] for part in PARTS}
    return own[["seed", "parameters", f"test {MAJORITY}", f"test {MINORITY}"]].assign(**columns)


def growth(rows: pd.DataFrame, case: str, number: str) -> NDArray[np.float64]:
    """Return a number with everything tuned minus that with the head alone, for each seed."""
    own = gaps(rows, case).pivot(index="seed", columns="parameters", values=number)
    change: NDArray[np.float64] = (own.iloc[:, -1] - own.iloc[:, 0]).to_numpy(float)
    return change


def choices(rows: pd.DataFrame, case: str) -> pd.DataFrame:
    """Return the choice among all masks and among `full` alone, and its test AUCs, by seed."""
    own = rows[rows["case"] == case]
    worst = own[[f"validation {MAJORITY}", f"validation {MINORITY}"]].min(axis=1)
    own = own.assign(
        value=worst,
        worst=own[[f"test {MAJORITY}", f"test {MINORITY}"]].min(axis=1),
        gap=own[f"test {MAJORITY}"] - own[f"test {MINORITY}"],
    )

    def best(trials: pd.DataFrame) -> pd.DataFrame:
        return trials.loc[trials.groupby("seed")["value"].idxmax()].set_index("seed")

    chosen, full = best(own), best(own[own["mask"] == LAYERS])
    return chosen.join(full.add_suffix(" of full"))


def gain(rows: pd.DataFrame, case: str, number: str) -> NDArray[np.float64]:
    """Return a number of the choice minus that of `full`, on test, for each seed."""
    own = choices(rows, case)
    less: NDArray[np.float64] = (own[number] - own[f"{number} of full"]).to_numpy(float)
    return less


def interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the mean over seeds with Student's 95 % interval."""
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return values.mean(), values.mean() - half, values.mean() + half


def gaps_table(rows: pd.DataFrame) -> str:
    columns = ("train", "validation", "test", f"test {MAJORITY}", f"test {MINORITY}")
    lines = [f"| case | tuned parameters | {' | '.join(columns)} |", "|---" * 7 + "|"]
    for case in CASES:
        for parameters, values in gaps(rows, case).groupby("parameters"):
            cells = [show(values[name].to_numpy(float)) for name in columns]
            lines.append(f"| {case} | {parameters:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def choices_table(rows: pd.DataFrame) -> str:
    numbers = ("worst", "gap", f"test {MAJORITY}", f"test {MINORITY}")
    lines = [f"| case | layers tuned | {' | '.join(numbers)} |", "|---" * 6 + "|"]
    for case in CASES:
        layers = choices(rows, case)["mask"].map(len).mean()
        cells = [show(gain(rows, case, name)) for name in numbers]
        lines.append(f"| {case} | {layers:.1f} of {len(LAYERS)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def show(values: NDArray[np.float64]) -> str:
    mean, low, high = interval(values)
    return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})".replace("0.", ".").replace("-", "\u2212")


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Draw the gaps on training and validation against the number of tuned parameters, as SVG."""
    most = gaps(rows, CASES[0])["parameters"].max()

    def place(parameters: float, gap: float) -> str:
        return f"{40 + 220 * parameters / most:.1f},{200 - 320 * gap:.1f}"

    panels = []
    for number, case in enumerate(CASES):
        marks = [f'<text x="150" y="20" text-anchor="middle">{case}</text>']
        for position in (0.0, 0.2, 0.4):
            (x, y) = place(0, position).split(",")
            marks.append(f'<path d="M{x} {y}h230" stroke="#ccc"/>')
            marks.append(
                f'<text x="32" y="{float(y) + 4:.1f}" text-anchor="end">{position:.1f}</text>'
            )
        for part, colour in (("train", "#d55e00"), ("validation", "#0072b2")):
            marks += _line(gaps(rows, case).groupby("parameters")[part], colour, place)
        marks.append('<text x="150" y="272" text-anchor="middle">tuned parameters →</text>')
        marks.append(f'<text x="260" y="254" text-anchor="middle">{most:,}</text>')
        panels.append(f'<g transform="translate({300 * number})">{"".join(marks)}</g>')
    legend = (
        '<text x="40" y="300" fill="#d55e00">gap in AUC, training patients</text>'
        '<text x="340" y="300" fill="#0072b2">gap in AUC, validation patients</text>'
    )
    size = f"0 0 {300 * len(CASES)} 310"
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" font-family="sans-serif" '
        f'font-size="13"><rect width="100%" height="100%" fill="#fff"/>{"".join(panels)}{legend}'
        "</svg>\n"
    )


def _line(values: Any, colour: str, place: Callable[[float, float], str]) -> Iterator[str]:
    """Yield the means as a line, with the interval of each."""
    ends = {count: interval(values.to_numpy(float)) for count, values in values}
    points = " ".join(place(count, mean) for count, (mean, _, _) in ends.items())
    yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for count, (mean, low, high) in ends.items():
        x, y = place(count, mean).split(",")
        yield f'<path d="M{place(count, low)}L{place(count, high)}" stroke="{colour}"/>'
        yield f'<circle cx="{x}" cy="{y}" r="4" fill="{colour}"/>'


if __name__ == "__main__":
    main()
