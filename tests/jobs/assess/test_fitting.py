"""Which fits of an assessment begin when, whatever ends first."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from evenhand.experiments.task_cache import FitContext
from evenhand.jobs.assess.grid import Cell, fit_grid
from evenhand.jobs.assess.settings import AssessSettings
from evenhand.workers import Lost

SETTINGS = AssessSettings(data="phantom:")
CELLS = [Cell(strategy, 1.0, seed) for seed in (0, 1, 2) for strategy in ("frozen0", "supervised")]
NAMES = {*(cell.name for cell in CELLS), *(f"encoder of seed {seed}" for seed in (0, 1, 2))}


class Workers:
    """Ends jobs in the order that it is told, some of them by death."""

    def __init__(self, workers, order, deaths):
        self.workers, self.order, self.deaths = workers, order, set(deaths)
        self.begun, self.ended = [], []

    def run(self, jobs):
        waiting, busy = iter(jobs), []
        while True:
            while len(busy) < self.workers and (job := next(waiting, None)):
                busy.append(job)
                self.begun.append((job.name, tuple(self.ended)))
            if not busy:
                return
            job = busy.pop(self.order(len(busy)))
            if job.name in self.deaths:
                self.deaths.remove(job.name)
                yield job, Lost("killed")
            else:
                self.ended.append(job.name)
                yield job, None


@given(
    st.integers(1, 8), st.randoms(use_true_random=False), st.sets(st.sampled_from(sorted(NAMES)))
)
def test_a_cell_waits_for_its_encoder_and_for_nothing_else(workers, random, deaths):
    engine = Workers(workers, random.randrange, deaths)
    run = SimpleNamespace(phase=lambda name: nullcontext())
    fit_grid(FitContext(SETTINGS, "", run), CELLS, engine)
    assert sorted(engine.ended) == sorted(NAMES)
    for name, before in engine.begun:
        if name.startswith("frozen"):
            assert f"encoder of seed {name[-1]}" in before
    if workers >= len(CELLS):  # there is room for all that waits for nothing
        first = {name for name, before in engine.begun if not before}
        assert first == {name for name in NAMES if not name.startswith("frozen")}


def test_on_equal_compute_every_cell_waits_for_the_encoder_of_its_seed():
    engine = Workers(2, lambda count: 0, ())
    run = SimpleNamespace(phase=lambda name: nullcontext())
    equal = SETTINGS.model_copy(update={"equal_compute": True})
    fit_grid(FitContext(equal, "", run), CELLS, engine)
    for name, before in engine.begun:
        if not name.startswith("encoder"):
            assert f"encoder of seed {name[-1]}" in before


def test_a_cell_begins_before_other_encoders_end():
    engine = Workers(2, lambda count: 0, ())
    run = SimpleNamespace(phase=lambda name: nullcontext())
    fit_grid(
        FitContext(SETTINGS, "", run),
        [cell for cell in CELLS if cell.strategy == "frozen0"],
        engine,
    )
    begun = dict(engine.begun)
    assert "encoder of seed 2" not in begun["frozen0-seed0"]
