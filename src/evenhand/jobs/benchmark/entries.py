"""The entries of a benchmark: erm, and what is compared with it, in one list."""

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
"""The entry that the others are compared with."""

FAIRTUNE, BOTH = "fairtune", "fairtune:both"
"""Strategies whose trials search masks beside learning rates, and methods, too."""

SSL = "ssl:"
"""How a start begins that is pre-trained in each fold."""

LONGEST = 60  # characters of a name

Stage = Literal["training", "pruning", "afterwards"]


@dataclass(frozen=True)
class Entry:
    """One thing that competes.

    Attributes
    ----------
    name
        What the report and the folders call it.
    strategy, method, start, pruning
        As the command line takes them; no ``start`` is that of all others.
    stage
        Whether it is trained, pruned from the models of `ERM`, or fitted to what they say.
    """

    name: str
    strategy: str = "full"
    method: str = ERM
    stage: Stage = "training"
    start: str = ""
    pruning: str = ""

    @property
    def searches_masks(self) -> bool:
        """Whether its trials draw masks, and not only learning rates."""
        return self.strategy in (FAIRTUNE, BOTH)

    @property
    def objective(self) -> str | None:
        """How its start is pre-trained in each fold; None where it is not."""
        return self.start.removeprefix(SSL) if self.start.startswith(SSL) else None

    def settings(self, benchmark: BenchmarkSettings) -> FinetuneSettings:
        """Return the settings of its fits; all entries share everything but what they are."""
        shared = set(FinetuneSettings.model_fields) & set(BenchmarkSettings.model_fields)
        values = benchmark.model_dump(include=shared - {"method", "strategy"})
        strategy = "full" if self.searches_masks else self.strategy
        if self.start and self.objective is None:
            values["weights"] = self.start
        method = self.method if self.stage == "training" else ERM
        return FinetuneSettings(**values, strategy=strategy, method=method)

    @property
    def needs_features(self) -> bool:
        """Whether it works on what the last layer of `ERM` takes."""
        return self.stage == "afterwards" and post_hoc_from_text(self.method)[1].takes == "features"

    @property
    def is_derived(self) -> bool:
        """Whether it is made from the network of `ERM` of the same fold and seed."""
        return self.stage == "pruning" or self.needs_features

    @property
    def moves_decisions(self) -> bool:
        """Whether it changes scores and decisions of `ERM`, and no network."""
        return self.stage == "afterwards" and not self.needs_features

    @property
    def is_chosen_from(self) -> bool:
        """Whether validation patients, to whom it was not fitted, can choose it."""
        return self.stage != "afterwards"

    def attributes(self, benchmark: BenchmarkSettings) -> tuple[str, ...]:
        """Return the attributes whose groups an adjustment takes: all, or the first alone."""
        several = post_hoc_from_text(self.method)[1].groups == "table"
        return benchmark.attribute if several else benchmark.attribute[:1]

    def apart(self, benchmark: BenchmarkSettings) -> str:
        """Say how it differs from erm; all else is the same."""
        if self.stage == "pruning":
            return f"FairPrune of erm's models ({self.pruning}), the step chosen on validation"
        if self.stage == "afterwards":
            by = "last layer" if self.needs_features else "scores or decisions"
            return f"fits erm's {by} to the validation patients, who chose erm's rate, too"
        if self.objective:
            return (
                f"starts from {self.objective} without labels, at most "
                f"{benchmark.pretrain_epochs} epochs on the fold's training patients"
            )
        if self.start:
            return f"starts from {self.start} in place of {benchmark.weights}"
        if self.searches_masks:
            more = ", methods" if self.strategy == BOTH else ""
            return f"its trials are masks{more} and rates, searched; erm's are rates on a grid"
        return f"changes {self.strategy}" if self.method == ERM else f"is trained by {self.method}"


def entries_of(settings: BenchmarkSettings) -> tuple[Entry, ...]:
    """Return the entries, `ERM` first.

    Raises
    ------
    EvenhandError
        There is no such method, start, pruning or setting of it, or an entry is given twice.
    """
    entries = [Entry(ERM), *_named(settings)]
    names = [entry.name for entry in entries]
    for entry in entries:
        if names.count(entry.name) > 1:
            raise EvenhandError(
                f"entry {entry.name} is there twice (erm, the full network without a method, "
                "always is): name each --method, --strategy, --start and --pruning once."
            )
    return tuple(entries)


def _named(settings: BenchmarkSettings) -> Iterator[Entry]:
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
    return re.sub(r"[^\w.+-]+", "-", text).strip("-")[:LONGEST]


def loop_of(settings: BenchmarkSettings) -> dict[str, object]:
    """Return the recipe that all entries share, for the plan."""
    recipe = settings.model_dump(mode="json", include=set(LoopSettings.model_fields))
    rates = {"trials": settings.trials, "lr_min": settings.lr_min, "lr_max": settings.lr_max}
    starts = {"backbone": settings.backbone, "weights": str(settings.weights)}
    if any(start.startswith(SSL) for start in settings.start):
        starts["pretrain_epochs"] = str(settings.pretrain_epochs)
    return recipe | rates | starts
