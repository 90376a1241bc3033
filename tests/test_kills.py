"""No kill loses, repeats or blocks finished work, or leaves a file (see `tests.kills`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from tests.conftest import ROOT
from tests.kills import JOBS

KILLS = int(os.environ.get("EVENHAND_KILLS", "22"))  # of each job: about 300 in all


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks of one process")
@pytest.mark.parametrize("job", JOBS)
def test_a_job_that_is_killed_goes_on(job):
    if job == "tune-ray":
        pytest.importorskip("ray")
    words = [sys.executable, "-m", "tests.kills", job, "--kills", str(KILLS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    kills = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(kills) == KILLS
    assert [kill for kill in kills if kill["wrong"]] == []
