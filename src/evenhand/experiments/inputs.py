"""Find and read the inputs of an audit or a comparison: predictions files and runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evenhand.errors import EvenhandError, pick
from evenhand.evaluation.rows import DecisionThreshold
from evenhand.evaluation.settings import ReadSettings
from evenhand.experiments.records import SourceRecord
from evenhand.experiments.runs import Run, open_run
from evenhand.tables.attributes import attribute_parts
from evenhand.tables.bins import parse_bins
from evenhand.tables.columns import CONTRACT, Columns, parse_map
from evenhand.tables.predictions import Predictions, read_predictions
from evenhand.tables.values import read_values

ALL = "all"


@dataclass(frozen=True)
class Inputs:
    """The predictions files of some models, and what their runs record about them.

    Attributes
    ----------
    files
        Model → its predictions file.
    cuts
        Model → the decision threshold from the run that trained it.
    source
        The data source: that of the run if the input is a single run, else the files themselves.
    job
        The job of the run if the input is a single run, else None.
    """

    files: dict[str, Path]
    cuts: dict[str, DecisionThreshold]
    source: SourceRecord
    job: str | None = None


def find_inputs(paths: Sequence[Path], models: Sequence[str] = (ALL,)) -> Inputs:
    """Return the predictions files of all models in some files and runs.

    A file's model is named by the stem of the file.

    Parameters
    ----------
    paths
        Predictions files and run directories. If there are several, the models of a run are called
        ``RUN-MODEL``.
    models
        Names of the runs' models, or ``"all"``. If empty, the model that each run chose.

    Raises
    ------
    EvenhandError
        If there is no such run or model, or two models have the same name.
    """
    files: dict[str, Path] = {}
    cuts: dict[str, DecisionThreshold] = {}
    for path in paths:
        more_files, more_cuts = _files_and_cuts(path, models, several=len(paths) > 1)
        for name in more_files.keys() & files.keys():
            raise EvenhandError(
                f"two inputs are called {name!r}: {files[name]} and {more_files[name]}. Rename one."
            )
        files |= more_files
        cuts |= more_cuts
    if len(paths) == 1 and paths[0].is_dir():
        record = open_run(paths[0]).record
        return Inputs(files, cuts, record.source or SourceRecord.of_files(paths), record.job)
    return Inputs(files, cuts, SourceRecord.of_files(paths))


def read_inputs(
    inputs: Inputs, settings: ReadSettings, control: str | None
) -> tuple[dict[str, Predictions], tuple[str, ...]]:
    """Read the predictions of each model; return them with the names of the attributes to audit.

    Parameters
    ----------
    control
        A further attribute to read, which the audit controls for; None if there is none.

    Raises
    ------
    EvenhandError
        If a file cannot be read or breaks the contract, or if the settings name no attribute and no
        input has one.
    """
    names_read = (*settings.attribute, *((control,) if control else ()))
    attributes = tuple(name.replace("|", "*") for name in names_read)
    columns = Columns(
        attributes,
        parse_bins(settings.bins),
        _parse_renames(settings.map, attributes),
        settings.logits,
        read_values(settings),
        settings.positive,
        settings.pair_column,
    )
    models = {name: read_predictions(path, columns) for name, path in inputs.files.items()}
    all_names = {*attribute_parts("*".join(attributes))}.union(
        *(predictions.levels for predictions in models.values())
    )
    for name in columns.bins:
        pick("attribute to give --bins for", name, dict.fromkeys(all_names - {""}))
    columns.values.check_names((all_names - {""}) | {"label"})
    first, path = next(iter(models.values())), next(iter(inputs.files.values()))
    attributes = settings.attribute or tuple(name for name in first.levels if name != control)
    if not attributes:
        raise EvenhandError(
            f"no attribute is named, and {path} has no column that begins with attr_. Name the "
            "attributes to audit, as in --attribute sex."
        )
    return models, attributes


def _files_and_cuts(
    path: Path, names: Sequence[str], *, several: bool
) -> tuple[dict[str, Path], dict[str, DecisionThreshold]]:
    if not path.is_dir():
        return {path.stem: path}, {}
    run = open_run(path)
    if not run.models:
        raise EvenhandError(f"the run in {path} has no predictions yet; finish it first.")
    long_names = {
        model: f"{path.resolve().name}-{model}" if several else model
        for model in _select_models(run, names)
    }
    cuts = run.record.cuts
    return (
        {name: run.predictions_file(model) for model, name in long_names.items()},
        {name: cuts[model] for model, name in long_names.items() if model in cuts},
    )


def _select_models(run: Run, names: Sequence[str]) -> tuple[str, ...]:
    models, chosen = run.models, run.head.chosen
    if ALL in names:
        return models
    for name in names:
        pick(f"model in {run.root}", name, dict.fromkeys(models))
    return tuple(names) or ((chosen,) if chosen else models)


def _parse_renames(texts: Iterable[str], attributes: Sequence[str]) -> dict[str, str]:
    """Return the file's column for each name in ``--map``, a name of the contract or attribute."""
    parts = [part for attribute in attributes for part in attribute_parts(attribute)]
    roles = dict.fromkeys((*CONTRACT, *parts))

    def checked(name: str) -> str:
        if not re.fullmatch(r"score_\d+|attr_.+", name):
            pick("--map name", name, roles)
        return name

    return parse_map(texts, checked, "label=y_true")
