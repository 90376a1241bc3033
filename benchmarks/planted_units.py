"""Test FairPrune on networks in which half of the hidden units serve the privileged group.

A small network is trained on vectors. Half of its hidden units read features that show the label
of the privileged group; these units are planted. For the unprivileged group, the same features

- silent: are 0, so the units have no effect;
- quiet: mislead, at 0.3 of their size;
- loud: mislead at full size;
- none: show every label, and the gap comes from noise in all features (negative control).

As many weights are pruned as the planted units have: by FairPrune's saliency, by the same with the
first-order term of the loss, by Optimal Brain Damage on the unprivileged group and on all samples,
by magnitude and at random. Prints changes of AUC on 4,000 test vectors, pruned minus unpruned, as
means over seeds with 95 % intervals (Student); the share of planted units among the pruned ones;
and the ratio of the second-order terms of the planted units, unprivileged over privileged group:

    python benchmarks/planted_units.py --seeds 20
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from evenhand.pruning.channels import remove_weights
from evenhand.pruning.curvature import GroupBatch, find_estimator
from evenhand.pruning.loop import PruningState, WeightMask, apply_mask, count_kept, freeze_zeros
from evenhand.pruning.saliency import error_change, saliency

PLANTS = ("silent", "quiet", "loud", "none")
PRIVILEGED, UNPRIVILEGED = "privileged", "unprivileged"
SHARED, OWN, UNITS = 8, 8, 8  # features of both kinds, and units that read each kind
TRAIN = {PRIVILEGED: 3200, UNPRIVILEGED: 800}
TEST = 2000  # of each group
BETA = 0.33
STEPS, RATE, DECAY = 300, 0.02, 0.01
NAMES = ("0.weight", "2.weight")

Group = tuple[Tensor, Tensor]  # features (n, 16), labels (n,)
Scores = Mapping[str, Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--plants", nargs="+", default=list(PLANTS), choices=PLANTS)
    args = parser.parse_args()
    print(table(pd.DataFrame([row for p in args.plants for row in results(p, args.seeds)])))


def results(plant: str, seeds: int) -> list[dict[str, object]]:
    """Return a row for each seed and way of pruning."""
    return [row for seed in range(seeds) for row in one_network(plant, seed)]


def one_network(plant: str, seed: int) -> list[dict[str, object]]:
    rng = np.random.default_rng([seed, PLANTS.index(plant)])
    train = {group: vectors(rng, plant, group, n) for group, n in TRAIN.items()}
    test = {group: vectors(rng, plant, group, TEST) for group in TRAIN}
    network, mask = trained(train, seed)
    before = aucs(network, test)
    count = count_kept(planted(network))
    h = curvature(network, train)
    rows = []
    for name, scores in ways(network, train, h, seed).items():
        state = PruningState(network, mask, count_kept(mask), count_kept(mask))
        after = aucs(remove_weights(state, scores, count).model, test)
        change = {group: after[group] - before[group] for group in before}
        gone = remove_weights(state, scores, count).mask
        rows.append(
            {
                "plant": plant,
                "method": name,
                "seed": seed,
                "gap before": before[PRIVILEGED] - before[UNPRIVILEGED],
                "gap": change[PRIVILEGED] - change[UNPRIVILEGED],
                **change,
                "planted": share_planted(network, mask, gone),
                "h ratio": cost(network, h[UNPRIVILEGED]) / cost(network, h[PRIVILEGED]),
            }
        )
    return rows


def vectors(rng: np.random.Generator, plant: str, group: str, n: int) -> Group:
    """Return features and labels of one group."""
    labels = rng.integers(0, 2, n)
    side = (2 * labels - 1)[:, None]
    features = rng.normal(size=(n, SHARED + OWN))
    features[:, :SHARED] += 0.3 * side
    harder = plant == "none" and group == UNPRIVILEGED
    own = features[:, SHARED:]
    if group == PRIVILEGED or plant == "none":
        own += 0.4 * side
    elif plant == "silent":
        own *= 0
    else:
        own -= 0.4 * side
        own *= 0.3 if plant == "quiet" else 1.0
    features += rng.normal(size=features.shape) * (0.8 if harder else 0.0)
    return torch.tensor(features, dtype=torch.float32), torch.tensor(labels)


def trained(train: Mapping[str, Group], seed: int) -> tuple[nn.Module, WeightMask]:
    """Return a trained network, and the mask of the weights of its two halves."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        # Without a bias it cannot tell small features from large ones, and so not the groups.
        first = nn.Linear(SHARED + OWN, 2 * UNITS, bias=False)
        network = nn.Sequential(first, nn.ReLU(), nn.Linear(2 * UNITS, 2))
    mask = {
        "0.weight": torch.block_diag(torch.ones(UNITS, SHARED), torch.ones(UNITS, OWN)).bool(),
        "2.weight": torch.ones(2, 2 * UNITS, dtype=torch.bool),
    }
    apply_mask(network, mask)
    inputs, labels = joined(train)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    with freeze_zeros(network, mask):
        for _ in range(STEPS):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(inputs), labels).backward()
            optimizer.step()
            rate.step()
    return network, mask


