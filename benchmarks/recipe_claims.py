"""How often one recipe against itself, with other seeds, is claimed to differ.

``fits`` trains the supervised cell of an assessment of PhysioNet 2012 with 40 seeds, one after the
other, and keeps their predictions; what is there is not trained again. ``draws`` takes 200 random
3 v 3 draws of them, and counts those whose assessment claims any difference.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

from evenhand.assess.grid import Cell, fit_cell
from evenhand.assess.settings import SUPERVISED, AssessSettings
from evenhand.finetune.prepared import prepared
from evenhand.runs import Run

FITS, DRAWS, SEEDS = 40, 200, 3


def settings_for(data: Path, **more: object) -> AssessSettings:
    """Return an assessment of PhysioNet 2012 by sex and age with the default recipe."""
    values = {"data": f"physionet2012:{data / 'physionet2012'}", "attribute": ("sex", "age")}
    return AssessSettings.model_validate(values | {"device": "cpu"} | more)


def fit(data: Path, folder: Path, epochs: int, cache: Path) -> None:
    """Train what is missing of the 40 fits."""
    torch.set_num_threads(1)
    settings = settings_for(data, epochs=epochs, cache=cache)
    task, run = prepared(settings), Run(folder)
    for seed in range(FITS):
        start = time.process_time()
        fit_cell(task, settings, run, Cell(SUPERVISED, 1.0, seed))
        print(json.dumps({"seed": seed, "cpu_seconds": time.process_time() - start}), flush=True)


if __name__ == "__main__":
    job, data, folder, *rest = sys.argv[1:]
    if job == "fits":
        fit(Path(data), Path(folder), int(rest[0]), Path(rest[1]))
