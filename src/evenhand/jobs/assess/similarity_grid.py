"""Stage 4 for the whole grid: how differently each cell and supervised see two groups.

Of each attribute, the group that a cell and supervised serve best is held against the one that they
serve worst. What is said describes the grid; no verdict rests on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from evenhand.cohort.cohort import Cohort
from evenhand.experiments.runs import Run
from evenhand.experiments.task import Task
from evenhand.files import checked, read_object, write_json
from evenhand.jobs.assess.evaluation import Evaluation
from evenhand.jobs.assess.grid import with_share
from evenhand.jobs.assess.settings import LABELLED, SUPERVISED, AssessSettings
from evenhand.jobs.assess.similarity import layers_of, one_each
from evenhand.jobs.similarity.layers import comparison_of
from evenhand.jobs.similarity.settings import SimilaritySettings
from evenhand.metrics.groups import Groups, attribute_groups
from evenhand.metrics.registry import Floats
from evenhand.networks.checkpoints import load_model
from evenhand.networks.layers import layer_names
from evenhand.progress import bar
from evenhand.representation.grid import (
    Correlation,
    GroupContrast,
    SeededMean,
    Sizes,
    contrast_of,
    correlation_of,
    size_ratio_of,
)
from evenhand.representation.jackknife import Jackknifed
from evenhand.representation.layers import Layer
from evenhand.tables.attributes import group_of

FILE = "similarity_grid.json"
PERMUTATIONS = 199
CLEAR = 0.05
"""A ratio is over an attribute whose groups are further apart than permuted ones, at this level."""


class GridInterval(BaseModel, frozen=True):
    """A number with the ends of its interval over patients and seeds."""

    value: float
    low: float
    high: float


class CellContrast(BaseModel, frozen=True):
    """How far apart two groups are for one cell and supervised.

    Attributes
    ----------
    cell, share, attribute
        Of the grid.
    best, worst
        The groups that both models together serve best and worst.
    size
        Mean |difference of CKA| over pairs of layers and seeds.
    by_seed
        The same of each seed.
    by_chance
        The mean size where groups are permuted.
    gap
        AUC in the best group less that in the worst, mean of both models and all seeds.
    """

    cell: str
    share: float
    attribute: str
    best: str
    worst: str
    size: GridInterval
    by_seed: tuple[float, ...]
    by_chance: float
    gap: float


class AttributeContrast(BaseModel, frozen=True):
    """The same of all cells together; p is of "no further apart than permuted groups"."""

    attribute: str
    size: GridInterval
    by_chance: float
    p: float
    gap: float


class Ratio(BaseModel, frozen=True):
    """How many times further apart the groups of one attribute are than those of another.

    The first is the attribute with the larger gap in AUC.
    """

    attribute: str
    over: str
    ratio: GridInterval | None
    reason: str = ""


class CorrelationRecord(BaseModel, frozen=True):
    """Spearman's correlation of sizes with gaps in AUC; ``"*"`` is over all attributes."""

    attribute: str
    points: int
    correlation: GridInterval | None
    p: float | None


class Profile(BaseModel, frozen=True):
    """CKA of a cell and supervised layer by layer, in two groups, and the difference."""

    cell: str
    share: float
    attribute: str
    best: str
    worst: str
    in_best: tuple[GridInterval | None, ...]
    in_worst: tuple[GridInterval | None, ...]
    difference: tuple[GridInterval | None, ...]


class GridSimilarity(BaseModel, frozen=True):
    """What stage 4 says of the whole grid.

    Attributes
    ----------
    patients, seeds
        Behind every number.
    layers
        Of every model.
    left_out
        Attributes of which nothing is said, with the reason.
    """

    patients: int
    seeds: int
    permutations: int
    layers: tuple[str, ...]
    cells: tuple[CellContrast, ...]
    attributes: tuple[AttributeContrast, ...]
    ratios: tuple[Ratio, ...]
    correlations: tuple[CorrelationRecord, ...]
    profiles: tuple[Profile, ...]
    left_out: Mapping[str, str] = {}


@dataclass(frozen=True)
class _Pair:
    """A cell of one share of labels, to be held against supervised."""

    evaluation: Evaluation
    cell: str

    @property
    def share(self) -> float:
        return self.evaluation.share

    def served(self, attribute: str, levels: Sequence[str]) -> list[str]:
        """Return levels from the best served to the worst, by the mean AUC of both models."""
        judged = [self.evaluation.judged[name].by_group for name in (self.cell, SUPERVISED)]
        auc = {
            level: sum(float(groups[attribute, level][0]) for groups in judged) for level in levels
        }
        defined = [level for level in levels if np.isfinite(auc[level])]
        return sorted(defined, key=auc.__getitem__, reverse=True)

    def gaps(self, attribute: str, best: str, worst: str) -> Floats:
        """Return the gap in AUC of each seed, mean of both models, ``(S, 1 + B)``."""
        gaps = [
            self.evaluation.stacked(
                name,
                lambda model: model.by_group[attribute, best] - model.by_group[attribute, worst],
            )
            for name in (self.cell, SUPERVISED)
        ]
        return (gaps[0] + gaps[1]) / 2


