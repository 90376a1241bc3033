"""`evenhand assess`: run the five stages of an assessment, and report on them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from evenhand.cohort.settings import SplitSettings
from evenhand.cohort.splits import share_of_patients
from evenhand.errors import EvenhandError, count_text, first_few
from evenhand.evaluation.requests import check_choice, measure_settings
from evenhand.experiments.forecast import longest_minutes, parallel_text, seconds_per_fit
from evenhand.experiments.lineage import begin_training_run
from evenhand.experiments.runs import Run
from evenhand.experiments.task import Task, require_attribute
from evenhand.experiments.task_cache import FitContext, cached_task, fresh_task_cache
from evenhand.files import write_json
from evenhand.jobs.assess.answers import sentences
from evenhand.jobs.assess.claims import make_claims
from evenhand.jobs.assess.grid import cell_name, check_encoders, fit_grid, grid_cells
from evenhand.jobs.assess.judging import evaluate_grid
from evenhand.jobs.assess.page import write_assessment
from evenhand.jobs.assess.settings import AssessSettings
from evenhand.jobs.assess.similarity import compare_representations
from evenhand.jobs.assess.similarity_grid import grid_similarity
from evenhand.jobs.assess.similarity_grid_record import write_grid
from evenhand.jobs.assess.starts import encoder_starts
from evenhand.jobs.check.job import measure_requirements
from evenhand.jobs.check.settings import CheckSettings
from evenhand.jobs.keywords import Notify, as_job, ignore_text
from evenhand.masks.strategies import find_strategy
from evenhand.pretraining.registry import SSL_OBJECTIVES
from evenhand.reporting import check_record, similarity_record
from evenhand.reporting.sections.requirements import headline
from evenhand.training.device import settle_precision
from evenhand.workers import open_engine

FEWEST_LABELLED = 2
"""The fewest training patients of each class that must keep a label in a share of the labels."""


@as_job(AssessSettings, "data")
@fresh_task_cache()
def assess(
    settings: AssessSettings, out: Path, *, overwrite: bool = False, notify: Notify = ignore_text
) -> Run:
    """Assess whether self-supervision makes a model fairer, by how much, and at what cost.

    Parameters
    ----------
    settings
        The data, the network, the grid and the recipe.
    out
        The run directory; an unfinished run of the same settings in it is continued.
    overwrite
        Whether a finished or different run in ``out`` may be replaced.
    notify
        Called before the training with a text about the number of fits and their time, then with
        one about the requirements of the data.

    Raises
    ------
    EvenhandError
        If the data, the settings or the encoders cannot be used. Nothing is written to ``out``.
    """
    settings = settle_precision(settings)
    require_attribute(settings)
    for objective in settings.objectives:
        SSL_OBJECTIVES.find(objective)
    encoders = [start.weights for start in encoder_starts(settings) if start.objective is None]
    task = cached_task(settings)
    _check_groups(task)
    check_choice(measure_settings(settings, settings.exclude_group), task.groups)
    check_encoders(task, settings)
    _check_shares(task, settings)
    for cell in settings.cell:
        find_strategy(cell)(task.model(), settings.seed)
    cells = tuple(grid_cells(settings))
    with open_engine(settings) as engine:
        names = [cell.name for cell in cells]
        run = begin_training_run("assess", task, out, names, overwrite=overwrite, encoders=encoders)
        notify(_forecast(task, settings, len(cells)))
        _measure_data(task, settings, run, notify)
        fit_grid(FitContext.of(settings, task, run), cells, engine)
    with run.phase("evaluation"):
        evaluations = evaluate_grid(run, settings)
        run.note(answer=tuple(sentences(make_claims(evaluations))))
    with run.phase("similarity"):
        similarity = compare_representations(task, settings, run, evaluations[0])
        write_json(run.root / similarity_record.FILE, similarity.as_json())
        write_grid(run, grid_similarity(task, settings, run, evaluations))
    main = evaluations[0]  # of the largest share of labels
    chosen = cell_name(main.chosen, main.share, settings.seed)
    run.note(chosen=chosen)
    write_assessment(run, evaluations)
    run.finish(chosen=chosen)  # last: a finished run is complete
    return run


def _check_groups(task: Task) -> None:
    """Refuse data with other than two classes, or with fewer than two groups of an attribute."""
    classes = task.splits.train.classes
    if len(classes) != 2:
        raise EvenhandError(
            f"the assessment is for two classes; the label has {len(classes)}: "
            f"{', '.join(classes)}. Name another --label."
        )
    for name, groups in task.groups.items():
        compared = groups.compared(task.excluded.get(name, ()))
        if len(compared) < 2:
            raise EvenhandError(
                f"--exclude-group leaves {first_few(compared) or 'no group'} of {name}, and "
                "fairness compares two groups or more. Exclude fewer."
            )


def _check_shares(task: Task, settings: AssessSettings) -> None:
    """Refuse shares of the labels that leave a class with too few training patients.

    Raises
    ------
    EvenhandError
        If a share is too small; the text has the counts and the smallest sufficient share.
    """
    train = task.splits.train
    patients = train.table.groupby("patient_id")["label"].max()
    for share in settings.label_share:
        rng = np.random.default_rng(settings.seed)
        part = share_of_patients(train, share, rng).table.groupby("patient_id")["label"].max()
        whole, kept = (labels.value_counts() for labels in (patients, part))
        rarest = min(range(len(train.classes)), key=lambda label: int(whole.get(label, 0)))
        if kept.get(rarest, 0) < FEWEST_LABELLED:
            count = int(whole.get(rarest, 0))
            least = math.ceil(1000 * (FEWEST_LABELLED - 0.5) / count) / 10
            raise EvenhandError(
                f"--label-share {100 * share:g}%: of {count} training patients of class "
                f"{train.classes[rarest]!r}, {kept.get(rarest, 0)} would keep a label, and "
                f"at least {FEWEST_LABELLED} must. Give a share of {least:g}% or more."
            )


def _measure_data(task: Task, settings: AssessSettings, run: Run, notify: Notify) -> None:
    """Measure the requirements of the data, unless an interrupted run has measured them."""
    path = run.root / check_record.FILE
    if not path.exists():
        with run.phase("requirements"):
            split_settings = settings.model_dump(include=set(SplitSettings.model_fields))
            measured = measure_requirements(task.splits, CheckSettings(**split_settings)).record()
            write_json(path, measured.as_json())
        notify(headline(measured))


def _forecast(task: Task, settings: AssessSettings, cells: int) -> str:
    seconds = seconds_per_fit(task)
    encoders = settings.seeds * len(settings.objectives)
    pretraining = encoders * seconds * 2 * settings.pretrain_epochs / settings.epochs
    minutes = longest_minutes(pretraining + cells * seconds, settings.workers)
    encoders_text = (
        f"{count_text(encoders, 'encoder')} of at most "
        f"{count_text(settings.pretrain_epochs, 'epoch')} and "
    )
    return (
        f"{encoders_text if encoders else ''}{count_text(cells, 'fit')} of at most "
        f"{settings.epochs}{parallel_text(settings.workers)}. At most about {minutes} min; early "
        "stops and frozen layers make it less."
    )
