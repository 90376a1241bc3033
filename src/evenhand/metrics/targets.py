"""Targets: numbers across groups that a search optimises, or at which pruning stops."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from evenhand.errors import count_text
from evenhand.metrics.attribute_numbers import compute_numbers
from evenhand.metrics.estimate import common_classes, why_undefined
from evenhand.metrics.fairness import Fairness
from evenhand.metrics.families import MetricFamily
from evenhand.metrics.forms import bin_pairs
from evenhand.metrics.groups import Excluded, Groups
from evenhand.metrics.intervals import CONSTANT, NEARLY_CONSTANT
from evenhand.metrics.numbers import Parts, ResampledNumber, divide_samples, undivided_samples
from evenhand.metrics.registry import Metric, find_metric
from evenhand.metrics.resample import Bootstrap, Resamples, resample
from evenhand.metrics.scored import Scored, as_scored
from evenhand.metrics.table import unbounded_interval
from evenhand.metrics.thresholds import youden

BOUND = Bootstrap(replicates=500)
"""The bootstrap of the 95 % interval whose worse end a pessimistic target takes."""

OVERALL = "overall"
"""The aggregate of a metric on all samples together."""

ARGMAX = "_argmax"
"""The end of a target's name if its decisions are argmax."""

DecisionRule = Literal["youden", "argmax"]


class Problem(NamedTuple):
    """A reason why a target is undefined, and the flag that leaves its group out, or None."""

    text: str
    flag: str | None = None

    def __str__(self) -> str:
        return self.text if self.flag is None else f"{self.text}; leave it out with {self.flag}"


