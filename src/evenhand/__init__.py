"""Evenhand finds the patients whom a medical model fails, and fixes the model.

Names load on first use: importing the package loads neither torch nor pandas. What bears the name
of a package lies in that package, since a name cannot be both::

    from evenhand.assess import check, similarity
    from evenhand.audit import audit, compare
    from evenhand.finetune import finetune
    from evenhand.measure import measure
    from evenhand.prune import prune
    from evenhand.tune import tune
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evenhand.assess.requirements.settings import CheckSettings
    from evenhand.assess.settings import AssessSettings
    from evenhand.assess.similarity.settings import SimilaritySettings
    from evenhand.audit.settings import AuditSettings, CompareSettings, PredictSettings
    from evenhand.cohort import (
        Cohort,
        DataSettings,
        PhantomSettings,
        Splits,
        SplitSettings,
        make_phantoms,
        open_cohort,
        prepare_splits,
        split_patients,
    )
    from evenhand.errors import EvenhandError, UnknownNameError
    from evenhand.finetune.exporting import export
    from evenhand.finetune.predicting import predict
    from evenhand.finetune.settings import FinetuneSettings
    from evenhand.measure import Metric, Objective, Plan, find_metric, find_objective, metric
    from evenhand.models.checkpoints import load_model, save_model
    from evenhand.models.masks import constant, find_units, full_mask
    from evenhand.models.model import Model, ModelSpec, build_model
    from evenhand.models.strategies import find_strategy, strategy_names
    from evenhand.models.units import Family, Unit, families, find_family
    from evenhand.predictions import Predictions, read_predictions, write_predictions
    from evenhand.pretrain.settings import PretrainSettings
    from evenhand.prune.settings import PruneSettings
    from evenhand.report import Report, render
    from evenhand.runs import Run, open_run
    from evenhand.train.loop import fit
    from evenhand.train.settings import FitSettings
    from evenhand.tune.demo import demo
    from evenhand.tune.settings import TuneSettings

_HOMES = {
    "assess.requirements.settings": "CheckSettings",
    "assess.settings": "AssessSettings",
    "assess.similarity.settings": "SimilaritySettings",
    "audit.settings": "AuditSettings CompareSettings PredictSettings",
    "cohort": (
        "Cohort DataSettings PhantomSettings SplitSettings Splits make_phantoms open_cohort "
        "prepare_splits split_patients"
    ),
    "errors": "EvenhandError UnknownNameError",
    "finetune.exporting": "export",
    "finetune.predicting": "predict",
    "finetune.settings": "FinetuneSettings",
    "measure": "Metric Objective Plan find_metric find_objective metric",
    "models.checkpoints": "load_model save_model",
    "models.masks": "constant find_units full_mask",
    "models.model": "Model ModelSpec build_model",
    "models.strategies": "find_strategy strategy_names",
    "models.units": "Family Unit families find_family",
    "predictions": "Predictions read_predictions write_predictions",
    "pretrain.settings": "PretrainSettings",
    "prune.settings": "PruneSettings",
    "report": "Report render",
    "runs": "Run open_run",
    "train.loop": "fit",
    "train.settings": "FitSettings",
    "tune.demo": "demo",
    "tune.settings": "TuneSettings",
}

__all__ = [
    "AssessSettings",
    "AuditSettings",
    "CheckSettings",
    "Cohort",
    "CompareSettings",
    "DataSettings",
    "EvenhandError",
    "Family",
    "FinetuneSettings",
    "FitSettings",
    "Metric",
    "Model",
    "ModelSpec",
    "Objective",
    "PhantomSettings",
    "Plan",
    "PredictSettings",
    "Predictions",
    "PretrainSettings",
    "PruneSettings",
    "Report",
    "Run",
    "SimilaritySettings",
    "SplitSettings",
    "Splits",
    "TuneSettings",
    "Unit",
    "UnknownNameError",
    "build_model",
    "constant",
    "demo",
    "export",
    "families",
    "find_family",
    "find_metric",
    "find_objective",
    "find_strategy",
    "find_units",
    "fit",
    "full_mask",
    "load_model",
    "make_phantoms",
    "metric",
    "open_cohort",
    "open_run",
    "predict",
    "prepare_splits",
    "read_predictions",
    "render",
    "save_model",
    "split_patients",
    "strategy_names",
    "write_predictions",
]


def __getattr__(name: str) -> Any:
    """Load the module that defines ``name``."""
    for home, names in _HOMES.items():
        if name in names.split():
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
