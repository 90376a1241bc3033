"""What `evenhand benchmark` is told."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from evenhand.experiments.settings import TARGETS, TrainingSettings
from evenhand.jobs.pretrain.settings import SSL_NAMES
from evenhand.workers import WorkerSettings


class BenchmarkSettings(TrainingSettings, WorkerSettings, title="Benchmark"):
    """The entries that compete, and the one recipe of all of them."""

    machine = frozenset({"add"})

    target: tuple[str, ...] = Field(
        ("auc_worst",),
        min_length=1,
        max_length=1,
        description=f"what chooses the learning rate of each fit on validation patients: {TARGETS}",
    )
    method: tuple[str, ...] = Field(
        (),
        description="entry: a mitigation method (`evenhand methods` lists them), in training of "
        "the full network, or for the models of erm; NAME:SETTING=VALUE,… changes its settings; "
        "repeatable. The first --attribute gives its groups",
    )
    strategy: tuple[str, ...] = Field(
        (),
        description="entry: a strategy, as `evenhand finetune --strategy` takes it, trained "
        "without a method; fairtune, whose trials search masks (of the family that `evenhand "
        "tune` takes by itself) and learning rates; or fairtune:both, whose trials search methods, "
        "too; repeatable. erm, the full network without a method, is always there",
    )
    start: tuple[str, ...] = Field(
        (),
        description="entry: erm from another start than --weights, with all else equal: none, "
        "pretrained, a file of weights, a run (of `evenhand pretrain`, say), or ssl:NAME "
        f"({SSL_NAMES}), an encoder that goes on from --weights without labels on the training "
        "patients of each fold; repeatable",
    )
    pretrain_epochs: int = Field(
        60, gt=0, description="most epochs of that encoder; see `evenhand pretrain`"
    )
    pruning: tuple[str, ...] = Field(
        (),
        description="entry: FairPrune of the models of erm, as SETTING=VALUE,… with the settings "
        "beta, share, limit, budget, estimator, batches and batch_size of `evenhand prune`, and "
        "target, which chooses the step [default: the --target of all entries]; repeatable",
    )
    curve: tuple[str, ...] = Field(
        (),
        description="learning curve of erm, beside the plan: everybody, or a group as "
        "ATTRIBUTE=LEVEL, whose training patients are thinned to a quarter, a half and three "
        "quarters; one fit each, in every fold and for every seed; repeatable",
    )
    primary: str = Field(
        "auc_worst",
        description="the number that decides: auc, auc_worst, auc_gap, equalized_odds_difference "
        "or brier, across groups of every --attribute, or of one (auc_gap:age); written into the "
        "plan before anything is fitted",
    )
    decides: Literal["every", "chosen"] = Field(
        "every",
        description="whose numbers the plan tests: those of every entry, corrected together; or "
        "the one that decides, of the entry that is chosen on validation: all else is exploratory",
    )
    gap: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="gap in AUC between groups for which the page says how many more patients of "
        "which group would let it be told",
    )
    probe: bool = Field(
        False,
        description="measure how well a new probe finds each attribute, given the label, in what "
        "the last layer of each trained or pruned entry is given of test patients",
    )
    folds: int = Field(5, ge=2, description="outer folds; each patient is tested in one of them")
    seeds: int = Field(
        2,
        gt=0,
        description="models of each entry in each fold, with seeds of their own; a claim about "
        "methods needs two",
    )
    these_models: bool = Field(
        False, description="with --seeds 1: claim something about these models only"
    )
    external: str | None = Field(
        None,
        description="labelled patients of elsewhere, READER:PATH or a table: every entry scores "
        "them, too, and what is shown here is tested there; no part of the plan's test",
    )
    map: tuple[str, ...] = Field(
        (),
        description="what a column of DATA, or an attribute, is called in the table of "
        "--external: sex=gender; repeatable",
    )
    also: tuple[Path, ...] = Field(
        (),
        description="a finished benchmark of another data set with the same entries, trials, "
        "learning rates and epochs; repeatable. From six data sets on ranks are tested (Friedman, "
        "then Holm)",
    )
    add: bool = Field(
        False,
        description="add the entries that are new in this command to the run in --out: they are "
        "exploratory, and the plan stays as it is",
    )
    trials: int = Field(
        3,
        gt=0,
        description="trials of each fit: learning rates, evenly spaced on a log scale; of "
        "fairtune, masks with their learning rates",
    )
    lr_min: float = Field(1e-5, gt=0, description="lowest learning rate")
    lr_max: float = Field(1e-3, gt=0, description="highest learning rate")
    skip_refused: bool = Field(
        False,
        description="leave out methods that the data do not allow, and go on with the others",
    )

    @model_validator(mode="after")
    def _check(self) -> BenchmarkSettings:
        if self.lr_min > self.lr_max:
            raise ValueError(f"--lr-min {self.lr_min:g} is above --lr-max {self.lr_max:g}")
        if not (self.method or self.strategy or self.start or self.pruning):
            raise ValueError(
                "name one --method, --strategy, --start or --pruning at least; erm is compared "
                "with it"
            )
        if self.these_models != (self.seeds == 1):
            raise ValueError(
                f"--seeds {self.seeds}: with one seed nothing can be said of methods, as another "
                "seed may change the winner. Give --seeds 2, or --seeds 1 with --these-models"
            )
        if self.map and self.external is None:
            raise ValueError("--map renames columns of --external, and there is none; leave it out")
        name, _, attribute = self.primary.partition(":")
        if name not in PRIMARY:
            raise ValueError(f"--primary {self.primary}: it is one of {', '.join(PRIMARY)}")
        if attribute and (name in OVERALL or attribute not in self.attribute):
            raise ValueError(
                f"--primary {self.primary}: {name} across the groups of one --attribute is meant, "
                f"and there are: {', '.join(self.attribute) if name not in OVERALL else 'none'}"
            )
        return self


ENTRIES = ("method", "strategy", "start", "pruning", "curve")
"""Settings that name entries, and learning curves, which may be added to a run."""

PRIMARY = ("auc", "auc_worst", "auc_gap", "equalized_odds_difference", "brier")
"""Numbers that may decide."""

OVERALL = ("auc", "brier")
"""Those of them that are of everybody."""
