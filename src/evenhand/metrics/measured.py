"""Measured rows with their claims, and p-values corrected over all claims of a page."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import ndtri

from evenhand.metrics.aggregates import DETECTABLE
from evenhand.metrics.claims import CLAIM, Claim
from evenhand.metrics.contrasts import Contrasts, Together, adjust_together
from evenhand.metrics.numbers import Parts
from evenhand.metrics.permutation import Test, holm, permutation_test
from evenhand.metrics.plan import Plan
from evenhand.metrics.power import BOOTSTRAP_ERROR, LEVEL, POWER
from evenhand.metrics.registry import find_metric
from evenhand.metrics.rows import EVERYBODY, Key, MetricRow, joined
from evenhand.wording import counted

ALL_CLAIMS = "80 % power, two-sided 5 % for all claims"
OF_A_TEST = (
    *("low", "high", "level", "interval_method", "no_interval"),
    *("p", "p_adjusted", "p_method"),
)
"""What the row of a difference has and that of a detectable difference lacks."""


@dataclass(frozen=True, eq=False)
class Measured:
    """The rows of one model, or of the difference of two models, and the claims about them.

    Attributes
    ----------
    rows
        By what they are about.
    claims
        The claims that are tested by resamples of the patients.
    tested
        The gaps that permutations have tested; then these tests decide about gaps.
    finds
        Whether to add, beside each paired difference, how large a difference would be detectable.
    patients
        Identifies the set of patients. Equal sets are resampled in the same way, so that claims
        about them are tested together.
    """

    rows: dict[Key, MetricRow]
    claims: tuple[Claim, ...] = ()
    tested: tuple[Key, ...] = ()
    finds: bool = False
    patients: str = ""


def add_tests(
    rows: MutableMapping[Key, MetricRow],
    divided: Sequence[Parts],
    plan: Plan,
    rng: np.random.Generator,
    step: Callable[[int], None],
) -> tuple[Key, ...]:
    """Put p-values into the rows of the gaps, and return the keys of those that have one.

    Where there is none, the row's ``note`` says why; ``step`` is told of each permutation.
    """
    tested = []
    for parts in divided:
        groups = {level: parts.rows[level] for level in parts.compared}
        for name in plan.metrics:
            test = permutation_test(groups, find_metric(name), plan.permutations, rng)
            step(plan.permutations)
            key = Key(parts.attribute, EVERYBODY, name, "gap")
            rows[key] = _tested(rows[key], test, plan)
            tested += [] if test.p is None else [key]
    return tuple(tested)


def _tested(row: MetricRow, test: Test, plan: Plan) -> MetricRow:
    """Return the row of a gap with the p-value of its test, or the reason why it has none."""
    if test.p is None:
        return replace(row, note=joined(row.note, test.reason))
    lost = f", {test.undefined} undefined" if test.undefined else ""
    return replace(row, p=test.p, p_method=f"{plan.permutations} permutations of patients{lost}")


def judge(parts: Sequence[Measured]) -> list[MetricRow]:
    """Return the rows of all parts, with p-values corrected over all of their claims.

    Notes
    -----
    All claims of a page are one family: without any true difference, at most a share `CLAIM` of
    pages makes a claim. Claims about the same patients are corrected by step-down max-t, p-values
    of permutations by Holm. Where a page has several such batches, they share the rate in
    proportion to their numbers of tests. A row with several differences has no ``p`` of its own.
    """
    batches: dict[str, list[tuple[Measured, Claim]]] = {}
    for part in parts:
        for claim in part.claims:
            batches.setdefault(part.patients, []).append((part, claim))
    tested = [(part, key) for part in parts for key in part.tested]
    counts = {patients: sum(map(len, _distinct(claims))) for patients, claims in batches.items()}
    total = len(tested) + sum(counts.values())
    for patients, claims in batches.items():
        _judge_drawn(claims, total / max(counts[patients], 1))
    if tested:
        _judge_tested(tested, total / len(tested))
    return [row for part in parts for row in part.rows.values()]


def _judge_drawn(claims: Sequence[tuple[Measured, Claim]], weight: float) -> None:
    """Put p-values into the rows of claims about the same patients."""
    batches = _distinct(claims)
    results = adjust_together(batches, CLAIM / weight)
    starts = np.cumsum([0, *map(len, batches)])
    start_of = {id(batch): start for batch, start in zip(batches, starts, strict=False)}
    adjusted_p = np.minimum(1, weight * results.p_adjusted)
    for part, claim in claims:
        own = start_of[id(claim.contrasts)] + claim.places
        row = part.rows[claim.key]
        if row.approximate is None:
            part.rows[claim.key] = replace(
                row,
                p=_number(results.p[own[0]]) if len(own) == 1 else None,
                p_adjusted=_number(claim.combine(adjusted_p[own])),
                p_method=f"step-down max-t over {counted(len(adjusted_p), 'difference')}",
            )
            _put_detectable(part, claim, results)


def _judge_tested(tested: Sequence[tuple[Measured, Key]], weight: float) -> None:
    """Put corrected p-values into rows that permutations have tested."""
    drawn = [np.nan if (p := part.rows[key].p) is None else p for part, key in tested]
    adjusted = np.minimum(1, weight * holm(drawn))
    for (part, key), p in zip(tested, adjusted, strict=True):
        row = part.rows[key]
        method = f"{row.p_method}, Holm over {len(tested)}"
        part.rows[key] = replace(row, p_adjusted=float(p), p_method=method)


def _put_detectable(part: Measured, claim: Claim, results: Together) -> None:
    """Put into the rows how large a difference would be claimed with the usual power."""
    contrasts, place = claim.contrasts, int(claim.places[0])
    if len(claim.places) > 1 or contrasts.exact(place) or claim.key.aggregate == "gap":
        return
    key = claim.key._replace(aggregate=DETECTABLE)
    nothing: dict[str, Any] = dict.fromkeys(OF_A_TEST)
    reach = results.critical - float(ndtri(1 - POWER))
    row, claimed = part.rows.get(key), part.rows[claim.key]
    if row is not None and row.value is not None:
        larger = reach / -float(ndtri(LEVEL / 2) + ndtri(1 - POWER))
        note = joined(f"{ALL_CLAIMS}, {BOOTSTRAP_ERROR}", claimed.note)
        part.rows[key] = replace(row, value=row.value * larger, note=note)
    elif part.finds:
        part.rows[key] = replace(
            claimed,
            **nothing,
            aggregate=DETECTABLE,
            value=reach * contrasts.error(place),
            note=ALL_CLAIMS,
        )


def _distinct(claims: Sequence[tuple[Measured, Claim]]) -> list[Contrasts]:
    """Return each batch of contrasts once, as a gap shares its own with the differences."""
    return list({id(claim.contrasts): claim.contrasts for _, claim in claims}.values())


def _number(p: float) -> float | None:
    return None if np.isnan(p) else p
