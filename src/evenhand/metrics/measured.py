"""Metric rows with their claims, and p-values corrected over all claims of a page."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import ndtri

from evenhand.errors import count_text
from evenhand.files import finite_or_none
from evenhand.metrics.aggregates import DETECTABLE
from evenhand.metrics.claims import CLAIM, Claim
from evenhand.metrics.contrasts import Contrasts, JointTest, adjust_together
from evenhand.metrics.numbers import Parts
from evenhand.metrics.permutation import Test, holm, permutation_test
from evenhand.metrics.plan import Plan
from evenhand.metrics.power import BOOTSTRAP_ERROR, LEVEL, POWER
from evenhand.metrics.registry import find_metric
from evenhand.metrics.rows import EVERYBODY, Key, MetricRow, join_notes

ALL_CLAIMS = "80 % power, two-sided 5 % for all claims"
TEST_FIELDS = (
    *("low", "high", "level", "interval_method", "no_interval"),
    *("p", "p_adjusted", "p_method"),
)
"""Fields of the row of a difference that the row of a detectable difference does not have."""


@dataclass(frozen=True, eq=False)
class Measured:
    """The rows of one model, or of the difference of two models, and the claims about them.

    Attributes
    ----------
    rows
        The rows by their keys.
    claims
        The claims that resamples of the patients test.
    tested
        The keys of the gaps that permutations have tested, instead of resamples.
    adds_detectable
        Whether to add a row with the detectable difference for each paired difference.
    patients
        Identifies the set of patients. Equal sets are resampled in the same way, so that claims
        about them are tested together.
    """

    rows: dict[Key, MetricRow]
    claims: tuple[Claim, ...] = ()
    tested: tuple[Key, ...] = ()
    adds_detectable: bool = False
    patients: str = ""


def add_tests(
    rows: MutableMapping[Key, MetricRow],
    divided: Sequence[Parts],
    plan: Plan,
    rng: np.random.Generator,
    step: Callable[[int], None],
) -> tuple[Key, ...]:
    """Test each gap by permutations, and put the p-values into the rows.

    Parameters
    ----------
    rows
        The rows by their keys; changed in index. A row without a p-value gets a note that says why.
    divided
        The groups of each attribute.
    plan
        The metrics, and the number of permutations.
    rng
        Draws the permutations.
    step
        Called with the number of permutations that were done.

    Returns
    -------
    tuple
        The keys of the rows that have a p-value.
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
    """Return the row of a gap with the p-value of its test, or with a note why there is none."""
    if test.p is None:
        return replace(row, note=join_notes(row.note, test.reason))
    undefined = f", {test.undefined} undefined" if test.undefined else ""
    method = f"{plan.permutations} permutations of patients{undefined}"
    return replace(row, p=test.p, p_method=method)


def judge(parts: Sequence[Measured]) -> list[MetricRow]:
    """Return the rows of all parts, with p-values corrected over all of their claims.

    Notes
    -----
    All claims of a page are one family: if there is no true difference, at most a share `CLAIM` of
    pages makes a claim. Claims about the same patients are corrected by step-down max-t, p-values
    of permutations by Holm. If a page has several such batches, they share the error rate in
    proportion to their numbers of tests. A row with several differences has no ``p``.
    """
    batches: dict[str, list[tuple[Measured, Claim]]] = {}
    for part in parts:
        for claim in part.claims:
            batches.setdefault(part.patients, []).append((part, claim))
    tested = [(part, key) for part in parts for key in part.tested]
    counts = {patients: sum(map(len, _distinct(claims))) for patients, claims in batches.items()}
    total = len(tested) + sum(counts.values())
    for patients, claims in batches.items():
        _judge_by_resamples(claims, total / max(counts[patients], 1))
    if tested:
        _judge_by_permutations(tested, total / len(tested))
    return [row for part in parts for row in part.rows.values()]


def _judge_by_resamples(claims: Sequence[tuple[Measured, Claim]], weight: float) -> None:
    """Put p-values into the rows of claims about the same patients.

    The error rate of these claims is ``CLAIM / weight``.
    """
    batches = _distinct(claims)
    results = adjust_together(batches, CLAIM / weight)
    starts = np.cumsum([0, *map(len, batches)])
    start_of = {id(batch): start for batch, start in zip(batches, starts, strict=False)}
    adjusted_p = np.minimum(1, weight * results.p_adjusted)
    for part, claim in claims:
        indices = start_of[id(claim.contrasts)] + claim.indices
        row = part.rows[claim.key]
        if row.approximate is None:
            part.rows[claim.key] = replace(
                row,
                p=finite_or_none(results.p[indices[0]]) if len(indices) == 1 else None,
                p_adjusted=finite_or_none(claim.combine(adjusted_p[indices])),
                p_method=f"step-down max-t over {count_text(len(adjusted_p), 'difference')}",
            )
            _put_detectable(part, claim, results)


def _judge_by_permutations(tested: Sequence[tuple[Measured, Key]], weight: float) -> None:
    """Put corrected p-values into rows that permutations have tested.

    The error rate of these claims is ``CLAIM / weight``.
    """
    uncorrected = [np.nan if (p := part.rows[key].p) is None else p for part, key in tested]
    adjusted = np.minimum(1, weight * holm(uncorrected))
    for (part, key), p in zip(tested, adjusted, strict=True):
        row = part.rows[key]
        method = f"{row.p_method}, Holm over {len(tested)}"
        part.rows[key] = replace(row, p_adjusted=float(p), p_method=method)


def _put_detectable(part: Measured, claim: Claim, results: JointTest) -> None:
    """Put the difference that would be claimed with power `POWER` into the rows."""
    contrasts, index = claim.contrasts, int(claim.indices[0])
    if len(claim.indices) > 1 or contrasts.is_exact(index) or claim.key.aggregate == "gap":
        return
    key = claim.key._replace(aggregate=DETECTABLE)
    no_test: dict[str, Any] = dict.fromkeys(TEST_FIELDS)
    reach = results.critical - float(ndtri(1 - POWER))
    row, claimed = part.rows.get(key), part.rows[claim.key]
    if row is not None and row.value is not None:
        factor = reach / -float(ndtri(LEVEL / 2) + ndtri(1 - POWER))
        note = join_notes(f"{ALL_CLAIMS}, {BOOTSTRAP_ERROR}", claimed.note)
        part.rows[key] = replace(row, value=row.value * factor, note=note)
    elif part.adds_detectable:
        part.rows[key] = replace(
            claimed,
            **no_test,
            aggregate=DETECTABLE,
            value=reach * contrasts.error(index),
            note=ALL_CLAIMS,
        )


def _distinct(claims: Sequence[tuple[Measured, Claim]]) -> list[Contrasts]:
    """Return each batch of contrasts once; a gap shares its batch with the differences."""
    return list({id(claim.contrasts): claim.contrasts for _, claim in claims}.values())