def planted(network: nn.Module) -> WeightMask:
    """Return the weights into and out of the planted units."""
    first = torch.zeros(network.get_parameter("0.weight").shape, dtype=torch.bool)
    first[UNITS:, SHARED:] = True
    second = torch.zeros(network.get_parameter("2.weight").shape, dtype=torch.bool)
    second[:, UNITS:] = True
    return {"0.weight": first, "2.weight": second}


def share_planted(network: nn.Module, before: WeightMask, after: WeightMask) -> float:
    """Return the share of planted units among the pruned weights."""
    gone = {name: before[name] & ~after[name] for name in before}
    ours = sum(int((gone[name] & values).sum()) for name, values in planted(network).items())
    return ours / count_kept(gone)


def curvature(network: nn.Module, train: Mapping[str, Group]) -> dict[str, dict[str, Tensor]]:
    """Return the exact Gauss-Newton diagonal of each group."""
    ends = np.cumsum([0, *(len(labels) for _, labels in train.values())])
    rows = {group: slice(*ends[k : k + 2]) for k, group in enumerate(train)}
    batch = GroupBatch(*joined(train), rows)
    return find_estimator("ggn")(1, torch.Generator())(network, [batch], NAMES)


def cost(network: nn.Module, h: Scores) -> float:
    """Return the second-order term of the planted units, Σ h θ² / 2."""
    whole = error_change({name: network.get_parameter(name).detach() for name in NAMES}, h)
    return sum(float(whole[name][values].sum()) for name, values in planted(network).items())


def ways(
    network: nn.Module, train: Mapping[str, Group], h: Mapping[str, Scores], seed: int
) -> dict[str, Scores]:
    """Return the ranking of weights of each way of pruning; the smallest are pruned."""
    theta = {name: network.get_parameter(name).detach() for name in NAMES}
    slope = {group: first_order(network, *values) for group, values in train.items()}
    sizes = {group: n / sum(TRAIN.values()) for group, n in TRAIN.items()}
    everybody = {name: sum(sizes[g] * own[name] for g, own in h.items()) for name in NAMES}
    fair = saliency(theta, h, UNPRIVILEGED, {PRIVILEGED: BETA})
    drawn = torch.Generator().manual_seed(seed)
    return {
        "FairPrune": fair,
        "with the first-order term": {
            name: fair[name] + slope[UNPRIVILEGED][name] - BETA * slope[PRIVILEGED][name]
            for name in NAMES
        },
        "Optimal Brain Damage on the unprivileged": error_change(theta, h[UNPRIVILEGED]),
        "Optimal Brain Damage on everybody": error_change(theta, everybody),
        "magnitude": {name: value.abs() for name, value in theta.items()},
        "random": {name: torch.rand(value.shape, generator=drawn) for name, value in theta.items()},
    }


def first_order(network: nn.Module, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the change of a group's mean loss by its slope when each weight is zeroed, -g θ."""
    own = [network.get_parameter(name) for name in NAMES]
    slopes = torch.autograd.grad(nn.functional.cross_entropy(network(inputs), labels), own)
    return {n: (-g * p).detach() for n, g, p in zip(NAMES, slopes, own, strict=True)}


def joined(groups: Mapping[str, Group]) -> Group:
    inputs, labels = zip(*groups.values(), strict=True)
    return torch.cat(inputs), torch.cat(labels)


@torch.no_grad()
def aucs(network: nn.Module, groups: Mapping[str, Group]) -> dict[str, float]:
    return {
        group: float(roc_auc_score(labels, network(inputs).softmax(1)[:, 1]))
        for group, (inputs, labels) in groups.items()
    }


def interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the mean over seeds with Student's 95 % interval."""
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return values.mean(), values.mean() - half, values.mean() + half


def table(rows: pd.DataFrame) -> str:
    """Return means and intervals as Markdown."""
    columns = ("gap before", "gap", PRIVILEGED, UNPRIVILEGED, "planted", "h ratio")
    lines = [f"| plant | pruned by | {' | '.join(columns)} |", "|---" * 8 + "|"]
    for (plant, method), own in rows.groupby(["plant", "method"], sort=False):
        cells = [show(own[name].to_numpy(float)) for name in columns]
        lines.append(f"| {plant} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def show(values: NDArray[np.float64]) -> str:
    mean, low, high = interval(values)
    return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})".replace("0.", ".").replace("-", "\u2212")


if __name__ == "__main__":
    main()
