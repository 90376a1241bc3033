"""Phantoms: simulated image cohorts with a known, planted bias.

Each picture resembles a dermatoscopic image: skin, a lesion, texture. A malignant lesion is darker
and more ragged than a benign one. Four biases can be planted, each by a setting: the minority's
lesions are harder to classify (``harder``), a coloured sticker is correlated with the label in the
majority only (``shortcut``), the label is correlated with the group (``tilt``), and some of the
minority's labels are wrong (``label_noise``). For test patients, tilt and shortcut may be absent or
reversed. Twins repeat each picture with the sticker changed, or in the look of the other group.
"""

from __future__ import annotations

import hashlib
from copy import deepcopy as copy
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from evenhand.cohort.cohort import Cohort, Image, Source
from evenhand.cohort.images.decoding import ImageArray
from evenhand.settings import SEEDS, Settings
from evenhand.tables.attributes import attribute_by_value

Floats = NDArray[np.float32]

CLASSES = ("benign", "malignant")
ATTRIBUTES = {
    "group": attribute_by_value("group", "group", {"majority": "majority", "minority": "minority"}),
    "sex": attribute_by_value("sex", "sex", {"female": "female", "male": "male"}),
    "sticker": attribute_by_value("sticker", "sticker", {"False": "no sticker", "True": "sticker"}),
}
# Red, green and blue between 0 and 1.
SKIN = {"majority": (0.86, 0.68, 0.60), "minority": (0.64, 0.49, 0.42)}
PIGMENT = np.array([0.8, 1.0, 0.9], np.float32)
STICKER = np.array([0.10, 0.30, 0.80], np.float32)

VALIDATION = 0.25
"""The share of the validation split among patients outside the test split."""
_CHUNK = 256  # pictures painted at a time


class PopulationSettings(Settings):
    """The number of patients, their groups, and the planted bias."""

    patients: int = Field(400, ge=10, description="number of patients")
    minority: float = Field(0.3, gt=0, lt=1, description="share of patients in the minority")
    prevalence: float = Field(0.4, gt=0, lt=1, description="share of patients with the disease")
    harder: float = Field(
        0.5, ge=0, le=1, description="share by which the minority's signs stand out less"
    )
    shortcut: float = Field(
        0.5, ge=0, le=1, description="P(sticker | disease) - P(sticker | no disease), majority only"
    )
    tilt: float = Field(
        0.0, ge=-1, le=1, description="P(disease | minority) - P(disease | majority)"
    )
    label_noise: float = Field(
        0.0, ge=0, le=1, description="share of the minority's labels that are wrong"
    )
    shortcut_test: float | None = Field(
        None, ge=-1, le=1, description="shortcut of the test patients, below 0: reversed"
    )
    tilt_test: float | None = Field(None, ge=-1, le=1, description="tilt of the test patients")
    test_share: float = Field(
        0.3, gt=0, lt=1, description="share of test patients, where these differ from the others"
    )
    twins: Literal["none", "sticker", "group"] = Field(
        "none",
        description="give each sample a twin: with its sticker added or removed, or in the look of "
        "the other group",
    )
    seed: int = Field(0, ge=0, lt=SEEDS, description="seed of the patients and their samples")

    @property
    def own_split(self) -> bool:
        """Whether the cohort has its own split, because test patients differ from the others."""
        return self.tilt_test is not None or self.shortcut_test is not None

    def prevalences(self, tilt: float) -> tuple[float, float]:
        """Return the prevalence in the minority and in the majority; that of all is unchanged."""
        return (
            self.prevalence + (1 - self.minority) * tilt,
            self.prevalence - self.minority * tilt,
        )

    @model_validator(mode="after")
    def _check_tilts(self) -> Self:
        for name, tilt in (("tilt", self.tilt), ("tilt_test", self.tilt_test)):
            shares = self.prevalences(tilt or 0.0)
            if not 0 < min(shares) <= max(shares) < 1:
                raise ValueError(
                    f"{name}={tilt} would give the minority a prevalence of {shares[0]:.2f} and "
                    f"the majority one of {shares[1]:.2f}; both must lie between 0 and 1"
                )
        return self


class PhantomSettings(PopulationSettings):
    """The number and size of pictures of phantoms, and their planted bias."""

    images: int = Field(1, ge=1, description="images of each patient")
    size: int = Field(64, ge=16, description="side of the images in pixels")


@dataclass(frozen=True, eq=False)
class _Lesions:
    """The properties of n pictures to paint."""

    skin: Floats  # (n, 3)
    contrast: Floats  # (n,) how much darker than skin
    ragged: Floats  # (n,) deviation of the border from a circle, as a share of the radius
    radius: Floats  # (n,) as a share of half the side
    phase: Floats  # (n, 3) of the border's three waves
    sticker: NDArray[np.bool_]  # (n,)


