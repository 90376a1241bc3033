"""The settings of `evenhand benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from evenhand.experiments.settings import TARGETS, TrainingSettings
from evenhand.jobs.pretrain.settings import SSL_NAMES
from evenhand.workers import WorkerSettings


class BenchmarkSettings(TrainingSettings, WorkerSettings, title="Benchmark"):
    """The entries, and the recipe that all of them share."""

    unrecorded = frozenset({"add"})  # not recorded with a run; see `Settings.unrecorded`

    target: tuple[str, ...] = Field(
        ("auc_worst",),
        min_length=1,
        max_length=1,
        description="number that chooses the learning rate of each fit on validation patients: "
        f"{TARGETS}",
    )
    method: tuple[str, ...] = Field(
        (),
        description="entry: a mitigation method (`evenhand methods` lists them), which trains the "
        "whole network or adjusts the models of erm, for the groups of the first --attribute; "
        "NAME:SETTING=VALUE,… changes its settings; repeatable",
    )
    strategy: tuple[str, ...] = Field(
        (),
        description="entry, trained without a method: a strategy of `evenhand finetune "
        "--strategy`, or fairtune (its trials search masks of `evenhand tune`'s default family, "
        "and learning rates); fairtune:both also searches methods; repeatable. The entry erm (the "
        "whole network, no method) is always added",
    )
    start: tuple[str, ...] = Field(
        (),
        description="entry: erm with other starting weights than --weights: none, pretrained, a "
        "file of weights, a run (for example of `evenhand pretrain`), or ssl:NAME "
        f"({SSL_NAMES}), which pre-trains --weights without labels on the training patients of "
        "each fold; repeatable",
    )
    pretrain_epochs: int = Field(
        60, gt=0, description="epochs of the pre-training of ssl:NAME, at most"
    )
    pruning: tuple[str, ...] = Field(
        (),
        description="entry: FairPrune of the models of erm, as SETTING=VALUE,… with the settings "
        "beta, share, limit, budget, estimator, batches and batch_size of `evenhand prune`, and "
        "target, the number that chooses the pruning step [default: --target]; repeatable",
    )
    curve: tuple[str, ...] = Field(
        (),
        description="learning curve: erm is trained on a quarter, a half and three quarters of "
        "the training patients, everybody or the group ATTRIBUTE=LEVEL; one fit for each share, "
        "fold and seed; not part of the plan; repeatable",
    )
    primary: str = Field(
        "auc_worst",
        description="primary number, which decides: auc, auc_worst, auc_gap, "
        "equalized_odds_difference or brier, across groups of every --attribute, or of one "
        "(auc_gap:age); the plan fixes it before the first fit",
    )
    decides: Literal["every", "chosen"] = Field(
        "every",
        description="every: the plan tests all numbers of every entry, corrected together; chosen: "
        "the plan tests the primary number of the entry that is chosen on validation, and the "
        "other numbers are exploratory",
    )
    gap: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="gap in AUC between groups: the report says how many more patients of which "
        "group are needed to detect it",
    )
    probe: bool = Field(
        False,
        description="measure how well a new probe predicts each attribute, conditional on the "
        "label, from the last layer's inputs of test patients, for each trained or pruned entry",
    )
    folds: int = Field(5, ge=2, description="outer folds; each patient is tested in one of them")
    seeds: int = Field(
        2,
        gt=0,
        description="models of each entry in each fold, each with a different seed; a claim about "
        "methods needs at least two",
    )
    these_models: bool = Field(
        False, description="with --seeds 1: claims are about these models only"
    )
    external: str | None = Field(
        None,
        description="labelled external patients, READER:PATH or a table: every entry scores them, "
        "and the differences that are significant on DATA are tested again; not part of the plan",
    )
    map: tuple[str, ...] = Field(
        (),
        description="name in the table of --external for a column of DATA or an attribute, as in "
        "sex=gender; repeatable",
    )
    also: tuple[Path, ...] = Field(
        (),
        description="finished benchmark of another data set with the same entries, trials, "
        "learning rates and epochs; repeatable. With six data sets or more, ranks are tested "
        "(Friedman, then Holm)",
    )
    add: bool = Field(
        False,
        description="add the new entries of this command to the run in --out; they are "
        "exploratory, and the plan does not change",
    )
    trials: int = Field(
        3,
        gt=0,
        description="trials of each fit: learning rates, evenly spaced on a log scale; for "
        "fairtune, masks with learning rates",
    )
    lr_min: float = Field(1e-5, gt=0, description="lowest learning rate")
    lr_max: float = Field(1e-3, gt=0, description="highest learning rate")
    skip_refused: bool = Field(
        False, description="leave out entries that the data do not allow, and run the others"
    )

    @model_validator(mode="after")
    def _check(self) -> BenchmarkSettings:
        if self.lr_min > self.lr_max:
            raise ValueError(f"--lr-min {self.lr_min:g} is above --lr-max {self.lr_max:g}")
        if not (self.method or self.strategy or self.start or self.pruning):
            raise ValueError(
                "name at least one --method, --strategy, --start or --pruning, to compare with erm"
            )
        if self.these_models != (self.seeds == 1):
            raise ValueError(
                f"--seeds {self.seeds}: one seed allows no claim about methods, as another seed "
                "may change the result. Give --seeds 2, or --seeds 1 with --these-models"
            )
        if self.map and self.external is None:
            raise ValueError(
                "--map renames columns of --external, which is not given; leave it out"
            )
        name, attribute = split_primary(self.primary)
        if name not in PRIMARY:
            raise ValueError(f"--primary {self.primary}: must be one of {', '.join(PRIMARY)}")
        if attribute and (name in OVERALL or attribute not in self.attribute):
            allowed = "no attribute" if name in OVERALL else ", ".join(self.attribute)
            raise ValueError(
                f"--primary {self.primary}: {name} allows {allowed} after the colon. Name one of "
                f"them, or leave :{attribute} out"
            )
        return self


def split_primary(text: str) -> tuple[str, str | None]:
    """Return the metric of a primary number, and the attribute that it is limited to, if any.

    Examples
    --------
    >>> split_primary("auc_gap:age"), split_primary("auc")
    (('auc_gap', 'age'), ('auc', None))
    """
    name, _, attribute = text.partition(":")
    return name, attribute or None


ENTRIES = ("method", "strategy", "start", "pruning", "curve")
"""Settings that name entries or learning curves, which ``--add`` may extend."""

PRIMARY = ("auc", "auc_worst", "auc_gap", "equalized_odds_difference", "brier")
"""The numbers that ``--primary`` may name."""

OVERALL = ("auc", "brier")
"""The primary numbers of everybody, without groups."""
