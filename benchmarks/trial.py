"""Compare the seconds per trial of a search over masks with the plain way.

The plain way, that of the field's public code, decodes every JPEG in every epoch at the smallest
sufficient scale, computes gradients for every layer although the optimizer has those of the mask
only, scores each training batch, and scores validation by batch. Ours is the job's own path:
samples from the store, no gradients for frozen parts, and each epoch's objective from all
validation rows at once. Both have the same network, random weights, data, augmentation, optimizer
and number of epochs, and build the network in each trial; the time to build the store, once for a
whole search, is in the detail.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader

from evenhand.cohort.cohort import Cohort
from evenhand.experiments.settings import TrainingSettings
from evenhand.experiments.task import Task, prepare_task, train_model
from evenhand.masks.masks import Mask, constant, find_units
from evenhand.masks.strategies import find_strategy
from evenhand.networks.augment import AUGMENTATIONS
from evenhand.networks.model import Model
from input_pipeline import Decoding, data_settings

MASKS = {"half_mask": "random:0", "head_only": "head"}
LR = 1e-4
GOALS = {"half_mask": 1.5, "head_only": 2.5}


class Labelled(Decoding):
    """A data set that decodes a file each time, with its label and group."""

    def __init__(self, cohort: Cohort, size: int, attribute: str) -> None:
        super().__init__(cohort, size)
        self.labels = cohort.labels
        self.groups = cohort.table[f"attr_{attribute}"].tolist()

    def __getitem__(self, position: int) -> tuple[Tensor, int, str]:
        return super().__getitem__(position), int(self.labels[position]), self.groups[position]


def main() -> None:
    args = arguments().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        task = prepare_task(settings(args, Path(folder)))
        prepared = time.perf_counter() - start
        for name, strategy in MASKS.items():
            result = compare(task, name, strategy, args.repeats)
            result["detail"]["prepared_in_seconds"] = round(prepared, 2)
            print(json.dumps(result), flush=True)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="ham10000:PATH; JPEGs of phantoms where it is absent")
    parser.add_argument("--backbone", default="vit_tiny_patch16_224")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--patient-share", type=float, default=1.0)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    return parser


def settings(arguments: argparse.Namespace, folder: Path) -> TrainingSettings:
    data = data_settings(arguments.data, folder).model_dump()
    changes = {
        "attribute": ("sex" if arguments.data else "attr_sex",),
        "cache": folder / "cache",
        "patient_share": arguments.patient_share,
        "backbone": arguments.backbone,
        "weights": "none",
        "image_size": arguments.image_size,
        "epochs": arguments.epochs,
        "target": ("auc_worst",),
        "augment": "free",
        "device": "cpu",
    }
    return TrainingSettings(**{**data, **changes})


def compare(task: Task, name: str, strategy: str, repeats: int) -> dict[str, object]:
    mask = find_strategy(strategy)(task.model(), 0)[1](0)
    pairs = [(plain(task, mask), ours(task, mask)) for _ in range(repeats + 1)][1:]  # one to warm
    ratios = [theirs / mine for theirs, mine in pairs]
    plain_seconds, our_seconds = (statistics.median(times) for times in zip(*pairs, strict=True))
    return {
        "name": f"trial_{name}",
        "ratio": round(statistics.median(ratios), 2),
        "better": "higher",
        "goal": GOALS[name],
        "detail": {
            "ratios": [round(ratio, 2) for ratio in sorted(ratios)],
            "plain_seconds": round(plain_seconds, 2),
            "ours_seconds": round(our_seconds, 2),
            "backbone": task.settings.backbone,
            "image_size": task.settings.image_size,
            "epochs": task.settings.epochs,
            "train_images": len(task.splits.train),
            "val_images": len(task.splits.val),
            "units_tuned": len(mask),
            "threads": torch.get_num_threads(),
            "data": task.splits.train.source.reader,
        },
    }


def ours(task: Task, mask: Mask) -> float:
    start = time.perf_counter()
    train_model(task, task.model(), constant(mask), task.fit_settings(LR))
    return time.perf_counter() - start


def plain(task: Task, mask: Mask) -> float:
    start = time.perf_counter()
    model = task.model()
    units = find_units(model.backbone, mask)
    tuned = [*model.head.parameters(), *(p for unit in units for p in unit.parameters)]
    optimizer = torch.optim.AdamW(tuned, lr=LR, fused=True)
    loaders = [loader(task, split) for split in ("train", "val")]
    for _ in range(task.settings.epochs):
        plain_epoch(task, model, optimizer, loaders[0])
        plain_validation(model, loaders[1])
    return time.perf_counter() - start


def loader(task: Task, split: str) -> DataLoader[tuple[Tensor, Tensor, list[str]]]:
    cohort, loop = getattr(task.splits, split), task.settings
    data = Labelled(cohort, loop.image_size, loop.attribute[0])
    return DataLoader(data, batch_size=loop.batch_size, shuffle=True)


def plain_epoch(
    task: Task,
    model: Model,
    optimizer: torch.optim.Optimizer,
    batches: DataLoader[tuple[Tensor, Tensor, list[str]]],
) -> list[float]:
    model.train()
    augment, rng = AUGMENTATIONS[task.settings.augment], Generator().manual_seed(0)
    result = []
    for images, labels, groups in batches:
        logits = model(augment(images.float() / 255, rng))
        model.zero_grad()  # also of what the optimizer does not hold
        nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
        result.append(worst_auc(logits.detach(), labels, groups))
    return result


@torch.no_grad()
def plain_validation(model: Model, batches: DataLoader[tuple[Tensor, Tensor, list[str]]]) -> float:
    model.eval()
    result = [
        worst_auc(model(images.float() / 255), labels, groups) for images, labels, groups in batches
    ]
    return float(np.nanmean(result))


def worst_auc(logits: Tensor, labels: Tensor, groups: list[str]) -> float:
    """Return the lowest AUC of the batch's groups that have both classes; NaN without any."""
    label, group, score = labels.numpy(), np.array(groups), logits.softmax(dim=1)[:, 1].numpy()
    rows = [group == name for name in np.unique(groups)]
    result = [roc_auc_score(label[row], score[row]) for row in rows if np.ptp(label[row]) > 0]
    return min(result, default=float("nan"))


if __name__ == "__main__":
    main()
