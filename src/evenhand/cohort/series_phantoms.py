"""Series phantoms: cohorts of vital signs made from a seed, with a bias that is planted and known.

The pulse of a sick patient climbs, and the pressure falls in spells; temperature means nothing,
and the laboratory value is higher in the sick but seldom measured. Two biases can be planted:
signs of the minority that stand out less, and labels of the minority that are wrong.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from evenhand.cohort.cohort import Cohort, Source, Values
from evenhand.cohort.phantoms import ATTRIBUTES, draw_patients_of
from evenhand.cohort.series import Recordings, Series
from evenhand.settings import SEEDS, Settings

CHANNELS = ("pulse", "pressure", "temperature", "lab")
CLASSES = ("well", "sick")
USUAL = np.array([80.0, 120.0, 37.0, 1.0], np.float32)
SPREAD = np.array([10.0, 15.0, 0.5, 0.3], np.float32)
SEEN = np.array([0.8, 0.7, 0.5, 0.1])  # share of steps at which each channel is observed


class SeriesPhantomSettings(Settings):
    """How many series phantoms, and which bias is planted in them."""

    patients: int = Field(400, ge=10, description="number of patients")
    windows: int = Field(1, ge=1, description="samples of each patient, which overlap by half")
    steps: int = Field(48, ge=8, description="length of each sample")
    minority: float = Field(0.3, gt=0, lt=1, description="share of patients in the minority")
    prevalence: float = Field(0.4, gt=0, lt=1, description="share of patients who are sick")
    harder: float = Field(
        0.5, ge=0, le=1, description="share by which the minority's signs stand out less"
    )
    label_noise: float = Field(
        0.0, ge=0, le=1, description="share of the minority's labels that are wrong"
    )
    seed: int = Field(0, ge=0, lt=SEEDS, description="seed of the patients and their series")


def make_series_phantoms(settings: SeriesPhantomSettings) -> Cohort:
    """Return the cohort that the settings describe, the same for the same settings.

    Besides the label, the table holds ``truth_label``, the label before noise.

    Examples
    --------
    >>> cohort = make_series_phantoms(SeriesPhantomSettings(patients=10, steps=8))
    >>> cohort.read("P00001-1").shape
    (8, 4)
    """
    patients_rng, series_rng = np.random.default_rng(settings.seed).spawn(2)
    patients = draw_patients_of(settings, patients_rng)
    stride = settings.steps // 2
    length = settings.steps + stride * (settings.windows - 1)
    values = _record(patients, settings, length, series_rng)
    number = np.tile(np.arange(settings.windows), len(patients))
    table = patients.loc[patients.index.repeat(settings.windows)].reset_index(drop=True)
    table.insert(0, "sample_id", table["patient_id"] + "-" + pd.Series(number + 1).astype(str))
    windows = pd.DataFrame({"recording": table["patient_id"], "offset": number * stride})
    table = table.rename(columns={name: f"attr_{name}" for name in ATTRIBUTES})
    for name, attribute in ATTRIBUTES.items():
        table[f"attr_{name}"] = attribute.of(table[f"attr_{name}"])
    table["patient_id"] = table["patient_id"].astype("category")
    place = {name: row for row, name in enumerate(patients["patient_id"])}
    recordings = Recordings(tuple(place), lambda name: values[place[name]])
    digest = hashlib.sha256(values.data)
    digest.update(table.to_csv(index=False).encode())
    return Cohort(
        table=table,
        read=Series(recordings, windows.set_axis(table["sample_id"]), settings.steps),
        attributes=ATTRIBUTES,
        classes=CLASSES,
        source=Source(
            reader="series_phantom",
            path="series_phantom:" + ",".join(f"{name}={value}" for name, value in settings),
            unit="patient",
            fingerprint=digest.hexdigest(),
            label="sick: the pulse climbs, and the pressure falls in spells",
        ),
        channels=CHANNELS,
    )


def _record(
    patients: pd.DataFrame, settings: SeriesPhantomSettings, length: int, rng: np.random.Generator
) -> Values:
    """Return the recording of each patient, ``(n, length, 4)``, NaN where nothing was observed."""
    sick = patients["truth_label"].to_numpy(np.float32)
    clear = np.where(patients["group"] == "majority", 1.0, 1 - settings.harder).astype("f4") * sick
    n, time = len(patients), np.linspace(0, 1, length, dtype="f4")
    signs = np.zeros((n, length, len(CHANNELS)), "f4")
    signs[:, :, 0] = (1.5 * clear)[:, None] * time
    signs[:, :, 1] = -2.0 * clear[:, None] * _spells(n, length, rng)
    signs[:, :, 3] = clear[:, None]
    level = rng.standard_normal((n, 1, len(CHANNELS))).astype("f4")
    noise = rng.standard_normal(signs.shape).astype("f4")
    values = (USUAL + SPREAD * (signs + 0.7 * level + 0.7 * noise)).astype("f4")
    values[rng.random(values.shape) >= SEEN] = np.nan
    return values


def _spells(n: int, length: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return where each of n recordings is in one of its two spells, ``(n, length)``."""
    start = rng.integers(0, length, (n, 2, 1))
    step = np.arange(length)
    inside: NDArray[np.bool_] = (step >= start) & (step < start + length // 8)
    return np.logical_or(inside[:, 0], inside[:, 1])
