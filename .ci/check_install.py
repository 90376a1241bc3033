"""Use an installed Evenhand: an extra that is absent is asked for, and one that is there works."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

import evenhand
from evenhand.tables.reading import read_table

FIT: dict[str, Any] = {
    "attribute": "group",
    "backbone": "test_vit",
    "weights": "none",
    "image_size": 32,
    "epochs": 1,
    "device": "cpu",
}
DATA = "phantom:patients=120,size=32"


def main(extras: bool) -> None:
    """Check what is installed, then run a job for each extra."""
    package = Path(evenhand.__file__).parent
    assert "site-packages" in package.parts, f"{package} is not what was installed"
    assert (package / "py.typed").exists(), "the wheel lacks py.typed"
    command = [Path(sys.executable).with_name("evenhand"), "--help"]
    assert "audit" in subprocess.run(command, check=True, capture_output=True, text=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        table = predictions()
        table.to_csv(root / "predictions.csv", index=False)
        run = evenhand.audit(root / "predictions.csv", attribute="sex", out=root / "audit")
        assert (run.root / "report.html").exists(), "no report"
        fit = {**FIT, "cache": root / "cache"}
        model = evenhand.finetune(DATA, **fit, out=root / "model")
        for extra, job in jobs(root, table, model, fit).items():
            try_extra(extra, job, installed=extras)
    print(
        f"evenhand {version('evenhand')}: {'with' if extras else 'without'} extras, as it should be"
    )


def predictions() -> pd.DataFrame:
    """Return a small table of predictions."""
    rows = range(80)
    return pd.DataFrame(
        {
            "sample_id": [f"s{row}" for row in rows],
            "patient_id": [f"p{row}" for row in rows],
            "label": [row % 2 for row in rows],
            "score": [(row * 37 % 80) / 80 for row in rows],
            "sex": ["female" if row % 4 < 2 else "male" for row in rows],
        }
    )


def jobs(
    root: Path, table: pd.DataFrame, model: evenhand.Run, fit: dict[str, Any]
) -> dict[str, Callable[[], Any]]:
    """Return a job that needs each extra."""

    def read_workbook() -> None:
        workbook = root / "table.xlsx"
        if find_spec("openpyxl"):
            table.to_excel(workbook, index=False)
        else:
            workbook.touch()
        assert len(read_table(workbook)) == len(table)

    groups = table["sex"]
    return {
        "plot": lambda: evenhand.measure_groups(table["label"], table["score"], groups).plot("auc"),
        "readers": read_workbook,
        "lora": lambda: evenhand.finetune(DATA, **fit, strategy="lora", out=root / "lora"),
        "export": lambda: evenhand.export(model, root / "model.onnx"),
        "structured": lambda: evenhand.prune(
            model, attribute="group", structure="channel", limit=10, out=root / "pruned"
        ),
        "ray": lambda: evenhand.tune(
            DATA, **fit, trials=1, confirm=0, engine="ray", workers=1, out=root / "tuned"
        ),
    }


def try_extra(extra: str, job: Callable[[], Any], *, installed: bool) -> None:
    """Run a job: it works with its extra, and names the extra where that is not installed."""
    message = ""
    try:
        job()
    except evenhand.EvenhandError as error:
        message = str(error)
    as_wanted = not message if installed else f"evenhand[{extra}]" in message
    assert as_wanted, f"{extra}, {installed=}: {message or 'no error'}"
    print(f"  {extra}: {'works' if installed else 'is asked for'}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1] == "with")
