"""Count how often pages claim false differences and find true ones, and measure the cost.

    python benchmarks/verdicts.py null       # audits of groups that do not differ
    python benchmarks/verdicts.py crossed    # the same with all intersections of three attributes
    python benchmarks/verdicts.py power      # an AUC of .90 against .80 in two halves
    python benchmarks/verdicts.py twice      # the same recipe twice: levelling down?
    python benchmarks/verdicts.py time       # CPU time with and without verdicts

Each audit is that of `evenhand audit`, from predictions to the sentences of its page.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest, norm

from evenhand.evaluation.requests import (
    DEFAULT_AGGREGATES,
    DEFAULT_FAIRNESS,
    small_groups,
    without_intervals,
)
from evenhand.evaluation.rows import DecisionThreshold, groups_in, measure_model, measure_pair
from evenhand.metrics import CLAIM, Measured, Plan, holm, judge
from evenhand.metrics import table as measuring
from evenhand.metrics.contrasts import adjust_together
from evenhand.metrics.groups import excluded_groups
from evenhand.reporting import Report, render, verdicts_of
from evenhand.reporting.verdicts import Verdict
from evenhand.tables.attributes import with_intersections
from evenhand.tables.predictions import Predictions

PLAN = Plan(across=(*DEFAULT_AGGREGATES, *DEFAULT_FAIRNESS))
"""What an audit measures by default."""

SPOKEN = Plan(("auc", "sensitivity", "specificity"), ("worst", "gap", "difference", "detectable"))
"""The part of it that verdicts look at: they come out the same."""

CUT = DecisionThreshold(0.5, "0.5")
CLASSES = ("0", "1")
PATIENTS = 600
DEPTH = 3  # of intersections


@dataclass(frozen=True)
class World:
    """What is simulated: patients with one to three rows each, and five attributes by chance.

    Attributes
    ----------
    prevalence, auc
        Of everybody; the AUC is that of one row.
    other
        The AUC of the second level of the first attribute, where it differs.
    levels
        The number of levels of each attribute, equally likely.
    alike
        Correlation of the noise of two rows of a patient.
    """

    prevalence: float = 0.3
    auc: float = 0.85
    other: float | None = None
    levels: tuple[int, ...] = (2, 2, 2, 2, 4)
    alike: float = 0.5


def cohort(world: World, rng: np.random.Generator, patients: int = PATIENTS) -> pd.DataFrame:
    """Draw patients, rows, labels and levels, and the signal that a model can see."""
    of_patient = pd.DataFrame(
        {f"attr_a{k}": rng.integers(n, size=patients) for k, n in enumerate(world.levels)}
    )
    label = (rng.random(patients) < world.prevalence).astype(int)
    low = of_patient["attr_a0"].to_numpy() == 1
    auc = np.where(low, world.other or world.auc, world.auc)
    of_patient["label"], of_patient["signal"] = label, (label - 0.5) * norm.ppf(auc) * 2**0.5
    of_patient["patient_id"] = [f"p{i}" for i in range(patients)]
    rows = of_patient.loc[np.repeat(np.arange(patients), rng.integers(1, 4, patients))]
    rows = rows.reset_index(drop=True).assign(split="test")
    rows["sample_id"] = [f"s{i}" for i in range(len(rows))]
    return rows


def noise(rows: pd.DataFrame, alike: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw noise of variance 1 that rows of a patient partly share."""
    codes = rows["patient_id"].astype("category").cat.codes.to_numpy()
    shared = rng.normal(size=codes.max() + 1)[codes]
    return alike**0.5 * shared + (1 - alike) ** 0.5 * rng.normal(size=len(rows))


def predictions(rows: pd.DataFrame, logit: NDArray[np.float64]) -> Predictions:
    """Return predictions in the layout of the contract."""
    names = [name for name in rows.columns if name.startswith("attr_")]
    table = rows.drop(columns="signal").assign(score=norm.cdf(logit))
    levels = {}
    for name in names:
        expected = tuple(f"l{k}" for k in range(rows[name].max() + 1))
        table[name] = pd.Categorical("l" + rows[name].astype(str), categories=expected)
        levels[name.removeprefix("attr_")] = expected
    return Predictions(table, CLASSES, levels)


def one_part(world: World, seed: int, plan: Plan = SPOKEN) -> tuple[Measured, tuple[str, ...]]:
    """Measure one model on new patients; return it with its attributes."""
    rng = np.random.default_rng(seed)
    rows = cohort(world, rng)
    inputs = predictions(rows, rows["signal"] + noise(rows, world.alike, rng))
    names = tuple(inputs.levels)
    return measure_model(inputs, names, model="m", seed=seed, plan=plan, cut=CUT), names


def crossed_part(world: World, seed: int) -> tuple[Measured, tuple[str, ...]]:
    """Measure one model with all intersections, without groups that are too small."""
    rng = np.random.default_rng(seed)
    rows = cohort(world, rng)
    inputs = predictions(rows, rows["signal"] + noise(rows, world.alike, rng))
    names = with_intersections(tuple(inputs.levels), DEPTH)
    small = small_groups({"m": inputs}, names, "test")
    plan = replace(SPOKEN, excluded=excluded_groups(small, groups_in(inputs, names)))
    return measure_model(inputs, names, model="m", seed=seed, plan=plan, cut=CUT), names


def page_of(part: Measured, names: tuple[str, ...]) -> Report:
    """Return the content of the page of an audit."""
    return Report("", judge([part]), names)


