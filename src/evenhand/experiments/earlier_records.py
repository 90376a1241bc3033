"""Convert the ``run.json`` of earlier versions to the form of this version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from evenhand.errors import UnknownNameError
from evenhand.experiments.job_settings import settings_class
from evenhand.files import FileObject, parse_record
from evenhand.runs import SCHEMA
from evenhand.settings import current_settings
from evenhand.training.settings import LoopSettings

JOB_OF_SETTING = {"cell": "assess", "trials": "tune", "strategy": "finetune"}
"""Settings by which a job that trains is recognised."""


class _Origin(BaseModel):
    run: str
    model: str


class _Pruning(BaseModel):
    """The entries of a pruning in schema 1.

    ``settings`` holds the settings of the training run and of the pruning. If both have a setting,
    its value is that of the pruning.
    """

    model_config = ConfigDict(strict=True)

    settings: dict[str, Any]
    of: _Origin
    training: dict[str, Any] = {}
    seed: int
    versions: dict[str, str]


def current_content(content: FileObject, path: Path) -> FileObject:
    """Return the content of a ``run.json`` of any version in the form of this version.

    Parameters
    ----------
    content
        The content of the file.
    path
        The file, for error messages.

    Raises
    ------
    DamagedError
        If a pruning of schema 1 lacks a required entry.
    """
    if content["schema"] == SCHEMA:
        return content
    values = dict(content)
    if values.get("job") == "prune":
        values = _convert_pruning(parse_record(_Pruning, content, path), values)
    elif isinstance(values.get("settings"), Mapping):
        values["settings"] = _settings_of_job(str(values.get("job")), values["settings"])
    if isinstance(values.get("cuts"), Mapping):
        values["cuts"] = {name: _convert_cut(cut) for name, cut in values["cuts"].items()}
    return FileObject({**values, "schema": SCHEMA}, path)


def _convert_pruning(earlier: _Pruning, values: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of a pruning with only its own settings, and with its parent's record."""
    merged = current_settings(earlier.settings)
    job = next((job for name, job in JOB_OF_SETTING.items() if name in merged), "finetune")
    settings = _settings_of_job(job, merged)
    settings.pop("target", None)  # the pruning's; schema 1 did not record the training's
    settings |= {
        name: value for name, value in earlier.training.items() if name in LoopSettings.model_fields
    }
    record = {
        "schema": SCHEMA,
        "job": job,
        "status": "finished",
        "settings": settings,
        "seed": settings.get("seed", earlier.seed),
        "chosen": None,
        "models": [earlier.of.model],
        "fingerprint": "",
        "versions": {},
        "seconds": {},
    }
    parent = {"run": earlier.of.run, "model": earlier.of.model, "record": record}
    others = {name: value for name, value in values.items() if name not in ("of", "training")}
    return {**others, "settings": _settings_of_job("prune", merged), "parent": parent}


def _convert_cut(cut: object) -> object:
    """Return a threshold with its ``origin`` in place of schema 1's ``fitted``."""
    if not isinstance(cut, Mapping) or "fitted" not in cut:
        return cut
    others = {name: value for name, value in cut.items() if name != "fitted"}
    return {**others, "origin": "validation" if cut["fitted"] else "run"}


def _settings_of_job(job: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the job has in this version, under today's names."""
    try:
        names: Iterable[str] = settings_class(job).model_fields
    except UnknownNameError:
        names = settings
    current = current_settings(settings, {*names})
    return {name: current[name] for name in names if name in current}
