"""OL3I's layout, tiny."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from tests.data.dicom import write_dicom


def make_ol3i(root: Path, patients: int = 60) -> Path:
    """Write the clinical table, with blank five-year labels, and a DICOM file per patient."""
    names = [f"anon{patient:04d}" for patient in range(patients)]
    for number, name in enumerate(names):
        write_dicom(root / "l3_slices" / f"{name}.dcm", number)
    pd.DataFrame(
        {
            "anon_id": names,
            "age": [f"{30 + 7 * n % 60}.5" if n != 5 else "" for n in range(patients)],
            "sex": [("Female", "Male", "F", "M", "Unknown")[n % 5] for n in range(patients)],
            "label_1y": [int(n % 4 == 0) for n in range(patients)],
            "label_5y": [("1.0", "0.0", "")[n % 3] for n in range(patients)],
        }
    ).to_csv(root / "clinical_data.csv", index=False)
    return root
