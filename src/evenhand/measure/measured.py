"""What was measured, and the p-values that hold for all claims of a page together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from evenhand.measure.across import DETECTABLE
from evenhand.measure.claims import CLAIM, Claim, Key, is_approximate
from evenhand.measure.contrasts import Contrast, Together, adjust_together
from evenhand.measure.permutation import holm
from evenhand.measure.power import LEVEL, POWER
from evenhand.measure.tested import Row


@dataclass(frozen=True, eq=False)
class Measured:
    """The rows of one model, or of one model less another, and what may be claimed of them.

    Attributes
    ----------
    rows
        By attribute, group and metric.
    claims
        The claims that resamples of the patients decide.
    tested
        The rows of gaps whose p-values are of permutations, which then decide about gaps.
    finds
        Whether differences that would usually be claimed are to be told beside paired ones.
    patients
        What tells these patients from others. The same patients are resampled in the same way, so
        that claims about them are tested together.
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
    What a page says of its differences is one family: a page without any true difference makes a
    claim at most at the rate `CLAIM`. Claims about the same patients are adjusted by step-down
    max-t, p-values of permutations by Holm. Where a page has several such kinds, they share the
    rate by their numbers of tests. A row that rests on several differences has no ``p`` of its own.
    """
    kinds: dict[str, list[tuple[Measured, Claim]]] = {}
    for part in parts:
        for claim in part.claims:
            kinds.setdefault(part.patients, []).append((part, claim))
    tested = [row for part in parts for row in part.tested]
    counts = {name: len(_distinct(of)) for name, of in kinds.items()}
    total = len(tested) + sum(counts.values())
    for name, claims in kinds.items():
        _judge_drawn(claims, total / max(counts[name], 1))
    if tested:
        _judge_tested(tested, total / len(tested))
    return [row for part in parts for row in part.rows.values()]


def _judge_drawn(claims: Sequence[tuple[Measured, Claim]], weight: float) -> None:
    """Put p-values into the rows of claims about the same patients."""
    contrasts = _distinct(claims)
    found = adjust_together(contrasts, CLAIM / weight)
    place = {id(one): at for at, one in enumerate(contrasts)}
    for part, claim in claims:
        at = [place[id(one)] for one in claim.contrasts]
        row = part.rows[claim.key]
        if not is_approximate(row["method"]):
            row["p"] = _number(found.p[at[0]]) if len(at) == 1 else None
            adjusted = claim.combine(np.minimum(1, weight * found.p_adjusted[at]))
            row["p_adjusted"] = _number(adjusted)
            _tell_detectable(part, claim, found)


def _judge_tested(rows: Sequence[Row], weight: float) -> None:
    """Put adjusted p-values into rows that permutations have tested."""
    adjusted = np.minimum(1, weight * holm([row["p"] for row in rows]))
    for row, p in zip(rows, adjusted, strict=True):
        row["p_adjusted"] = float(p)
        row["method"] += f", Holm over {len(rows)}"


def _tell_detectable(part: Measured, claim: Claim, found: Together) -> None:
    """Tell how large a difference would usually be claimed, beside the one that was tested."""
    attribute, group, metric = claim.key
    lone = claim.contrasts[0] if len(claim.contrasts) == 1 else None
    if lone is None or lone.exact or metric.endswith("_gap"):
        return
    name = f"{metric.removesuffix('_difference')}_{DETECTABLE}"
    reach = found.critical + float(norm.isf(1 - POWER))
    row = part.rows.get((attribute, group, name))
    if row is not None and row["value"] is not None:
        row["value"] *= reach / float(norm.isf(LEVEL / 2) + norm.isf(1 - POWER))
        row["method"] = row["method"].replace("two-sided 5 %", "two-sided 5 % for all claims")
    elif part.finds:
        part.rows[attribute, group, name] = part.rows[claim.key] | {
            "metric": name, "value": reach * lone.error, "low": None, "high": None, "level": None,
            "p": None, "p_adjusted": None, "method": "80 % power, two-sided 5 % for all claims",
        }  # fmt: skip


def _distinct(claims: Sequence[tuple[Measured, Claim]]) -> list[Contrast]:
    """Return each contrast once: a gap and a difference from the reference share theirs."""
    return list({id(one): one for _, claim in claims for one in claim.contrasts}.values())


def _number(p: float) -> float | None:
    return None if np.isnan(p) else p
