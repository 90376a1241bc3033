"""Targets: the number that a search optimises, pruning stops at and the report judges by."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from evenhand.earlier_names import TARGETS, current_target
from evenhand.errors import EvenhandError, UnknownNameError
from evenhand.metrics.aggregate import numbers_of
from evenhand.metrics.aggregates import SUMMARIES
from evenhand.metrics.estimate import common_classes, why_undefined
from evenhand.metrics.estimates import Number, Parts, everybody, parts_of
from evenhand.metrics.fairness import FAIRNESS, Fairness
from evenhand.metrics.families import Family
from evenhand.metrics.forms import bin_pairs
from evenhand.metrics.groups import Excluded, Groups
from evenhand.metrics.intervals import CONSTANT, NEARLY_CONSTANT
from evenhand.metrics.registry import METRICS, Metric, find_metric, is_metric
from evenhand.metrics.resample import Bootstrap, Resamples, resample
from evenhand.metrics.scored import Scored, scored
from evenhand.metrics.table import unbounded_interval
from evenhand.metrics.thresholds import youden
from evenhand.wording import counted

BOUND = Bootstrap(replicates=500)
"""How the pessimistic end of a target is found: from a 95 % interval."""

OVERALL = "overall"
"""The aggregate of a metric over everybody, whatever their group."""

ARGMAX = "_argmax"

Cut = Literal["youden", "argmax"]


@dataclass(frozen=True)
class Target:
    """A metric, an aggregate over groups, and a direction; where it is to stop, a bound.

    Attributes
    ----------
    metric
        A metric, or a fairness metric, which is a number across groups by itself.
    aggregate
        How the groups of a metric become one number: ``"worst"``, ``"best"``, ``"gap"`` or
        ``"min_ratio"``; ``"overall"`` is its value for everybody. A fairness metric has none.
    bound
        The value at which it is reached; None where it is only to be made as good as possible.
    attribute
        The one attribute that it is about; None is all that there are: the worst of them counts.
    cut
        How two classes are decided: ``"youden"``, at Youden's threshold of the same rows that the
        target is computed on; or ``"argmax"``, the class with the higher score, as in the
        FairTune paper (Dutt et al., ICLR 2024). With more classes it is always argmax.
    pessimistic
        Whether models are judged by the worse end of its interval, in place of its value.

    Examples
    --------
    >>> target = find_target("auc_gap:age=0.02")
    >>> target.metric.name, target.aggregate, target.direction, target.bound, target.attribute
    ('auc', 'gap', 'minimize', 0.02, 'age')
    """

    metric: Metric | Fairness
    aggregate: str | None = OVERALL
    bound: float | None = None
    attribute: str | None = None
    cut: Cut = "youden"
    pessimistic: bool = False

    @property
    def row(self) -> str:
        """What rows of ``metrics.json`` call the number: ``auc``, ``auc_worst``, ``eopp1_sum``."""
        alone = self.aggregate in (None, OVERALL)
        return self.metric.name if alone else f"{self.metric.name}_{self.aggregate}"

    @property
    def name(self) -> str:
        """What the command line calls it, without the bound: ``accuracy_worst_argmax:age``."""
        cut = ARGMAX if self.cut == "argmax" else ""
        return f"{self.row}{cut}" + (f":{self.attribute}" if self.attribute else "")

    @property
    def label(self) -> str:
        """The name, with what is taken of it."""
        end = "lower" if self.maximise else "upper"
        return f"{self.name} ({end} end of its interval)" if self.pessimistic else self.name

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """What a search does with it, as Optuna calls it."""
        if self.aggregate in ("gap", "min_ratio"):
            lower = self.aggregate == "gap"
        else:
            lower = self.metric.direction == "lower"
        return "minimize" if lower else "maximize"

    @property
    def maximise(self) -> bool:
        """Whether more is better."""
        return self.direction == "maximize"

    @property
    def is_overall(self) -> bool:
        """Whether it is about everybody, so that it needs no groups."""
        return self.aggregate == OVERALL

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that it is made of."""
        if isinstance(self.metric, Metric):
            return (self.metric,)
        return tuple(map(find_metric, self.metric.metrics))

    def beats(self, value: float, other: float) -> bool:
        """Whether a value is better than another."""
        return value > other if self.maximise else value < other

    def is_reached(self, value: float) -> bool:
        """Whether a value is as good as the bound; never without one, or for NaN."""
        return self.bound is not None and (value == self.bound or self.beats(value, self.bound))

    @property
    def caution(self) -> str | None:
        """A warning about its values, or None."""
        decided = any(metric.needs == "decision" for metric in self.metrics)
        if self.cut == "argmax" or not decided:
            return None
        return (
            f"Target {self.name}: for two classes Youden's threshold is fitted on the same "
            "rows, so its value looks better than on new patients. "
            f"{replace(self, cut='argmax').name} uses the class with the higher score instead."
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
            As for `scored`: ``(n,)`` and ``(n,)`` or ``(n, C)``.
        groups
            The attributes that it is about.
        excluded
            Levels left out, by attribute; ``"unknown"`` always is.
        patients
            ``(n,)``, for a metric that compares patients; by default each row is one.

        Returns
        -------
        float
            NaN where it is undefined, which `problems` foretells, and where a score is not finite
            (a training that diverged). It does not depend on the order of the rows.
        """
        if not np.isfinite(np.asarray(scores, dtype=np.float64)).all():
            return math.nan
        if not any(metric.form is bin_pairs for metric in self.metrics):
            # One patient for all: sums are then taken in an order that the order of rows does not
            # change.
            patients = np.zeros(len(np.asarray(scores)))
        rows = self._decided(labels, scores, patients)
        once = resample(len(rows.members), None, np.random.default_rng(0))
        numbers = self._numbers(rows, groups, excluded, once)
        return self._worst([_value(number) for number in numbers])

    def pessimistic_value(
        self,
        labels: ArrayLike,
        scores: ArrayLike,
        groups: Mapping[str, Groups],
        excluded: Excluded | None = None,
        *,
        patients: ArrayLike,
    ) -> float:
        """Return the pessimistic end of the target's interval, as the report gives it.

        It is the lower end of what is maximised, and the upper end of what is minimised; patients
        ``(n,)`` are resampled, the same ones for every model. The other parameters, and NaN, are
        those of `value`; NaN is also where resamples too often lack a class.
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
    ) -> tuple[str, ...]:
        """Return what makes the target undefined on these rows, one line each, with counts.

        It needs no scores, so that a command can refuse before it trains. Each line about a group
        ends with the words that would leave it out.
        """
        label = np.asarray(labels, dtype=np.intp)
        blank = np.full(len(label), 0.5)
        rows = scored(label, blank if n_classes == 2 else np.full((len(label), n_classes), 0.5))
        if self.is_overall:
            reason = self._lack(rows, [rows])
            return (f"all samples: {reason}",) if reason else ()
        problems: list[str] = []
        for parts in self._parts(rows, groups, excluded or {}):
            if len(parts.compared) < 2:
                count = counted(len(parts.compared), "group")
                problems.append(f"attribute {parts.attribute!r}: {count} left; two are needed")
            compared = [parts.rows[level] for level in parts.compared]
            for level in parts.compared:
                if reason := self._lack(parts.seen(level, self.metrics[0]), compared):
                    problems.append(_problem(parts.attribute, level, parts.rows[level], reason))
        return tuple(problems)

    def _lack(self, rows: Scored, compared: Sequence[Scored]) -> str | None:
        """Return why the metrics are undefined on some rows, whatever the scores, or None."""
        classes = common_classes(compared)
        by_class = isinstance(self.metric, Fairness) and self.metric.over == "classes"
        views = [rows.versus_rest(c) for c in range(len(rows.classes))] if by_class else [rows]
        reasons = (
            why_undefined(view, _of_labels(metric), classes)
            for view in views
            for metric in self.metrics
        )
        return next(filter(None, reasons), None)

    def _decided(self, labels: ArrayLike, scores: ArrayLike, patients: ArrayLike | None) -> Scored:
        score = np.asarray(scores, dtype=np.float64)
        if score.ndim == 2 and score.shape[1] == 2:
            score = score[:, 1]
        fitted = score.ndim == 1 and self.cut == "youden"
        threshold = youden(labels, score) if fitted else 0.5
        owners = None if patients is None else np.asarray(patients)
        return scored(labels, score, patients=owners, threshold=threshold)

    def _parts(
        self, rows: Scored, groups: Mapping[str, Groups], excluded: Excluded
    ) -> Iterator[Parts]:
        about = groups if self.attribute is None else {self.attribute: groups[self.attribute]}
        for name, levels in about.items():
            yield parts_of(rows, name, levels, levels.compared(excluded.get(name, ())))

    def _numbers(
        self,
        rows: Scored,
        groups: Mapping[str, Groups],
        excluded: Excluded | None,
        resamples: Resamples,
    ) -> Iterator[Number]:
        """Yield the number of everybody, or that of each attribute."""
        if self.is_overall:
            yield numbers_of(everybody(rows), [self.metric.name], (), resamples)[0]
            return
        metrics = [self.metric.name] if isinstance(self.metric, Metric) else []
        across = self.aggregate or self.metric.name
        for parts in self._parts(rows, groups, excluded or {}):
            yield numbers_of(parts, metrics, [across], resamples)[-1]

    def _worst(self, values: list[float]) -> float:
        worst = min if self.maximise else max
        return math.nan if np.isnan(values).any() else float(worst(values))

    def _end(self, number: Number, resamples: Resamples) -> float:
        """Return the pessimistic end; the value where resamples never change it (AUC 1, say).

        An AUC of 1 that no resample changes is taken for certain: bounded by an exact interval,
        as in the report, it would count for less than one of .999.
        """
        value = _value(number)
        if math.isnan(value):
            return value
        certain = replace(number, family=tuple(map(_without_exact, number.family)))
        ends = unbounded_interval(certain, resamples, BOUND)
        if ends.reason in (CONSTANT, NEARLY_CONSTANT):
            return value
        end = ends.low if self.maximise else ends.high
        return math.nan if end is None else end


