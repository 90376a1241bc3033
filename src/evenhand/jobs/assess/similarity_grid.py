"""Stage 4 for the whole grid: the difference in CKA between two groups, for every cell.

For each attribute, CKA of a cell with supervised in the group that both serve best is compared with
CKA in the group that both serve worst. The results describe the grid; no verdict rests on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from evenhand.cohort.cohort import Cohort
from evenhand.experiments.runs import Run
from evenhand.experiments.task import Task
from evenhand.jobs.assess.evaluation import Evaluation
from evenhand.jobs.assess.grid import cell_name, with_share
from evenhand.jobs.assess.settings import LABELLED, SUPERVISED, AssessSettings
from evenhand.jobs.assess.similarity import compute_layers, draw_validation_patients
from evenhand.jobs.assess.similarity_grid_record import (
    AttributeContrast,
    CellContrast,
    CorrelationRecord,
    GridInterval,
    GridSimilarity,
    Profile,
    Ratio,
)
from evenhand.jobs.similarity.layers import comparison_of
from evenhand.jobs.similarity.settings import SimilaritySettings
from evenhand.metrics.groups import Groups, attribute_groups
from evenhand.metrics.registry import Floats
from evenhand.networks.layers import layer_names
from evenhand.networks.model import load_model
from evenhand.progress import bar
from evenhand.representation.cka import Layer
from evenhand.representation.grid import (
    GroupContrast,
    SeededMean,
    Sizes,
    contrast_of,
    correlation_of,
    size_ratio_of,
)
from evenhand.representation.jackknife import JackknifeEstimate
from evenhand.tables.attributes import group_of

PERMUTATIONS = 199
SIGNIFICANT = 0.05
"""A ratio is defined if the p-value of the attribute in its denominator is at most this."""


@dataclass(frozen=True)
class _Pair:
    """A cell of one share of labels, which is compared with supervised."""

    evaluation: Evaluation
    cell: str

    @property
    def share(self) -> float:
        return self.evaluation.share

    def ranked_levels(self, attribute: str, levels: Sequence[str]) -> list[str]:
        """Return levels from the best served to the worst, by the mean AUC of both models."""
        judged = [self.evaluation.judged[name].by_group for name in (self.cell, SUPERVISED)]
        auc = {
            level: sum(float(groups[attribute, level][0]) for groups in judged) for level in levels
        }
        defined = [level for level in levels if np.isfinite(auc[level])]
        return sorted(defined, key=auc.__getitem__, reverse=True)

    def gaps(self, attribute: str, best: str, worst: str) -> Floats:
        """Return the gap in AUC of each seed, as the mean of both models, ``(S, 1 + B)``."""
        gaps = [
            self.evaluation.stacked(
                name,
                lambda model: model.by_group[attribute, best] - model.by_group[attribute, worst],
            )
            for name in (self.cell, SUPERVISED)
        ]
        return (gaps[0] + gaps[1]) / 2


@dataclass(frozen=True)
class _Comparison:
    """A pair of cells, and the two groups of an attribute in which they are compared."""

    pair: _Pair
    attribute: str
    best: str
    worst: str


def grid_similarity(
    task: Task, settings: AssessSettings, run: Run, evaluations: Sequence[Evaluation]
) -> GridSimilarity:
    """Compare every cell with supervised of the same share and seed, in two groups by attribute."""
    options = SimilaritySettings(
        runs=(run.root, run.root), seed=settings.seed, permutations=PERMUTATIONS
    )
    cohort = draw_validation_patients(task, options)
    groups = {
        name: attribute_groups(name, group_of(cohort.table, name, cohort.levels))
        for name in settings.attribute
    }
    pairs = [
        _Pair(evaluation, cell)
        for evaluation in evaluations
        for cell in evaluation.models
        if cell not in LABELLED
    ]
    comparisons, left_out = _comparisons(task, pairs, groups, options.minimum)
    layers = _Layers(run, cohort, settings, options)
    contrasts = _contrasts(comparisons, groups, layers, settings)
    sizes, gaps = _sizes(comparisons, contrasts, settings.seeds), _gaps(comparisons)
    return GridSimilarity(
        patients=len(cohort),
        seeds=settings.seeds,
        permutations=PERMUTATIONS,
        layers=layers.names,
        cells=tuple(_cell_contrasts(comparisons, sizes, gaps, options.level)),
        attributes=tuple(
            _attribute_contrast(name, sizes[name], gaps[name], options.level) for name in sizes
        ),
        ratios=tuple(_ratios(sizes, gaps, options.level)),
        correlations=tuple(_correlations(sizes, gaps, options)),
        profiles=tuple(map(_profile, comparisons, contrasts)),
        left_out=left_out,
    )


def _sizes(
    comparisons: Sequence[_Comparison], contrasts: Sequence[Sequence[GroupContrast]], seeds: int
) -> dict[str, Sizes]:
    """Return the sizes of differences in CKA, of all cells and seeds, by attribute."""
    by_attribute: dict[str, list[Sequence[GroupContrast]]] = {}
    for comparison, by_seed in zip(comparisons, contrasts, strict=True):
        by_attribute.setdefault(comparison.attribute, []).append(by_seed)
    return {
        name: Sizes.of_contrasts([[by_seed[seed] for by_seed in cells] for seed in range(seeds)])
        for name, cells in by_attribute.items()
    }


def _gaps(comparisons: Sequence[_Comparison]) -> dict[str, Floats]:
    """Return the gaps in AUC, ``(S, cells, 1 + B)``, by attribute."""
    by_attribute: dict[str, list[Floats]] = {}
    for comparison in comparisons:
        gaps = comparison.pair.gaps(comparison.attribute, comparison.best, comparison.worst)
        by_attribute.setdefault(comparison.attribute, []).append(gaps)
    return {name: np.stack(gaps, axis=1) for name, gaps in by_attribute.items()}


class _Layers:
    """Computes the layers of models on a cohort; those of the last supervised model are cached."""

    def __init__(
        self, run: Run, cohort: Cohort, settings: AssessSettings, options: SimilaritySettings
    ) -> None:
        self._run, self._cohort, self._settings, self.options = run, cohort, settings, options
        self._supervised: dict[str, list[Layer]] = {}
        self.labels: NDArray[np.int64] = cohort.labels
        self.names: tuple[str, ...] = ()

    def compute(self, cell: str, share: float, seed: int) -> list[Layer]:
        """Return the layers of a model."""
        name = cell_name(cell, share, seed)
        if name in self._supervised:
            return self._supervised[name]
        model = load_model(self._run.folder(name))
        self.names = tuple(layer_names(model.backbone))
        layers = compute_layers(model, self._cohort, self._settings, self.options)
        if cell == SUPERVISED:
            self._supervised = {name: layers}
        return layers


def _comparisons(
    task: Task, pairs: Sequence[_Pair], groups: Mapping[str, Groups], minimum: int
) -> tuple[list[_Comparison], dict[str, str]]:
    """Return the comparisons of every attribute and pair, and the reasons of those left out."""
    comparisons: list[_Comparison] = []
    left_out: dict[str, str] = {}
    for name, levels in groups.items():
        large = [
            level
            for level in levels.compared(task.excluded.get(name, ()))
            if len(levels.rows(level)) >= minimum
        ]
        rankings = [pair.ranked_levels(name, large) for pair in pairs]
        if min(map(len, rankings), default=0) < 2:
            left_out[name] = f"fewer than two groups have {minimum} validation patients and an AUC"
            continue
        comparisons += [
            _Comparison(pair, name, ranking[0], ranking[-1])
            for pair, ranking in zip(pairs, rankings, strict=True)
        ]
    return comparisons, left_out


def _contrasts(
    comparisons: Sequence[_Comparison],
    groups: Mapping[str, Groups],
    layers: _Layers,
    settings: AssessSettings,
) -> list[list[GroupContrast]]:
    """Return the contrasts of each comparison, by seed; each model is read once."""
    measure = comparison_of(layers.options)
    contrasts: list[list[GroupContrast]] = [[] for _ in comparisons]
    by_pair: dict[tuple[float, str], list[int]] = {}
    for index, comparison in enumerate(comparisons):
        by_pair.setdefault((comparison.pair.share, comparison.pair.cell), []).append(index)
    seeds = range(settings.seed, settings.seed + settings.seeds)
    with bar("similarity of the grid", len(by_pair) * len(seeds)) as advance:
        for seed in seeds:
            for (share, cell), indices in by_pair.items():
                supervised = layers.compute(SUPERVISED, share, seed)
                sides = layers.compute(cell, share, seed), supervised
                for index in indices:
                    comparison = comparisons[index]
                    levels = groups[comparison.attribute]
                    rows = levels.rows(comparison.best), levels.rows(comparison.worst)
                    contrasts[index].append(contrast_of(sides, rows, layers.labels, measure))
                advance(text=with_share(cell, share))
    return contrasts


def _cell_contrasts(
    comparisons: Sequence[_Comparison],
    sizes: Mapping[str, Sizes],
    gaps: Mapping[str, Floats],
    level: float,
) -> Iterator[CellContrast]:
    next_index = dict.fromkeys(sizes, 0)
    for comparison in comparisons:
        index = next_index[comparison.attribute]
        next_index[comparison.attribute] += 1
        cell_sizes = sizes[comparison.attribute].cell(index)
        yield CellContrast(
            cell=comparison.pair.cell,
            share=comparison.pair.share,
            attribute=comparison.attribute,
            best=comparison.best,
            worst=comparison.worst,
            size=_mean_size(cell_sizes, level),
            by_seed=tuple(map(float, cell_sizes.values[:, 0])),
            by_chance=cell_sizes.by_chance,
            gap=float(gaps[comparison.attribute][:, index, 0].mean()),
        )


def _attribute_contrast(name: str, sizes: Sizes, gaps: Floats, level: float) -> AttributeContrast:
    return AttributeContrast(
        attribute=name,
        size=_mean_size(sizes, level),
        by_chance=sizes.by_chance,
        p=sizes.p,
        gap=float(gaps[:, :, 0].mean()),
    )


def _mean_size(sizes: Sizes, level: float) -> GridInterval:
    mean = sizes.mean
    low, high = mean.interval(level)
    return GridInterval(value=float(mean.number.value), low=max(float(low), 0.0), high=float(high))


def _ratios(
    sizes: Mapping[str, Sizes], gaps: Mapping[str, Floats], level: float
) -> Iterator[Ratio]:
    order = sorted(sizes, key=lambda name: -float(gaps[name][:, :, 0].mean()))
    for name, over in combinations(order, 2):
        p = sizes[over].p
        if p > SIGNIFICANT:
            reason = f"groups of {over} do not differ more than permuted ones (p = {p:.3f})"
            yield Ratio(attribute=name, over=over, ratio=None, reason=reason)
            continue
        ratio = size_ratio_of(sizes[name], sizes[over], level)
        yield Ratio(
            attribute=name,
            over=over,
            ratio=ratio and GridInterval.model_validate(ratio),
            reason="" if ratio else "its interval has no end",
        )


def _correlations(
    sizes: Mapping[str, Sizes], gaps: Mapping[str, Floats], options: SimilaritySettings
) -> Iterator[CorrelationRecord]:
    together = {"*": list(sizes)} if len(sizes) > 1 else {}
    for name, attributes in {**together, **{name: [name] for name in sizes}}.items():
        correlation = correlation_of(
            [sizes[attribute] for attribute in attributes],
            [gaps[attribute] for attribute in attributes],
            options.level,
            np.random.default_rng(options.seed),
        )
        points = sum(sizes[attribute].values.shape[1] for attribute in attributes)
        yield CorrelationRecord(
            attribute=name,
            points=points,
            correlation=correlation and GridInterval.model_validate(correlation),
            p=correlation and correlation.p,
        )


def _profile(comparison: _Comparison, contrasts: Sequence[GroupContrast]) -> Profile:
    """Return CKA of each layer of both models in each group, as mean over seeds."""
    return Profile(
        cell=comparison.pair.cell,
        share=comparison.pair.share,
        attribute=comparison.attribute,
        best=comparison.best,
        worst=comparison.worst,
        in_best=_by_layer([contrast.first for contrast in contrasts], limit=1.0),
        in_worst=_by_layer([contrast.second for contrast in contrasts], limit=1.0),
        difference=_by_layer([contrast.difference for contrast in contrasts], limit=2.0),
    )


def _by_layer(
    seeds: Sequence[JackknifeEstimate], *, limit: float
) -> tuple[GridInterval | None, ...]:
    """Return the mean of each layer with an interval that is cut at ``-limit`` and ``limit``."""
    values = np.stack([np.diagonal(seed.value) for seed in seeds])  # (S, layers)
    influence = np.stack(
        [np.diagonal(seed.influence, axis1=1, axis2=2) for seed in seeds], axis=1
    )  # (N, S, layers)
    mean = SeededMean.over_seeds(JackknifeEstimate(values, influence))
    low, high = np.clip(mean.interval(0.95), -limit, limit)
    return tuple(
        GridInterval(value=float(value), low=float(layer_low), high=float(layer_high))
        if np.isfinite(value)
        else None
        for value, layer_low, layer_high in zip(mean.number.value, low, high, strict=True)
    )
