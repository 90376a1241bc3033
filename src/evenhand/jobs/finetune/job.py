"""`evenhand finetune`: fine-tune a model by one strategy, and report on it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd

from evenhand.experiments.lineage import begin_training_run
from evenhand.experiments.runs import Run
from evenhand.experiments.settings import FinetuneSettings
from evenhand.experiments.task import Task, prepare_task, save_and_score, train_model
from evenhand.files import write_json
from evenhand.jobs.evaluate import evaluate
from evenhand.jobs.keywords import as_job
from evenhand.jobs.probing import PATIENTS, probe_record, read_layers
from evenhand.jobs.rereading import draw_one_per_patient
from evenhand.launcher import is_main
from evenhand.masks.masks import listed_units
from evenhand.masks.strategies import find_strategy
from evenhand.networks.model import load_model
from evenhand.reporting.probe_record import FILE
from evenhand.tables.predictions import read_predictions
from evenhand.training.device import make_accelerator, settle_precision
from evenhand.training.tracking import open_trackers

START = "before training"
"""The name, in ``probe.json``, of the model before training."""

MAX_NAME = 60
"""The largest number of characters of a model's name, so that it fits into tables and figures."""


@as_job(FinetuneSettings, "data")
def finetune(settings: FinetuneSettings, out: Path, *, overwrite: bool = False) -> Run:
    """Fine-tune a model by one strategy and report on it.

    If a launcher started several processes, they divide training and scoring among them, and the
    main process writes all files.

    Parameters
    ----------
    settings
        The data, the model, its training and the strategy.
    out
        The run directory; an unfinished run of the same settings in it is continued.
    overwrite
        Whether a finished or different run in ``out`` may be replaced.

    Raises
    ------
    EvenhandError
        If the data, the settings or the weights cannot be used. Nothing is written to ``out``.
    """
    settings = settle_precision(settings)
    strategy = find_strategy(settings.strategy)
    accelerator = make_accelerator(settings)
    with accelerator.local_main_process_first():  # it stores the samples; the others read them
        task = prepare_task(settings, settings.label_share)
    model, schedule = strategy(task.model(), settings.seed)
    name = model_name(settings.strategy, settings.method)
    with accelerator.main_process_first():
        if is_main():
            begin_training_run("finetune", task, out, [name], overwrite=overwrite)
    run = Run(out)
    if not run.predictions_file(name).exists():
        with run.phase("training"):
            fit_settings = task.fit_settings(settings.lr)
            tracked_values = {"lr": settings.lr, "seed": settings.seed}
            with open_trackers(settings, out, name, tracked_values) as tracker:
                trained = train_model(task, model, schedule, fit_settings, tracker=tracker)
            save_and_score(task, run, name, trained, lr=settings.lr)
            if trained.warning:
                run.note(notes=(*run.record.notes, trained.warning))
    if is_main():
        if settings.probe:
            with run.phase("probing"):
                _write_probe(task, run, name)
        with run.phase("evaluation"):
            evaluate(run, chosen=name)
        run.finish(chosen=name)
    return run


def _write_probe(task: Task, run: Run, name: str) -> None:
    """Probe the trained model, and the model before training, on test patients."""
    test, seed = task.splits.test, task.settings.seed
    scored = read_predictions(run.predictions_file(name)).of_split("test")
    samples = draw_one_per_patient(scored, PATIENTS, seed)
    order = pd.Index(test.table["sample_id"]).get_indexer(pd.Index(samples.table["sample_id"]))
    cohort, accelerator = test.select(order), make_accelerator(task.settings)
    models = {name: load_model(run.folder(name)), START: task.model()}
    layers = {key: read_layers(model, cohort, accelerator) for key, model in models.items()}
    attributes, pairs = task.settings.attribute, [(name, START)]
    probes = probe_record(layers, samples, attributes, pairs, split="test", seed=seed)
    write_json(run.root / FILE, probes.model_dump())


def model_name(strategy: str, method: str = "erm") -> str:
    """Return the folder name of a strategy's model, the same for all spellings of the strategy.

    It is the name of the strategy, or ``units-`` and the listed units; if they are many, it is the
    first of them and a digest of all. The name of a mitigation method other than erm follows.

    Examples
    --------
    >>> model_name("lora:3,0"), model_name("blocks.5.mlp, blocks.4.mlp")
    ('lora-0-3', 'units-blocks.4.mlp+blocks.5.mlp')
    >>> model_name("full", "group-dro:rate=0.1")
    'full-group-dro'
    """
    stem = method.partition(":")[0]
    return _strategy_name(strategy) + ("" if stem == "erm" else f"-{stem}")


def _strategy_name(strategy: str) -> str:
    stem, _, argument = strategy.partition(":")
    if argument:
        return "-".join([stem, *map(str, sorted({int(number) for number in argument.split(",")}))])
    if "." not in strategy and "," not in strategy:
        return strategy
    units = sorted(listed_units(strategy))
    name = f"units-{'+'.join(units)}"
    if len(name) <= MAX_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"units-{units[0]}+{len(units) - 1}-more-{digest}"
