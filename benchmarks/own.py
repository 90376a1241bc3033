"""Measure time and lines of engines on one's own network, against jobs and libraries by hand.

``saliency``: `group_saliency`, relative to what ``evenhand prune`` computes for its first step on
the same batches: the check against autograd, curvature and saliency.
``search``: `search_masks` with a plain loop, relative to Optuna by hand with that loop, per
training.
Both are medians of CPU time over interleaved pairs in one process. ``lines`` counts lines.
"""

from __future__ import annotations

import argparse
import inspect
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import evenhand  # isort: skip  (its guard mends torchvision where it is broken)
import fairlearn.metrics
import numpy as np
import optuna
import pandas as pd
import torch
import torchvision
from fairlearn.metrics import MetricFrame
from sklearn.metrics import roc_auc_score as auc
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from evenhand.pruning.curvature import GroupBatch, check_squares, find_estimator
from evenhand.pruning.saliency import saliency

ROLES: dict[str, Any] = {"unprivileged": "f", "betas": {"m": 0.3}}
TRIALS, EPOCHS = 12, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("saliency", "search", "lines"))
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    {"saliency": compare_saliency, "search": compare_search, "lines": count_lines}[arguments.what](
        arguments.repeats
    )


def compare_saliency(repeats: int) -> None:
    network = torchvision.models.resnet18(num_classes=2).eval()
    rng = torch.Generator().manual_seed(0)
    images = [torch.rand(32, 3, 64, 64, generator=rng) for _ in range(4)]
    labels = torch.tensor([0, 1] * 16)
    groups = ["f"] * 16 + ["m"] * 16
    batches = [(inputs, labels, groups) for inputs in images]
    rows = {"f": slice(0, 16), "m": slice(16, 32)}
    names = [*evenhand.group_saliency(network, batches, **ROLES)]

    def ours() -> None:
        evenhand.group_saliency(network, batches, **ROLES)

    def job() -> None:
        check_squares(network, images[0][[0, 31]], names)
        stream = [GroupBatch(inputs, labels, rows) for inputs in images]
        h = find_estimator("ggn-mc")(1, torch.Generator().manual_seed(0))(network, stream, names)
        theta = {name: network.get_parameter(name).detach() for name in names}
        saliency(theta, h, "f", ROLES["betas"])

    show("group_saliency_over_job", ours, job, repeats, "ResNet-18, 4 batches of 32, 64 pixels")


LABELS = np.array([0, 1] * 40)
GROUPS = np.repeat(["f", "m"], 40)
INPUTS = torch.randn(80, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def make() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2)),
    )


def epochs(network: nn.Module, lr: float) -> Iterator[Tensor]:
    """Train as both searches do, and yield the scores after each epoch."""
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr)
    for _ in range(EPOCHS):
        network.train()
        for start in range(0, 80, 20):
            part = slice(start, start + 20)
            optimizer.zero_grad()
            loss = F.cross_entropy(network(INPUTS[part]), torch.tensor(LABELS[part]))
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            yield network.eval()(INPUTS).softmax(1)


def search_ours(**more: Any) -> Any:
    units = evenhand.units_of(make())

    def train(choice):
        network = make()
        evenhand.tune_only(network, choice.units)
        yield from epochs(network, choice.lr)

    return evenhand.search_masks(train, units, y_true=LABELS, groups=GROUPS, trials=TRIALS, **more)


def search_by_hand() -> optuna.Study:
    parts = {"0": 0, "1": 1, "4": 4, "5": 5}

    def objective(trial):
        network = make()
        for name, place in parts.items():
            network[place].requires_grad_(bool(trial.suggest_int(name, 0, 1)))
        for step, scores in enumerate(
            epochs(network, trial.suggest_float("lr", 1e-5, 1e-2, log=True))
        ):
            value = min(auc(LABELS[g == GROUPS], scores[g == GROUPS, 1]) for g in np.unique(GROUPS))
            trial.report(value, step)
        return value

    study = optuna.create_study(direction="maximize")
    study.optimize(objective, n_trials=TRIALS)
    return study


def compare_search(repeats: int) -> None:
    def ours() -> None:
        ours = search_ours(confirm=0, stopping=False)
        assert (ours.trials["epochs"].dropna() == EPOCHS).all()

    detail = f"{TRIALS} trainings of {EPOCHS} epochs each, no stopping, no confirmation"
    show("search_masks_over_optuna", ours, lambda: search_by_hand() and None, repeats, detail)


def metric_ours(y, score, table):
    return evenhand.measure_groups(y, score, table["sex"])


def metric_by_hand(y, score, table):
    return MetricFrame(metrics=auc, y_true=y, y_pred=score, sensitive_features=table["sex"])


def groups_ours(y, score, table):
    return evenhand.measure_groups(y, score, table[["sex", "site"]])


def groups_by_hand(y, score, table):
    numbers = {}
    for attribute in ("sex", "site"):
        frame = MetricFrame(
            metrics={"auc": auc, "n": fairlearn.metrics.count, "positives": positives},
            y_true=y, y_pred=score, sensitive_features=table[attribute],
            n_boot=1000, ci_quantiles=[0.025, 0.975],
        )  # fmt: skip
        groups = frame.by_group, frame.by_group_ci
        numbers[attribute] = (*groups, frame.difference(), frame.difference_ci())
    return numbers


