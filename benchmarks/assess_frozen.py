"""Measure what cached activations save in cells of an assessment with a frozen encoder.

Three shares of labels and two seeds of `frozen3` on series phantoms, one thread, encoders trained
before. Prints a line with the CPU seconds of the six fits without the cache (the encoder reads
every sample in every epoch) and with it (the encoder reads each sample once):

    python benchmarks/assess_frozen.py
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from evenhand.experiments.runs import Run, begin_run
from evenhand.experiments.task import prepare_task
from evenhand.jobs.assess.grid import fit_cell, grid_cells, pretrain_encoder
from evenhand.jobs.assess.settings import AssessSettings
from evenhand.jobs.assess.starts import encoder_starts
from evenhand.runs import run_scope


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--patients", type=int, default=1000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        settings = AssessSettings(
            data=f"series_phantom:patients={arguments.patients},steps=48,seed=1",
            attribute=("group",),
            cell=("frozen3",),
            label_share=(1.0, 0.5, 0.1),
            seeds=2,
            epochs=10,
            pretrain_epochs=1,
            device="cpu",
            cache=Path(folder) / "cache",
        )
        seconds = {}
        for name, memory in (("cpu_seconds_every_epoch", 0), ("cpu_seconds_once", 2000)):
            own = settings.model_copy(update={"prefix_memory": memory})
            with run_scope():
                run = begin_run(Path(folder) / name, "assess", own, fingerprint="", reads=())
                seconds[name] = spent(own, run)
    ratio = seconds["cpu_seconds_every_epoch"] / seconds["cpu_seconds_once"]
    fits = len(settings.label_share) * settings.seeds
    rounded = {name: round(value, 2) for name, value in seconds.items()}
    line = {"benchmark": "assess_frozen", "patients": arguments.patients, "fits": fits, **rounded}
    print(json.dumps({**line, "ratio": round(ratio, 2)}))


def spent(settings: AssessSettings, run: Run) -> float:
    """Return the CPU seconds of the cells with a frozen encoder."""
    task = prepare_task(settings)
    cells = [cell for cell in grid_cells(settings) if cell.strategy == "frozen3"]
    for seed in dict.fromkeys(cell.seed for cell in cells):
        pretrain_encoder(task, settings, run, encoder_starts(settings)[0], seed)
    begun = time.process_time()
    for cell in cells:
        fit_cell(task, settings, run, cell)
    return time.process_time() - begun


if __name__ == "__main__":
    main()