def make_phantoms(settings: PhantomSettings) -> Cohort:
    """Return the cohort of phantoms that the settings describe; equal settings give equal cohorts.

    The table also has ``truth_label`` (the label before noise), ``truth_sticker`` (whether the
    sticker is in the picture) and ``truth_contrast``. With twins, ``pair`` is the same for the two
    pictures of a pair, and ``twin`` is true for the second one.

    Examples
    --------
    >>> cohort = make_phantoms(PhantomSettings(patients=10, minority=0.3))
    >>> cohort.table["attr_group"].value_counts().to_dict()
    {'majority': 7, 'minority': 3, 'unknown': 0}
    """
    patients_rng, lesions_rng, paint_rng = np.random.default_rng(settings.seed).spawn(3)
    patients = draw_population(settings, patients_rng)
    lesions = _draw_lesions(patients, settings, lesions_rng)
    parts = [lesions]
    if settings.twins != "none":
        parts.append(_twin_lesions(lesions, patients, settings))
    images = np.concatenate([_paint(part, settings.size, copy(paint_rng)) for part in parts])
    tables = [_table(patients, part, settings.images) for part in parts]
    table = tables[0] if len(tables) == 1 else join_twins(tables[0], tables[1])
    digest = hashlib.sha256(images.data)
    digest.update(table.to_csv(index=False).encode())
    return Cohort(
        table=table,
        read=ImageArray(images, {name: row for row, name in enumerate(table["sample_id"])}),
        attributes=ATTRIBUTES,
        classes=CLASSES,
        source=Source(
            reader="phantom",
            path=describe_settings("phantom", settings),
            unit="patient",
            fingerprint=digest.hexdigest(),
            label="malignant: a darker and more ragged lesion",
        ),
    )


def describe_settings(reader: str, settings: PopulationSettings) -> str:
    """Return the settings as DATA, without those that have their default.

    Examples
    --------
    >>> describe_settings("phantom", PhantomSettings(patients=60, harder=0.5))
    'phantom:patients=60'
    """
    kind = type(settings).model_fields
    changed = [f"{name}={value}" for name, value in settings if value != kind[name].default]
    return f"{reader}:{','.join(changed)}"


def draw_population(settings: PopulationSettings, rng: np.random.Generator) -> pd.DataFrame:
    """Return a row for each patient; shares of groups and classes are exact up to rounding."""
    n = settings.patients
    minority = _draw_share(np.ones(n, bool), settings.minority, rng)
    tested = np.zeros(n, bool)
    if settings.own_split:
        tested = _draw_share(np.ones(n, bool), settings.test_share, rng.spawn(1)[0])
    truth = np.zeros(n, bool)
    for part, tilt in ((~tested, settings.tilt), (tested, settings.tilt_test)):
        rare, usual = settings.prevalences(settings.tilt if tilt is None else tilt)
        truth |= _draw_share(minority & part, rare, rng)
        truth |= _draw_share(~minority & part, usual, rng)
    wrong = _draw_share(minority & ~tested, settings.label_noise, rng)
    patients = pd.DataFrame(
        {
            "patient_id": [f"P{number:05d}" for number in range(1, n + 1)],
            "group": np.where(minority, "minority", "majority"),
            "sex": np.where(rng.random(n) < 0.5, "female", "male"),
            "truth_label": truth.astype(np.int64),
            "label": (truth ^ wrong).astype(np.int64),
        }
    )
    if settings.own_split:
        held_out = _draw_share(~tested, VALIDATION, rng.spawn(1)[0])
        patients["split"] = np.where(tested, "test", np.where(held_out, "val", "train"))
    return patients


def sticker_chance(patients: pd.DataFrame, settings: PopulationSettings) -> NDArray[np.float64]:
    """Return ``(n,)`` the probability of a sticker, which depends on the label in the majority."""
    disease = patients["truth_label"].to_numpy()
    majority = patients["group"].to_numpy() == "majority"
    strength = np.full(len(patients), settings.shortcut)
    if "split" in patients and settings.shortcut_test is not None:
        strength[(patients["split"] == "test").to_numpy()] = settings.shortcut_test
    chance: NDArray[np.float64] = 0.5 + majority * (disease - 0.5) * strength
    return chance


