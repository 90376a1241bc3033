"""Requirements on outcomes: how often they are in each group, and which gap could be found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.assess.requirements.findings import Finding, at_most
from evenhand.assess.requirements.settings import CheckSettings
from evenhand.cohort.attributes import UNKNOWN, group_of
from evenhand.cohort.cohort import Cohort
from evenhand.cohort.splits import Splits
from evenhand.measure import (
    Plan,
    auc_error,
    design_effect,
    detectable_gap,
    groups_of,
    measure,
    scored,
)


def base_rate_findings(
    splits: Splits, attributes: Sequence[str], settings: CheckSettings
) -> Iterator[Finding]:
    """Judge the largest difference in base rate of a group from the reference, over classes.

    The rows are those of all splits; intervals resample patients.
    """
    table = pd.concat([cohort.table for _, cohort in splits.items()], ignore_index=True)
    for attribute in attributes:
        groups = group_of(table, attribute, splits.train.levels)
        found = [
            _differences(table, groups, which, settings.seed).assign(of=name)
            for which, name in _classes(splits.train)
        ]
        rows = pd.concat(found).dropna(subset="value")
        limit = f"differences below {settings.base_rate:g}, or with an interval that holds 0"
        if rows.empty:
            yield Finding("base_rate", attribute, "fewer than two groups", None, limit, "warn")
            continue
        row = rows.iloc[int(rows["value"].abs().to_numpy().argmax())]
        certain = row["low"] > 0 or row["high"] < 0
        large = certain and abs(row["value"]) >= settings.base_rate
        yield Finding(
            "base_rate",
            attribute,
            f"{row['of']} in {row['group']} {row['value']:+.3f} ({row['low']:+.3f} to "
            f"{row['high']:+.3f}) {row['method'].partition('; ')[2]}",
            float(row["value"]),
            limit,
            "warn" if large else "pass",
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


def _differences(table: pd.DataFrame, groups: pd.Series, which: int, seed: int) -> pd.DataFrame:
    """Return the differences of a class's base rate: those of decisions that are the labels."""
    is_class = (table["label"] == which).to_numpy(np.int64)
    rows = scored(is_class, is_class.astype(float), patients=table["patient_id"].to_numpy())
    plan = Plan(metrics=("selection_rate",), across=("difference",))
    of = groups.cat.remove_unused_categories()
    found = measure(rows, {"by": groups_of(of)}, plan, rng=np.random.default_rng(seed))
    return found[found["metric"] == "selection_rate_difference"]


def _errors(
    cohort: Cohort, attribute: str, settings: CheckSettings
) -> dict[str, NDArray[np.float64]]:
    """Return the error of each class's AUC by group, the largest first; NaN where one is absent."""
    groups = group_of(cohort.table, attribute, cohort.levels)
    parts = [
        (str(group), cohort.table[(groups == group).to_numpy()])
        for group in groups.cat.categories
        if group != UNKNOWN
    ]
    parts.sort(key=lambda part: -len(part[1]))
    return {
        group: np.array([_error(rows, which, settings) for which, _ in _classes(cohort)])
        for group, rows in parts
    }


def _gap(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the detectable gap of two groups, the mean over classes."""
    return float(np.mean([detectable_gap(error) for error in np.hypot(one, other)]))


def _error(rows: pd.DataFrame, which: int, settings: CheckSettings) -> float:
    positives = int((rows["label"] == which).sum())
    each = len(rows) / max(rows["patient_id"].nunique(), 1)
    effect = design_effect(each, settings.correlation)
    return auc_error(settings.auc, positives, len(rows) - positives, effect)
