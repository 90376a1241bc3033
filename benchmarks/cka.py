"""Compare linear CKA of two models' layers with the matrix products that it needs.

Three layers of 1,536, 3,072 and 4,608 features a model, 3,670 rows at once: every pair of layers
(nine of them) with the influence of every patient, against the six products of features with
themselves. Then the same rows in batches of 512, and a permutation test of a tenth of the rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np

from evenhand.representation import GroupSamples, Layer, batches, cka, group_test

WIDTHS = (1536, 3072, 4608)
ROWS = 3670
PERMUTED = 1000


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=3)
    repeats = arguments.parse_args().repeats
    first, second = models()
    place = np.arange(ROWS)[None]
    cka(first, second, place)  # once beforehand: the threads of the linear algebra
    pairs = [
        (seconds(lambda: products(first, second)), seconds(lambda: cka(first, second, place)))
        for _ in range(repeats)
    ]
    detail = {"rows": ROWS, "widths": WIDTHS, "products_and_cka_seconds": pairs}
    ratio = statistics.median(ours / plain for plain, ours in pairs)
    show("cka_over_its_six_products", ratio, 1.5, detail)

    dealt = batches(np.arange(ROWS), 512, np.random.default_rng(0))
    plain, ours = pairs[-1][0], seconds(lambda: cka(first, second, dealt))
    show("cka_in_batches_over_six_products", ours / plain, 1.5, {"batch": 512, "seconds": ours})

    rows, member = np.arange(PERMUTED), np.arange(PERMUTED) < PERMUTED // 10
    strata, rng = np.arange(PERMUTED) % 2, np.random.default_rng(0)
    samples = GroupSamples((first, second), rows, member, strata)
    spent = seconds(lambda: group_test(samples, 999, rng))
    show("permutation_test_over_10_seconds", spent / 10, 1.0, {"rows": PERMUTED, "seconds": spent})


def models() -> tuple[list[Layer], list[Layer]]:
    """Draw layers of two models that share part of their signal."""
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((ROWS, 64), np.float32)

    def layer(width: int) -> Layer:
        seen = shared @ rng.standard_normal((64, width), np.float32)
        return Layer(seen + 4 * rng.standard_normal((ROWS, width), np.float32))

    return [layer(width) for width in WIDTHS], [layer(width) for width in WIDTHS]


def products(first: list[Layer], second: list[Layer]) -> None:
    """Compute only the six products of features with themselves."""
    for layer in (*first, *second):
        layer.features @ layer.features.T


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def show(name: str, ratio: float, goal: float, detail: dict[str, object]) -> None:
    line = {"name": name, "ratio": ratio, "better": "lower", "goal": goal, "detail": detail}
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
