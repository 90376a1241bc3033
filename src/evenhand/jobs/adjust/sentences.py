"""Sentences of the report about a fitted method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evenhand.methods.afterwards.dfr import LastLayer
from evenhand.methods.afterwards.recalibrate import Recalibrated
from evenhand.methods.afterwards.thresholds import GroupThreshold, Thresholds
from evenhand.methods.attribute_free import AttributeFree
from evenhand.wording import count_text


def fit_sentences(fit: object, by: str) -> tuple[str, ...]:
    """Return sentences about a fit to the groups of an attribute ``by``."""
    if isinstance(fit, AttributeFree):
        return (_inferred_sentence(fit, by),)
    if isinstance(fit, Recalibrated):
        return tuple(_slope_sentences(fit, by))
    return (_layer_sentence(fit),) if isinstance(fit, LastLayer) else ()


def promise_sentences(fit: object, by: str, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return sentences about the sensitivity that a fit guarantees, or why it guarantees none.

    Only thresholds with the aim ``minimum-sensitivity`` have such sentences.
    """
    if not isinstance(fit, Thresholds | AttributeFree) or fit.aim != "minimum-sensitivity":
        return ()
    confidence = float(settings.get("confidence", 0.95))
    if fit.broken:
        return tuple(
            _broken_sentence(level, by, fit.groups[level], fit.value, confidence)
            for level in fit.broken
        )
    return (
        f"With {confidence:.0%} confidence the sensitivity among new patients is at least "
        f"{fit.value:g} in every group of {by} at once. This holds if the validation "
        "patients chose nothing else: neither weights nor an epoch.",
    )


def _inferred_sentence(fit: AttributeFree, by: str) -> str:
    right = ", ".join(f"{share:.0%} where {by} is {level}" for level, share in fit.right.items())
    return f"The group is inferred from the model's features, correctly for {right}."


def _broken_sentence(
    level: str, by: str, group: GroupThreshold, value: float, confidence: float
) -> str:
    return (
        f"Where {by} is {level}, no threshold can guarantee a sensitivity of {value:g} with "
        f"{confidence:.0%} confidence: this needs at least "
        f"{count_text(group.needed or 0, 'positive patient')}, and validation has "
        f"{group.positives}. The threshold of this group is the highest that detects all its "
        "positive patients."
    )


def _slope_sentences(fit: Recalibrated, by: str) -> Iterator[str]:
    falling = [level for level, line in fit.groups.items() if line.slope <= 0]
    if falling:
        yield (
            f"Where {by} is {', '.join(falling)}, the slope is not above 0: the scores rank these "
            "patients no better than chance, and recalibration reverses their order."
        )


def _layer_sentence(fit: LastLayer) -> str:
    return (
        f"The last layer was fitted with an inverse L1 penalty of {fit.strength:g}, chosen by the "
        "worst group's accuracy. Validation rows are scored by layers that were fitted to "
        "other patients. Fitting on balanced rows makes every class equally frequent; the scores "
        "were shifted back to the prevalence of the validation rows. Within a group with another "
        "prevalence they are still shifted: --method recalibrate repairs that."
    )