@dataclass(frozen=True)
class Target:
    """A metric, an aggregate over groups, and a direction; optionally a bound to stop at.

    Attributes
    ----------
    metric
        A metric, or a fairness metric, which is itself a number across groups.
    aggregate
        How the groups of a metric become one number: ``"worst"``, ``"best"``, ``"gap"`` or
        ``"min_ratio"``; ``"overall"`` is its value for everybody. None for a fairness metric.
    bound
        The value at which the target is reached; None to optimise without a bound.
    attribute
        The attribute whose groups count; None takes the worst value over all attributes.
    decision_rule
        The decision rule for two classes: ``"youden"``, Youden's threshold of the rows that the
        target is computed on; or ``"argmax"``, the class with the higher score, as in the
        FairTune paper (Dutt et al., ICLR 2024). More classes are always decided by argmax.
    pessimistic
        Whether the worse end of its interval counts instead of the value.

    Examples
    --------
    >>> from evenhand.metrics import find_target
    >>> target = find_target("auc_gap:age=0.02")
    >>> target.metric.name, target.aggregate, target.direction, target.bound, target.attribute
    ('auc', 'gap', 'minimize', 0.02, 'age')
    """

    metric: Metric | Fairness
    aggregate: str | None = OVERALL
    bound: float | None = None
    attribute: str | None = None
    decision_rule: DecisionRule = "youden"
    pessimistic: bool = False

    @property
    def row_metric(self) -> str:
        """The ``metric`` of its row in ``metrics.json``: ``auc``, ``auc_worst``, ``eopp1_sum``."""
        if self.aggregate in (None, OVERALL):
            return self.metric.name
        return f"{self.metric.name}_{self.aggregate}"

    @property
    def name(self) -> str:
        """Its name on the command line, without the bound: ``accuracy_worst_argmax:age``."""
        cut = ARGMAX if self.decision_rule == "argmax" else ""
        return f"{self.row_metric}{cut}" + (f":{self.attribute}" if self.attribute else "")

    @property
    def label(self) -> str:
        """The name; a pessimistic target also names the end of the interval that counts."""
        end = "lower" if self.maximise else "upper"
        return f"{self.name} ({end} end of its interval)" if self.pessimistic else self.name

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """The direction of the optimisation, in Optuna's words."""
        if self.aggregate in ("gap", "min_ratio"):
            lower = self.aggregate == "gap"
        else:
            lower = self.metric.direction == "lower"
        return "minimize" if lower else "maximize"

    @property
    def maximise(self) -> bool:
        """Whether higher values are better."""
        return self.direction == "maximize"

    @property
    def limits(self) -> tuple[float, float]:
        """The smallest and the largest possible value, infinite where there is no limit.

        Examples
        --------
        >>> from evenhand.metrics import find_target
        >>> find_target("auc_worst").limits, find_target("log_loss_gap").limits
        ((0.0, 1.0), (0.0, inf))
        """
        if not all(metric.share for metric in self.metrics):
            return (0.0 if self.is_spread else -math.inf), math.inf
        is_sum = isinstance(self.metric, Fairness) and not self.is_spread and not self.maximise
        return 0.0, math.inf if is_sum else 1.0

    @property
    def is_overall(self) -> bool:
        """Whether it is computed on all samples together, without groups."""
        return self.aggregate == OVERALL

    @property
    def is_spread(self) -> bool:
        """Whether it is the largest difference between two groups."""
        return self.aggregate == "gap" or (
            isinstance(self.metric, Fairness) and self.metric.is_spread
        )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that it is computed from."""
        if isinstance(self.metric, Metric):
            return (self.metric,)
        return tuple(map(find_metric, self.metric.metrics))

    def beats(self, value: float, other: float) -> bool:
        """Return whether a value is better than another."""
        return value > other if self.maximise else value < other

    def is_reached(self, value: float) -> bool:
        """Return whether a value is at least as good as the bound; False for NaN or without one."""
        return self.bound is not None and (value == self.bound or self.beats(value, self.bound))

    @property
    def caution(self) -> str | None:
        """A warning about its values, or None."""
        decided = any(metric.needs == "decision" for metric in self.metrics)
        if self.decision_rule == "argmax" or not decided:
            return None
        return (
            f"Target {self.name}: for two classes Youden's threshold is fitted on the same "
            "rows, so its value looks better than on new patients. "
            f"{replace(self, decision_rule='argmax').name} uses the class with the higher score "
            "instead."
        )

    def value(
        self,
        labels: ArrayLike,
        scores: ArrayLike,
        groups: Mapping[str, Groups],
        excluded: Excluded | None = None,
        *,
        patients: ArrayLike | None = None,
    ) -> float:
        """Return the target, computed once on all rows.

        Parameters
        ----------
        labels, scores
            As for `as_scored`: ``(n,)`` and ``(n,)`` or ``(n, C)``.
        groups
            The groups of every attribute, by its name.
        excluded
            Levels to leave out, by attribute; ``"unknown"`` is always left out.
        patients
            ``(n,)``, for a metric that compares patients; by default each row is a patient.

        Returns
        -------
        float
            The value; NaN where it is undefined (see `problems`) or where a score is not finite
            (the training diverged). It does not depend on the order of the rows.
        """
        if not np.isfinite(np.asarray(scores, dtype=np.float64)).all():
            return math.nan
        if not any(metric.form is bin_pairs for metric in self.metrics):
            # With a single patient, the order of rows does not change the order of summation.
            patients = np.zeros(len(np.asarray(scores)))
        rows = self._decided(labels, scores, patients)
        data_only = resample(len(rows.members), None, np.random.default_rng(0))
        numbers = self._numbers(rows, groups, excluded, data_only)
        return self._worst([_value(number) for number in numbers])

    def by_group(
        self,
        labels: ArrayLike,
        scores: ArrayLike,
        groups: Mapping[str, Groups],
        excluded: Excluded | None = None,
    ) -> dict[str, float]:
        """Return its metrics in every compared group, by names such as ``auc:sex:female``.

        Undefined values are left out. The parameters are those of `value`.
        """
        if not np.isfinite(np.asarray(scores, dtype=np.float64)).all():
            return {}
        rows = self._decided(labels, scores, None)
        data_only = resample(len(rows.members), None, np.random.default_rng(0))
        names = [metric.name for metric in self.metrics]
        return {
            f"{number.base.name}:{parts.attribute}:{number.group}": _value(number)
            for parts in self._parts(rows, groups, excluded or {})
            for number in compute_numbers(parts, names, [], data_only)
            if number.group in parts.compared and not math.isnan(_value(number))
        }

    def pessimistic_value(
        self,
        labels: ArrayLike,
        scores: ArrayLike,
        groups: Mapping[str, Groups],
        excluded: Excluded | None = None,
        *,
        patients: ArrayLike,
    ) -> float:
        """Return the worse end of the target's interval, as in the report.

        It is the lower end for a target that is maximised, the upper end for a target that is
        minimised. The patients ``(n,)`` are resampled in the same way for every model. The other
        parameters are those of `value`. The result is NaN where `value` is NaN, and where too many
        resamples lack a class.
        """
        if not np.isfinite(np.asarray(scores, dtype=np.float64)).all():
            return math.nan
        rows = self._decided(labels, scores, patients)
        resamples = resample(len(rows.members), BOUND, np.random.default_rng(0))
        numbers = self._numbers(rows, groups, excluded, resamples)
        return self._worst([self._end(number, resamples) for number in numbers])

    def problems(
        self,
        labels: ArrayLike,
        groups: Mapping[str, Groups],
        excluded: Excluded | None = None,
        *,
        n_classes: int = 2,
    ) -> tuple[Problem, ...]:
        """Return the reasons why the target is undefined on these rows, with counts.

        It needs no scores, so a command can check a target before training.

        Parameters
        ----------
        labels
            ``(n,)``, the classes.
        groups, excluded
            As for `value`.
        n_classes
            The number of classes.
        """
        label = np.asarray(labels, dtype=np.intp)
        shape = len(label) if n_classes == 2 else (len(label), n_classes)
        rows = as_scored(label, np.full(shape, 1 / n_classes))
        if self.is_overall:
            reason = self._why_undefined(rows, [rows])
            return (Problem(f"all samples: {reason}"),) if reason else ()
        problems: list[Problem] = []
        for parts in self._parts(rows, groups, excluded or {}):
            if len(parts.compared) < 2:
                count = count_text(len(parts.compared), "group")
                text = f"attribute {parts.attribute!r}: {count} left; two are needed"
                problems.append(Problem(text))
            compared = [parts.rows[level] for level in parts.compared]
            for level in parts.compared:
                samples = parts.used_by(level, self.metrics[0])
                if reason := self._why_undefined(samples, compared):
                    problems.append(_problem(parts.attribute, level, parts.rows[level], reason))
        return tuple(problems)

    def _why_undefined(self, rows: Scored, compared: Sequence[Scored]) -> str | None:
        """Return why the metrics are undefined on some rows, whatever the scores, or None."""
        classes = common_classes(compared)
        by_class = isinstance(self.metric, Fairness) and self.metric.over == "classes"
        views = [rows.versus_rest(c) for c in range(len(rows.classes))] if by_class else [rows]
        reasons = (
            why_undefined(view, _with_label_requirements(metric), classes)
            for view in views
            for metric in self.metrics
        )
        return next(filter(None, reasons), None)

    def _decided(self, labels: ArrayLike, scores: ArrayLike, patients: ArrayLike | None) -> Scored:
        """Return the samples with the decisions of the target's rule."""
        score = np.asarray(scores, dtype=np.float64)
        if score.ndim == 2 and score.shape[1] == 2:
            score = score[:, 1]
        fitted = score.ndim == 1 and self.decision_rule == "youden"
        threshold = youden(labels, score) if fitted else 0.5
        owners = None if patients is None else np.asarray(patients)
        return as_scored(labels, score, patients=owners, threshold=threshold)

    def _parts(
        self, rows: Scored, groups: Mapping[str, Groups], excluded: Excluded
    ) -> Iterator[Parts]:
        """Yield the samples of the groups of each attribute that counts."""
        chosen = groups if self.attribute is None else {self.attribute: groups[self.attribute]}
        for name, levels in chosen.items():
            yield divide_samples(rows, name, levels, levels.compared(excluded.get(name, ())))

    def _numbers(
        self,
        rows: Scored,
        groups: Mapping[str, Groups],
        excluded: Excluded | None,
        resamples: Resamples,
    ) -> Iterator[ResampledNumber]:
        """Yield the target on all samples, or for each attribute."""
        if self.is_overall:
            yield compute_numbers(undivided_samples(rows), [self.metric.name], (), resamples)[0]
            return
        metrics = [self.metric.name] if isinstance(self.metric, Metric) else []
        across = self.aggregate or self.metric.name
        for parts in self._parts(rows, groups, excluded or {}):
            yield compute_numbers(parts, metrics, [across], resamples)[-1]

    def _worst(self, values: list[float]) -> float:
        """Return the worst of the values of several attributes; NaN if any is NaN."""
        worst = min if self.maximise else max
        return math.nan if np.isnan(values).any() else float(worst(values))

    def _end(self, number: ResampledNumber, resamples: Resamples) -> float:
        """Return the worse end of a number's interval; its value if no resample changes it.

        An AUC of 1 that no resample changes counts as 1. With the exact interval of the report it
        would be worse than an AUC of .999.
        """
        value = _value(number)
        if math.isnan(value):
            return value
        without_exact = replace(number, family=tuple(map(_without_exact, number.family)))
        ends = unbounded_interval(without_exact, resamples, BOUND)
        if ends.reason in (CONSTANT, NEARLY_CONSTANT):
            return value
        end = ends.low if self.maximise else ends.high
        return math.nan if end is None else end


def _value(number: ResampledNumber) -> float:
    """Return the value of a number in the data, NaN where it is undefined."""
    return math.nan if number.reason else float(number.values[0])


def _without_exact(family: MetricFamily) -> MetricFamily:
    """Return a family without the exact intervals of groups whose value never changes."""
    zeros = np.zeros(len(family.names), dtype=np.intp)
    return replace(family, fixed=zeros.astype(np.bool_), trials=zeros)


def _with_label_requirements(metric: Metric) -> Metric:
    """Return a metric with only those requirements that do not depend on scores."""
    kinds = tuple(kind for kind in metric.requires if kind in ("positives", "negatives"))
    return replace(metric, requires=kinds)


def _problem(attribute: str, level: str, rows: Scored, reason: str) -> Problem:
    """Return the problem of a group, with its counts and the flag that leaves it out."""
    counts = count_text(len(rows), "sample")
    if rows.binary:
        counts += f", {count_text(int(np.count_nonzero(rows.labels)), 'positive')}"
    flag = f'--exclude-group "{attribute}={level}"'
    return Problem(f"group {level!r} of {attribute!r} ({counts}): {reason}", flag)
