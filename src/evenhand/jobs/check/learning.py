"""Learning curves of a linear model on coarse samples: the gain from more training patients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.splits import Splits
from evenhand.cohort.thinning import SHARES, Thinning
from evenhand.jobs.check.settings import CheckSettings
from evenhand.metrics.groups import Groups, attribute_groups
from evenhand.metrics.learning_curve import ALL, LearningCurve, learning_curve
from evenhand.metrics.recipes import RecipeValues, compared_values, rarer_patients
from evenhand.metrics.resample import Bootstrap, Resamples, resample
from evenhand.metrics.rows import EVERYBODY, Key
from evenhand.metrics.scored import Scored, as_scored
from evenhand.progress import bar
from evenhand.reporting.check_record import Finding
from evenhand.reporting.sections.learning_curve import doubling_text
from evenhand.reporting.text.vocabulary import plain
from evenhand.tables.attributes import group_of

Floats = NDArray[np.float64]

CELLS = 8  # along either side of a coarse image
DRAWS = 4  # subsets of the training patients at each share
STRENGTH = 0.1  # inverse of the ridge penalty, of standardised features
CHUNK = 1024  # samples read at a time


def learning_findings(
    splits: Splits, attributes: Sequence[str], settings: CheckSettings
) -> Iterator[Finding]:
    """Judge the gain from the last doubling of training patients, for the worst-served groups."""
    thinnings = Thinning.of_texts(settings.curve, splits.train.levels)
    if not thinnings:
        return
    curves = _Curves(splits, attributes, settings.seed)
    with bar("learning curves", len(thinnings)) as advance:
        for thinning in thinnings:
            curve = curves.curve(thinning)
            advance()
            yield from _findings(curve, attributes)


def _findings(curve: LearningCurve, attributes: Sequence[str]) -> Iterator[Finding]:
    """Yield a finding for the thinned group, and for the worst-served group of each attribute."""
    worst = [curve.worst(attribute) for attribute in attributes]
    for key in dict.fromkeys((curve.own, *worst)):
        if key is not None and key in curve.keys:
            change = curve.of_doubling(key)
            yield Finding(
                "learning",
                curve.name,
                f"{doubling_text(curve, key)} {_auc_text(curve, key)}",
                change.value,
                "a linear model on coarse samples gains nothing from the last half of the patients",
                "warn" if change.better or change.value is None else "pass",
                change.p_adjusted,
            )


def _auc_text(curve: LearningCurve, key: Key) -> str:
    """Return a sentence with the AUC at each share of the patients."""
    means = (float(values[key][:, 0].mean()) for values in curve.values.values())
    listed = ", ".join("undefined" if mean != mean else plain(mean) for mean in means)
    return f"AUC with {', '.join(f'{share:.0%}' for share in curve.values)}: {listed}."


class _Curves:
    """Computes learning curves of one data set, and makes its samples coarse once."""

    def __init__(self, splits: Splits, attributes: Sequence[str], seed: int) -> None:
        self.train, self.test, self.seed = splits.train, splits.test, seed
        self.attributes = attributes
        self.inputs = _coarse(splits.train)
        self.rows = {name: row for row, name in enumerate(splits.train.table["sample_id"])}
        self.test_inputs = _coarse(splits.test)
        table, levels = splits.test.table, splits.test.levels
        self.groups: dict[str, Groups] = {
            name: attribute_groups(name, group_of(table, name, levels)) for name in attributes
        }
        rng = np.random.default_rng(seed)
        patients = table["patient_id"].nunique()
        self.resamples: Resamples = resample(patients, Bootstrap(), rng)

    def curve(self, thinning: Thinning) -> LearningCurve:
        """Return the learning curve when a thinning removes training patients."""
        patients, values = {}, {}
        for share in (*SHARES, ALL):
            parts = [
                thinning.thin(
                    self.train, share, self.attributes, np.random.default_rng([self.seed, draw])
                )
                for draw in range(DRAWS)
            ]
            patients[share] = float(np.mean([thinning.patients(part) for part in parts]))
            values[share] = self._measure(parts)
        rng = np.random.default_rng([self.seed, DRAWS])
        rarer = {key: self._rarer(key) for key in values[ALL]}
        return learning_curve(thinning.name, thinning.auc, patients, values, rarer, rng)

    def _measure(self, parts: Sequence[Cohort]) -> RecipeValues:
        """Return the numbers ``(draws, 1 + B)`` of a model for each draw of training patients."""
        distinct = parts[:1] if len(parts[0]) == len(self.train) else parts
        by_draw = [
            compared_values(self._score(part), self.groups, self.resamples, overall=("auc",))
            for part in distinct
        ]
        repeated = by_draw * (len(parts) // len(by_draw))
        return {key: np.stack([values[key] for values in repeated]) for key in by_draw[0]}

    def _score(self, part: Cohort) -> Scored:
        rows = np.array([self.rows[name] for name in part.table["sample_id"]])
        scores = _linear_scores(self.inputs[rows], part.labels, self.test_inputs, len(part.classes))
        test = self.test
        return as_scored(
            test.labels,
            scores[:, 1] if len(test.classes) == 2 else scores,
            patients=test.table["patient_id"].to_numpy(),
            classes=test.classes,
        )

    def _rarer(self, key: Key) -> int:
        """Return the number of patients of the rarer class, in the smallest group of a number."""
        rows = as_scored(
            self.test.labels,
            np.full((len(self.test), len(self.test.classes)), 1 / len(self.test.classes)),
            patients=self.test.table["patient_id"].to_numpy(),
            classes=self.test.classes,
        )
        if key.attribute == EVERYBODY:
            return rarer_patients(rows)
        groups = self.groups[key.attribute]
        levels = groups.compared() if key.group == EVERYBODY else [key.group]
        return min(rarer_patients(rows, groups.rows(level)) for level in levels)


def _linear_scores(
    inputs: Floats, labels: NDArray[np.int64], others: Floats, classes: int
) -> Floats:
    """Fit a ridge logistic regression, and return its probabilities ``(m, C)`` for ``others``."""
    from sklearn.linear_model import LogisticRegression

    mean, spread = inputs.mean(axis=0), inputs.std(axis=0)
    spread[spread == 0] = np.inf
    model = LogisticRegression(C=STRENGTH, max_iter=200)
    model.fit((inputs - mean) / spread, labels)
    scores = np.zeros((len(others), classes))
    scores[:, model.classes_] = model.predict_proba((others - mean) / spread)
    return scores


def _coarse(cohort: Cohort) -> Floats:
    """Return each sample as a few numbers, ``(n, D)``."""
    ids = cohort.table["sample_id"]
    coarse = _coarse_series if cohort.channels else _coarse_images
    chunks = (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK))
    return np.concatenate([coarse(np.stack([cohort.read(name) for name in part]))
                           for part in chunks])  # fmt: skip


def _coarse_images(samples: NDArray[Any]) -> Floats:
    """Return the mean of each cell and channel of images ``(n, H, W, C)``."""
    edges = [
        np.unique(np.linspace(0, size, CELLS + 1).astype(int)[:-1]) for size in samples.shape[1:3]
    ]
    sums = np.add.reduceat(samples.astype(np.float64), edges[0], axis=1)
    cells: Floats = np.add.reduceat(sums, edges[1], axis=2).reshape(len(samples), -1)
    return cells


def _coarse_series(samples: NDArray[Any]) -> Floats:
    """Return mean, spread and observed share of each channel of series ``(n, T, C)``."""
    observed = ~np.isnan(samples)
    count = np.maximum(observed.sum(axis=1), 1)
    filled = np.where(observed, samples, 0.0)
    mean = filled.sum(axis=1) / count
    deviation = np.where(observed, samples - mean[:, None], 0.0)
    spread = np.sqrt((deviation**2).sum(axis=1) / count)
    return np.concatenate([mean, spread, observed.mean(axis=1)], axis=1)