def _value(number: Number) -> float:
    return math.nan if number.reason else float(number.values[0])


def _without_exact(family: Family) -> Family:
    """Return the values of groups without the exact intervals of those that never change."""
    nothing = np.zeros(len(family.names), dtype=np.intp)
    return replace(family, fixed=nothing.astype(np.bool_), trials=nothing)


def _of_labels(metric: Metric) -> Metric:
    """Return a metric with those of its requirements that no score changes."""
    kept = tuple(kind for kind in metric.requires if kind in ("positives", "negatives"))
    return replace(metric, requires=kept)


def _problem(attribute: str, level: str, rows: Scored, reason: str) -> str:
    counts = counted(len(rows), "sample")
    if rows.binary:
        counts += f", {counted(int(np.count_nonzero(rows.labels)), 'positive')}"
    flag = f'--exclude-group "{attribute}={level}"'
    return f"group {level!r} of {attribute!r} ({counts}): {reason}; leave it out with {flag}"


def find_target(text: str, *, pessimistic: bool = False) -> Target:
    """Return the target that a text names: ``NAME[:ATTRIBUTE][=BOUND]``.

    NAME is a metric (its value for everybody), a metric with an aggregate over groups
    (``auc_worst``, ``log_loss_gap``), or a fairness metric (``equalized_odds_difference``). Where
    it needs decisions, ``_argmax`` may follow: the class with the higher score is then decided.

    Raises
    ------
    EvenhandError
        There is no such target, neither direction of it is better, no model changes it, or the
        bound is no finite number.

    Examples
    --------
    >>> find_target("min_auc").name, find_target("equalized_odds_difference=0.1").bound
    ('auc_worst', 0.1)
    """
    whole, equals, bound = current_target(text).partition("=")
    name, _, attribute = whole.partition(":")
    stem = name.removesuffix(ARGMAX)
    target = replace(
        _unbound(stem),
        attribute=attribute or None,
        cut="youden" if stem == name else "argmax",
        bound=_number(text, bound) if equals else None,
        pessimistic=pessimistic,
    )
    _refuse_meaningless(text, target)
    return target


