"""Probe features for a protected attribute, from your own arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenhand.errors import EvenhandError, check_level, check_seed, first_few
from evenhand.own.inputs import as_codes, as_groups, as_numbers
from evenhand.representation.jackknife import JackknifeEstimate
from evenhand.representation.probe import ProbeResult, measure_probe
from evenhand.tables.arrays import refuse_other_order

LARGEST = 1e150
"""The largest feature whose square is a finite number."""

MOST_SEEDS = 2**32
"""Seeds of scikit-learn are below this number."""


def probe(
    features: Any,
    attribute: Any,
    *,
    given: Any = None,
    patients: Any = None,
    level: float = 0.95,
    seed: int = 0,
) -> ProbeResult:
    """Measure how well a logistic regression predicts a protected attribute from features.

    The regression on standardised features is trained and scored in five folds by patient. The AUC
    counts pairs of rows in the same fold. With ``given``, such as the label, it counts only pairs
    with the same value of ``given``: it measures what the features add to that value.

    Parameters
    ----------
    features
        ``(n, d)`` finite numbers: a layer's output, or the features that the head takes.
    attribute
        ``(n,)`` levels; rows with ``"unknown"`` or no level are left out.
    given
        ``(n,)`` values, such as the label: only rows with equal values are compared. None compares
        all rows.
    patients
        ``(n,)`` patients; by default each row is a patient.
    level
        The nominal coverage of the interval, in (0, 1).
    seed
        The seed of the folds.

    Notes
    -----
    The interval is a jackknife over patients. At an AUC of 1 its width would be 0. Therefore the
    low end is at most the Clopper–Pearson limit for as many successes in as many trials as the
    rarest level has patients.

    Returns
    -------
    ProbeResult
        ``value`` (AUC), ``low``, ``high``, ``levels`` (AUC of each level), ``finds`` (whether the
        interval lies above .5); ``less(other)`` returns the paired difference.

    Raises
    ------
    EvenhandError
        If lengths differ, features are not finite, ``given`` or ``patients`` lacks a value, the
        seed is not a whole number from 0, or a level has fewer than two patients.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> sex = np.repeat(["f", "m"], 50)
    >>> noise = rng.normal(size=(100, 3))
    >>> before, after = probe(noise + (sex == "m")[:, None], sex), probe(noise, sex)
    >>> before.finds, after.less(before).high < 0
    (True, True)
    """
    refuse_other_order(
        {"features": features, "attribute": attribute, "given": given, "patients": patients}
    )
    table = as_numbers(features, "features")
    check_level(level)
    check_seed(seed)
    if seed >= MOST_SEEDS:
        raise EvenhandError(f"seed={seed}: give a whole number below 2**32.")
    if table.ndim != 2 or not table.shape[1] or not np.isfinite(table).all():
        raise EvenhandError(
            f"features are {table.shape}; give finite numbers (n, d), one row for each sample."
        )
    if np.abs(table).max(initial=0.0) > LARGEST:
        raise EvenhandError(
            f"features reach {np.abs(table).max():.2g}, and their squares are no finite numbers. "
            "Divide them by a constant."
        )
    columns = as_groups(attribute, len(table))
    if len(columns) > 1:
        raise EvenhandError(
            f"attribute= has {len(columns)} columns ({first_few(columns)}); give one column."
        )
    ((name, groups),) = columns.items()
    levels = [level for level in groups.compared() if len(groups.rows(level))]
    if len(levels) < 2:
        raise EvenhandError(
            f"the attribute {name!r} has the levels {levels}; a probe needs two at least."
        )
    rows = np.sort(np.concatenate([groups.rows(name) for name in levels]))
    new_codes = {groups.levels.index(name): code for code, name in enumerate(levels)}
    codes = np.array([new_codes[code] for code in groups.codes[rows].tolist()], dtype=np.intp)
    owners = (
        np.arange(len(table)) if patients is None else as_codes(patients, len(table), "patients")
    )
    owners = owners[rows]
    owners = np.unique(owners, return_inverse=True)[1]
    _refuse_few(levels, codes, owners)
    strata = (
        np.zeros(len(table), np.intp) if given is None else as_codes(given, len(table), "given")
    )
    strata = strata[rows]
    numbers = measure_probe(table[rows], codes, strata, owners, seed)
    mean = JackknifeEstimate(numbers.value.mean(), numbers.influence.mean(axis=1))
    low, high = mean.interval(level)
    fewest = min(len(np.unique(owners[codes == k])) for k in range(len(levels)))
    all_right = ((1 - level) / 2) ** (1 / fewest)  # Clopper–Pearson: ``fewest`` of ``fewest``
    return ProbeResult(
        value=float(mean.value),
        low=max(0.0, min(float(low), all_right)),
        high=min(1.0, float(high)),
        levels=dict(zip(levels, numbers.value.tolist(), strict=True)),
        level=level,
        n=len(rows),
        patients=int(owners.max()) + 1,
        given=given is not None,
        jackknifed=mean,
    )


def _refuse_few(levels: list[str], codes: NDArray[np.intp], owners: NDArray[np.intp]) -> None:
    counts = {name: len(np.unique(owners[codes == k])) for k, name in enumerate(levels)}
    few = [f"{name!r} ({count})" for name, count in counts.items() if count < 2]
    if few:
        raise EvenhandError(
            f"{len(few)} of {len(levels)} levels have fewer than two patients: {first_few(few)}; a "
            "probe scores other patients than those it is trained on. Leave their rows out; if the "
            "attribute is a number, bin it first, such as with pandas.cut."
        )
