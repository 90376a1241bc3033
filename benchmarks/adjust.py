"""Measure the CPU time of methods for a trained model on stored rows.

``dfr_rows``, ``thresholds_rows``, ``recalibrate_rows`` and ``multicalibrate_rows`` fit a method to
stored rows of two groups and score them, with arrays of ``--rows`` × ``--width`` (512, as the
features of a ResNet-18). The limit is 10 CPU seconds of this process; set ``OMP_NUM_THREADS=1``.
DFR includes the layers of the cross-fit.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np

from evenhand.methods.afterwards.dfr import cross_fit
from evenhand.methods.mitigate import mitigate

SECONDS = 10.0


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=100_000)
    arguments.add_argument("--width", type=int, default=512)
    arguments.add_argument("--repeats", type=int, default=3)
    args = arguments.parse_args()
    rng = np.random.default_rng(0)
    label = rng.integers(2, size=args.rows)
    group = np.where(rng.random(args.rows) < 0.2 + 0.6 * label, "b", "a")
    shown = rng.random(args.width) < 0.05
    features = rng.normal(0.5 * np.outer(2 * label - 1, shown), 1, (args.rows, args.width)).astype(
        np.float32
    )
    score = 1 / (1 + np.exp(-rng.normal(2 * label - 1.0 * (group == "b"), 1)))
    patients = rng.integers(args.rows // 2, size=args.rows)

    def adjust(method: str) -> Callable[[], object]:
        groups = {"group": group, "part": group} if method == "multicalibrate" else group

        def work() -> object:
            fit = mitigate(score, label, groups, method, patients=patients)
            return fit.scores(score, groups)

        return work

    works: dict[str, Callable[[], object]] = {
        "dfr": lambda: cross_fit(features, label, group, patients=patients)[0].apply(features),
        **{name: adjust(name) for name in ("thresholds", "recalibrate", "multicalibrate")},
    }
    for name, work in works.items():
        print(json.dumps(claim(name, work, args)), flush=True)


def claim(
    name: str, work: Callable[[], object], arguments: argparse.Namespace
) -> dict[str, object]:
    """Time a method, and return the claim about it."""
    work()  # what the first call imports is no cost of the method
    seconds, wall = [], []
    for _ in range(arguments.repeats):
        start, began = time.process_time(), time.perf_counter()
        work()
        seconds.append(time.process_time() - start)
        wall.append(time.perf_counter() - began)
    return {
        "name": f"{name}_rows",
        "ratio": round(float(np.median(seconds)) / SECONDS, 3),
        "better": "lower",
        "goal": 1.0,
        "detail": {
            "rows": arguments.rows, "width": arguments.width, "limit_s": SECONDS,
            "cpu_s": [round(second, 2) for second in seconds],
            "wall_s": [round(item, 2) for item in wall],
        },
    }  # fmt: skip


if __name__ == "__main__":
    main()
