"""Pre-training teaches an encoder what a probe can use (`benchmarks/ssl_probes.py`)."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from tests.conftest import ROOT

SCRIPT = runpy.run_path(str(Path(ROOT) / "benchmarks" / "ssl_probes.py"))

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("objective", "kind", "gain"),
    [
        ("masked", "series", 0.05),
        *((name, "series", 0.1) for name in ("simclr", "vicreg", "barlow")),
        *((name, "images", 0.1) for name in ("simclr", "vicreg", "barlow", "moco", "mae")),
    ],
)
def test_a_probe_tells_more_from_the_encoder_than_from_its_random_start(objective, kind, gain):
    row = SCRIPT["one_fit"](objective, kind, 0)
    assert row["trained"] - row["untrained"] > gain
