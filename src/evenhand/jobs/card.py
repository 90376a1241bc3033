"""Model cards of finished runs."""

from __future__ import annotations

from pathlib import Path

from evenhand.errors import EvenhandError, pick
from evenhand.evaluation.metrics_file import read_metrics
from evenhand.evaluation.requests import measure_settings
from evenhand.experiments.runs import Run
from evenhand.files import write_text
from evenhand.jobs.evaluate import positive_of, pruning_of
from evenhand.reporting import model_card
from evenhand.tables.predictions import read_predictions

CARD_START = b"---\nlibrary_name: evenhand"
"""The first bytes of every model card."""


def is_card(path: Path) -> bool:
    """Return whether a file is a model card of Evenhand."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(CARD_START)) == CARD_START


def write_card(run: Run, model: str | None, path: Path) -> None:
    """Write a model card to a file; see `card_text`."""
    write_text(path, card_text(run, model))


def card_text(run: Run, model: str | None) -> str:
    """Return the card of a model of a finished run; by default of the model that the run chose.

    Raises
    ------
    EvenhandError
        If the run has no such model, or ``model`` is None and the run has several and chose none.
    """
    models = run.models
    name = model or run.head.chosen or (models[0] if len(models) == 1 else None)
    if name is None:
        raise EvenhandError(
            f"{run.root} has the models {', '.join(models)} and chose none of them. Name one with "
            "--model."
        )
    pick("model", name, dict.fromkeys(models))
    rows = read_metrics(run.root / "metrics.json")
    predictions = read_predictions(run.predictions_file(name))
    record = run.record
    split = measure_settings(record.settings).split
    pruning = pruning_of(run)
    return model_card(
        record,
        rows,
        name,
        split=split,
        names_split=bool(predictions.splits),
        positive=positive_of(predictions.classes),
        pruning=pruning,
    )
