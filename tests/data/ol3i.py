"""OL3I's published layout, tiny."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from tests.data.dicom import ct_slice

PARTS = ("train", "train", "train", "val", "test")


def make_ol3i(root: Path, patients: int = 60) -> Path:
    """Write the clinical table, with blank five-year labels and splits, and the slices."""
    root.mkdir(parents=True, exist_ok=True)
    names = [f"{7919 * patient:08x}" for patient in range(patients)]
    with h5py.File(root / "l3_slices.h5", "w") as file:
        for number, name in enumerate(names):
            file[name] = ct_slice(number).round().astype(np.int16)
    expected = [n % 3 != 2 for n in range(patients)]  # what has become of them after five years
    pd.DataFrame(
        {
            "anon_id": names,
            "age": [f"{30 + 7 * n % 60}.5" if n != 5 else "" for n in range(patients)],
            "sex": [("female", "male", "Female", "Male", "")[n % 5] for n in range(patients)],
            "bmi": 27.5,
            "label_1y": [int(n % 4 == 0) for n in range(patients)],
            "set_1y": [PARTS[n // 4 % 5] for n in range(patients)],
            "label_5y": [f"{float(n % 3 == 0)}" if expected[n] else "" for n in range(patients)],
            "set_5y": [PARTS[(n // 3 + 1) % 5] if expected[n] else "" for n in range(patients)],
        }
    ).to_csv(root / "clinical_data.csv", index=False)
    return root
