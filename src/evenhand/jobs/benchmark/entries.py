"""The entries of a benchmark: erm, methods, strategies; and which of them the data allow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from evenhand.errors import EvenhandError
from evenhand.experiments.settings import FinetuneSettings
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.jobs.finetune.job import model_name
from evenhand.methods.registry import find_method, post_hoc_from_text
from evenhand.training.settings import LoopSettings

ERM = "erm"
"""The entry that the others are compared with."""

FAIRTUNE = "fairtune"
"""The strategy whose trials search masks beside learning rates."""

LONGEST = 60  # characters of a name

Stage = Literal["training", "afterwards"]


@dataclass(frozen=True)
class Entry:
    """One thing that competes.

    Attributes
    ----------
    name
        What the report and the folders call it.
    strategy, method
        As the command line takes them.
    stage
        Whether it is trained, or adjusts the models of `ERM`.
    """

    name: str
    strategy: str = "full"
    method: str = ERM
    stage: Stage = "training"

    @property
    def searches_masks(self) -> bool:
        """Whether its trials draw masks, and not only learning rates."""
        return self.strategy == FAIRTUNE

    def settings(self, given: BenchmarkSettings) -> FinetuneSettings:
        """Return the settings of its fits; all entries share everything but its own two."""
        shared = set(FinetuneSettings.model_fields) & set(BenchmarkSettings.model_fields)
        values = given.model_dump(include=shared - {"method", "strategy"})
        strategy = "full" if self.searches_masks else self.strategy
        return FinetuneSettings(**values, strategy=strategy, method=self.method)

    @property
    def needs_features(self) -> bool:
        """Whether it works on what the last layer of `ERM` takes."""
        return self.stage == "afterwards" and post_hoc_from_text(self.method)[1].takes == "features"

    def attributes(self, given: BenchmarkSettings) -> tuple[str, ...]:
        """Return the attributes whose groups an adjustment takes: all, or the first alone."""
        several = post_hoc_from_text(self.method)[1].groups == "table"
        return given.attribute if several else given.attribute[:1]


def entries_of(settings: BenchmarkSettings) -> tuple[Entry, ...]:
    """Return the entries, `ERM` first.

    Raises
    ------
    EvenhandError
        There is no such method or setting of it, or an entry is given twice.
    """
    entries = [Entry(ERM), *_named(settings)]
    names = [one.name for one in entries]
    for one in entries:
        if names.count(one.name) > 1:
            raise EvenhandError(
                f"entry {one.name} is there twice (erm, the full network without a method, always "
                "is): name each --method and --strategy once."
            )
    return tuple(entries)


def _named(settings: BenchmarkSettings) -> Iterator[Entry]:
    for text in settings.method:
        method = find_method(text.partition(":")[0])
        if method.stage == "afterwards":
            post_hoc_from_text(text)
        yield Entry(_file_name(text), method=text, stage=method.stage)
    for strategy in settings.strategy:
        name = {"full": ERM, FAIRTUNE: FAIRTUNE}.get(strategy) or model_name(strategy)
        yield Entry(name, strategy=strategy)


def _file_name(text: str) -> str:
    """Return a method as the name of a folder.

    Examples
    --------
    >>> _file_name("group-dro:rate=0.1")
    'group-dro-rate-0.1'
    """
    return re.sub(r"[^\w.+-]+", "-", text)[:LONGEST]


def loop_of(settings: BenchmarkSettings) -> dict[str, object]:
    """Return the recipe that all entries share, for the plan."""
    recipe = settings.model_dump(mode="json", include=set(LoopSettings.model_fields))
    rates = {"trials": settings.trials, "lr_min": settings.lr_min, "lr_max": settings.lr_max}
    return recipe | rates | {"backbone": settings.backbone, "weights": str(settings.weights)}