def positives(y_true, y_pred):
    return int(y_true.sum())


def saliency_ours(network, batches):
    return evenhand.group_saliency(network, batches, unprivileged="f", betas={"m": 0.3})


def saliency_by_hand(network, batches):
    names, parameters = zip(*network.named_parameters(), strict=True)
    h = {g: [torch.zeros_like(p) for p in parameters] for g in ("f", "m")}
    count = dict.fromkeys(h, 0)
    for inputs, labels, groups in batches:
        for x, y, g in zip(inputs, labels, groups, strict=True):
            loss = F.cross_entropy(network(x[None]), y[None])
            for total, grad in zip(h[g], torch.autograd.grad(loss, parameters), strict=True):
                total += grad**2
            count[g] += 1
    rows = zip(names, parameters, h["f"], h["m"], strict=True)
    return {n: p**2 / 2 * (f / count["f"] - 0.3 * m / count["m"]) for n, p, f, m in rows}


def saliency_with_captum(network, batches):
    from captum.attr import LayerGradientXActivation

    values = {}
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            attribution, h, count = LayerGradientXActivation(network, layer), {}, {}
            for inputs, labels, groups in batches:
                scores = attribution.attribute(inputs, target=labels).detach() ** 2
                for g in ("f", "m"):
                    h[g] = h.get(g, 0) + scores[torch.tensor(groups == g)].sum(0)
                    count[g] = count.get(g, 0) + (groups == g).sum()
            values[name] = h["f"] / count["f"] - 0.3 * h["m"] / count["m"]
    return values


def channels_ours(network, batches, example, evaluate):
    return evenhand.prune_module(
        network, batches, evaluate, unprivileged="f", betas={"m": 0.3}, budget=1, limit=30,
        structure="channel", example=example,
    )  # fmt: skip


def channels_by_hand(network, batches, example, evaluate):
    import torch_pruning

    importance = torch_pruning.importance.MagnitudeImportance()
    pruner = torch_pruning.pruner.MetaPruner(
        network, example, importance, pruning_ratio=0.3, ignored_layers=[network[-1]]
    )
    pruner.step()
    return network


def layers_ours(first, second, loader, sex):
    return evenhand.compare_layers(first, second, loader, sex)


def layers_by_hand(first, second, loader, sex):
    result = ([], [])
    for network, rows in zip((first, second), result, strict=True):
        hook = network[4].register_forward_hook(
            lambda m, x, y, rows=rows: rows.append(y.mean((2, 3)))
        )
        with torch.no_grad():
            for batch in loader:
                network.eval()(batch[0])
        hook.remove()
    values = {}
    for group in np.unique(sex):
        x, y = (torch.cat(rows)[torch.tensor(sex == group)] for rows in result)
        x, y = x - x.mean(0), y - y.mean(0)
        values[group] = (x.T @ y).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm())
    return values


def count_lines(repeats: int) -> None:
    labels = torch.tensor(LABELS)
    batches = [(INPUTS, labels, GROUPS)]
    scores = np.random.default_rng(0).random(80)
    table = pd.DataFrame({"sex": GROUPS, "site": np.tile(["A", "A", "B", "B"], 20)})
    tasks: dict[str, tuple[Any, Any, tuple[Any, ...]]] = {
        "a metric by group (fairlearn)": (metric_ours, metric_by_hand, (LABELS, scores, table)),
        "two attributes with intervals and counts (fairlearn)": (
            groups_ours,
            groups_by_hand,
            (LABELS, scores, table),
        ),
        "search of masks (Optuna)": (search_ours, search_by_hand, ()),
        "saliency by group (autograd)": (
            saliency_ours,
            saliency_by_hand,
            (make().eval(), batches),
        ),
        "saliency by group (captum)": (
            saliency_ours,
            saliency_with_captum,
            (make().eval(), batches),
        ),
        "channels (torch-pruning)": (
            channels_ours,
            channels_by_hand,
            (make(), batches, INPUTS[:1], lambda network: 1.0),
        ),
        "CKA by group (torch)": (layers_ours, layers_by_hand, (make(), make(), batches, GROUPS)),
    }
    if not find_spec("captum"):
        print("captum is not installed: pip install captum", file=sys.stderr)
        del tasks["saliency by group (captum)"]
    for name, (ours, theirs, inputs) in tasks.items():
        ours(*inputs)
        theirs(*inputs)
        print(f"| {name} | {lines(ours)} | {lines(theirs)} |")


def lines(function: Callable[..., Any]) -> int:
    """Count the lines of a function's body, without blank lines and the def."""
    return sum(bool(line.strip()) for line in inspect.getsource(function).splitlines()[1:])


def show(
    name: str, ours: Callable[[], None], theirs: Callable[[], None], n: int, text: str
) -> None:
    ours(), theirs()  # imports and caches
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(n)]
    ratios = [item / other for item, other in pairs]
    middle = [round(statistics.median(side), 3) for side in zip(*pairs, strict=True)]
    rounded = [round(ratio, 3) for ratio in ratios]
    detail = {"pairs": n, "ratios": rounded, "what": text, "cpu_seconds": middle}
    goal = {"name": name, "ratio": statistics.median(ratios), "better": "lower", "goal": 1.1}
    print(json.dumps({**goal, "detail": detail}))


def seconds(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    main()
