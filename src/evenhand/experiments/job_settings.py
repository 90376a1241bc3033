"""The registry of jobs: the settings class of each job."""

from __future__ import annotations

from importlib import import_module

from evenhand.errors import pick
from evenhand.settings import Settings

_SETTINGS = {
    "adjust": "evenhand.jobs.adjust.settings:AdjustSettings",
    "assess": "evenhand.jobs.assess.settings:AssessSettings",
    "audit": "evenhand.evaluation.settings:AuditSettings",
    "benchmark": "evenhand.jobs.benchmark.settings:BenchmarkSettings",
    "check": "evenhand.jobs.check.settings:CheckSettings",
    "compare": "evenhand.evaluation.settings:CompareSettings",
    "finetune": "evenhand.experiments.settings:FinetuneSettings",
    "predict": "evenhand.evaluation.settings:PredictSettings",
    "pretrain": "evenhand.jobs.pretrain.settings:PretrainSettings",
    "prune": "evenhand.jobs.prune.settings:PruneSettings",
    "similarity": "evenhand.jobs.similarity.settings:SimilaritySettings",
    "tune": "evenhand.jobs.tune.settings:TuneSettings",
}


def register_job(name: str, settings: str) -> None:
    """Register the settings class of a job, so that its runs can be read.

    Parameters
    ----------
    name
        The name of the job, as its runs record it.
    settings
        The settings class as ``"package.module:Class"``; it is imported at first use.
    """
    _SETTINGS[name] = settings


def settings_class(job: str) -> type[Settings]:
    """Return the settings class of a job.

    Raises
    ------
    UnknownNameError
        If no job has that name.

    Examples
    --------
    >>> settings_class("tune").__name__
    'TuneSettings'
    """
    module, _, name = pick("job", job, _SETTINGS).partition(":")
    kind: type[Settings] = getattr(import_module(module), name)
    return kind