def two_models(world: World, seed: int, share: float = 0.5) -> Report:
    """Compare two models of one recipe, with the same signal and partly shared noise."""
    rng = np.random.default_rng(seed)
    rows = pd.concat(
        [cohort(world, rng), cohort(world, rng, PATIENTS // 2).assign(split="val")],
        ignore_index=True,
    )
    of_val = rows["split"] == "val"
    for name in ("patient_id", "sample_id"):
        rows.loc[of_val, name] = "v" + rows.loc[of_val, name]
    common = noise(rows, world.alike, rng)
    models = {
        name: predictions(
            rows,
            rows["signal"]
            + share**0.5 * common
            + (1 - share) ** 0.5 * noise(rows, world.alike, rng),
        )
        for name in ("new", "old")
    }
    names = tuple(models["old"].levels)
    parts = [
        measure_model(model, names, model=name, seed=seed, plan=plan, split=split, cut=CUT)
        for name, model in models.items()
        for split, plan in (("test", SPOKEN), ("val", without_intervals(SPOKEN)))
    ]
    pair = measure_pair(
        (models["new"], models["old"]), names,
        names=("new", "old"), seed=seed, plan=SPOKEN, cuts=(CUT, CUT),
    )  # fmt: skip
    return Report("", judge([*parts, pair]), names)


def rate(times: int, n: int) -> str:
    """Return a rate with its exact 95 % interval."""
    ends = binomtest(times, n).proportion_ci()
    return f"{times} of {n} ({times / n:.3f}; {ends.low:.3f} to {ends.high:.3f})"


WORLDS = (
    World(),
    World(prevalence=0.5, auc=0.8),
    World(prevalence=0.1, auc=0.9),
    World(levels=(2, 2, 2, 3, 4)),
)


def null(n: int) -> None:
    """Count the audits without a true difference that claim one."""
    for world in WORLDS:
        times = sum(_claims(verdicts_of(page_of(*one_part(world, seed)))) for seed in range(n))
        print(f"{world}: claims in {rate(times, n)}", flush=True)


def crossed(n: int) -> None:
    """Count the audits with all intersections and without a true difference that claim one."""
    for world in (World(levels=(2, 2, 3)), World(prevalence=0.5, auc=0.8, levels=(2, 2, 3))):
        times = sum(_claims(verdicts_of(page_of(*crossed_part(world, seed)))) for seed in range(n))
        print(f"{world}, crossed: claims in {rate(times, n)}", flush=True)


def _claims(verdicts: Sequence[Verdict]) -> bool:
    return any(verdict.claim for verdict in verdicts)


def power(n: int) -> None:
    """Count the audits that find the gap of the first attribute, also with Holm's correction."""
    for prevalence in (0.3, 0.5):
        world = World(prevalence=prevalence, auc=0.9, other=0.8)
        result, by_holm = np.array([_found(*one_part(world, seed)) for seed in range(n)]).sum(
            axis=0
        )
        print(f"{world}: found in {rate(result, n)}, by Holm's {rate(by_holm, n)}", flush=True)


def _found(part: Measured, names: tuple[str, ...]) -> tuple[bool, bool]:
    """Return whether the page claims the first attribute's gap, and whether Holm's would."""
    page = any(item.claim for item in verdicts_of(page_of(part, names)) if item.attribute == "a0")
    first = {id(claim.contrasts): claim.key[0] == "a0" for claim in part.claims}
    batches = list({id(claim.contrasts): claim.contrasts for claim in part.claims}.values())
    adjusted = holm(adjust_together(batches, CLAIM).p)
    own = np.concatenate([np.full(len(batch), first[id(batch)]) for batch in batches])
    return page, bool((adjusted[own] <= CLAIM).any())


def twice(n: int) -> None:
    """Count the comparisons of a recipe with itself that claim levelling down, or anything."""
    for share in (0.5, 0.9):
        counts = np.zeros(3, dtype=int)
        for seed in range(n):
            claims = [item for item in verdicts_of(two_models(World(), seed, share)) if item.claim]
            down = any(claim.about.startswith("levelling") for claim in claims)
            models = any(
                "less" in claim.about or claim.about.startswith("level") for claim in claims
            )
            counts += np.array([down, models, bool(claims)])
        events = ("levelled down", "models said to differ", "any claim")
        sentences = (
            f"{name} in {rate(times, n)}" for name, times in zip(events, counts, strict=True)
        )
        print(f"shared noise {share}: {', '.join(sentences)}", flush=True)


def timed(n: int) -> None:
    """Compare the CPU time of audits with and without verdicts, alternately."""
    ratios = np.array(list(_ratios(n)))
    middle, low, high = np.quantile(ratios, (0.5, 0.25, 0.75))
    print(f"CPU time with verdicts over without, {n} pairs: median {middle:.3f} "
          f"(quartiles {low:.3f} to {high:.3f})", flush=True)  # fmt: skip


def without_verdicts() -> AbstractContextManager[object]:
    return patch.object(measuring, "_find_claims", lambda *_, **__: ())


def _ratios(n: int) -> Iterator[float]:
    for seed in range(n + 1):
        seconds = {}
        for on in (True, False) if seed % 2 else (False, True):
            with nullcontext() if on else without_verdicts():
                start = time.process_time()
                render(page_of(*one_part(World(), seed, PLAN)))
                seconds[on] = time.process_time() - start
        if seed:  # the first imports and fills caches
            yield seconds[True] / seconds[False]


SIMULATIONS = {"null": null, "crossed": crossed, "power": power, "twice": twice, "time": timed}


def main() -> None:
    """Run one of the simulations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=SIMULATIONS)
    parser.add_argument("-n", type=int, default=400, help="audits or comparisons of each kind")
    args = parser.parse_args()
    SIMULATIONS[args.what](args.n)


if __name__ == "__main__":
    main()
