"""Harvard-GF3300's published layout, tiny."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd


def make_gf3300(root: Path, patients: int = 90) -> Path:
    """Write the summary and an npz file per patient, in the folders of the published splits."""
    use = [
        ("training", "training", "training", "validation", "test")[n % 5] for n in range(patients)
    ]
    names = [f"data_{number:04d}.npz" for number in range(1, patients + 1)]
    for number, (name, part) in enumerate(zip(names, use, strict=True)):
        rng = np.random.default_rng(number)
        path = root / "Dataset" / part.capitalize() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # Thickness in micrometres, -2 where it is missing.
        thickness = rng.uniform(-2, 350, (20, 20)).astype(np.float32)
        np.savez(path, rnflt=thickness, glaucoma=number % 2, race=number % 3)
    (root / "ReadMe").mkdir()
    pd.DataFrame(
        {
            "filename": names,
            "age": [f"{18 + 3.31 * n % 70:.2f}" for n in range(patients)],
            "gender": [("male", "female")[n // 3 % 2] for n in range(patients)],
            "race": [("asian", "white", "black")[n % 3] for n in range(patients)],
            "ethnicity": [("non-hispanic", "hispanic", "unknown")[n % 3] for n in range(patients)],
            "language": [
                ("english", "spanish", "others", "unknown")[n % 4] for n in range(patients)
            ],
            "maritalstatus": "single",
            "glaucoma": [("no", "yes")[n // 2 % 2] for n in range(patients)],
            "use": use,
        }
    ).to_csv(root / "ReadMe" / "data_summary.csv", index=False)
    return root
