"""What a report shows, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from evenhand.evaluation.twins import TwinRecord
from evenhand.experiments.records import RunRecord
from evenhand.metrics import DETECTABLE, Groups, MetricRow, Scored, Target
from evenhand.reporting.estimates import Estimates, estimates, find, names
from evenhand.reporting.probe_record import ProbeRecord
from evenhand.reporting.pruning_record import PruningRecord
from evenhand.reporting.search_record import StudyRecord
from evenhand.reporting.text.vocabulary import model_names
from evenhand.reporting.verdicts import Verdict
from evenhand.settings import Settings

if TYPE_CHECKING:
    from evenhand.reporting.part import Part


@dataclass(frozen=True)
class UnitShare:
    """One unit of a backbone, and whether the mask tunes it.

    Attributes
    ----------
    name
        The unit's name, ``blocks.3.attn``.
    depth
        Its place from input to output, from 0.
    kind
        Which part of a block it is, ``attn``.
    parameters
        How many parameters it holds.
    tuned
        Whether they may change.
    """

    name: str
    depth: int
    kind: str
    parameters: int
    tuned: bool


@dataclass(frozen=True)
class Search:
    """What an outer search tried, and what came of it.

    Attributes
    ----------
    trials
        One row per trial: ``number``, ``state`` (complete, pruned, repeated …), a column per
        target by its name, ``lr``, ``mask`` (names of the tuned units, separated by spaces), and
        where they are known ``study``, ``origin``, ``repeats`` and ``pareto``.
    targets
        What was optimised, on validation data.
    studies
        What came of each study. Trials of studies that are neither listed nor named ``""`` are
        left out.
    """

    trials: pd.DataFrame
    targets: Sequence[Target]
    studies: Sequence[StudyRecord] = (StudyRecord(),)


@dataclass(frozen=True, eq=False)
class Pruning:
    """A pruning, as its run holds it.

    Attributes
    ----------
    curve
        Every step with its number, sparsity and validation numbers (``curve.csv``).
    record
        Who, what and why, each layer, and what the models cost (``pruning.json``).
    saliency
        A sample of each layer's numbers with each group's predicted error change
        (``saliency.csv``); None in runs that did not keep it.
    """

    curve: pd.DataFrame
    record: PruningRecord
    saliency: pd.DataFrame | None = None


@dataclass(frozen=True, eq=False)
class ModelSamples:
    """The reported samples as one model scores them, and the level that each has by attribute.

    ``compared`` names the levels of each attribute that take part in gaps.
    """

    scored: Scored
    groups: Mapping[str, Groups]
    compared: Mapping[str, Sequence[str]]


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that a report shows, as plain data.

    Attributes
    ----------
    title
        The page's heading.
    record
        The record of the run; None where the rows come from no run.
    rows
        The rows of ``metrics.json``; every model and split that is shown.
    attributes
        The attributes in the order in which they are shown.
    split
        The split that the report speaks of.
    names_split
        Whether the data name splits; where they do not, all rows are reported.
    positive
        What a positive sample is, in a word (``"malignant"``).
    patient
        What ``patient_id`` really is in these data: ``"patient"``, ``"lesion"``, ``"stay"``.
    search
        What an outer search tried, None without one.
    units
        The units of the backbone, and which of them the chosen mask tunes.
    pruning
        What a pruning did, None without one.
    samples
        The reported samples by model, for the curves and the threshold explorer; none for more
        than two classes, which have neither.
    detectable
        Smallest gap that the test set would show, as (attribute, metric, gap).
    threshold_rule
        Where the decision threshold comes from, as a sentence.
    left_out
        What took no part: unreadable images, excluded groups; one sentence each.
    notes
        What else a reader must know; one sentence each.
    judged
        The metrics that a model is compared by, by its shown name; of others the leading one.
    spreads
        The differences across groups that models were chosen by, as in ``metrics.json``
        (``"equalized_odds_difference"``); models are compared by them, too.
    adjusted
        What methods have fitted to a trained model, None without any.
    promises
        What these methods promise of new patients.
    probe
        How well the attributes can be found in the layers, None where nothing was probed.
    twins
        How far the scores of twins lie apart, None where no sample has one.
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
    detectable: Sequence[tuple[str, str, float]] = ()
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
    def called(self) -> dict[str, str]:
        """What models are called that have a name of ours; see `model_names`."""
        return model_names(self._files)

    @property
    def chosen(self) -> str | None:
        """What the model is called that the run recommends, if it recommends one."""
        chosen = self.record.chosen if self.record else None
        return chosen and self.called.get(chosen, chosen)

    @cached_property
    def reported(self) -> Estimates:
        """The rows of the split that the report speaks of."""
        return find(self.estimates, split=self.split)

    @cached_property
    def single(self) -> Estimates:
        """Those of one model each, without differences of models."""
        return find(self.reported, against=None)

    @cached_property
    def models(self) -> tuple[str, ...]:
        """What the models are called."""
        return names(self.single, "model")

    @cached_property
    def has_several_models(self) -> bool:
        """Whether each number must name its model."""
        return len(self.models) > 1

    @property
    def main_model(self) -> str:
        """The model that is shown first: the chosen one, or the first."""
        return self.chosen or next(iter(self.models), "")

    @property
    def answered(self) -> Sequence[str]:
        """The models that the page answers for: the one that was chosen, or all."""
        return [self.chosen] if self.chosen else self.models

    @property
    def patients(self) -> str:
        """What patients are called in these data."""
        return f"{self.patient}s"

    @property
    def samples_by_model(self) -> list[tuple[str, ModelSamples]]:
        """The samples of each model by what it is called, those of the main model first."""
        named = [(self.called.get(name, name), samples) for name, samples in self.samples.items()]
        return sorted(named, key=lambda item: item[0] != self.main_model)


def detectable_differences(
    rows: Sequence[MetricRow], model: str, split: str
) -> list[tuple[str, str, float]]:
    """Return the largest of each attribute's detectable differences in AUC."""
    largest: dict[str, float] = {}
    for row in rows:
        of_model = (row.model, row.split, row.against) == (model, split, None)
        if of_model and (row.base, row.aggregate) == ("auc", DETECTABLE) and row.value is not None:
            largest[row.attribute] = max(row.value, largest.get(row.attribute, row.value))
    return [(attribute, "auc", value) for attribute, value in largest.items()]
