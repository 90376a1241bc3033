"""Who makes the final models."""

from __future__ import annotations

from evenhand.files import read_json
from evenhand.finetune.prepared import Fits
from evenhand.runs import run_scope, start_run
from evenhand.tune.fitting import fit_all
from evenhand.tune.spaces import Choice


class Workers:
    """Notes what it is given to do, and does nothing."""

    workers, meeting_point = 2, None

    def __init__(self):
        self.given = []

    def run(self, jobs):
        for job in jobs:
            self.given.append(job)
            yield job, None


def test_workers_make_the_final_models_that_are_not_kept_yet(tmp_path):
    engine = Workers()
    with run_scope():
        run = start_run(tmp_path, "tune", {"seed": 0}, fingerprint="")
    run.predictions("full").parent.mkdir(parents=True)
    run.predictions("full").touch()
    fits, choice = Fits(None, "", run), Choice(frozenset(), 1e-3, 0)
    fit_all(fits, [(name, choice, 7) for name in ("fairtune", "full", "head")], engine)
    assert [job.args for job in engine.given] == [
        (fits, name, choice, 7) for name in ("fairtune", "head")
    ]
    assert read_json(tmp_path / "run.json")["seconds"].keys() == {"final fits"}
