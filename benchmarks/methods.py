"""Train each method with each planted fault: image phantoms, a small network, a loop of its own.

Three faults are planted in the training patients: label and group are correlated (``tilt``),
lesions of the minority have less contrast (``harder``), and labels in the minority are wrong
(``labels``). ``permuted`` is ``tilt`` with the groups that methods read permuted at random. Test
patients have true labels and no tilt. Decisions are at Youden's threshold on validation patients.
Each seed has new phantoms and new initial weights; a method is compared with plain training (ERM)
of the same seed.

    python benchmarks/methods.py --out FOLDER            # one JSON line for each fit; resumable
    python benchmarks/methods.py --out FOLDER --table    # of docs/results/mitigation_phantoms.md
    python benchmarks/methods.py --out FOLDER --first 100 --methods coral:strength=30   # choosing

"Levelled down" is the rule of the report: plain training's worst group on validation is not shown
to be served better, and some group is shown to lose (AUC, corrected).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score, roc_curve
from torch import Tensor, nn

from evenhand import measure_groups, refit_last_layer
from evenhand.cohort.images.decoding import ImageArray
from evenhand.cohort.phantoms.images import PhantomSettings, make_phantoms
from evenhand.methods.base import TrainingMethod, level_codes
from evenhand.methods.in_training.jtt import wrong_rows
from evenhand.methods.registry import find_method, method_from_text

LEVELS = ("majority", "minority")
COMMON = {"patients": 6000, "test_share": 0.4, "size": 16, "minority": 0.4, "prevalence": 0.5}
WORLDS: dict[str, dict[str, float]] = {
    "tilt": {"tilt": 0.6, "tilt_test": 0, "harder": 0, "shortcut": 0},
    "harder": {"tilt_test": 0, "harder": 0.6, "shortcut": 0},
    "labels": {"tilt_test": 0, "harder": 0, "shortcut": 0, "label_noise": 0.3},
    "permuted": {"tilt": 0.6, "tilt_test": 0, "harder": 0, "shortcut": 0},
}
METHODS = (
    *("erm", "group-balance", "group-dro", "soft-eodds", "coral", "domain-independent", "dfr"),
    *("minimax", "jtt", "cdann", "swad", "soft-eodds:tolerance=0.02"),
    *("minimax:by=label*attribute", "group-balance:by=attribute"),
)
EPOCHS, BATCH, RATE = 5, 64, 3e-3
FIRST_EPOCHS = 2  # of the short training that jtt begins with
ALPHA = 0.05
COLUMNS = (
    *("wrong", "method", "seeds", "EOdds difference before", "after", "change", "AUC change"),
    *("worst group's AUC change", "levelled down", "warns", "attribute at test", "cost"),
)
"""Of the table; before is plain training, and cost its training time's multiple."""


@dataclass(frozen=True, eq=False)
class Part:
    """The rows of a split."""

    images: Tensor  # (n, 3, size, size)
    labels: Tensor  # (n,)
    groups: NDArray[np.str_]  # (n,)
    method_groups: NDArray[np.str_]  # (n,) what methods read
    levels: Tensor  # (n,) of these


class Network(nn.Module):
    """Three convolutions, whose means over the image are the 32 features, and a linear head."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((3, 12), (12, 24), (24, 32)):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU()]
        self.encoder = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(32, outputs)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs of the head, and its inputs."""
        features = self.encoder(images)
        return self.head(features), features


def main() -> None:
    options = arguments().parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    lines = options.out / "fits.jsonl"
    if not options.table:
        for seed in range(options.first, options.first + options.seeds):
            for world in options.worlds:
                run_missing(lines, world, seed, options.methods)
    print(table(read(lines), options.first, options.seeds))


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS), choices=WORLDS)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--table", action="store_true", help="print the table, and fit nothing")
    return parser


def read(lines: Path) -> list[dict[str, Any]]:
    """Return the finished fits, without a last line that a kill cut short."""
    text = lines.read_text("utf-8") if lines.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def run_missing(lines: Path, world: str, seed: int, names: Sequence[str]) -> None:
    """Fit the methods that are missing for a world and seed, plain training first."""
    finished = {
        row["method"] for row in read(lines) if (row["world"], row["seed"]) == (world, seed)
    }
    missing = [name for name in dict.fromkeys(("erm", *names)) if name not in finished]
    if not missing:
        return
    parts = split(world, seed)
    plain = fit("erm", parts, seed)
    for name in missing:
        fitted = plain if name == "erm" else fit(name, parts, seed, plain)
        row = {"world": world, "seed": seed, "method": name}
        facts = {
            "seconds": fitted.seconds,
            "warning": fitted.warning,
            "attribute": fitted.attribute,
        }
        with lines.open("a", encoding="utf-8") as file:
            print(json.dumps({**row, **facts, **judged(parts, fitted, plain)}), file=file)


