"""Whether an outcome is as frequent in one group as in another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

Mask = NDArray[np.bool_]


def equal_rates_p(outcome: Mask, group: Mask, reference: Mask, patients: NDArray[np.intp]) -> float:
    """Return the two-sided p-value of "the same rate in both groups".

    A score test by patient: the error is computed under equal rates, so that a group without any
    outcome has an error, too. Rows of one patient may be correlated.

    Parameters
    ----------
    outcome
        ``(n,)`` whether each row has the outcome.
    group, reference
        ``(n,)`` whether each row is of the group, of the reference; a row of neither is left out.
    patients
        ``(n,)`` the number of each row's patient, from 0.

    Returns
    -------
    float
        NaN where a group has no row, 1 where all rows have the outcome, or none has.

    Notes
    -----
    The error is the larger of two. The first sums the squares of each patient's contribution to
    the difference. The second takes the variance of a row from all patients together, and divides
    it by the rows of each group; with one row for each patient, the square of its statistic is
    Pearson's chi-squared. Degrees of freedom are the patients of the smaller group less one.

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
    share = group / group.sum() - reference / reference.sum()
    difference = float(share @ outcome)
    residual = either * (outcome - rate)
    by_patient = (np.bincount(patients, share * residual) ** 2).sum()
    by_row = (np.bincount(patients, residual) ** 2).sum() / either.sum()
    error = np.sqrt(max(by_patient, by_row * (1 / group.sum() + 1 / reference.sum())))
    fewest = min(len(np.unique(patients[rows])) for rows in (group, reference))
    return float(2 * stdtr(max(fewest - 1, 1), -abs(difference) / error))
