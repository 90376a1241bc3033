"""MIMIC-CXR-JPG's published layout, tiny, with tables of MIMIC-IV."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from tests.data.pictures import write_picture

from evenhand.cohort.registry import CHEST_FINDINGS

RACES = ("WHITE", "BLACK/AFRICAN AMERICAN", "ASIAN - CHINESE", "HISPANIC/LATINO - CUBAN", "UNKNOWN")


def make_mimic_cxr(root: Path, patients: int = 40) -> Path:
    """Write metadata, labels (gzipped), patients, admissions, and two images per patient."""
    images, studies = [], []
    for patient in range(patients):
        subject, study = f"{10000032 + patient}", f"{50414267 + patient}"
        findings = {
            name: ("", "1.0", "0.0", "-1.0")[(patient + place) % 4]
            for place, name in enumerate(CHEST_FINDINGS)
        }
        if patient != 7:  # a study without a report
            healthy = {"No Finding": "1.0" if patient % 3 == 0 else ""}
            studies.append({"subject_id": subject, "study_id": study, **findings, **healthy})
        for view in ("PA", "LATERAL"):
            dicom = f"02aa804e-{patient:04d}-{view.lower()}"
            write_picture(
                root / "files" / f"p{subject[:2]}" / f"p{subject}" / f"s{study}" / f"{dicom}.jpg",
                len(images),
            )
            images.append(
                {
                    "dicom_id": dicom,
                    "subject_id": subject,
                    "study_id": study,
                    "ViewPosition": view,
                    "Rows": 3056,
                    "StudyDate": 21800506,
                    "StudyTime": 213014.531,
                }
            )
    pd.DataFrame(images).to_csv(root / "mimic-cxr-2.0.0-metadata.csv.gz", index=False)
    pd.DataFrame(studies).to_csv(root / "mimic-cxr-2.0.0-chexpert.csv.gz", index=False)
    expected = [f"{10000032 + patient}" for patient in range(patients - 1)]
    pd.DataFrame(
        {
            "subject_id": expected,
            "gender": ["F" if patient % 2 else "M" for patient in range(len(expected))],
            "anchor_age": [25 + 3 * patient % 70 for patient in range(len(expected))],
        }
    ).to_csv(root / "patients.csv.gz", index=False)
    admissions = {
        "subject_id": expected * 2,
        "admittime": ["2180-05-06 22:23:00"] * len(expected)
        + ["2170-01-01 00:00:00"] * len(expected),
        "race": ["OTHER"] * len(expected) + [RACES[n % 5] for n in range(len(expected))],
        "insurance": [("Medicare", "Private")[n % 2] for n in range(2 * len(expected))],
        "language": [("English", "Spanish", "?")[n % 3] for n in range(2 * len(expected))],
    }
    pd.DataFrame(admissions).to_csv(root / "admissions.csv.gz", index=False)
    return root