def split(world: str, seed: int) -> dict[str, Part]:
    """Return the splits of the phantoms of a world and seed."""
    cohort = make_phantoms(PhantomSettings(**COMMON, **WORLDS[world], seed=seed))
    table = cohort.table
    assert isinstance(cohort.read, ImageArray)
    images = torch.from_numpy(cohort.read.images).permute(0, 3, 1, 2).float() / 127.5 - 1
    parts = {}
    for name in ("train", "val", "test"):
        rows = np.flatnonzero((table["split"] == name).to_numpy())
        groups = table["attr_group"].astype(str).to_numpy()[rows].astype(np.str_)
        labels = torch.from_numpy(table["label"].to_numpy()[rows])
        order = np.random.default_rng(seed).permutation(len(groups))
        read_groups = groups[order] if world == "permuted" else groups
        levels = torch.from_numpy(level_codes(read_groups, LEVELS))
        parts[name] = Part(images[rows].contiguous(), labels, groups, read_groups, levels)
    return parts


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained network and its scores."""

    network: Network
    scores: Mapping[str, NDArray[np.float64]]  # by split
    seconds: float  # of CPU, training only
    warning: str | None
    attribute: str = "no"  # whether scoring needs the attribute; no training method does


def fit(name: str, parts: Mapping[str, Part], seed: int, plain: Fitted | None = None) -> Fitted:
    """Fit a method; ``dfr`` starts from the network of plain training."""
    if name.partition(":")[0] == "dfr":
        assert plain is not None
        return refit(plain, parts, seed)
    start = time.process_time()
    method = make_method(name, parts["train"], seed)
    network = trained(method, parts["train"], parts["val"], seed)
    seconds = time.process_time() - start
    scores = {key: scores_of(method, network, part) for key, part in parts.items()}
    return Fitted(network, scores, seconds, method.warning())


def make_method(name: str, train: Part, seed: int) -> TrainingMethod:
    """Return a method; one that trains twice gets the errors of a short first training."""
    if not find_method(name.partition(":")[0], "training").load().trains_twice:
        method: TrainingMethod = method_from_text(name)
        return method
    first = trained(TrainingMethod(), train, None, seed, epochs=FIRST_EPOCHS)
    with torch.no_grad():
        wrong = wrong_rows(first.eval()(train.images)[0], train.labels)
    twice: TrainingMethod = method_from_text(name, wrong=wrong)
    return twice


def trained(
    method: TrainingMethod, train: Part, val: Part | None, seed: int, epochs: int = EPOCHS
) -> Network:
    """Train a network by a method, as docs/guides/mitigation.md shows."""
    order = method.sampler(train.labels, train.method_groups, classes=2, seed=seed)
    torch.manual_seed(seed)
    network = Network(method.head_outputs(2))
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.01)
    steps = epochs * -(-len(order) // BATCH)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        network.train()
        for rows in torch.tensor(list(order)).split(BATCH):
            if len(rows) < 2:
                continue
            logits, features = network(train.images[rows])
            loss = method.loss(logits, features, train.labels[rows], train.levels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cosine.step()
            method.after_step(network)
        if val is not None:
            method.after_validation(validation_loss(method, network, val))
        method.after_epoch()
    if (weights := method.final_weights()) is not None:
        network.load_state_dict({**network.state_dict(), **weights})
        renew_batch_norm(network, train)
    return network.eval()


def validation_loss(method: TrainingMethod, network: Network, val: Part) -> float:
    with torch.no_grad():
        logits = method.scored(network.eval()(val.images)[0])
    return float(nn.functional.cross_entropy(logits, val.labels))


def renew_batch_norm(network: Network, train: Part) -> None:
    """Estimate the statistics of batch normalisation again, for averaged weights."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    network.train()
    with torch.no_grad():
        for images in train.images.split(BATCH):
            network(images)


def scores_of(method: TrainingMethod, network: Network, part: Part) -> NDArray[np.float64]:
    with torch.no_grad():
        logits = method.scored(network(part.images)[0])
    scores: NDArray[np.float64] = logits.softmax(dim=1)[:, 1].double().numpy()
    return scores


