"""The full CheXpert as it unpacks, in four batches, tiny."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.data.chexpert import make_chexpert

from evenhand.cohort.settings import DataSettings

NAME = "CheXpert-v1.0 batch"


def settings(root: Path) -> DataSettings:
    """Pack ``make_chexpert`` in batches: the tables and ``valid``, then a third of the patients."""
    make_chexpert(root)
    tables = root / f"{NAME} 1 (validate & csv)"
    tables.mkdir()
    for patient in sorted((root / "train").iterdir()):
        batch = 1 + int(patient.name[-5:]) // 15
        folder = root / f"{NAME} {batch + 1} (train {batch})"
        folder.mkdir(exist_ok=True)
        patient.rename(folder / patient.name)
    (root / "train").rmdir()
    table = (root / "train.csv").read_text().replace("CheXpert-v1.0-small/", "CheXpert-v1.0/")
    (root / "train.csv").unlink()
    (tables / "train.csv").write_text(table)
    valid = Path("valid", "patient64541", "study1", "view1_frontal.jpg")
    (tables / valid).parent.mkdir(parents=True)
    shutil.copy(next(root.glob("*/*/*/*.jpg")), tables / valid)
    rows = table.splitlines()
    valid_row = f"CheXpert-v1.0/{valid.as_posix()}{rows[1][rows[1].index(',') :]}"
    (tables / "valid.csv").write_text(f"{rows[0]}\n{valid_row}\n")
    return DataSettings(data=f"chexpert:{root}")
