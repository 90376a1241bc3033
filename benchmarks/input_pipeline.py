"""Compare images per second from the sample store with decoding in every epoch.

The plain way is a ``DataLoader`` over a data set that decodes each JPEG with Pillow, at the
smallest sufficient scale, and resizes it; with no worker or with two, whichever is faster. Ours is
a ``BatchSource`` over the store that was built beforehand; the time to build it is in the detail.
Both give shuffled uint8 batches on the CPU, from files in the system's file cache.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.phantoms.images import PhantomSettings, make_phantoms
from evenhand.cohort.readers import open_cohort
from evenhand.cohort.settings import DataSettings
from evenhand.cohort.store.batches import BatchSource
from evenhand.cohort.store.samples import store_samples

BATCH = 64
REPEATS = 5
GOAL = 20.0


class Decoding(Dataset[Tensor]):
    """A data set that decodes a file each time it is read."""

    def __init__(self, cohort: Cohort, size: int) -> None:
        self.read = cohort.read.resized(size)
        self.ids = cohort.table["sample_id"].tolist()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, position: int) -> Tensor:
        return torch.from_numpy(np.array(self.read(self.ids[position]))).permute(2, 0, 1)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", help="ham10000:PATH; JPEGs of phantoms where it is absent")
    arguments.add_argument("--image-size", type=int, nargs="+", default=[64, 224])
    args = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cohort = open_cohort(data_settings(args.data, Path(folder)))
        for size in args.image_size:
            print(json.dumps(compare(cohort, size, Path(folder) / "cache")), flush=True)


def data_settings(data: str | None, folder: Path) -> DataSettings:
    if data is not None:
        return DataSettings(data=data)
    phantoms = make_phantoms(PhantomSettings(patients=1000, size=224))
    rows = phantoms.table.assign(image=phantoms.table["sample_id"] + ".jpg")
    for sample_id, image in zip(rows["sample_id"], rows["image"], strict=True):
        PIL.Image.fromarray(phantoms.read(sample_id)).save(folder / image, quality=90)
    rows.to_csv(folder / "phantoms.csv", index=False)
    return DataSettings(
        data=str(folder / "phantoms.csv"),
        image_column="image",
        label="label",
        patient="patient_id",
    )


def compare(cohort: Cohort, size: int, cache: Path) -> dict[str, object]:
    start = time.perf_counter()
    stored = store_samples(cohort, size, cache)
    built = time.perf_counter() - start
    source = BatchSource(stored, torch.device("cpu"))
    plain = {
        workers: DataLoader(
            Decoding(cohort, size),
            batch_size=BATCH,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        for workers in (0, 2)
    }
    times = [
        {
            "ours": seconds(lambda: epoch(source)),
            **{f"plain_{n}": seconds(plain[n].__iter__) for n in plain},
        }
        for _ in range(REPEATS + 1)
    ][1:]  # the first epoch starts workers and warms the page cache
    fastest = min((f"plain_{n}" for n in plain), key=lambda name: median(times, name))
    ratios = [time[fastest] / time["ours"] for time in times]
    return {
        "name": f"input_pipeline_{size}px",
        "ratio": round(statistics.median(ratios), 1),
        "better": "higher",
        "goal": GOAL,
        "detail": {
            "images": len(cohort),
            "ratios": [round(ratio, 1) for ratio in sorted(ratios)],
            "images_per_second": {
                name: round(len(cohort) / median(times, name)) for name in times[0]
            },
            "plain": fastest,
            "store_built_in_seconds": round(built, 2),
            "data": cohort.source.reader,
        },
    }


def epoch(source: BatchSource) -> Iterator[Tensor]:
    order = np.random.default_rng().permutation(len(source))
    for start in range(0, len(order), BATCH):
        yield source.take(order[start : start + BATCH]).inputs


def seconds(batches: Callable[[], Iterator[Tensor]]) -> float:
    start = time.perf_counter()
    for _ in batches():
        pass
    return time.perf_counter() - start


def median(times: list[dict[str, float]], name: str) -> float:
    return statistics.median(time[name] for time in times)


if __name__ == "__main__":
    main()
