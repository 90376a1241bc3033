"""`evenhand assess`: the five stages, in one command and one report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from evenhand.assess.alike import similarity_of
from evenhand.assess.evaluation import Evaluation, evaluate_share
from evenhand.assess.grid import Cell, cells_of, fit_cell, pretrained
from evenhand.assess.page import page_of, sentences
from evenhand.assess.records import records_of
from evenhand.assess.requirements.job import measure_requirements
from evenhand.assess.requirements.settings import CheckSettings
from evenhand.assess.settings import AssessSettings
from evenhand.cohort.settings import DataSettings
from evenhand.errors import EvenhandError
from evenhand.files import read_json, write_json, write_text
from evenhand.finetune.job import begin
from evenhand.finetune.training import Task, make_task, seconds_per_fit
from evenhand.models.strategies import find_strategy
from evenhand.pretrain.methods import find_method
from evenhand.progress import bar
from evenhand.runs import Run


def assess(
    settings: AssessSettings,
    out: Path,
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Run:
    """Ask whether self-supervision makes a model fairer, by how much, and at what cost.

    Parameters
    ----------
    settings
        Data, network, grid and recipe.
    out
        The run directory; what an unfinished run of the same settings has done is not done again.
    overwrite
        Whether another or a finished run in ``out`` may be replaced.
    say
        Told, before the long work, how many fits there will be and how long they take.

    Raises
    ------
    EvenhandError
        Whatever is wrong with the input; nothing is written to ``out`` then.
    """
    if not settings.attribute:
        raise EvenhandError("fairness is between groups: give an --attribute.")
    find_method(settings.method)
    task = make_task(settings)
    if len(task.splits.train.classes) != 2:
        raise EvenhandError("the assessment is for two classes; name another --label.")
    for cell in settings.cell:
        find_strategy(cell)(task.model(), settings.seed)
    cells = tuple(cells_of(settings))
    run = begin("assess", task, out, [cell.name for cell in cells], overwrite=overwrite)
    say(_forecast(task, settings, len(cells)))
    _fit_all(task, settings, run, cells)
    with run.phase("evaluation"):
        found = _evaluations(task, settings, run, cells)
        write_json(run.root / "metrics.json", {"schema": 1, "rows": records_of(found)})
        run.note(answer=sentences(found[0]))
    with run.phase("similarity"):
        alike = similarity_of(task, settings, run, found[0])
        write_json(run.root / "similarity.json", alike)
    with run.phase("requirements"):
        asked = settings.model_dump(include=set(DataSettings.model_fields))
        required = measure_requirements(task.splits, CheckSettings(**asked)).records()
        write_json(run.root / "check.json", required)
    run.finish(chosen=Cell(found[0].chosen, found[0].share, settings.seed).name)
    write_text(run.root / "report.html", page_of(run, task, found, (required, alike)))
    return run


def report_again(run: Run) -> None:
    """Write the report of a finished assessment again, from its predictions and findings.

    Raises
    ------
    EvenhandError
        The data that it was made from are not there any more.
    """
    settings = AssessSettings.model_validate(run.facts["settings"])
    task = make_task(settings)
    found = _evaluations(task, settings, run, tuple(cells_of(settings)))
    others = (read_json(run.root / "check.json"), read_json(run.root / "similarity.json"))
    write_json(run.root / "metrics.json", {"schema": 1, "rows": records_of(found)})
    write_text(run.root / "report.html", page_of(run, task, found, others))


def _fit_all(task: Task, settings: AssessSettings, run: Run, cells: tuple[Cell, ...]) -> None:
    """Make the encoders, then every cell that is not done yet."""
    seeds = dict.fromkeys(cell.seed for cell in cells)
    with bar("assessment", len(seeds) + len(cells)) as advance:
        for seed in seeds:
            with run.phase("pre-training"):
                pretrained(task, settings, run, seed)
            advance(text=f"encoder of seed {seed}")
        for cell in cells:
            with run.phase("fine-tuning"):
                fit_cell(task, settings, run, cell)
            advance(text=cell.name)


def _evaluations(
    task: Task, settings: AssessSettings, run: Run, cells: tuple[Cell, ...]
) -> list[Evaluation]:
    objective = task.objectives[0]
    how = (objective.name, objective.direction == "maximize")
    return [
        evaluate_share(
            run, [cell for cell in cells if cell.share == share], settings.attribute, how
        )
        for share in settings.label_shares
    ]


def _forecast(task: Task, settings: AssessSettings, cells: int) -> str:
    one = seconds_per_fit(task, task.model())
    encoders = settings.seeds * one * 2 * settings.pretrain_epochs / settings.epochs
    minutes = max(1, round((encoders + cells * one) / 60))
    return (
        f"{settings.seeds} encoders of {settings.pretrain_epochs} epochs and {cells} fits of at "
        f"most {settings.epochs}. At most about {minutes} min; early stops and frozen layers make "
        "it less."
    )
