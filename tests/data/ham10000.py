"""HAM10000's published layout, tiny."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from tests.data.pictures import write_picture

DIAGNOSES = ("nv", "mel", "bkl", "bcc", "nv", "akiec", "df", "vasc")
AGES = ("45.0", "60.0", "", "0.0", "85.0", "55.0")
SEXES = ("male", "female", "female", "male", "unknown")
PLACES = ("back", "face", "unknown", "lower extremity")


def make_ham10000(root: Path, lesions: int = 40) -> Path:
    """Write metadata (with a byte order mark) and two folders of images; odd lesions have two."""
    rows = []
    for lesion in range(lesions):
        for _ in range(1 + lesion % 2):
            number = len(rows)
            image = f"ISIC_{24306 + number:07d}"
            part = 1 + number % 2
            write_picture(root / f"HAM10000_images_part_{part}" / f"{image}.jpg", number)
            rows.append(
                {
                    "lesion_id": f"HAM_{lesion:07d}",
                    "image_id": image,
                    "dx": DIAGNOSES[lesion % len(DIAGNOSES)],
                    "dx_type": "histo",
                    "age": AGES[lesion % len(AGES)],
                    "sex": SEXES[lesion % len(SEXES)],
                    "localization": PLACES[lesion % len(PLACES)],
                }
            )
    write_metadata(root, pd.DataFrame(rows))
    return root


def read_metadata(root: Path) -> pd.DataFrame:
    """Read the metadata as text."""
    path = root / "HAM10000_metadata.csv"
    return pd.read_csv(path, dtype="str", keep_default_na=False, encoding="utf-8-sig")


def write_metadata(root: Path, table: pd.DataFrame) -> None:
    """Write the metadata, with a byte order mark."""
    table.to_csv(root / "HAM10000_metadata.csv", index=False, encoding="utf-8-sig")