@dataclass(frozen=True)
class _Pairing:
    """Two groups of an attribute, as a pair of cells serves them."""

    pair: _Pair
    attribute: str
    best: str
    worst: str


def grid_similarity(
    task: Task, settings: AssessSettings, run: Run, evaluations: Sequence[Evaluation]
) -> GridSimilarity:
    """Compare every cell and supervised of the same share and seed, in two groups an attribute."""
    how = SimilaritySettings(
        runs=(run.root, run.root), seed=settings.seed, permutations=PERMUTATIONS
    )
    cohort = one_each(task, how)
    groups = {
        name: attribute_groups(name, group_of(cohort.table, name, cohort.levels))
        for name in settings.attribute
    }
    pairs = [
        _Pair(pairing, cell)
        for pairing in evaluations
        for cell in pairing.models
        if cell not in LABELLED
    ]
    pairings, left_out = _pairings(task, pairs, groups, how.minimum)
    layers = _Layers(run, cohort, settings, how)
    contrasts = _contrasts(pairings, groups, layers, settings)
    sizes = {
        name: Sizes.of_contrasts(
            [
                [
                    row[seed]
                    for pairing, row in zip(pairings, contrasts, strict=True)
                    if pairing.attribute == name
                ]
                for seed in range(settings.seeds)
            ]
        )
        for name in dict.fromkeys(pairing.attribute for pairing in pairings)
    }
    gaps = {
        name: np.stack(
            [
                pairing.pair.gaps(name, pairing.best, pairing.worst)
                for pairing in pairings
                if pairing.attribute == name
            ],
            axis=1,
        )
        for name in sizes
    }
    return GridSimilarity(
        patients=len(cohort),
        seeds=settings.seeds,
        permutations=PERMUTATIONS,
        layers=layers.names,
        cells=tuple(_cells(pairings, sizes, gaps, how.level)),
        attributes=tuple(_attribute(name, sizes[name], gaps[name], how.level) for name in sizes),
        ratios=tuple(_ratios(sizes, gaps, how.level)),
        correlations=tuple(_correlations(sizes, gaps, how)),
        profiles=tuple(map(_profile, pairings, contrasts)),
        left_out=left_out,
    )


def write_grid(run: Run, grid: GridSimilarity) -> None:
    """Keep what stage 4 says of the grid."""
    write_json(run.root / FILE, grid.model_dump(mode="json"))


def read_grid(run: Run) -> GridSimilarity | None:
    """Return what stage 4 said of the grid; None of a run of an earlier version."""
    path = run.root / FILE
    return checked(GridSimilarity, read_object(path), path) if path.exists() else None


class _Layers:
    """The layers of each model as the patients make them; those of supervised are read once."""

    def __init__(
        self, run: Run, cohort: Cohort, settings: AssessSettings, how: SimilaritySettings
    ) -> None:
        self._run, self._cohort, self._settings, self.how = run, cohort, settings, how
        self._base: dict[str, list[Layer]] = {}
        self.labels: NDArray[np.int64] = cohort.labels
        self.names: tuple[str, ...] = ()

    def of(self, cell: str, share: float, seed: int) -> list[Layer]:
        """Return the layers of a model."""
        name = f"{with_share(cell, share)}-seed{seed}"
        if name in self._base:
            return self._base[name]
        model = load_model(self._run.folder(name))
        self.names = tuple(layer_names(model.backbone))
        layers = layers_of(model, self._cohort, self._settings, self.how)
        if cell == SUPERVISED:
            self._base = {name: layers}
        return layers


def _pairings(
    task: Task, pairs: Sequence[_Pair], groups: Mapping[str, Groups], minimum: int
) -> tuple[list[_Pairing], dict[str, str]]:
    """Return the two groups that each pair of cells is looked at in, by attribute."""
    pairings: list[_Pairing] = []
    left_out: dict[str, str] = {}
    for name, own in groups.items():
        large = [
            level
            for level in own.compared(task.excluded.get(name, ()))
            if len(own.rows(level)) >= minimum
        ]
        served = [pair.served(name, large) for pair in pairs]
        if min((len(levels) for levels in served), default=0) < 2:
            left_out[name] = f"fewer than two groups have {minimum} validation patients and an AUC"
            continue
        pairings += [
            _Pairing(pair, name, levels[0], levels[-1])
            for pair, levels in zip(pairs, served, strict=True)
        ]
    return pairings, left_out


