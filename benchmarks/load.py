"""Measure CPU seconds and memory of audits of very many groups and of very many rows.

Each audit runs in a process of its own, as users call it, on synthetic predictions with one row per
patient and two classes. CPU seconds include imports; modules are compiled before, as after any
first command.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

AUDIT = """
import json, resource, sys
from evenhand.cli import main

sys.argv = ["evenhand", "audit", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
spent = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([spent.ru_utime + spent.ru_stime, spent.ru_maxrss / 2**20]))
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=1_000_000, help="of the table of many rows")
    rows = arguments.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        table = write_predictions(root / "small.parquet", 1000, 3, 1)
        seconds, gib = [audit(table, root / "run", 2000, 1) for _ in range(2)][1]
        detail = {"rows": 1000, "replicates": 2000, "gib": gib}
        show("audit_1000_rows_cpu_seconds", seconds, 2.0, detail)
        for groups, goal in ((1000, 4.0), (5000, 25.0)):
            table = write_predictions(root / f"groups{groups}.parquet", 20 * groups, groups, 1)
            seconds, gib = audit(table, root / "run", 20, 1)
            report = (root / "run" / "report.html").stat().st_size / 2**20
            detail = {"rows": 20 * groups, "replicates": 20, "gib": gib, "report_mib": report}
            show(f"audit_{groups}_groups_cpu_seconds", seconds, goal, detail)
        table = write_predictions(root / "rows.parquet", rows, 5, 5)
        seconds, gib = audit(table, root / "run", 1000, 5)
        detail = {"rows": rows, "attributes": 5, "replicates": 1000}
        show("audit_rows_cpu_seconds", seconds, 30.0, {**detail, "gib": gib})
        show("audit_rows_gib", gib, 1.0, {**detail, "seconds": seconds})


def write_predictions(path: Path, rows: int, groups: int, attributes: int) -> Path:
    """Write predictions whose attributes have this number of groups of about the same size."""
    rng = np.random.default_rng(0)
    names = np.arange(rows).astype(str)
    label = rng.integers(0, 2, rows)
    columns = {
        "sample_id": names,
        "patient_id": names,
        "label": label,
        "score": 1 / (1 + np.exp(-rng.normal(label - 0.5, 1.0))),
    }
    for number in range(attributes):
        columns[f"attr_a{number}"] = [f"g{level}" for level in rng.integers(0, groups, rows)]
    pd.DataFrame(columns).to_parquet(path)
    return path


def audit(table: Path, out: Path, replicates: int, attributes: int) -> tuple[float, float]:
    """Return CPU seconds and the most memory, in GiB, of one audit."""
    named = [word for number in range(attributes) for word in ("--attribute", f"a{number}")]
    flags = [*named, "--replicates", str(replicates), "--out", str(out), "--overwrite"]
    words = [sys.executable, "-c", AUDIT, str(table), *flags]
    shell = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=shell)
    seconds, gib = json.loads(done.stdout.splitlines()[-1])
    return seconds, gib


def show(name: str, value: float, goal: float, detail: dict[str, object]) -> None:
    """Print one claim as a line of JSON."""
    claim = {"name": name, "ratio": value, "better": "lower", "goal": goal, "detail": detail}
    print(json.dumps(claim), flush=True)


if __name__ == "__main__":
    main()