def _unbound(stem: str) -> Target:
    """Return the target of a name without attribute and bound."""
    if stem in FAIRNESS:
        return Target(FAIRNESS[stem], None)
    if is_metric(stem):
        return Target(find_metric(stem))
    for aggregate in SUMMARIES:
        metric = stem.removesuffix(f"_{aggregate}")
        if metric != stem and is_metric(metric):
            return Target(find_metric(metric), aggregate)
    raise _unknown(stem)


def _unknown(stem: str) -> UnknownNameError:
    across = [f"{metric}_{aggregate}" for metric in METRICS for aggregate in SUMMARIES]
    near = get_close_matches(stem, [*METRICS, *across, *FAIRNESS, *TARGETS], n=1)
    meant = f" Did you mean {near[0]!r}?" if near else ""
    return UnknownNameError(
        f"no target {stem!r}; a target is a metric (its value for everybody), a metric with "
        f"{', '.join(f'_{aggregate}' for aggregate in SUMMARIES)} (auc_worst), or a fairness "
        f"metric. Metrics: {', '.join(sorted(METRICS))}. Fairness metrics: "
        f"{', '.join(sorted(FAIRNESS))}.{meant}"
    )


def _number(text: str, number: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise EvenhandError(f"--target {text}: it is written NAME=NUMBER, as in auc_gap=0.02.")
    return value


def _refuse_meaningless(text: str, target: Target) -> None:
    """Refuse what nothing can be better at, and words that would have no effect."""
    problem = _no_direction(target)
    if all(metric.needs == "label" for metric in target.metrics):
        problem = "it is computed from labels alone, so no model changes it"
    elif target.cut == "argmax" and not any(one.needs == "decision" for one in target.metrics):
        problem = f"{target.metric.name} needs no decisions; leave {ARGMAX} out"
    elif target.is_overall and target.attribute is not None:
        problem = f"it is about everybody; leave :{target.attribute} out"
    if problem:
        raise EvenhandError(f"--target {text}: {problem}.")


def _no_direction(target: Target) -> str | None:
    """Return why neither more nor less of a target is better, or None."""
    metric, gap = target.metric, target.aggregate in ("gap", "min_ratio")
    if isinstance(metric, Fairness) and metric.over == "reference":
        return f"{metric.name} is a number for each group, and a target is one across groups"
    if metric.direction in ("higher", "lower") or gap:
        return None
    instead = "" if isinstance(metric, Fairness) else f"; {metric.name}_gap has one"
    return f"neither a higher nor a lower {metric.name} is better{instead}"
