"""Measure the cost of readers on synthetic files: 400,000 images, windows of MESA.

``read_400k_images`` opens a CheXpert of 400,000 (empty) images: seconds, limit 10, and the peak
memory of the process, Python and pandas included, limit 1 GiB. ``mesa_bytes_per_window`` opens two
million windows: bytes of the cohort beyond the raw signals, limit 40 each. ``store_after_kill``
decodes JPEGs of phantoms, is killed half-way and continues: the time of the second part, relative
to a whole build. Each runs in a process of its own, so that memory is measured separately.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import resource
import signal
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image

from evenhand.cohort.phantoms.images import PhantomSettings, make_phantoms
from evenhand.cohort.readers import open_cohort
from evenhand.cohort.readers.mesa_sleep import CHANNELS
from evenhand.cohort.registry import CHEST_FINDINGS
from evenhand.cohort.series.recordings import Series
from evenhand.cohort.settings import DataSettings
from evenhand.cohort.store.building import CHUNK, JOURNAL
from evenhand.cohort.store.samples import store_samples

GIB = 2**30
SECONDS, BYTES = 10.0, 40.0


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--images", type=int, default=400_000)
    arguments.add_argument("--people", type=int, default=1_800)
    args = arguments.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool,
    ):
        root = Path(folder)
        make_chexpert(root / "chexpert", args.images)
        make_mesa(root / "mesa", args.people)
        make_pictures(root / "pictures", 2_000)
        for claim, place in ((metadata, "chexpert"), (windows, "mesa"), (killed, "pictures")):
            for line in pool.submit(claim, root / place).result():
                print(json.dumps(line), flush=True)


def metadata(root: Path) -> list[dict[str, object]]:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        cohort = open_cohort(DataSettings(data=f"chexpert:{root}", attribute=("sex", "age")))
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    detail = {"images": len(cohort), "seconds": [round(t, 2) for t in times]}
    memory = {"images": len(cohort), "peak_mib": round(peak / 2**20)}
    return [
        claim("read_400k_images_seconds", float(np.median(times)) / SECONDS, detail),
        claim("read_400k_images_memory", peak / GIB, memory),
    ]


def windows(root: Path) -> list[dict[str, object]]:
    open_cohort(DataSettings(data=f"mesa_sleep:{root}"))  # what is loaded once, is loaded
    gc.collect()
    before, start = resident(), time.perf_counter()
    cohort = open_cohort(DataSettings(data=f"mesa_sleep:{root}"))
    seconds = time.perf_counter() - start
    raw = len(cohort) * len(CHANNELS) * 4
    assert isinstance(cohort.read, Series)
    ids = buffers(cohort.table["sample_id"])
    assert ids == buffers(cohort.read.windows.index), "ids are counted once: they must be shared"
    parts = {
        "table": int(cohort.table.memory_usage(deep=True).sum()),
        "windows": int(cohort.read.windows.memory_usage(index=False, deep=True).sum()),
    }
    each = sum(parts.values()) / len(cohort)
    gc.collect()
    detail = {
        "windows": len(cohort),
        "bytes_each": round(each, 1),
        "parts": {name: round(size / len(cohort), 1) for name, size in parts.items()},
        "raw_signals_mib": round(raw / 2**20),
        "resident_growth_mib": round((resident() - before) / 2**20),
        "seconds": round(seconds, 1),
    }
    return [claim("mesa_bytes_per_window", each / BYTES, detail)]


def killed(root: Path) -> list[dict[str, object]]:
    settings = DataSettings(
        data=str(root / "pictures.csv"), image_column="image", label="label", patient="patient_id"
    )
    cohort = open_cohort(settings)
    cache = root / "cache"
    start = time.perf_counter()
    store_samples(cohort, 224, root / "whole")
    whole = time.perf_counter() - start
    builder = multiprocessing.get_context("spawn").Process(target=build, args=(settings, cache))
    builder.start()
    wait_for(lambda: lines(cache) >= len(cohort) // CHUNK // 2)
    os.kill(builder.pid or 0, signal.SIGKILL)
    builder.join()
    done = lines(cache) * CHUNK
    start = time.perf_counter()
    store_samples(cohort, 224, cache)
    rest = time.perf_counter() - start
    detail = {
        "images": len(cohort),
        "cores": os.cpu_count(),
        "images_per_second": round(len(cohort) / whole),
        "kept": done,
        "seconds": {"whole": round(whole, 2), "after_the_kill": round(rest, 2)},
    }
    return [claim("store_after_kill", rest / whole, detail)]


def build(settings: DataSettings, cache: Path) -> None:
    store_samples(open_cohort(settings), 224, cache)


def lines(cache: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in cache.rglob(JOURNAL))


def wait_for(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.01)


def claim(name: str, ratio: float, detail: dict[str, object]) -> dict[str, object]:
    return {
        "name": name,
        "ratio": round(ratio, 3),
        "better": "lower",
        "goal": 1.0,
        "detail": detail,
    }


def buffers(ids: pd.Series | pd.Index) -> set[int]:
    """Return the addresses of the text of ids in memory."""
    chunks = ids.array.__arrow_array__().chunks
    return {part.address for chunk in chunks for part in chunk.buffers() if part is not None}


def resident() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def make_chexpert(root: Path, images: int) -> None:
    rng = np.random.default_rng(0)
    patient = np.arange(images) // 3
    path = [f"train/patient{p:06d}/study1/view{n % 3}.jpg" for n, p in enumerate(patient)]
    for name in path:
        file = root / name
        if file.name == "view0.jpg":
            file.parent.mkdir(parents=True)
        file.touch()
    findings = {
        name: rng.choice(["", "1.0", "0.0", "-1.0"], images)
        for name in ("No Finding", *CHEST_FINDINGS)
    }
    frame = {
        "Path": [f"CheXpert-v1.0/{name}" for name in path],
        "Sex": rng.choice(["Female", "Male"], images),
        "Age": rng.integers(18, 90, images),
        "Frontal/Lateral": rng.choice(["Frontal", "Lateral"], images),
        "AP/PA": rng.choice(["AP", "PA", ""], images),
        **findings,
    }
    pd.DataFrame(frame).to_csv(root / "train.csv", index=False)


def make_mesa(root: Path, people: int, epochs: int = 1_250) -> None:
    rng = np.random.default_rng(0)
    seconds = (20 * 3600 + 30 * np.arange(epochs)) % (24 * 3600)
    time_of_day = [f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}" for s in seconds]
    n = people * epochs
    frame = pd.DataFrame(
        {
            "mesaid": np.repeat(np.arange(1, people + 1), epochs),
            "linetime": np.tile(time_of_day, people),
            **{name: rng.uniform(0, 99, n).round(2) for name in CHANNELS},
            "gt": rng.random(n) < 0.5,
        }
    )
    root.mkdir()
    cut = people * 4 // 5 * epochs
    frame[:cut].to_csv(root / "dftrain_task1.csv", index=False)
    frame[cut:].to_csv(root / "dftest_task1.csv", index=False)
    demographics = {
        "mesaid": range(1, people + 1),
        "nsrr_age": rng.integers(54, 95, people),
        "nsrr_sex": rng.choice(["female", "male"], people),
        "nsrr_race": rng.choice(["white", "black or african american", "hispanic"], people),
    }
    pd.DataFrame(demographics).to_csv(root / "demographics.csv", index=False, sep=";")


def make_pictures(root: Path, images: int) -> None:
    root.mkdir()
    phantoms = make_phantoms(PhantomSettings(patients=images, size=64))
    rows = phantoms.table.assign(image=phantoms.table["sample_id"] + ".jpg")
    for sample_id, image in zip(rows["sample_id"], rows["image"], strict=True):
        picture = PIL.Image.fromarray(phantoms.read(sample_id)).resize((512, 512))
        picture.save(root / image, quality=90)
    rows.to_csv(root / "pictures.csv", index=False)


if __name__ == "__main__":
    main()
