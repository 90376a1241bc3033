"""Requirements on outcomes: base rates of groups, and the gap that the test split can detect."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.splits import Splits
from evenhand.jobs.check.requirements import at_most
from evenhand.jobs.check.settings import CheckSettings
from evenhand.metrics import (
    Plan,
    as_scored,
    auc_error,
    design_effect,
    detectable_gap,
    groups_of,
    holm,
    measure,
)
from evenhand.metrics.claims import CLAIM
from evenhand.metrics.power import factor_for
from evenhand.metrics.rates import equal_rates_p
from evenhand.reporting.check_record import Finding
from evenhand.reporting.text.vocabulary import p_value_text
from evenhand.tables.attributes import UNKNOWN, group_of


def base_rate_findings(
    splits: Splits, attributes: Sequence[str], settings: CheckSettings
) -> Iterator[Finding]:
    """Judge the difference and the ratio of base rates between each group and the largest group.

    The rows of all splits are used. Intervals and tests resample patients; the p-values are
    corrected over all attributes, groups and classes (Holm).
    """
    table = pd.concat([cohort.table for _, cohort in splits.items()], ignore_index=True)
    tested = [
        rate
        for attribute in attributes
        for outcome in _classes(splits.train)
        for rate in _rates(table, splits.train, attribute, outcome, settings.seed)
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
    rates: tuple[float, float]  # in the group and in the reference group
    difference: str  # with its interval
    ratio: str  # with its interval
    p: float  # of the test that the two rates are equal
    reference: str

    def size(self, settings: CheckSettings) -> float:
        """Return the larger of difference and ratio, each in units of its limit."""
        low, high = sorted(self.rates)
        ratio = math.log(high / low) if low > 0 else (math.inf if high > 0 else 0.0)
        return max((high - low) / settings.base_rate, ratio / math.log(settings.base_rate_ratio))


def _rate_finding(attribute: str, rates: Sequence[_Rate], settings: CheckSettings) -> Finding:
    """Judge an attribute by its largest significant difference of base rates."""
    limit = (
        f"difference below {settings.base_rate:g} and ratio below {settings.base_rate_ratio:g}, "
        "unless chance explains more"
    )
    if not rates:
        return Finding("base_rate", attribute, "fewer than two groups", None, limit, "warn")
    significant = [rate for rate in rates if rate.p <= CLAIM]
    worst = max(significant or rates, key=lambda rate: rate.size(settings))
    group_rate, reference_rate = worst.rates
    return Finding(
        "base_rate",
        attribute,
        f"share of samples with {worst.outcome}: {worst.group} {group_rate:.3f}, {worst.reference} "
        f"{reference_rate:.3f}; difference {worst.difference}, ratio {worst.ratio}; corrected p "
        f"{p_value_text(worst.p)}",
        group_rate - reference_rate,
        limit,
        "warn" if significant and worst.size(settings) >= 1 else "pass",
        worst.p,
    )


def power_findings(
    splits: Splits, attributes: Sequence[str], settings: CheckSettings
) -> Iterator[Finding]:
    """Judge the smallest detectable gap in AUC between a group and the largest, on the test split.

    The group with the largest such gap counts. The standard error is that of Hanley and McNeil
    (1982) at an assumed AUC, with a design effect for several samples of a patient. For more than
    two classes, the gap is the mean over classes.
    """
    limit = f"at most {settings.detectable[0]:g} (fails above {settings.detectable[1]:g})"
    for attribute in attributes:
        errors = _errors(splits.test, attribute, settings)
        undefined = [group for group, error in errors.items() if np.isnan(error).any()]
        if undefined or len(errors) < 2:
            reason = f"a class is missing in {', '.join(undefined)}" if undefined else "one group"
            yield Finding("detectable", attribute, reason, None, limit, "fail")
            continue
        reference, *others = errors
        gaps = {group: _gap(errors[group], errors[reference]) for group in others}
        group = max(gaps, key=gaps.__getitem__)
        yield Finding(
            "detectable",
            attribute,
            f"a gap of {gaps[group]:.3f} in AUC between {group} and {reference}, at 80 % power, "
            f"if AUC is {settings.auc:g}",
            gaps[group],
            limit,
            at_most(gaps[group], settings.detectable),
        )


def _classes(cohort: Cohort) -> list[tuple[int, str]]:
    """Return number and name of the classes to check: all, or of two only the positive one."""
    return list(enumerate(cohort.classes))[1 if len(cohort.classes) == 2 else 0 :]


def _rates(
    table: pd.DataFrame, train: Cohort, attribute: str, outcome: tuple[int, str], seed: int
) -> Iterator[_Rate]:
    """Yield the base rate of a class in each group.

    It is the selection rate if the labels are taken for decisions.
    """
    number, name = outcome
    groups = group_of(table, attribute, train.levels).cat.remove_unused_categories()
    is_case = (table["label"] == number).to_numpy()
    rows = as_scored(
        is_case.astype(np.int64), is_case.astype(float), patients=table["patient_id"].to_numpy()
    )
    plan = Plan(metrics=("selection_rate",), across=("difference", "ratio"))
    measured = measure(rows, {"by": groups_of(groups)}, plan, rng=np.random.default_rng(seed))
    tables = {metric: part.set_index("group") for metric, part in measured.groupby("metric")}
    differences = tables.get("selection_rate_difference")
    if differences is None:
        return
    levels = groups_of(groups).compared()
    (reference,) = {*levels} - {*differences.index}
    rate = tables["selection_rate"]["value"]
    for group in differences.index:
        in_group, in_reference = ((groups == level).to_numpy() for level in (group, reference))
        yield _Rate(
            attribute,
            group,
            name,
            (float(rate[group]), float(rate[reference])),
            _interval_text(differences.loc[group], "+.3f"),
            _interval_text(tables["selection_rate_ratio"].loc[group], ".2f"),
            equal_rates_p(is_case, in_group, in_reference, rows.patients),
            reference,
        )


def _interval_text(row: pd.Series, form: str) -> str:
    """Return a number with its interval, as text."""
    if pd.isna(row["value"]):
        return "undefined"
    if pd.isna(row["low"]):
        return f"{row['value']:{form}}"
    return f"{row['value']:{form}} ({row['low']:{form}} to {row['high']:{form}})"


def request_findings(
    splits: Splits, attributes: Sequence[str], settings: CheckSettings
) -> Iterator[Finding]:
    """Yield how many more test patients are needed to detect a gap in AUC.

    The gap is the limit above which a detectable gap warns. Each group is compared with the largest
    one. New patients have the outcomes of their group in the same shares. If a larger group alone
    cannot suffice, both groups grow by the same factor.
    """
    gap = settings.detectable[0]
    for attribute in attributes:
        requests = list(_requests(splits.test, attribute, gap, settings))
        needed = [request for request in requests if request.counts]
        lacking = [request for request in requests if request.counts is None]
        texts = [request.text(gap) for request in (*needed, *lacking)]
        total = sum(more for request in needed for _, more, _ in request.counts or ())
        yield Finding(
            "request",
            attribute,
            "; ".join(texts) or f"none for a gap of {gap:g} in AUC",
            None if lacking or not requests else total,
            "none",
            "warn" if texts or not requests else "pass",
        )


@dataclass(frozen=True)
class _Request:
    """The patients to add to two groups, so that a gap between them can be detected.

    ``counts`` holds a row for each group that must grow: the group, the number of patients to add,
    and a text about those of its rarest class. It is None if a group lacks a class.
    """

    group: str
    reference: str
    counts: tuple[tuple[str, int, str], ...] | None

    def text(self, gap: float) -> str:
        if self.counts is None:
            return f"{self.group} or {self.reference} lacks a class in the test split"
        parts = [f"{more:,} of {group}, {rare}" for group, more, rare in self.counts]
        return (
            f"more patients in the test split, {' and '.join(parts)}, for a gap of {gap:g} "
            f"between {self.group} and {self.reference}"
        )


def _requests(
    test: Cohort, attribute: str, gap: float, settings: CheckSettings
) -> Iterator[_Request]:
    parts = _parts(test, attribute)
    if len(parts) < 2:
        return
    reference, *others = parts
    for group in others:
        counts = _needed_counts(test, (parts[group], parts[reference]), gap, settings)
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


def _needed_counts(
    test: Cohort, pair: tuple[pd.DataFrame, pd.DataFrame], gap: float, settings: CheckSettings
) -> list[tuple[int, str] | None] | None:
    """Return the patients to add to each of two groups; only to the first if that suffices.

    None if no number suffices because a group lacks a class.
    """
    classes = _classes(test)

    def errors(rows: pd.DataFrame, factor: float) -> NDArray[np.float64]:
        return np.array([_error(rows, number, settings, factor) for number, _ in classes])

    first, second = pair
    second_errors = errors(second, 1.0)
    alone = factor_for(lambda factor: _gap(errors(first, factor), second_errors), gap)
    if alone is not None:
        return [_patients_to_add(test, first, alone), None]
    both = factor_for(lambda factor: _gap(errors(first, factor), errors(second, factor)), gap)
    return None if both is None else [_patients_to_add(test, rows, both) for rows in pair]


def _patients_to_add(test: Cohort, rows: pd.DataFrame, factor: float) -> tuple[int, str] | None:
    """Return the patients that make a group ``factor`` times as large; None if none are needed."""
    patients = rows["patient_id"].nunique()
    rarest = int(np.bincount(rows["label"], minlength=len(test.classes)).argmin())
    more = math.ceil((factor - 1) * patients)
    share = rows.loc[rows["label"] == rarest, "patient_id"].nunique() / patients
    rare = f"{math.ceil(more * share):,} of them {test.classes[rarest]}"
    return (more, rare) if more else None


def _errors(
    cohort: Cohort, attribute: str, settings: CheckSettings
) -> dict[str, NDArray[np.float64]]:
    """Return the error of each class's AUC by group, the largest group first.

    The error is NaN if the group lacks the class.
    """
    return {
        group: np.array([_error(rows, number, settings) for number, _ in _classes(cohort)])
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
    """Return the detectable gap between two groups, as the mean over classes."""
    return float(np.mean([detectable_gap(error) for error in np.hypot(first, other)]))


def _error(rows: pd.DataFrame, number: int, settings: CheckSettings, factor: float = 1.0) -> float:
    """Return the error of the AUC of a class, in a group that is ``factor`` times as large."""
    positives = int((rows["label"] == number).sum())
    samples_per_patient = len(rows) / max(rows["patient_id"].nunique(), 1)
    effect = design_effect(samples_per_patient, settings.correlation)
    negatives = len(rows) - positives
    return auc_error(settings.auc, factor * positives, factor * negatives, effect)
