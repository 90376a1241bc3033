"""The ``run.json`` of earlier versions, as this version writes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from evenhand.earlier_names import current_settings
from evenhand.errors import UnknownNameError
from evenhand.experiments.job_settings import settings_class
from evenhand.files import FileObject, checked
from evenhand.runs import SCHEMA
from evenhand.training.settings import LoopSettings

ORIGINS = {"cell": "assess", "trials": "tune", "strategy": "finetune"}
"""Jobs that train, by a setting that no other of them has."""


class _Origin(BaseModel):
    run: str
    model: str


class _Pruning(BaseModel):
    """The entries that schema 1 has of a pruning.

    Its settings are those of the run that trained the model, beneath its own by the same names.
    """

    model_config = ConfigDict(strict=True)

    settings: dict[str, Any]
    of: _Origin
    training: dict[str, Any] = {}
    seed: int
    versions: dict[str, str]


def current_content(content: FileObject, path: Path) -> FileObject:
    """Return the content of a ``run.json`` of any version in the form of this one.

    Parameters
    ----------
    content, path
        What the file holds, and the file.

    Raises
    ------
    DamagedError
        A pruning of schema 1 lacks what it is made of.
    """
    if content["schema"] == SCHEMA:
        return content
    values = dict(content)
    if values.get("job") == "prune":
        values = _pruning(checked(_Pruning, content, path), values)
    elif isinstance(values.get("settings"), Mapping):
        values["settings"] = _known(str(values.get("job")), values["settings"])
    if isinstance(values.get("cuts"), Mapping):
        values["cuts"] = {name: _cut(cut) for name, cut in values["cuts"].items()}
    return FileObject({**values, "schema": SCHEMA}, path)


def _pruning(earlier: _Pruning, values: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of a pruning with settings of its own, and its parent's beside them."""
    merged = current_settings(earlier.settings)
    job = next((job for name, job in ORIGINS.items() if name in merged), "finetune")
    settings = _known(job, merged)
    settings.pop("target", None)  # the pruning's; that of the training is nowhere
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
    rest = {name: value for name, value in values.items() if name not in ("of", "training")}
    return {**rest, "settings": _known("prune", merged), "parent": parent}


def _cut(cut: object) -> object:
    """Return a threshold with where it comes from, of which schema 1 has whether it was fitted."""
    if not isinstance(cut, Mapping) or "fitted" not in cut:
        return cut
    rest = {name: value for name, value in cut.items() if name != "fitted"}
    return {**rest, "origin": "validation" if cut["fitted"] else "run"}


def _known(job: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the settings that a job has in this version."""
    try:
        names: Iterable[str] = settings_class(job).model_fields
    except UnknownNameError:
        names = settings
    current = current_settings(settings, {*names})
    return {name: current[name] for name in names if name in current}
