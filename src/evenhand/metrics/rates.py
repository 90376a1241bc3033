"""A test of whether an outcome is equally frequent in two groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr


def equal_rates_p(
    outcome: NDArray[np.bool_],
    group: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    patients: NDArray[np.intp],
) -> float:
    """Return the two-sided p-value of "the rate is the same in both groups".

    It is a score test with patients as units. The standard error is computed under equal rates, so
    a group in which nobody has the outcome has an error, too. Rows of one patient may be
    correlated.

    Parameters
    ----------
    outcome
        ``(n,)``, whether each row has the outcome.
    group, reference
        ``(n,)``, whether each row belongs to the group, or to the reference group. Rows that
        belong to neither are ignored.
    patients
        ``(n,)``, the number of each row's patient, from 0.

    Returns
    -------
    float
        The p-value. NaN if a group has no rows; 1 if all rows have the outcome, or no row has it.

    Notes
    -----
    The variance is the larger of two estimates. The first is the sum of the squared contributions
    of each patient to the difference. The second is the variance of a row, from all patients,
    divided by the number of rows of each group. If each patient has one row, the square of the
    second statistic is Pearson's chi-squared. The degrees of freedom are the number of patients of
    the smaller group less one.

    Examples
    --------
    >>> import numpy as np
    >>> outcome = np.repeat([True, False, True, False], [10, 90, 30, 70])
    >>> first = np.arange(200) < 100
    >>> round(equal_rates_p(outcome, first, ~first, np.arange(200)), 4)
    0.0006
    """
    if not group.any() or not reference.any():
        return float("nan")
    either = group | reference
    rate = float(outcome[either].mean())
    if rate in (0.0, 1.0):
        return 1.0
    weight = group / group.sum() - reference / reference.sum()
    difference = float(weight @ outcome)
    residual = either * (outcome - rate)
    by_patient = (np.bincount(patients, weight * residual) ** 2).sum()
    by_row = (np.bincount(patients, residual) ** 2).sum() / either.sum()
    error = np.sqrt(max(by_patient, by_row * (1 / group.sum() + 1 / reference.sum())))
    fewest = min(len(np.unique(patients[rows])) for rows in (group, reference))
    return float(2 * stdtr(max(fewest - 1, 1), -abs(difference) / error))
