"""COVID-CT-MD's published layout, tiny."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from tests.data.dicom import write_dicom

CASES = (("COVID-19", "COVID-19", "P"), ("CAP", "Cap", "cap"), ("Normal", "Normal", "normal"))


def make_covid_ct_md(root: Path, patients: int = 54) -> Path:
    """Write the clinical table and a folder of slices per patient.

    The numbers of slices lack zeros, and are not the order in which slices lie.
    """
    rows = []
    for number in range(patients):
        diagnosis, folder, prefix = CASES[number % 3]
        name = f"{prefix}{number:03d}"
        for k in range(8, 13):
            path = root / f"{folder} Cases" / name / f"IM{k}.dcm"
            write_dicom(path, 10 * number + k, SliceLocation=-105.5 + 2 * (3 * k % 5))
        rows.append(
            {
                "": number,
                "Diagnosis": diagnosis,
                "Folder": name,
                "Patient Gender": "M" if number % 2 else "F",
                "Patient Age": f"{25 + 7 * number % 60:03d}Y" if number != 4 else "",
                "Weight": 80.0,
                "Clinical characteristics": "Dyspnea, Cough, Fever",
                "Surgery": "",
                "Follow-up": "",
                "PCR": "",
            }
        )
    pd.DataFrame(rows).to_csv(root / "Clinical-data.csv", index=False)
    return root
