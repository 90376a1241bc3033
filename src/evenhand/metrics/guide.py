"""Which fairness metric fits a decision: a short tree of questions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Advice:
    """The metric to compare groups by, and the reason.

    Attributes
    ----------
    metric
        The name of the metric.
    across
        The names of the comparisons across groups.
    why
        The reason, as a sentence for the user.
    """

    metric: str
    across: tuple[str, ...]
    why: str


COMPARED = ("gap", "difference", "ratio")


def guide_errors(
    decision: Literal["assistive", "punitive"], share: Literal["small", "large"]
) -> Advice:
    """Return the error rate that matters for a decision.

    Parameters
    ----------
    decision
        ``"assistive"``: being flagged brings help, and being missed harms. ``"punitive"``: being
        flagged brings a burden, such as a biopsy, and being flagged in error harms.
    share
        Whether only a small share of the patients can be flagged, or a large one.

    Notes
    -----
    The fairness tree of Aequitas (Saleiro et al. 2018), as the SSL fairness framework shows it.

    Examples
    --------
    >>> guide_errors("assistive", "large").metric
    'false_negative_rate'
    """
    return ERRORS[decision, share]


def guide_representation(numbers: Literal["equal", "proportional"]) -> Advice:
    """Return the metric that compares who is flagged, independent of errors.

    Parameters
    ----------
    numbers
        ``"equal"``: the same share of every group. ``"proportional"``: in proportion to a
        reference group, judged by the ratio.

    Examples
    --------
    >>> guide_representation("proportional").across
    ('disparate_impact',)
    """
    return REPRESENTATION[numbers]


ERRORS = {
    ("punitive", "small"): Advice(
        "false_discovery_rate",
        COMPARED,
        "Few are flagged and a false alarm harms: of those flagged, the share flagged in error "
        "should be the same in every group.",
    ),
    ("punitive", "large"): Advice(
        "false_positive_rate",
        COMPARED,
        "Many are flagged and a false alarm harms: of those without the disease, the share "
        "flagged should be the same in every group.",
    ),
    ("assistive", "small"): Advice(
        "false_omission_rate",
        COMPARED,
        "Few can be helped and a miss harms: of those not flagged, the share with the disease "
        "should be the same in every group.",
    ),
    ("assistive", "large"): Advice(
        "false_negative_rate",
        COMPARED,
        "Many can be helped and a miss harms: of those with the disease, the share missed should "
        "be the same in every group.",
    ),
}
REPRESENTATION = {
    "equal": Advice(
        "selection_rate",
        ("demographic_parity_difference",),
        "The share flagged should be the same in every group, even if the disease is more common "
        "in one group than in another.",
    ),
    "proportional": Advice(
        "selection_rate",
        ("disparate_impact",),
        "Each group should be flagged in proportion to the reference group; a ratio outside .8 to "
        "1.25 is the usual alarm.",
    ),
}
