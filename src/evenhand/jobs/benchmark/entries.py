"""The entries of a benchmark: erm, and the entries that are compared with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from evenhand.errors import EvenhandError
from evenhand.experiments.settings import FinetuneSettings
from evenhand.jobs.benchmark.pruning import FairPrune
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.jobs.finetune.job import model_name
from evenhand.methods.registry import find_method, post_hoc_from_text
from evenhand.pretraining.registry import SSL_OBJECTIVES
from evenhand.training.settings import LoopSettings

ERM = "erm"
"""The name of the reference entry."""

FAIRTUNE, BOTH = "fairtune", "fairtune:both"
"""Strategies whose trials search masks and learning rates; the second also searches methods."""

SSL = "ssl:"
"""The prefix of a start that is pre-trained in each fold."""

MAX_NAME = 60
"""The largest number of characters of a folder's name."""

Stage = Literal["training", "pruning", "afterwards"]


@dataclass(frozen=True)
class Entry:
    """An entry of a benchmark.

    Attributes
    ----------
    name
        The name in the report and of the folders.
    strategy, method, start, pruning
        The settings of the entry, as on the command line; ``start`` "" is ``--weights``.
    stage
        ``training``: a trained network; ``pruning``: the pruned network of `ERM`; ``afterwards``:
        an adjustment of the network or the predictions of `ERM`.
    """

    name: str
    strategy: str = "full"
    method: str = ERM
    stage: Stage = "training"
    start: str = ""
    pruning: str = ""

    @property
    def searches_masks(self) -> bool:
        """Whether its trials search masks and not only learning rates."""
        return self.strategy in (FAIRTUNE, BOTH)

    @property
    def objective(self) -> str | None:
        """The objective of pre-training in each fold; None without pre-training."""
        return self.start.removeprefix(SSL) if self.start.startswith(SSL) else None

    def settings(self, benchmark: BenchmarkSettings) -> FinetuneSettings:
        """Return the settings of its fits, which share the recipe of the benchmark."""
        shared = set(FinetuneSettings.model_fields) & set(BenchmarkSettings.model_fields)
        values = benchmark.model_dump(include=shared - {"method", "strategy"})
        strategy = "full" if self.searches_masks else self.strategy
        if self.start and self.objective is None:
            values["weights"] = self.start
        method = self.method if self.stage == "training" else ERM
        return FinetuneSettings(**values, strategy=strategy, method=method)

    @property
    def needs_features(self) -> bool:
        """Whether it is fitted to the inputs of the last layer of `ERM`."""
        return self.stage == "afterwards" and post_hoc_from_text(self.method)[1].takes == "features"

    @property
    def is_derived(self) -> bool:
        """Whether it needs the network of `ERM` of the same fold and seed."""
        return self.stage == "pruning" or self.needs_features

    @property
    def moves_decisions(self) -> bool:
        """Whether it changes only scores and decisions of `ERM`, and no network."""
        return self.stage == "afterwards" and not self.needs_features

    @property
    def is_candidate(self) -> bool:
        """Whether validation patients can choose it; False if it was fitted to them."""
        return self.stage != "afterwards"

    def attributes(self, benchmark: BenchmarkSettings) -> tuple[str, ...]:
        """Return the attributes of an adjustment: all, or only the first."""
        takes_all = post_hoc_from_text(self.method)[1].groups == "table"
        return benchmark.attribute if takes_all else benchmark.attribute[:1]

    def difference_text(self, benchmark: BenchmarkSettings) -> str:
        """Return a text about the only difference from erm."""
        if self.stage == "pruning":
            return f"FairPrune of erm's models ({self.pruning}), the step chosen on validation"
        if self.stage == "afterwards":
            adjusted = "last layer" if self.needs_features else "scores or decisions"
            return (
                f"fits erm's {adjusted} to the validation patients, who also chose erm's learning "
                "rate"
            )
        if self.objective:
            return (
                f"starts from {self.objective} without labels, at most "
                f"{benchmark.pretrain_epochs} epochs on the fold's training patients"
            )
        if self.start:
            return f"starts from {self.start} instead of {benchmark.weights}"
        if self.searches_masks:
            searched = "masks, methods" if self.strategy == BOTH else "masks"
            return (
                f"its trials search {searched} and learning rates; erm's are learning rates on a "
                "grid"
            )
        return f"tunes {self.strategy}" if self.method == ERM else f"is trained by {self.method}"


def list_entries(settings: BenchmarkSettings) -> tuple[Entry, ...]:
    """Return the entries, `ERM` first.

    Raises
    ------
    EvenhandError
        If a method, start, pruning or one of its settings is unknown, or an entry is given twice.
    """
    entries = [Entry(ERM), *_named_entries(settings)]
    names = [entry.name for entry in entries]
    for entry in entries:
        if names.count(entry.name) > 1:
            raise EvenhandError(
                f"entry {entry.name} is given twice (erm, the whole network without a method, is "
                "always an entry). Name each --method, --strategy, --start and --pruning once."
            )
    return tuple(entries)


def _named_entries(settings: BenchmarkSettings) -> Iterator[Entry]:
    for text in settings.method:
        method = find_method(text.partition(":")[0])
        if method.stage == "afterwards":
            post_hoc_from_text(text)
        yield Entry(file_name(text), method=text, stage=method.stage)
    for strategy in settings.strategy:
        names = {"full": ERM, FAIRTUNE: FAIRTUNE, BOTH: "fairtune-both"}
        yield Entry(names.get(strategy) or model_name(strategy), strategy=strategy)
    for start in settings.start:
        if start.startswith(SSL):
            SSL_OBJECTIVES.find(start.removeprefix(SSL))
        name = ERM if start == settings.weights else f"start-{file_name(start)}"
        yield Entry(name, start=start)
    for text in settings.pruning:
        FairPrune.of(text)
        yield Entry(f"prune-{file_name(text)}", stage="pruning", pruning=text)


def file_name(text: str) -> str:
    """Return a text as the name of a folder.

    Examples
    --------
    >>> file_name("group-dro:rate=0.1"), file_name("runs/simclr/")
    ('group-dro-rate-0.1', 'runs-simclr')
    """
    return re.sub(r"[^\w.+-]+", "-", text).strip("-")[:MAX_NAME]


def recipe_values(settings: BenchmarkSettings) -> dict[str, object]:
    """Return the recipe that all entries share, for the plan."""
    recipe = settings.model_dump(mode="json", include=set(LoopSettings.model_fields))
    rates = {"trials": settings.trials, "lr_min": settings.lr_min, "lr_max": settings.lr_max}
    starts = {"backbone": settings.backbone, "weights": str(settings.weights)}
    if any(start.startswith(SSL) for start in settings.start):
        starts["pretrain_epochs"] = str(settings.pretrain_epochs)
    return recipe | rates | starts
