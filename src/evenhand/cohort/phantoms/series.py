"""Series phantoms: simulated cohorts of vital signs with a known, planted bias.

The pulse of a sick patient rises, and the pressure falls in episodes. Temperature is independent of
the disease; the laboratory value is higher in the sick, but seldom measured. The biases are those
of image phantoms; in place of the sticker there is a mark: a warmer sensor in every sixth step.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from evenhand.cohort.cohort import Cohort, Source, Values
from evenhand.cohort.phantoms.images import (
    ATTRIBUTES,
    PopulationSettings,
    describe_settings,
    draw_population,
    join_twins,
    sticker_chance,
)
from evenhand.cohort.series.recordings import Recordings, Series

CHANNELS = ("pulse", "pressure", "temperature", "lab")
CLASSES = ("well", "sick")
USUAL = np.array([80.0, 120.0, 37.0, 1.0], np.float32)
SPREAD = np.array([10.0, 15.0, 0.5, 0.3], np.float32)
SEEN = np.array([0.8, 0.7, 0.5, 0.1])  # share of steps at which each channel is observed
TEMPERATURE = CHANNELS.index("temperature")
MARKED = 6  # a mark is in every sixth step
MARK, LOOK = 3.0, 2.0  # added by a mark and by the minority's look, in standard deviations


class SeriesPhantomSettings(PopulationSettings):
    """The number and form of series phantoms, and their planted bias."""

    windows: int = Field(1, ge=1, description="samples of each patient, which overlap by half")
    steps: int = Field(48, ge=8, description="length of each sample")
    shortcut: float = Field(
        0.0, ge=0, le=1, description="P(mark | disease) - P(mark | no disease), majority only"
    )


def make_series_phantoms(settings: SeriesPhantomSettings) -> Cohort:
    """Return the cohort that the settings describe; equal settings give equal cohorts.

    The table also has ``truth_label`` (the label before noise) and ``truth_sticker`` (whether the
    mark is in the recording).

    Examples
    --------
    >>> cohort = make_series_phantoms(SeriesPhantomSettings(patients=10, steps=8))
    >>> cohort.read("P00001-1").shape
    (8, 4)
    """
    patients_rng, series_rng, mark_rng = np.random.default_rng(settings.seed).spawn(3)
    patients = draw_population(settings, patients_rng)
    marked = mark_rng.random(len(patients)) < sticker_chance(patients, settings)
    minority = patients["group"].to_numpy() == "minority"
    table = _table(patients, marked, settings)
    values = _record(patients, settings, series_rng)
    recordings = [_with_looks(values, marked, minority, settings)]
    if settings.twins != "none":
        other = (~marked, minority) if settings.twins == "sticker" else (marked, ~minority)
        recordings.append(_with_looks(values, *other, settings))
        twins = _table(patients, other[0], settings)
        table = join_twins(table, twins)
    return _cohort(table, recordings, patients, settings)


def _table(
    patients: pd.DataFrame, marked: NDArray[np.bool_], settings: SeriesPhantomSettings
) -> pd.DataFrame:
    """Return one row for each window."""
    rows = patients.assign(sticker=marked.astype(str), truth_sticker=marked)
    number = np.tile(np.arange(settings.windows), len(patients))
    table = rows.loc[rows.index.repeat(settings.windows)].reset_index(drop=True)
    table.insert(0, "sample_id", table["patient_id"] + "-" + pd.Series(number + 1).astype(str))
    table = table.rename(columns={name: f"attr_{name}" for name in ATTRIBUTES})
    for name, attribute in ATTRIBUTES.items():
        table[f"attr_{name}"] = attribute.levels_of(table[f"attr_{name}"])
    return table


def _cohort(
    table: pd.DataFrame,
    parts: list[Values],
    patients: pd.DataFrame,
    settings: SeriesPhantomSettings,
) -> Cohort:
    """Return the cohort of the windows of recordings; the second of ``parts`` holds the twins."""
    values = np.concatenate(parts)
    suffixes = ["", "-twin"][: len(parts)]
    names = [f"{name}{suffix}" for suffix in suffixes for name in patients["patient_id"]]
    is_twin = table["twin"] if "twin" in table else pd.Series(False, table.index)
    recording = table["patient_id"] + is_twin.map({False: "", True: "-twin"})
    number = np.tile(np.arange(settings.windows), len(names))
    stride = settings.steps // 2
    windows = pd.DataFrame({"recording": recording, "offset": number * stride})
    table["patient_id"] = table["patient_id"].astype("category")
    row_of = {name: row for row, name in enumerate(names)}
    recordings = Recordings(tuple(row_of), lambda name: values[row_of[name]])
    digest = hashlib.sha256(values.data)
    digest.update(table.to_csv(index=False).encode())
    return Cohort(
        table=table,
        read=Series(recordings, windows.set_axis(table["sample_id"]), settings.steps),
        attributes=ATTRIBUTES,
        classes=CLASSES,
        source=Source(
            reader="series_phantom",
            path=describe_settings("series_phantom", settings),
            unit="patient",
            fingerprint=digest.hexdigest(),
            label="sick: the pulse climbs, and the pressure falls in spells",
        ),
        channels=CHANNELS,
    )


def _record(
    patients: pd.DataFrame, settings: SeriesPhantomSettings, rng: np.random.Generator
) -> Values:
    """Return the recording of each patient, ``(n, length, 4)``, NaN for unobserved values."""
    length = settings.steps + settings.steps // 2 * (settings.windows - 1)
    sick = patients["truth_label"].to_numpy(np.float32)
    clear = np.where(patients["group"] == "majority", 1.0, 1 - settings.harder).astype("f4") * sick
    n, time = len(patients), np.linspace(0, 1, length, dtype="f4")
    signs = np.zeros((n, length, len(CHANNELS)), "f4")
    signs[:, :, 0] = (1.5 * clear)[:, None] * time
    signs[:, :, 1] = -2.0 * clear[:, None] * _episodes(n, length, rng)
    signs[:, :, 3] = clear[:, None]
    level = rng.standard_normal((n, 1, len(CHANNELS))).astype("f4")
    noise = rng.standard_normal(signs.shape).astype("f4")
    values = (USUAL + SPREAD * (signs + 0.7 * level + 0.7 * noise)).astype("f4")
    values[rng.random(values.shape) >= SEEN] = np.nan
    return values


def _with_looks(
    values: Values,
    marked: NDArray[np.bool_],
    minority: NDArray[np.bool_],
    settings: SeriesPhantomSettings,
) -> Values:
    """Return recordings with the signs of the mark and of the group, if a bias or twins use them.

    Both signs are in the temperature, which is otherwise independent of everything.
    """
    changed = values.copy()
    if settings.shortcut or settings.shortcut_test or settings.twins == "sticker":
        changed[marked, ::MARKED, TEMPERATURE] += MARK * SPREAD[TEMPERATURE]
    if settings.tilt or settings.tilt_test or settings.twins == "group":
        changed[minority, :, TEMPERATURE] += LOOK * SPREAD[TEMPERATURE]
    return changed


def _episodes(n: int, length: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return ``(n, length)`` whether a step lies in one of the two episodes of its recording."""
    start = rng.integers(0, length, (n, 2, 1))
    step = np.arange(length)
    inside: NDArray[np.bool_] = (step >= start) & (step < start + length // 8)
    return np.logical_or(inside[:, 0], inside[:, 1])
