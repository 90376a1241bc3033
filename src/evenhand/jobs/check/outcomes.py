"""Requirements on outcomes: base rates of the groups, and the gap that the test split can show."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.splits import Splits
from evenhand.jobs.check.findings import at_most
from evenhand.jobs.check.settings import CheckSettings
from evenhand.metrics import (
    Plan,
    auc_error,
    design_effect,
    detectable_gap,
    groups_of,
    holm,
    measure,
    scored,
)
from evenhand.metrics.claims import CLAIM
from evenhand.metrics.power import factor_for
from evenhand.metrics.rates import equal_rates_p
from evenhand.reporting.check_record import Finding
from evenhand.reporting.text.numbers import p_value
from evenhand.tables.attributes import UNKNOWN, group_of


def base_rate_findings(
    splits: Splits, attributes: Sequence[str], settings: CheckSettings
) -> Iterator[Finding]:
    """Judge how much the base rate of a class differs, by difference and by ratio.

    Each group is held against the largest one. The rows are those of all splits; intervals and
    tests are by patient, and the tests are corrected together, over attributes, groups and classes.
    """
    table = pd.concat([cohort.table for _, cohort in splits.items()], ignore_index=True)
    tested = [
        rate
        for attribute in attributes
        for which, name in _classes(splits.train)
        for rate in _rates(table, splits.train, attribute, (which, name), settings.seed)
    ]
    adjusted = holm([rate.p for rate in tested])
    rates = [replace(rate, p=float(p)) for rate, p in zip(tested, adjusted, strict=True)]
    for attribute in attributes:
        yield _rate_finding(attribute, [r for r in rates if r.attribute == attribute], settings)


@dataclass(frozen=True)
class _Rate:
    """The base rate of a class in one group, and in the reference group."""

    attribute: str
    group: str
    outcome: str
    rates: tuple[float, float]  # of the group and of the reference
    difference: str  # with its interval
    ratio: str
    p: float  # tests that the two rates are equal
    reference: str

    def size(self, settings: CheckSettings) -> float:
        """Return the larger of difference and ratio, each in units of its limit."""
        first, other = sorted(self.rates)
        ratio = math.log(other / first) if first > 0 else (math.inf if other > 0 else 0.0)
        return max((other - first) / settings.base_rate, ratio / math.log(settings.base_rate_ratio))


def _rate_finding(attribute: str, rates: Sequence[_Rate], settings: CheckSettings) -> Finding:
    """Judge an attribute by its largest difference of base rates that is more than chance."""
    limit = (
        f"difference below {settings.base_rate:g} and ratio below {settings.base_rate_ratio:g}, "
        "unless chance explains more"
    )
    if not rates:
        return Finding("base_rate", attribute, "fewer than two groups", None, limit, "warn")
    shown = [rate for rate in rates if rate.p <= CLAIM]
    worst = max(shown or rates, key=lambda rate: rate.size(settings))
    first, other = worst.rates

    return Finding(
        "base_rate",
        attribute,
        f"{worst.outcome} in {worst.group} {first:.3f}, in {worst.reference} {other:.3f}: "
        f"difference {worst.difference}, ratio {worst.ratio}; corrected p {p_value(worst.p)}",
        first - other,
        limit,
        "warn" if shown and worst.size(settings) >= 1 else "pass",
        worst.p,
    )


def power_findings(
    splits: Splits, attributes: Sequence[str], settings: CheckSettings
) -> Iterator[Finding]:
    """Judge the smallest gap in AUC that the test split can show, for the worst-placed group.

    Hanley and McNeil's error at an assumed AUC, with a design effect for several samples of a
    patient; each group is held against the largest one. For more than two classes the mean over
    classes.
    """
    limit = f"at most {settings.detectable[0]:g} (fails above {settings.detectable[1]:g})"
    for attribute in attributes:
        errors = _errors(splits.test, attribute, settings)
        undefined = [group for group, error in errors.items() if np.isnan(error).any()]
        if undefined or len(errors) < 2:
            why = f"a class is missing in {', '.join(undefined)}" if undefined else "one group"
            yield Finding("detectable", attribute, why, None, limit, "fail")
            continue
        reference, *others = errors
        gap = {group: _gap(errors[group], errors[reference]) for group in others}
        group = max(gap, key=gap.__getitem__)
        yield Finding(
            "detectable",
            attribute,
            f"a gap of {gap[group]:.3f} in AUC between {group} and {reference}, at 80 % power, if "
            f"AUC is {settings.auc:g}",
            gap[group],
            limit,
            at_most(gap[group], settings.detectable),
        )


def _classes(cohort: Cohort) -> list[tuple[int, str]]:
    """Return the classes that are looked at one versus the rest: of two only the positive one."""
    return list(enumerate(cohort.classes))[1 if len(cohort.classes) == 2 else 0 :]


def _rates(
    table: pd.DataFrame, train: Cohort, attribute: str, outcome: tuple[int, str], seed: int
) -> Iterator[_Rate]:
    """Yield the base rate of a class in each group; labels stand in for decisions."""
    which, name = outcome
    groups = group_of(table, attribute, train.levels).cat.remove_unused_categories()
    has = (table["label"] == which).to_numpy()
    rows = scored(has.astype(np.int64), has.astype(float), patients=table["patient_id"].to_numpy())
    plan = Plan(metrics=("selection_rate",), across=("difference", "ratio"))
    measured = measure(rows, {"by": groups_of(groups)}, plan, rng=np.random.default_rng(seed))
    by = {metric: part.set_index("group") for metric, part in measured.groupby("metric")}
    differences = by.get("selection_rate_difference")
    if differences is None:
        return
    levels = groups_of(groups).compared()
    (reference,) = {*levels} - {*differences.index}
    value = by["selection_rate"]["value"]
    for group in differences.index:
        of_group, others = ((groups == level).to_numpy() for level in (group, reference))
        yield _Rate(
            attribute,
            group,
            name,
            (float(value[group]), float(value[reference])),
            _with_ends(differences.loc[group], "+.3f"),
            _with_ends(by["selection_rate_ratio"].loc[group], ".2f"),
            equal_rates_p(has, of_group, others, rows.patients),
            reference,
        )


def _with_ends(row: pd.Series, form: str) -> str:
    """Write a number with its interval."""
    if pd.isna(row["value"]):
        return "undefined"
    if pd.isna(row["low"]):
        return f"{row['value']:{form}}"
    return f"{row['value']:{form}} ({row['low']:{form}} to {row['high']:{form}})"


def request_findings(
    splits: Splits, attributes: Sequence[str], settings: CheckSettings
) -> Iterator[Finding]:
    """Say how many more test patients of which group, with which outcome, would let a gap be told.

    The gap is that from which the detectable gap warns. Each group is held against the largest one,
    and grows with the outcomes that it has; where that alone will not do, both grow.
    """
    wanted = settings.detectable[0]
    for attribute in attributes:
        requests = list(_requests(splits.test, attribute, wanted, settings))
        needed = [request for request in requests if request.counts]
        lacking = [request for request in requests if request.counts is None]
        texts = [request.text(wanted) for request in (*needed, *lacking)]
        total = sum(more for request in needed for _, more, _ in request.counts or ())
        yield Finding(
            "request",
            attribute,
            "; ".join(texts) or f"none for a gap of {wanted:g} in AUC",
            None if lacking or not requests else total,
            "none",
            "warn" if texts or not requests else "pass",
        )


@dataclass(frozen=True)
class _Request:
    """How many patients let a gap between two groups be told.

    ``counts`` holds each group that has to grow, with how many patients are to be added, and how
    many of them of its rarest class; None where a group lacks a class.
    """

    group: str
    reference: str
    counts: tuple[tuple[str, int, str], ...] | None

    def text(self, wanted: float) -> str:
        if self.counts is None:
            return f"{self.group} or {self.reference} lacks a class in the test split"
        parts = [f"{more:,} of {group}, {rare}" for group, more, rare in self.counts]
        return (
            f"more patients in the test split, {' and '.join(parts)}, for a gap of {wanted:g} "
            f"between {self.group} and {self.reference}"
        )


def _requests(
    test: Cohort, attribute: str, wanted: float, settings: CheckSettings
) -> Iterator[_Request]:
    parts = _parts(test, attribute)
    if len(parts) < 2:
        return
    reference, *others = parts
    for group in others:
        counts = _counts_needed(test, (parts[group], parts[reference]), wanted, settings)
        grown = (
            None
            if counts is None
            else tuple(
                (name, *count)
                for name, count in zip((group, reference), counts, strict=True)
                if count
            )
        )
        yield _Request(group, reference, grown)


def _counts_needed(
    test: Cohort,
    pair: tuple[pd.DataFrame, pd.DataFrame],
    wanted: float,
    settings: CheckSettings,
) -> list[tuple[int, str] | None] | None:
    """Return how many patients each of two groups has to get: the first alone where that will do.

    None where no number would do, as a group lacks a class.
    """
    classes = _classes(test)

    def errors(rows: pd.DataFrame, factor: float) -> NDArray[np.float64]:
        return np.array([_error(rows, which, settings, factor) for which, _ in classes])

    first, second = pair
    fixed = errors(second, 1.0)
    alone = factor_for(lambda factor: _gap(errors(first, factor), fixed), wanted)
    if alone is not None:
        return [_added(test, first, alone), None]
    both = factor_for(lambda factor: _gap(errors(first, factor), errors(second, factor)), wanted)
    return None if both is None else [_added(test, rows, both) for rows in pair]


def _added(test: Cohort, rows: pd.DataFrame, factor: float) -> tuple[int, str] | None:
    """Return how many patients make a group so many times as large; None where none are needed."""
    patients = rows["patient_id"].nunique()
    rarest = int(np.bincount(rows["label"], minlength=len(test.classes)).argmin())
    more = math.ceil((factor - 1) * patients)
    share = rows.loc[rows["label"] == rarest, "patient_id"].nunique() / patients
    rare = f"{math.ceil(more * share):,} of them {test.classes[rarest]}"
    return (more, rare) if more else None


def _errors(
    cohort: Cohort, attribute: str, settings: CheckSettings
) -> dict[str, NDArray[np.float64]]:
    """Return the error of each class's AUC by group, the largest first; NaN where one is absent."""
    return {
        group: np.array([_error(rows, which, settings) for which, _ in _classes(cohort)])
        for group, rows in _parts(cohort, attribute).items()
    }


def _parts(cohort: Cohort, attribute: str) -> dict[str, pd.DataFrame]:
    """Return the rows of each known group, the largest first."""
    groups = group_of(cohort.table, attribute, cohort.levels)
    parts = [
        (str(group), cohort.table[(groups == group).to_numpy()])
        for group in groups.cat.categories
        if group != UNKNOWN
    ]
    parts.sort(key=lambda part: -len(part[1]))
    return dict(parts)


def _gap(first: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the detectable gap of two groups, the mean over classes."""
    return float(np.mean([detectable_gap(error) for error in np.hypot(first, other)]))


def _error(rows: pd.DataFrame, which: int, settings: CheckSettings, factor: float = 1.0) -> float:
    """Return the error of the AUC of a class, in a group that is so many times as large."""
    positives = int((rows["label"] == which).sum())
    each = len(rows) / max(rows["patient_id"].nunique(), 1)
    effect = design_effect(each, settings.correlation)
    negatives = len(rows) - positives
    return auc_error(settings.auc, factor * positives, factor * negatives, effect)
