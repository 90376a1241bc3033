"""PAPILA's published layout, tiny."""

from __future__ import annotations

from pathlib import Path

import openpyxl
from tests.data.pictures import write_picture

HEADER = (
    (None, "Age", "Gender", "Diagnosis", "Refractive Defect", None, None, "Phakic/Pseudophakic"),
    ("ID", None, None, None, "dioptre_1", "dioptre_2", "astigmatism", None),
)


def make_papila(root: Path, patients: int = 40) -> Path:
    """Write two spreadsheets with headers of two rows, and two eyes per patient."""
    for eye in ("OD", "OS"):
        book = openpyxl.Workbook()
        sheet = book.active
        for row in HEADER:
            sheet.append(row)
        for patient in range(2, 2 + patients):
            age = None if patient == 9 else 30 + 7 * patient % 60
            diagnosis = (0, 1, 0, 2)[patient // 2 % 4]
            sheet.append((f"#{patient:03d}", age, patient % 2, diagnosis, -0.5, 0.25, 90, 0))
            picture = root / "FundusImages" / f"RET{patient:03d}{eye}.jpg"
            write_picture(picture, 2 * patient + (eye == "OS"))
        path = root / "ClinicalData" / f"patient_data_{eye.lower()}.xlsx"
        path.parent.mkdir(exist_ok=True)
        book.save(path)
    return root