def refit(plain: Fitted, parts: Mapping[str, Part], seed: int) -> Fitted:
    """Fit a new last layer on validation rows; these are scored by layers of other rows."""
    with torch.no_grad():
        features = {name: plain.network(part.images)[1].numpy() for name, part in parts.items()}
    start = time.process_time()
    val, labels = parts["val"], parts["val"].labels.numpy()

    def layer(rows: NDArray[np.intp]) -> Any:
        groups = val.method_groups[rows]
        return refit_last_layer(features["val"][rows], labels[rows], groups, seed=seed)

    every = np.arange(len(labels))
    half = np.random.default_rng(seed).permutation(len(labels)) % 2 == 0
    whole = layer(every)
    scores = {name: whole.apply(features[name]) for name in parts}
    for held_out in (half, ~half):
        scores["val"][held_out] = layer(every[~held_out]).apply(features["val"][held_out])
    seconds = plain.seconds + time.process_time() - start
    return Fitted(plain.network, scores, seconds, None, whole.attribute)


def judged(parts: Mapping[str, Part], fitted: Fitted, plain: Fitted) -> dict[str, Any]:
    """Return the numbers of a fit on test rows, compared with plain training."""
    val, test = parts["val"], parts["test"]
    low, high, thresholds = roc_curve(val.labels, fitted.scores["val"])
    threshold = thresholds[np.argmax(high - low)]
    labels, scores = test.labels.numpy(), fitted.scores["test"]
    flagged = scores >= threshold
    rates = {
        (y, level): float(flagged[(labels == y) & (test.groups == level)].mean())
        for y in (0, 1)
        for level in LEVELS
    }
    gaps = {y: rates[y, "minority"] - rates[y, "majority"] for y in (0, 1)}
    return {
        "eodds": max(map(abs, gaps.values())),
        "tpr_gap": gaps[1],
        "fpr_gap": gaps[0],
        "auc": float(roc_auc_score(labels, scores)),
        **{f"auc_{level}": auc(test, scores, level) for level in LEVELS},
        "levelled_down": levelled_down(val, test, fitted.scores, plain.scores),
    }


def auc(part: Part, scores: NDArray[np.float64], level: str) -> float:
    own = part.groups == level
    return float(roc_auc_score(part.labels.numpy()[own], scores[own]))


def levelled_down(val: Part, test: Part, new: Mapping[str, Any], plain: Mapping[str, Any]) -> bool:
    """Return whether the worst group is not shown to gain, and some group is shown to lose."""
    worst = min(LEVELS, key=lambda level: auc(val, plain["val"], level))
    frame = measure_groups(
        test.labels.numpy(), new["test"], {"group": test.groups}, against=plain["test"]
    ).frame
    own = (frame["metric"] == "auc") & frame["group"].isin(LEVELS) & frame["against"].notna()
    changes = frame[own].set_index("group")
    shown = changes["p_adjusted"] <= ALPHA
    loses, gains = shown & (changes["value"] < 0), shown & (changes["value"] > 0)
    return bool(loses.any() and not gains[worst])


def table(fits: Sequence[Mapping[str, Any]], first: int, seeds: int) -> str:
    """Return the table, a row for each fault and method."""
    frame = pd.DataFrame(fits)
    frame = frame[frame["seed"].between(first, first + seeds - 1)]
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for (world, name), own in frame.groupby(["world", "method"], sort=False):
        plain = frame[(frame["world"] == world) & (frame["method"] == "erm")]
        lines.append(table_row(str(world), str(name), own.merge(plain, on="seed")))
    return "\n".join(lines)


def table_row(world: str, name: str, pair: pd.DataFrame) -> str:
    """Return a row of the table from fits and plain training, paired by seed."""
    worst = [pair[[f"auc_{level}_{side}" for level in LEVELS]].min(axis=1) for side in ("x", "y")]
    cells = [
        *(world, name, str(len(pair)), interval(pair["eodds_y"]), interval(pair["eodds_x"])),
        interval(pair["eodds_x"] - pair["eodds_y"], sign="+"),
        interval(pair["auc_x"] - pair["auc_y"], sign="+"),
        interval(worst[0] - worst[1], sign="+"),
        f"{int(pair['levelled_down_x'].sum())}",
        f"{int(pair['warning_x'].notna().sum())}",
        "/".join(sorted(set(pair["attribute_x"]))),
        f"{(pair['seconds_x'] / pair['seconds_y']).median():.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def interval(values: pd.Series[float], sign: str = "") -> str:
    """Return mean and 95 % interval (Student's) over seeds."""
    mean, count = values.mean(), len(values)
    if count < 2 or not values.std():
        return f"{mean:{sign}.3f}"
    half = student.ppf(0.975, count - 1) * values.std() / np.sqrt(count)
    return f"{mean:{sign}.3f} ({mean - half:{sign}.3f} to {mean + half:{sign}.3f})"


if __name__ == "__main__":
    main()
