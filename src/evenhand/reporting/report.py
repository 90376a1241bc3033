"""The data that a report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from evenhand.evaluation.twins import TwinRecord
from evenhand.experiments.records import RunRecord
from evenhand.metrics import Groups, MetricRow, Scored, Target
from evenhand.reporting.estimates import Estimates, estimates, find_rows, names
from evenhand.reporting.probe_record import ProbeRecord
from evenhand.reporting.pruning_record import PruningRecord
from evenhand.reporting.search_record import StudyRecord
from evenhand.reporting.text.vocabulary import model_names
from evenhand.reporting.verdicts import Verdict
from evenhand.settings import Settings

if TYPE_CHECKING:
    from evenhand.reporting.section import Part


@dataclass(frozen=True)
class UnitShare:
    """One unit of a backbone, and whether the mask tunes it.

    Attributes
    ----------
    name
        The unit's name, ``blocks.3.attn``.
    depth
        The position of its block from input to output, from 0.
    kind
        The part of the block, ``attn``.
    parameters
        The number of its parameters.
    tuned
        Whether the mask tunes it.
    """

    name: str
    depth: int
    kind: str
    parameters: int
    tuned: bool


@dataclass(frozen=True)
class Search:
    """The trials and results of an outer search.

    Attributes
    ----------
    trials
        A row for each trial: ``number``, ``state`` (complete, pruned, repeated …), a column for
        each target with its name, ``lr``, ``mask`` (names of the tuned units, separated by
        spaces), and optionally ``study``, ``origin``, ``repeats`` and ``pareto``.
    targets
        The targets of the optimisation, on validation data.
    studies
        The results of each study. A study named ``""`` has all trials; otherwise trials of studies
        that are not listed are left out.
    """

    trials: pd.DataFrame
    targets: Sequence[Target]
    studies: Sequence[StudyRecord] = (StudyRecord(),)


@dataclass(frozen=True, eq=False)
class Pruning:
    """The content of a pruning run.

    Attributes
    ----------
    curve
        A row for each step: its number, sparsity and validation numbers (``curve.csv``).
    record
        The groups, the criterion, the layers and the cost of the models (``pruning.json``).
    saliency
        A sample of each layer's parameters, with the predicted error change of each group
        (``saliency.csv``); None for runs without this file.
    """

    curve: pd.DataFrame
    record: PruningRecord
    saliency: pd.DataFrame | None = None


@dataclass(frozen=True, eq=False)
class ModelSamples:
    """The reported samples with the scores of one model.

    Attributes
    ----------
    scored
        The samples.
    groups
        The level of each sample, by attribute.
    compared
        By attribute: the levels that take part in gaps.
    """

    scored: Scored
    groups: Mapping[str, Groups]
    compared: Mapping[str, Sequence[str]]


@dataclass(frozen=True, eq=False)
class Report:
    """The data of a report.

    Attributes
    ----------
    title
        The heading of the page.
    record
        The record of the run; None if the rows come from no run.
    rows
        The rows of ``metrics.json``, of all models and splits that are shown.
    attributes
        The attributes in the order in which they are shown.
    split
        The split that the report is about.
    names_split
        Whether the data have splits; if they have none, all rows are reported.
    positive
        The word for a positive sample (``"malignant"``).
    patient
        The word for what ``patient_id`` identifies: ``"patient"``, ``"lesion"``, ``"stay"``.
    search
        The outer search, None without one.
    units
        The units of the backbone, and which of them the chosen mask tunes.
    pruning
        The pruning, None without one.
    samples
        The reported samples by model, for the curves and the threshold explorer; empty for more
        than two classes.
    threshold_rule
        The origin of the decision threshold, as a sentence.
    left_out
        Sentences about what was left out: unreadable images, excluded groups.
    notes
        Further sentences for the reader.
    judged
        By the shown name of a model: the metrics that it is compared by. Other models are compared
        by the leading metric.
    spreads
        Numbers across groups that models were chosen by, with their names in ``metrics.json``
        (``"equalized_odds_difference"``). Models are compared by them in addition.
    adjusted
        The section on what methods fitted to a trained model, None without such methods.
    promises
        The promises of these methods for new patients.
    probe
        The probes of the layers, None without probes.
    twins
        The distances between scores of twins, None without twins.
    """

    title: str
    rows: Sequence[MetricRow]
    attributes: Sequence[str]
    record: RunRecord[Settings] | None = None
    split: str = "test"
    names_split: bool = True
    positive: str = "positive"
    patient: str = "patient"
    search: Search | None = None
    units: Sequence[UnitShare] = ()
    pruning: Pruning | None = None
    samples: Mapping[str, ModelSamples] = field(default_factory=dict)
    threshold_rule: str = ""
    left_out: Sequence[str] = ()
    notes: Sequence[str] = ()
    judged: Mapping[str, Sequence[str]] = field(default_factory=dict)
    spreads: Sequence[str] = ()
    adjusted: Part | None = None
    promises: Sequence[Verdict] = ()
    probe: ProbeRecord | None = None
    twins: TwinRecord | None = None

    @cached_property
    def estimates(self) -> Estimates:
        """All rows as estimates."""
        excluded = self.record.excluded if self.record else ()
        return estimates(self.rows, self._files, excluded)

    @property
    def _files(self) -> tuple[Path, ...]:
        return self.record.files if self.record else ()

    @cached_property
    def _shown_names(self) -> dict[str, str]:
        return model_names(self._files)

    def shown_name(self, model: str) -> str:
        """Return the shown name of a model; see `model_names`."""
        return self._shown_names.get(model, model)

    def shown_models(self, model: str, against: str | None) -> str:
        """Return the shown names of a model and of the model that it is compared with."""
        name = self.shown_name(model)
        return name if against is None else f"{name} less {self.shown_name(against)}"

    @property
    def chosen(self) -> str | None:
        """The shown name of the model that the run recommends, or None."""
        chosen = self.record.chosen if self.record else None
        return chosen and self.shown_name(chosen)

    @cached_property
    def reported(self) -> Estimates:
        """The rows of the reported split."""
        return find_rows(self.estimates, split=self.split)

    @cached_property
    def single(self) -> Estimates:
        """The rows of the reported split that are about one model each."""
        return find_rows(self.reported, against=None)

    @cached_property
    def models(self) -> tuple[str, ...]:
        """The shown names of the models."""
        return names(self.single, "model")

    @cached_property
    def has_several_models(self) -> bool:
        """Whether there are several models, so that each number must name its model."""
        return len(self.models) > 1

    @property
    def main_model(self) -> str:
        """The model that is shown first: the chosen one, or the first."""
        return self.chosen or next(iter(self.models), "")

    @property
    def answered_models(self) -> Sequence[str]:
        """The models that the answers are about: the chosen model, or all models."""
        return [self.chosen] if self.chosen else self.models

    @property
    def names_thresholds(self) -> bool:
        """Whether the answers are about decisions at thresholds whose origin is known."""
        decided = any(row.threshold is not None for row in self.single if row.is_of_group)
        return bool(self.threshold_rule) and decided

    @property
    def patients(self) -> str:
        """The plural of the word for a patient."""
        return f"{self.patient}s"

    @property
    def samples_by_model(self) -> list[tuple[str, ModelSamples]]:
        """The samples of each model with its shown name, those of the main model first."""
        named = [(self.shown_name(name), samples) for name, samples in self.samples.items()]
        return sorted(named, key=lambda item: item[0] != self.main_model)