def _contrasts(
    pairings: Sequence[_Pairing],
    groups: Mapping[str, Groups],
    layers: _Layers,
    settings: AssessSettings,
) -> list[list[GroupContrast]]:
    """Return the contrasts of each pairing, by seed; models are read once each."""
    comparison = comparison_of(layers.how)
    contrasts: list[list[GroupContrast]] = [[] for _ in pairings]
    by_pair: dict[tuple[float, str], list[int]] = {}
    for place, pairing in enumerate(pairings):
        by_pair.setdefault((pairing.pair.share, pairing.pair.cell), []).append(place)
    seeds = range(settings.seed, settings.seed + settings.seeds)
    with bar("similarity of the grid", len(by_pair) * len(seeds)) as advance:
        for seed in seeds:
            for (share, cell), places in by_pair.items():
                base = layers.of(SUPERVISED, share, seed)
                sides = layers.of(cell, share, seed), base
                for place in places:
                    pairing = pairings[place]
                    own = groups[pairing.attribute]
                    rows = own.rows(pairing.best), own.rows(pairing.worst)
                    contrasts[place].append(contrast_of(sides, rows, layers.labels, comparison))
                advance(text=with_share(cell, share))
    return contrasts


def _cells(
    pairings: Sequence[_Pairing],
    sizes: Mapping[str, Sizes],
    gaps: Mapping[str, Floats],
    level: float,
) -> Iterator[CellContrast]:
    places = dict.fromkeys(sizes, 0)
    for pairing in pairings:
        place = places[pairing.attribute]
        places[pairing.attribute] += 1
        own = sizes[pairing.attribute].cell(place)
        yield CellContrast(
            cell=pairing.pair.cell,
            share=pairing.pair.share,
            attribute=pairing.attribute,
            best=pairing.best,
            worst=pairing.worst,
            size=_size(own, level),
            by_seed=tuple(map(float, own.values[:, 0])),
            by_chance=own.by_chance,
            gap=float(gaps[pairing.attribute][:, place, 0].mean()),
        )


def _attribute(name: str, sizes: Sizes, gaps: Floats, level: float) -> AttributeContrast:
    return AttributeContrast(
        attribute=name,
        size=_size(sizes, level),
        by_chance=sizes.by_chance,
        p=sizes.p,
        gap=float(gaps[:, :, 0].mean()),
    )


def _size(sizes: Sizes, level: float) -> GridInterval:
    mean = sizes.mean
    low, high = mean.interval(level)
    return GridInterval(value=float(mean.number.value), low=max(float(low), 0.0), high=float(high))


def _ratios(
    sizes: Mapping[str, Sizes], gaps: Mapping[str, Floats], level: float
) -> Iterator[Ratio]:
    order = sorted(sizes, key=lambda name: -float(gaps[name][:, :, 0].mean()))
    for name, over in combinations(order, 2):
        p = sizes[over].p
        if p > CLEAR:
            reason = f"groups of {over} are no further apart than permuted ones (p = {p:.3f})"
            yield Ratio(attribute=name, over=over, ratio=None, reason=reason)
            continue
        ratio = size_ratio_of(sizes[name], sizes[over], level)
        yield Ratio(
            attribute=name,
            over=over,
            ratio=ratio and GridInterval(value=ratio.value, low=ratio.low, high=ratio.high),
            reason="" if ratio else "its interval has no end",
        )


def _correlations(
    sizes: Mapping[str, Sizes], gaps: Mapping[str, Floats], how: SimilaritySettings
) -> Iterator[CorrelationRecord]:
    several = {"*": list(sizes)} if len(sizes) > 1 else {}
    for name, attributes in {**several, **{name: [name] for name in sizes}}.items():
        correlation = correlation_of(
            [sizes[attribute] for attribute in attributes],
            [gaps[attribute] for attribute in attributes],
            how.level,
            np.random.default_rng(how.seed),
        )
        points = sum(sizes[attribute].values.shape[1] for attribute in attributes)
        yield CorrelationRecord(
            attribute=name,
            points=points,
            correlation=_correlation(correlation),
            p=None if correlation is None else correlation.p,
        )


def _correlation(correlation: Correlation | None) -> GridInterval | None:
    return (
        None
        if correlation is None
        else GridInterval(value=correlation.value, low=correlation.low, high=correlation.high)
    )


def _profile(pairing: _Pairing, contrasts: Sequence[GroupContrast]) -> Profile:
    """Return CKA of the same layer of both models, in each group, mean over seeds."""
    in_best = _by_layer([contrast.first for contrast in contrasts])
    in_worst = _by_layer([contrast.second for contrast in contrasts])
    return Profile(
        cell=pairing.pair.cell,
        share=pairing.pair.share,
        attribute=pairing.attribute,
        best=pairing.best,
        worst=pairing.worst,
        in_best=in_best,
        in_worst=in_worst,
        difference=_by_layer([contrast.difference for contrast in contrasts]),
    )


def _by_layer(seeds: Sequence[Jackknifed]) -> tuple[GridInterval | None, ...]:
    values = np.stack([np.diagonal(seed.value) for seed in seeds])  # (S, layers)
    influence = np.stack(
        [np.diagonal(seed.influence, axis1=1, axis2=2) for seed in seeds], axis=1
    )  # (N, S, layers)
    mean = SeededMean.over_seeds(Jackknifed(values, influence))
    low, high = mean.interval(0.95)
    ends = zip(mean.number.value, low, high, strict=True)
    return tuple(
        GridInterval(value=float(value), low=float(down), high=float(up))
        if np.isfinite(value)
        else None
        for value, down, up in ends
    )
