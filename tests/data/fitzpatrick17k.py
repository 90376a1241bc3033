"""Fitzpatrick17k's table and images, tiny."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd
from tests.data.pictures import write_picture

CONDITIONS = (
    ("psoriasis", "inflammatory", "non-neoplastic"),
    ("melanoma", "malignant melanoma", "malignant"),
    ("dermatofibroma", "benign dermal", "benign"),
)


def make_fitzpatrick17k(root: Path, images: int = 84) -> Path:
    """Write the table, with -1 for types that are not known, and images in a folder of folders."""
    rows = []
    for number in range(images):
        name = hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()
        write_picture(root / "data" / "finalfitz17k" / f"{name}.jpg", number)
        label, nine, three = CONDITIONS[number % 3]
        rows.append(
            {
                "md5hash": name,
                "fitzpatrick_scale": (1, 2, 3, 4, 5, 6, -1)[number % 7],
                "fitzpatrick_centaur": (1, 2, 3, 4, 5, 6, -1)[number % 7],
                "label": label,
                "nine_partition_label": nine,
                "three_partition_label": three,
                "qc": "1 Diagnostic" if number == 3 else "",
                "url": f"https://example.org/{number},{label}.jpg",
                "url_alphanum": f"httpsexampleorg{number}.jpg",
            }
        )
    pd.DataFrame(rows).to_csv(root / "fitzpatrick17k.csv", index=False)
    return root
