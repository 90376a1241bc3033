"""The GPU benchmark, tried on a CPU with nothing installed but what it says it needs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from tests.conftest import ROOT

ABSENT = ("PIL.ImageQt", "fairlearn", "jinja2", "optuna", "peft", "ray", "rich", "typer")
SCRIPT = f"""
import runpy, sys
for name in {ABSENT}:
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    script = str(ROOT / "benchmarks" / "gpu.py")
    words = [sys.executable, "-c", SCRIPT, script, *flags]
    return subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.slow
def test_it_prints_a_json_object_per_claim():
    ended = run("--device", "cpu", "--quick")
    assert ended.returncode == 0, ended.stderr[-2000:]
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [line["name"] for line in lines] == [
        "gpu_matrix_rate",
        "gpu_full_utilisation",
        "gpu_half_utilisation",
        "gpu_channels_last",
        "gpu_input_pipeline",
        "gpu_seconds_per_trial",
    ]
    assert all({"name", "ratio", "better", "goal", "detail"} == line.keys() for line in lines)
    assert lines[1]["detail"]["images_per_second"] > 0
    assert lines[-1]["detail"] == {"left_out": "optuna is not installed", "device": "cpu"}


@pytest.mark.slow
def test_without_cuda_it_says_so_in_one_line():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    ended = run()
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.strip().splitlines() == [
        "gpu.py: torch sees no CUDA device here; --device cpu --quick tries the script."
    ]
