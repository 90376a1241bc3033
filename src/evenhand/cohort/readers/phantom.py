"""Phantoms as DATA: ``phantom:patients=400,harder=0.5,seed=3``, or ``series_phantom:…``."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.phantoms.images import ATTRIBUTES, PhantomSettings, make_phantoms
from evenhand.cohort.phantoms.series import SeriesPhantomSettings, make_series_phantoms
from evenhand.cohort.registry import SERIES, DataSet, refuse_settings, register_reader
from evenhand.cohort.settings import DataSettings
from evenhand.errors import EvenhandError, pick
from evenhand.tables.settings import ClassSettings

ABOUT = DataSet(
    title="phantoms with a planted, known bias",
    task="malignant lesion, or benign",
    modality="images made from a seed",
    licence="none is needed",
    access="no download: give phantom:, or phantom:patients=400,harder=0.5,seed=3",
    attributes=tuple(ATTRIBUTES.values()),
    caution="Misleads as evidence about patients: its biases are planted.",
)
PhantomSettingsT = TypeVar("PhantomSettingsT", bound=BaseModel)


@register_reader("phantom", ABOUT)
def read_phantom(path: str, settings: DataSettings) -> Cohort:
    """Make images with a planted, known bias; settings of PhantomSettings follow the colon."""
    return make_phantoms(phantom_settings(PhantomSettings, path, settings))


def phantom_settings(
    kind: type[PhantomSettingsT], path: str, settings: DataSettings
) -> PhantomSettingsT:
    """Return the settings of phantoms from a text ``NAME=VALUE,…``.

    Raises
    ------
    EvenhandError
        If a name or value is not allowed, or a setting does not apply to phantoms.
    """
    unused = ("label", "patient", "image_column", *SERIES, "bins", "slices")
    refuse_settings(
        settings.data.partition(":")[0], settings, (*unused, *ClassSettings.model_fields)
    )
    values = {}
    for item in filter(None, path.split(",")):
        name, _, value = item.partition("=")
        pick("setting of phantoms", name, kind.model_fields)
        if name in values:
            raise EvenhandError(f"{settings.data} gives {name!r} twice; give it once.")
        values[name] = value
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}={problem['input']}: {problem['msg'].lower()}"
            for problem in error.errors()
        )
        raise EvenhandError(f"{settings.data} cannot be made: {problems}.") from error


SERIES_ABOUT = DataSet(
    title="series phantoms with a planted, known bias",
    task="sick, or well",
    modality="vital signs made from a seed",
    licence="none is needed",
    access="no download: give series_phantom:, or series_phantom:patients=400,harder=0.5,seed=3",
    attributes=tuple(ATTRIBUTES.values()),
    caution="Misleads as evidence about patients: its biases are planted.",
)


@register_reader("series_phantom", SERIES_ABOUT)
def read_series_phantom(path: str, settings: DataSettings) -> Cohort:
    """Make series with a planted bias, by the SeriesPhantomSettings after the colon."""
    return make_series_phantoms(phantom_settings(SeriesPhantomSettings, path, settings))
