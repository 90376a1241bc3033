"""Measured rows with their claims, and p-values adjusted over all claims of a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from evenhand.metrics.aggregates import DETECTABLE
from evenhand.metrics.claims import CLAIM, Claim, Key, is_approximate
from evenhand.metrics.contrasts import Contrasts, Together, adjust_together
from evenhand.metrics.permutation import holm
from evenhand.metrics.power import LEVEL, POWER
from evenhand.metrics.tests import Row


@dataclass(frozen=True, eq=False)
class Measured:
    """The rows of one model, or of the difference of two models, and the claims about them.

    Attributes
    ----------
    rows
        By attribute, group and metric.
    claims
        The claims that are tested by resamples of the patients.
    tested
        The rows of gaps that permutations have tested; then these tests decide about gaps.
    finds
        Whether to add, beside each paired difference, how large a difference would be detectable.
    patients
        Identifies the set of patients. Equal sets are resampled in the same way, so that claims
        about them are tested together.
    """

    rows: dict[Key, Row]
    claims: tuple[Claim, ...] = ()
    tested: tuple[Row, ...] = ()
    finds: bool = False
    patients: str = ""


def judge(parts: Sequence[Measured]) -> list[Row]:
    """Return the rows of all parts, with p-values adjusted over all of their claims.

    Notes
    -----
    All claims of a page are one family: without any true difference, at most a share `CLAIM` of
    pages makes a claim. Claims about the same patients are adjusted by step-down max-t, p-values
    of permutations by Holm. Where a page has several such batches, they share the rate in
    proportion to their numbers of tests. A row with several differences has no ``p`` of its own.
    """
    batches: dict[str, list[tuple[Measured, Claim]]] = {}
    for part in parts:
        for claim in part.claims:
            batches.setdefault(part.patients, []).append((part, claim))
    tested = [row for part in parts for row in part.tested]
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
        if not is_approximate(row["method"]):
            row["p"] = _number(results.p[own[0]]) if len(own) == 1 else None
            row["p_adjusted"] = _number(claim.combine(adjusted_p[own]))
            _put_detectable(part, claim, results)


def _judge_tested(rows: Sequence[Row], weight: float) -> None:
    """Put adjusted p-values into rows that permutations have tested."""
    adjusted = np.minimum(1, weight * holm([row["p"] for row in rows]))
    for row, p in zip(rows, adjusted, strict=True):
        row["p_adjusted"] = float(p)
        row["method"] += f", Holm over {len(rows)}"


def _put_detectable(part: Measured, claim: Claim, results: Together) -> None:
    """Put into the rows how large a difference would be claimed with the usual power."""
    attribute, group, metric = claim.key
    contrasts, place = claim.contrasts, int(claim.places[0])
    if len(claim.places) > 1 or contrasts.exact(place) or metric.endswith("_gap"):
        return
    name = f"{metric.removesuffix('_difference')}_{DETECTABLE}"
    reach = results.critical - float(ndtri(1 - POWER))
    row = part.rows.get((attribute, group, name))
    if row is not None and row["value"] is not None:
        row["value"] *= reach / -float(ndtri(LEVEL / 2) + ndtri(1 - POWER))
        row["method"] = row["method"].replace("two-sided 5 %", "two-sided 5 % for all claims")
    elif part.finds:
        part.rows[attribute, group, name] = part.rows[claim.key] | {
            "metric": name, "value": reach * contrasts.error(place),
            "low": None, "high": None, "level": None, "p": None, "p_adjusted": None,
            "method": "80 % power, two-sided 5 % for all claims",
        }  # fmt: skip


def _distinct(claims: Sequence[tuple[Measured, Claim]]) -> list[Contrasts]:
    """Return each batch of contrasts once, as a gap shares its own with the differences."""
    return list({id(claim.contrasts): claim.contrasts for _, claim in claims}.values())


def _number(p: float) -> float | None:
    return None if np.isnan(p) else p
