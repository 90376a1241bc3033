"""ISIC 2019's published layout, tiny."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from tests.data.pictures import write_picture

DIAGNOSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")
AGES = ("45.0", "60.0", "", "0.0", "85.0")
SEXES = ("male", "female", "female", "male", "")


def make_isic2019(root: Path, images: int = 80) -> Path:
    """Write truth, metadata in another order, and images; every fifth has no lesion."""
    names = [
        f"ISIC_{number:07d}{'_downsampled' if number % 7 == 0 else ''}" for number in range(images)
    ]
    for number, name in enumerate(names):
        write_picture(root / "ISIC_2019_Training_Input" / f"{name}.jpg", number)
    truth = {
        name: [float(place == number % 8) for number in range(images)]
        for place, name in enumerate(DIAGNOSES)
    }
    pd.DataFrame({"image": names, **truth}).to_csv(
        root / "ISIC_2019_Training_GroundTruth.csv", index=False
    )
    metadata = {
        "image": names,
        "age_approx": [AGES[number % 5] for number in range(images)],
        "anatom_site_general": [("anterior torso", "head/neck", "")[n % 3] for n in range(images)],
        "lesion_id": [f"BCN_{n // 2:07d}" if n % 5 else "" for n in range(images)],
        "sex": [SEXES[number // 2 % 5] for number in range(images)],
    }
    pd.DataFrame(metadata)[::-1].to_csv(root / "ISIC_2019_Training_Metadata.csv", index=False)
    return root
