"""Kill an assessment of 204 fits in the middle, and continue it by the same command.

Four objectives × four strategies × three shares of labels × four seeds on series phantoms, and
supervised: 204 fits and 16 encoders, two workers of one thread each. When half of the fits are
finished, all processes of the command are killed, and the same command runs again. Prints a line
with wall-clock and CPU minutes of both attempts, the number of fits that were repeated or lost (0
and 0), and the size of the page:

    python benchmarks/assess_many.py --out runs/many
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import time
from pathlib import Path

OBJECTIVES = ("simclr", "vicreg", "barlow", "byol")
STRATEGIES = ("frozen3", "frozen2", "frozen1m", "frozen0")
SHARES, SEEDS = "10,50,100", 4
FITS = (len(OBJECTIVES) * len(STRATEGIES) + 1) * 3 * SEEDS
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--patients", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=4, help="of each fit and of pre-training")
    arguments = parser.parse_args()
    run, begun = arguments.out / "run", time.monotonic()
    command = command_of(arguments, run)
    first = attempt(command, arguments.out / "first.log", run, stop_at=FITS // 2)
    before = times_written(run)
    second = attempt(command, arguments.out / "second.log", run)
    after = times_written(run)
    line = {
        "benchmark": "assess_many",
        "fits": len(after),
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "cpu_minutes": round((first + second) / 60, 1),
        "killed_after": len(before),
        "repeated": sum(after.get(name) != written for name, written in before.items()),
        "lost": FITS - len(after),
        "page_kb": round((run / "report.html").stat().st_size / 1000),
    }
    print(json.dumps(line))


def command_of(arguments: argparse.Namespace, run: Path) -> list[str]:
    words = ["evenhand", "assess", f"series_phantom:patients={arguments.patients},steps=24,seed=1"]
    words += [word for name in OBJECTIVES for word in ("--ssl", name)]
    words += [word for name in STRATEGIES for word in ("--cell", name)]
    words += ["--attribute", "group", "--attribute", "sex", "--label-share", SHARES]
    words += ["--seeds", str(SEEDS), "--epochs", str(arguments.epochs)]
    words += ["--pretrain-epochs", str(arguments.epochs), "--device", "cpu"]
    words += ["--workers", "2", "--worker-cpus", "1"]
    return [*words, "--cache", str(arguments.out / "cache"), "--out", str(run)]


def attempt(command: list[str], log: Path, run: Path, stop_at: int | None = None) -> float:
    """Run the command, up to a number of finished fits if one is given; return its CPU seconds."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        spent: dict[int, float] = {}
        while process.poll() is None:
            time.sleep(0.5)
            spent |= cpu_seconds(process.pid)
            if stop_at is not None and len(times_written(run)) >= stop_at:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if stop_at is None and process.returncode:
            raise SystemExit(f"the command failed; see {log}")
    return sum(spent.values())


def times_written(run: Path) -> dict[str, int]:
    """Return when the predictions of each finished fit were written."""
    files = run.glob("models/*/predictions.parquet")
    return {file.parent.name: file.stat().st_mtime_ns for file in files}


def cpu_seconds(session: int) -> dict[int, float]:
    """Return the CPU seconds of each process of a session."""
    seconds = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if int(fields[3]) == session:
            seconds[int(folder.name)] = (int(fields[11]) + int(fields[12])) / TICKS
    return seconds


if __name__ == "__main__":
    main()