def join_twins(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Return samples and their twins in one table with the columns ``pair`` and ``twin``."""
    pair = first["sample_id"]
    tables = [
        first.assign(pair=pair, twin=False),
        second.assign(sample_id=pair + "-twin", pair=pair, twin=True),
    ]
    return pd.concat(tables, ignore_index=True)


def _draw_share(
    among: NDArray[np.bool_], share: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Return a random share of the entries in ``among``, as a mask ``(n,)``."""
    drawn = np.zeros(len(among), bool)
    positions = np.flatnonzero(among)
    drawn[rng.permutation(positions)[: round(share * len(positions))]] = True
    return drawn


def _draw_lesions(
    patients: pd.DataFrame, settings: PhantomSettings, rng: np.random.Generator
) -> _Lesions:
    """Draw each patient's skin and lesion, and for each picture the light and the sticker."""
    n, pictures = len(patients), len(patients) * settings.images
    malignant = patients["truth_label"].to_numpy()
    majority = patients["group"].to_numpy() == "majority"
    clear = np.where(majority, 1.0, 1 - settings.harder)
    skin = np.array([SKIN[group] for group in patients["group"]]) + rng.normal(0, 0.02, (n, 3))
    contrast = clear * (0.16 + 0.11 * malignant) + rng.normal(0, 0.05, n)
    ragged = 0.05 + clear * 0.08 * malignant + rng.normal(0, 0.04, n)
    radius, phase = rng.uniform(0.35, 0.55, n), rng.uniform(0, 2 * np.pi, (n, 3))

    def per_picture(values: NDArray[np.float64]) -> Floats:
        return np.repeat(values, settings.images, axis=0).astype(np.float32)

    chance = sticker_chance(patients, settings)
    return _Lesions(
        skin=per_picture(skin),
        contrast=per_picture(contrast.clip(0.01)) * rng.uniform(0.9, 1.1, pictures).astype("f4"),
        ragged=per_picture(ragged.clip(0)),
        radius=per_picture(radius),
        phase=per_picture(phase),
        sticker=rng.random(pictures) < per_picture(chance),
    )


def _twin_lesions(lesions: _Lesions, patients: pd.DataFrame, settings: PhantomSettings) -> _Lesions:
    """Return the same lesions with the stickers changed, or in the other group's skin."""
    if settings.twins == "sticker":
        return replace(lesions, sticker=~lesions.sticker)
    skin = np.array([SKIN[group] for group in patients["group"]])
    other = np.array(SKIN["majority"]) + np.array(SKIN["minority"]) - skin
    change = np.repeat(other - skin, settings.images, axis=0).astype(np.float32)
    return replace(lesions, skin=lesions.skin + change)


def _table(patients: pd.DataFrame, lesions: _Lesions, images: int) -> pd.DataFrame:
    rows = patients.loc[patients.index.repeat(images)].reset_index(drop=True)
    rows["sticker"] = lesions.sticker.astype(str)
    number = pd.Series(np.tile(np.arange(1, images + 1), len(patients)).astype(str))
    return pd.DataFrame(
        {
            "sample_id": rows["patient_id"] + "-" + number,
            "patient_id": rows["patient_id"].astype("category"),
            "label": rows["label"],
            **{f"attr_{name}": rule.levels_of(rows[name]) for name, rule in ATTRIBUTES.items()},
            "truth_label": rows["truth_label"],
            "truth_sticker": lesions.sticker,
            "truth_contrast": lesions.contrast,
            **({"split": rows["split"]} if "split" in rows else {}),
        }
    )


def _paint(lesions: _Lesions, size: int, rng: np.random.Generator) -> Image:
    """Paint all pictures, ``(n, size, size, 3)``."""
    images = np.empty((len(lesions.skin), size, size, 3), np.uint8)
    for start in range(0, len(images), _CHUNK):
        rows = slice(start, start + _CHUNK)
        images[rows] = _paint_chunk(lesions, rows, size, rng)
    return images


def _paint_chunk(lesions: _Lesions, rows: slice, size: int, rng: np.random.Generator) -> Image:
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    y, x = axis[:, None], axis[None, :]  # (size, 1), (1, size)
    skin = lesions.skin[rows]
    n = len(skin)
    centre = rng.uniform(-0.2, 0.2, (2, n, 1, 1)).astype(np.float32)
    inside = _inside(x - centre[0], y - centre[1], lesions, rows)  # (n, size, size)
    grain = rng.standard_normal((n, size, size), np.float32) * 0.02 + _clouds(n, size, rng)
    light = 1 - 0.15 * (x**2 + y**2)
    pigment = (lesions.contrast[rows, None, None] * inside)[..., None] * PIGMENT
    colour = (skin[:, None, None] - pigment + grain[..., None]) * light[..., None]
    corner = np.hypot(x + 0.8, y + 0.8) < 0.15
    colour[lesions.sticker[rows, None, None] & corner] = STICKER
    painted: Image = (colour.clip(0, 1) * 255).astype(np.uint8)
    return painted


def _inside(dx: Floats, dy: Floats, lesions: _Lesions, rows: slice) -> Floats:
    """Return the share of each pixel that the lesion covers, from 0 to 1; its edge is soft."""
    angle = np.arctan2(dy, dx)  # (n, size, size)
    waves = sum(
        np.cos(k * angle + phase[:, None, None])
        for k, phase in zip((3, 5, 8), lesions.phase[rows].T, strict=True)
    )
    border = lesions.radius[rows, None, None] * (1 + lesions.ragged[rows, None, None] * waves)
    covered: Floats = 1 / (1 + np.exp((np.hypot(dx, dy) - border) / 0.04))
    return covered


def _clouds(n: int, size: int, rng: np.random.Generator) -> Floats:
    """Return smooth mottling ``(n, size, size)``: coarse noise, interpolated linearly."""
    coarse = rng.standard_normal((n, 8, 8), np.float32) * 0.03
    position = np.linspace(0, 7, size, dtype=np.float32)
    weight = (1 - np.abs(position[:, None] - np.arange(8, dtype=np.float32))).clip(0)  # (size, 8)
    smooth: Floats = weight @ coarse @ weight.T
    return smooth
