"""What a search optimises: one number on the whole of the validation rows."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from evenhand.errors import pick
from evenhand.metrics.aggregates import SUMMARIES, extreme
from evenhand.metrics.estimate import common_classes, estimate, point, why_undefined
from evenhand.metrics.families import Family, family
from evenhand.metrics.groups import Excluded, Groups
from evenhand.metrics.intervals import (
    CONSTANT,
    Interval,
    extreme_interval,
    group_interval,
    spread_interval,
)
from evenhand.metrics.registry import find_metric
from evenhand.metrics.resample import Bootstrap, Resamples, resample
from evenhand.metrics.scored import Scored, scored
from evenhand.metrics.thresholds import youden
from evenhand.wording import counted

BOUND = Bootstrap(replicates=500)
"""How the pessimistic end of an objective is found: from a 95 % interval."""


@dataclass(frozen=True)
class Objective:
    """A metric, taken over everybody or across the groups of the attributes.

    Attributes
    ----------
    name
        What the command line calls it.
    metric
        Name of the metric.
    across
        ``"overall"``; or the worst group of all attributes; or the largest gap of any attribute.
    direction
        What a search does with it.
    attribute
        The one attribute that it is about; None is all that there are.
    cut
        How two classes are decided: ``"youden"``, at Youden's threshold of the same rows that the
        objective is computed on; or ``"argmax"``, the class with the higher score, as in the
        FairTune paper (Dutt et al., ICLR 2024). With more classes it is always argmax.
    """

    name: str
    metric: str
    across: Literal["overall", "worst", "gap"]
    direction: Literal["maximize", "minimize"]
    attribute: str | None = None
    cut: Literal["youden", "argmax"] = "youden"

    @property
    def caution(self) -> str | None:
        """A warning about its values, or None."""
        if self.cut == "argmax" or find_metric(self.metric).needs != "decision":
            return None
        stem, colon, attribute = self.name.partition(":")
        return (
            f"Objective {self.name}: for two classes Youden's threshold is fitted on the same "
            "rows, so its value looks better than on new patients. "
            f"{stem}_argmax{colon}{attribute} uses the class with the higher score instead."
        )

    def value(
        self,
        labels: ArrayLike,
        scores: ArrayLike,
        groups: Mapping[str, Groups],
        excluded: Excluded | None = None,
    ) -> float:
        """Return the objective, computed once on all rows.

        Parameters
        ----------
        labels, scores
            As for `scored`: ``(n,)`` and ``(n,)`` or ``(n, C)``.
        groups
            The attributes that it is about.
        excluded
            Levels left out, by attribute; ``"unknown"`` always is.

        Returns
        -------
        float
            NaN where it is undefined, which `problems` foretells, and where a score is not finite
            (a training that diverged). It does not depend on the order of the rows.
        """
        if not np.isfinite(np.asarray(scores, dtype=np.float64)).all():
            return math.nan
        rows = self._decided(labels, scores)
        metric = find_metric(self.metric)
        if self.across == "overall":
            return point(rows, metric, common_classes([rows]))
        summary = SUMMARIES[self.across]
        found = []
        for attribute, levels in self._about(groups).items():
            parts = _parts(rows, levels, (excluded or {}).get(attribute, ()))
            classes = common_classes(list(parts.values()))
            values = np.array([[point(part, metric, classes)] for part in parts.values()])
            found.append(summary(values, metric)[0] if len(values) else math.nan)
        return self._worst(found)

    def bound(
        self,
        labels: ArrayLike,
        scores: ArrayLike,
        groups: Mapping[str, Groups],
        excluded: Excluded | None = None,
        *,
        patients: ArrayLike,
    ) -> float:
        """Return the pessimistic end of the objective's interval, as the report gives it.

        It is the lower end of what is maximised, and the upper end of what is minimised; patients
        ``(n,)`` are resampled, the same ones for every model. The other parameters, and NaN, are
        those of `value`; NaN is also where resamples too often lack a class.
        """
        if not np.isfinite(np.asarray(scores, dtype=np.float64)).all():
            return math.nan
        rows = self._decided(labels, scores, patients)
        resamples = resample(len(rows.members), BOUND, np.random.default_rng(0))
        if self.across == "overall":
            of = self._drawn({"overall": rows}, resamples)
            return self._end(group_interval(of, resamples, BOUND), float(of.values[0, 0]))
        metric, found = find_metric(self.metric), []
        for name, levels in self._about(groups).items():
            of = self._drawn(_parts(rows, levels, (excluded or {}).get(name, ())), resamples)
            value = float(SUMMARIES[self.across](of.values[:, :1], metric)[0])
            found.append(self._end(self._across(of, resamples), value))
        return self._worst(found)

    def problems(
        self,
        labels: ArrayLike,
        groups: Mapping[str, Groups],
        excluded: Excluded | None = None,
        *,
        n_classes: int = 2,
    ) -> tuple[str, ...]:
        """Return what makes the objective undefined on these rows, one line each, with counts.

        It needs no scores, so that a command can refuse before it trains. Each line about a group
        ends with the words that would leave it out.
        """
        label = np.asarray(labels, dtype=np.intp)
        blank = np.full(len(label), 0.5)
        rows = scored(label, blank if n_classes == 2 else np.full((len(label), n_classes), 0.5))
        metric = find_metric(self.metric)
        if self.across == "overall":
            reason = why_undefined(rows, metric, common_classes([rows]))
            return (f"all samples: {reason}",) if reason else ()
        found: list[str] = []
        for attribute, levels in self._about(groups).items():
            parts = _parts(rows, levels, (excluded or {}).get(attribute, ()))
            if len(parts) < 2:
                left = counted(len(parts), "group")
                found.append(f"attribute {attribute!r}: {left} left; two are needed")
            classes = common_classes(list(parts.values()))
            for level, part in parts.items():
                reason = why_undefined(part, metric, classes)
                if reason:
                    found.append(_problem(attribute, level, part, reason))
        return tuple(found)

    def _decided(
        self, labels: ArrayLike, scores: ArrayLike, patients: ArrayLike | None = None
    ) -> Scored:
        score = np.asarray(scores, dtype=np.float64)
        if score.ndim == 2 and score.shape[1] == 2:
            score = score[:, 1]
        fitted = score.ndim == 1 and self.cut == "youden"
        # One patient for all: sums are then taken in an order that the order of rows does not
        # change.
        return scored(
            labels,
            score,
            patients=np.zeros(len(score)) if patients is None else np.asarray(patients),
            threshold=youden(labels, score) if fitted else 0.5,
        )

    def _about(self, groups: Mapping[str, Groups]) -> Mapping[str, Groups]:
        return groups if self.attribute is None else {self.attribute: groups[self.attribute]}

    def _worst(self, found: list[float]) -> float:
        worst = max if self.direction == "minimize" else min
        return math.nan if np.isnan(found).any() else float(worst(found))

    def _drawn(self, parts: Mapping[str, Scored], resamples: Resamples) -> Family:
        """Return the metric of each part for each resample.

        An AUC of 1 that no resample changes is taken for certain: bounded by an exact interval,
        as in the report, it would count for less than one of .999.
        """
        rows, metric = [*parts.values()], find_metric(self.metric)
        classes = common_classes(rows)
        values = estimate(rows, [metric], resamples, classes)[:, 0]
        of = family(parts, metric, values, resamples, classes)
        nothing = np.zeros(len(rows), dtype=np.intp)
        return replace(of, fixed=nothing.astype(np.bool_), trials=nothing)

    def _across(self, of: Family, resamples: Resamples) -> Interval:
        """Return the interval of the worst of the groups, or of their gap."""
        which = extreme(self.across, find_metric(self.metric))
        if which is None:
            return spread_interval([of], resamples, BOUND)
        return extreme_interval(of, which, resamples, BOUND)

    def _end(self, ends: Interval, value: float) -> float:
        """Return the pessimistic end; the value where resamples never change it (AUC 1, say)."""
        if ends.method == CONSTANT:
            return value
        end = ends.low if self.direction == "maximize" else ends.high
        return math.nan if end is None else end


def _parts(rows: Scored, groups: Groups, excluded: Collection[str]) -> dict[str, Scored]:
    return {level: rows.take(groups.rows(level)) for level in groups.compared(excluded)}


def _problem(attribute: str, level: str, rows: Scored, reason: str) -> str:
    counts = counted(len(rows), "sample")
    if rows.binary:
        counts += f", {counted(int(np.count_nonzero(rows.labels)), 'positive')}"
    flag = f'--exclude-group "{attribute}={level}"'
    return f"group {level!r} of {attribute!r} ({counts}): {reason}; leave it out with {flag}"


OBJECTIVES: Mapping[str, Objective] = {
    objective.name: objective
    for objective in (
        Objective("min_auc", "auc", "worst", "maximize"),
        Objective("auc_gap", "auc", "gap", "minimize"),
        Objective("overall_auc", "auc", "overall", "maximize"),
        Objective("min_acc", "accuracy", "worst", "maximize"),
        Objective("acc_gap", "accuracy", "gap", "minimize"),
        Objective("overall_acc", "accuracy", "overall", "maximize"),
        Objective("min_acc_argmax", "accuracy", "worst", "maximize", cut="argmax"),
        Objective("acc_gap_argmax", "accuracy", "gap", "minimize", cut="argmax"),
        Objective("overall_acc_argmax", "accuracy", "overall", "maximize", cut="argmax"),
        Objective("max_loss", "log_loss", "worst", "minimize"),
    )
}


def find_objective(name: str) -> Objective:
    """Return an objective by its name, ``min_auc``, or about one attribute, ``min_auc:age``.

    Raises
    ------
    UnknownNameError
        There is none; the message lists those that there are.
    """
    stem, _, attribute = name.partition(":")
    return replace(pick("objective", stem, OBJECTIVES), name=name, attribute=attribute or None)
