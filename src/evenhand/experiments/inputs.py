"""The inputs of an audit or a comparison: predictions files, and the models of runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evenhand.errors import EvenhandError, pick
from evenhand.evaluation.rows import Cut
from evenhand.evaluation.settings import ReadSettings
from evenhand.experiments.records import SourceRecord
from evenhand.experiments.runs import Run, open_run
from evenhand.tables.attributes import parts_of
from evenhand.tables.bins import parse_bins
from evenhand.tables.columns import CONTRACT, Columns, parse_map
from evenhand.tables.predictions import Predictions, read_predictions
from evenhand.tables.values import read_values

ALL = "all"


@dataclass(frozen=True)
class Inputs:
    """Where the predictions of some models lie.

    Attributes
    ----------
    files
        The predictions of each model.
    cuts
        The thresholds that models bring from the run that trained them.
    source
        Where the samples come from: what a single run says of them, else the files.
    job
        The job, where all models are of one run; else None.
    """

    files: dict[str, Path]
    cuts: dict[str, Cut]
    source: SourceRecord
    job: str | None = None


def find_inputs(paths: Sequence[Path], wanted: Sequence[str] = (ALL,)) -> Inputs:
    """Name the models of files and runs: by the file's stem, or the run's own names.

    Parameters
    ----------
    paths
        Predictions files and run directories. With several, the models of a run bear its name.
    wanted
        Which models of the runs: names, ``"all"``, or none for those that the runs chose.

    Raises
    ------
    EvenhandError
        There is no such run or model, or two are called the same.
    """
    files: dict[str, Path] = {}
    cuts: dict[str, Cut] = {}
    for path in paths:
        of_run, brought = _of_run(path, wanted, several=len(paths) > 1)
        for name in of_run.keys() & files.keys():
            raise EvenhandError(
                f"two inputs are called {name!r}: {files[name]} and {of_run[name]}. Rename one."
            )
        files |= of_run
        cuts |= brought
    if len(paths) == 1 and paths[0].is_dir():
        record = open_run(paths[0]).record
        return Inputs(files, cuts, record.source or SourceRecord.of_files(paths), record.job)
    return Inputs(files, cuts, SourceRecord.of_files(paths))


def read_inputs(
    inputs: Inputs, settings: ReadSettings, control: str | None
) -> tuple[dict[str, Predictions], tuple[str, ...]]:
    """Read the predictions of each model, and return the attributes to look at beside them.

    Parameters
    ----------
    control
        A third variable that is read, too.

    Raises
    ------
    EvenhandError
        A file cannot be read or breaks the contract, or no attribute is named and none is known.
    """
    read = (*settings.attribute, *((control,) if control else ()))
    attributes = tuple(name.replace("|", "*") for name in read)
    columns = Columns(
        attributes,
        parse_bins(settings.bins),
        _renamed(settings.map, attributes),
        settings.logits,
        read_values(settings),
        settings.positive,
        settings.pair_column,
    )
    models = {name: read_predictions(path, columns) for name, path in inputs.files.items()}
    known_names = {*parts_of("*".join(attributes))}.union(
        *(predictions.levels for predictions in models.values())
    )
    for name in columns.bins:
        pick("attribute to give --bins for", name, dict.fromkeys(known_names - {""}))
    columns.values.check_names((known_names - {""}) | {"label"})
    first, path = next(iter(models.values())), next(iter(inputs.files.values()))
    attributes = settings.attribute or tuple(name for name in first.levels if name != control)
    if not attributes:
        raise EvenhandError(
            f"name the attributes to look at, as in --attribute sex: {path} has no column that "
            "begins with attr_."
        )
    return models, attributes


def _of_run(
    path: Path, wanted: Sequence[str], *, several: bool
) -> tuple[dict[str, Path], dict[str, Cut]]:
    if not path.is_dir():
        return {path.stem: path}, {}
    run = open_run(path)
    if not run.models:
        raise EvenhandError(f"the run in {path} has no predictions yet; finish it first.")
    names = {
        model: f"{path.resolve().name}-{model}" if several else model
        for model in _chosen(run, wanted)
    }
    brought = run.record.cuts
    return (
        {name: run.predictions_file(model) for model, name in names.items()},
        {name: brought[model] for model, name in names.items() if model in brought},
    )


def _chosen(run: Run, wanted: Sequence[str]) -> tuple[str, ...]:
    models, chosen = run.models, run.head.chosen
    if ALL in wanted:
        return models
    for name in wanted:
        pick(f"model in {run.root}", name, dict.fromkeys(models))
    return tuple(wanted) or ((chosen,) if chosen else models)


def _renamed(texts: Iterable[str], attributes: Sequence[str]) -> dict[str, str]:
    """Return the column in the file of each column of the contract, or attribute, that is named."""
    parts = [part for attribute in attributes for part in parts_of(attribute)]
    roles = dict.fromkeys((*CONTRACT, *parts))

    def checked(name: str) -> str:
        if not re.fullmatch(r"score_\d+|attr_.+", name):
            pick("--map name", name, roles)
        return name

    return parse_map(texts, checked, "label=y_true")
