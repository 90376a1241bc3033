"""Who scores and delivers the chosen fits, and what is kept of the others."""

from __future__ import annotations

from evenhand.experiments.runs import begin_run
from evenhand.experiments.task_cache import FitContext
from evenhand.files import read_json
from evenhand.jobs.tune.fitting import (
    Delivery,
    deliver_all,
    fit_folder,
    fits_folder,
    remove_other_fits,
)
from evenhand.jobs.tune.settings import TuneSettings
from evenhand.runs import run_scope
from evenhand.search.spaces import Choice

CHOICE = Choice(frozenset({"a", "b"}), 1e-3, 0)


class Workers:
    """Notes what it is given to do, and does nothing."""

    workers, meeting_point = 2, None

    def __init__(self):
        self.given = []

    def run(self, jobs):
        for job in jobs:
            self.given.append(job)
            yield job, None


def delivery(name):
    return Delivery(name, name, trial=7, choice=CHOICE, seeds=(1, 2), seed=2)


def test_workers_deliver_the_models_that_are_not_there_yet(tmp_path):
    engine = Workers()
    with run_scope():
        run = begin_run(tmp_path, "tune", TuneSettings(data="phantom:"), fingerprint="")
    run.predictions_file("full").parent.mkdir(parents=True)
    run.predictions_file("full").touch()
    fit_folder(run, "full", CHOICE).mkdir(parents=True)
    context = FitContext(None, "", run)
    deliver_all(context, map(delivery, ("fairtune", "full", "head")), engine)
    assert [job.args for job in engine.given] == [
        (context, delivery(name)) for name in ("fairtune", "head")
    ]
    assert read_json(tmp_path / "run.json")["seconds"].keys() == {"chosen fits"}
    assert not fits_folder(run, "full").exists()  # all models are there: fits take room


def test_of_a_contender_s_fits_those_of_its_choice_are_kept(tmp_path):
    with run_scope():
        run = begin_run(tmp_path, "tune", TuneSettings(data="phantom:"), fingerprint="")
    others = [
        Choice(CHOICE.mask, 1e-3, 1),
        Choice(CHOICE.mask, 1.1e-3, 0),
        Choice(frozenset({"a"}), 1e-3, 0),
    ]
    folders = [fit_folder(run, "one", choice) for choice in (CHOICE, *others)]
    assert len(set(folders)) == 4
    for folder in (*folders, fit_folder(run, "two", CHOICE)):
        folder.mkdir(parents=True)
    remove_other_fits(run, "one", [CHOICE])
    assert [folder.exists() for folder in folders] == [True, False, False, False]
    assert fit_folder(run, "two", CHOICE).exists()
