"""`evenhand finetune`: one strategy, one fit, its predictions and its report."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evenhand.audit.evaluate import evaluate
from evenhand.cohort.registry import READERS
from evenhand.cohort.splits import write_splits
from evenhand.cohort.tables import read_table
from evenhand.errors import EvenhandError, some
from evenhand.finetune.settings import FinetuneSettings, TrainingSettings
from evenhand.finetune.training import Task, keep, make_task, train
from evenhand.launcher import is_main
from evenhand.models.masks import listed_units
from evenhand.models.settings import weights_path
from evenhand.models.strategies import find_strategy
from evenhand.runs import Run, open_run, start_run
from evenhand.train.device import make_accelerator
from evenhand.train.inputs import silent_channels
from evenhand.workers import WorkerSettings

LONGEST = 60  # characters of a model's name, which tables and figures have to hold


def finetune(settings: FinetuneSettings, out: Path, *, overwrite: bool = False) -> Run:
    """Fine-tune a model by one strategy and report on it.

    A launcher's processes share the training and the scoring; the main one writes everything.

    Parameters
    ----------
    settings
        Data, model, training and strategy.
    out
        The run directory; an unfinished run of the same settings in it is continued.
    overwrite
        Whether another or a finished run in ``out`` may be replaced.

    Raises
    ------
    EvenhandError
        Whatever is wrong with the input; nothing is written to ``out`` then.
    """
    strategy = find_strategy(settings.strategy)
    accelerator = make_accelerator(settings)
    with accelerator.local_main_process_first():  # it stores the samples, which the others read
        task = make_task(settings, settings.label_share)
    model, schedule = strategy(task.model(), settings.seed)
    name = model_name(settings.strategy)
    with accelerator.main_process_first():
        if is_main():
            begin("finetune", task, out, [name], overwrite=overwrite)
    run = Run(out)
    if not run.predictions(name).exists():
        with run.phase("training"):
            trained = train(task, model, schedule, task.fit_settings(settings.lr))
            keep(task, run, name, trained, lr=settings.lr)
    if is_main():
        with run.phase("evaluation"):
            evaluate(run, chosen=name)
        run.finish(chosen=name)
    return run


def model_name(strategy: str) -> str:
    """Return the folder name of a strategy's model, one however the strategy is written.

    It is the strategy's own, or ``units-`` and the units that it lists; of many the first, and a
    digest of all of them.

    Examples
    --------
    >>> model_name("lora:3,0"), model_name("blocks.5.mlp, blocks.4.mlp")
    ('lora-0-3', 'units-blocks.4.mlp+blocks.5.mlp')
    """
    stem, _, argument = strategy.partition(":")
    if argument:
        return "-".join([stem, *map(str, sorted({int(number) for number in argument.split(",")}))])
    if "." not in strategy and "," not in strategy:
        return strategy
    units = sorted(listed_units(strategy))
    name = f"units-{'+'.join(units)}"
    if len(name) <= LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"units-{units[0]}+{len(units) - 1}-more-{digest}"


def _refuse_leak(task: Task) -> None:
    """Refuse weights that have been trained on patients that are to be validated or tested on.

    Raises
    ------
    EvenhandError
        They come from a run on the same data whose training split has some of them.
    """
    weights = task.settings.weights
    root = _run_behind(weights_path(weights))
    if root is None or not (root / "splits.csv").is_file():
        return
    if not _same_data(task.splits.train.source.facts, open_run(root).facts["source"]):
        return
    table = read_table(root / "splits.csv")
    seen = set(table["patient_id"][table["split"] == "train"])
    held = {*task.splits.val.table["patient_id"], *task.splits.test.table["patient_id"]}
    if met := sorted(held & seen):
        raise EvenhandError(
            f"--weights {weights} was trained on {len(met)} of the {len(held)} patients that are "
            f"to be validated and tested on ({some(met)}). Give the same --seed, --split and "
            "--attribute as in that run, or keep its patients out with --exclude-patients "
            f"{root}."
        )


def _run_behind(weights: Path | None) -> Path | None:
    """Return the run that weights are of, whether they are named by it or by a model's file."""
    if weights is None:
        return None
    path = weights.resolve()
    folders = (path, *path.parents[2:3])  # RUN/models/NAME/model.safetensors
    return next((folder for folder in folders if (folder / "run.json").is_file()), None)


def _same_data(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Say whether ids of two sources mean the same patients.

    A published data set is known by its reader, wherever its copy lies; data of one's own by where
    they lie, or by what they are.
    """
    alike = {name for name in ("path", "fingerprint") if one[name] == other.get(name)}
    published = bool(READERS[one["reader"]].about.layout)
    return bool(one["reader"] == other["reader"] and (published or alike))


def kept_settings(settings: TrainingSettings) -> dict[str, Any]:
    """Return what a run keeps of its settings, and has to be told again to be continued.

    Where it puts things, how much room they may take and where its fits run may change.
    """
    room = {"cache", "prefix_memory", "prefix_disk"}
    return settings.model_dump(mode="json", exclude={*room, *WorkerSettings.model_fields})


def begin(job: str, task: Task, out: Path, models: list[str], *, overwrite: bool) -> Run:
    """Open the run directory of a job that trains, and write down its data and splits."""
    settings: TrainingSettings = task.settings
    _refuse_leak(task)
    source = task.splits.train.source
    run = start_run(
        out,
        job,
        kept_settings(settings),
        fingerprint=task.fingerprint,
        reads=filter(
            None, (Path(source.path), weights_path(settings.weights), *settings.exclude_patients)
        ),
        overwrite=overwrite,
    )
    run.note(
        models=models,
        source=source.facts
        | {"levels": {name: list(levels) for name, levels in task.splits.train.levels.items()}},
        notes=[*source.notes, *silent_channels(task.inputs)],
    )
    write_splits(run.root / "splits.csv", task.splits)
    return run
