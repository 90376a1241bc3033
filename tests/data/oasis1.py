"""OASIS-1's published layout, tiny."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd

SHAPE = (18, 21, 16, 1)


def make_oasis1(root: Path, subjects: int = 60) -> Path:
    """Write the table and an Analyze volume per session, over two discs; two have two sessions."""
    sessions = [f"OAS1_{subject:04d}_MR1" for subject in range(1, subjects + 1)]
    sessions += ["OAS1_0002_MR2", "OAS1_0004_MR2"]
    rows = []
    for number, session in enumerate(sessions):
        folder = root / f"disc{1 + number % 2}" / session / "PROCESSED" / "MPRAGE" / "T88_111"
        write_volume(folder / f"{session}_mpr_n4_anon_111_t88_masked_gfc.img", number)
        write_volume(folder / f"{session}_mpr_n4_anon_111_t88_gfc.img", number)
        young = number % 4 == 3
        rows.append(
            {
                "ID": session,
                "M/F": "F" if number % 2 else "M",
                "Hand": "R",
                "Age": 20 + number % 10 if young else 50 + number % 45,
                "Educ": "" if young else 2,
                "CDR": "" if young else ("0", "0.5", "1", "2")[number // 4 % 4],
                "eTIV": 1344,
                "Delay": "40" if session.endswith("MR2") else "",
            }
        )
    pd.DataFrame(rows).to_csv(root / "oasis_cross-sectional.csv", index=False)
    return root


def write_volume(path: Path, number: int) -> None:
    """Write a big-endian Analyze volume of 16-bit integers, brighter towards the top."""
    rng = np.random.default_rng(number)
    values = rng.integers(0, 100, SHAPE) + 50 * np.arange(SHAPE[2])[None, None, :, None]
    header = nibabel.AnalyzeHeader(endianness=">")
    header.set_data_dtype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.AnalyzeImage(values.astype(np.int16), np.eye(4), header).to_filename(path)
