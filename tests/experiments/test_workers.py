"""A search with several workers: one brain, and a death costs a trial only."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState
from tests.command import PHANTOMS, changed, evenhand, start, training
from tests.experiments import searches

from evenhand.errors import EvenhandError
from evenhand.experiments import study_storage as storages
from evenhand.experiments.study_storage import open_storage, retry_trial
from evenhand.experiments.trials import search
from evenhand.files import read_json
from evenhand.search.study import open_study
from evenhand.workers import NetworkHost

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@pytest.fixture
def study(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path / 'study.db'}")
    return open_study(storage, "run/search", ["maximize"], "same", prune_until=2)


def states(study):
    return [trial.state for trial in study.get_trials()]


def test_a_search_ends_with_its_trials(study, parallel_engine):
    search(study, searches.space(), searches.good_units, 12, 0, parallel_engine)
    assert sum(state in FINISHED for state in states(study)) == 12
    assert set(states(study)) <= set(FINISHED)
    assert study.best_value > 2


def test_known_choices_come_first_and_no_choice_twice(study, parallel_engine):
    space = searches.small_space()
    search(study, space, searches.good_units, 30, 0, parallel_engine)
    trained = [t for t in study.get_trials() if "repeats" not in t.user_attrs]
    assert len(trained) == len({space.suggest(trial) for trial in trained}) == space.size
    assert [t.user_attrs["origin"] for t in study.get_trials()[:2]] == ["full", "head"]


def test_workers_prune_by_the_reports_of_others(study, parallel_engine, tmp_path):
    """One trial waits until the other has reported from its own process."""
    score = searches.Staggered(tmp_path)
    search(study, searches.space(), score, 2, 0, parallel_engine)
    assert (tmp_path / "0").read_text() != (tmp_path / "1").read_text()  # two processes
    values = {trial.state: trial.value for trial in study.get_trials()}
    assert values == {TrialState.COMPLETE: 1.0, TrialState.PRUNED: 0.0}


@pytest.mark.parametrize("times", [1, pytest.param(9, marks=pytest.mark.slow)])
def test_a_dead_worker_costs_its_trial_and_its_parameters_come_back_once(
    study, parallel_engine, tmp_path, times
):
    score = searches.Deadly(tmp_path / "trace", times)
    search(study, searches.space(), score, 6, 0, parallel_engine)
    failed = [trial for trial in study.get_trials() if trial.state is TrialState.FAIL]
    deadly = [trial for trial in study.get_trials() if trial.params == failed[0].params]
    assert len(deadly) == 2
    assert deadly[1].user_attrs["retry_of"] == deadly[0].number
    assert len(failed) == min(times, 2)
    assert sum(state in FINISHED for state in states(study)) == 6


@pytest.mark.slow
def test_a_search_whose_workers_all_die_gives_up(study, parallel_engine):
    with pytest.raises(EvenhandError, match="die one after another"):
        search(study, searches.space(), searches.always_die, 6, 0, parallel_engine)
    assert set(states(study)) <= {TrialState.FAIL, TrialState.WAITING, TrialState.RUNNING}


def test_what_a_killed_driver_left_is_taken_up_by_any_number_of_workers(study, parallel_engine):
    space = searches.space()
    for _ in range(3):
        space.suggest(study.ask())
    search(study, space, searches.good_units, 6, 0, parallel_engine)
    assert len(states(study)) == 6
    assert set(states(study)) <= set(FINISHED)


def test_a_server_s_trials_without_heartbeat_come_back_once(tmp_path, serial_engine):
    file = tmp_path / "study.db"
    with pytest.warns(ExperimentalWarning):
        server = optuna.storages.RDBStorage(
            f"sqlite:///{file}", heartbeat_interval=60, heartbeat_stale_trial_callback=retry_trial
        )
    study = open_study(server, "run/search", ["maximize"], "same", prune_until=2)
    space = searches.space()
    dead, alive = storages.begin_trial(study), storages.begin_trial(study)
    for trial in (dead, alive):
        space.suggest(trial)
        server.record_heartbeat(trial._trial_id)
    with contextlib.closing(sqlite3.connect(file)) as base, base:
        long_ago = (
            "UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00' WHERE trial_id = ?"
        )
        base.execute(long_ago, (dead._trial_id,))
    search(study, space, searches.good_units, 4, 0, serial_engine)
    trials = study.get_trials()
    assert trials[0].state is TrialState.FAIL
    assert trials[1].state is TrialState.RUNNING  # another driver's
    again = [trial for trial in trials if trial.user_attrs.get("retry_of") == 0]
    assert [(trial.params, trial.state in FINISHED) for trial in again] == [(dead.params, True)]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:///:memory:", "would be lost with the process"),
        ("postgresql://me:top@secret@localhost:1/x", "needs the database's driver"),
        ("nonsense", "cannot be opened"),
        ("sqlite:///{folder}/other.db", "cannot be opened as a storage of Optuna"),
        ("sqlite:///{folder}/absent/study.db", "cannot be opened as a storage of Optuna"),
    ],
)
def test_bad_storages(tmp_path, url, message):
    (tmp_path / "other.db").write_text("something else " * 100)
    with pytest.raises(EvenhandError, match=message) as refused:
        open_storage(url.format(folder=tmp_path))
    assert "secret" not in str(refused.value)


def test_what_a_kill_left_of_a_study_is_taken_up(tmp_path):
    """Its tables in part, or a study that had no identity yet."""
    file = tmp_path / "study.db"
    open_storage(f"sqlite:///{file}")
    with contextlib.closing(sqlite3.connect(file)) as base, base:
        for table in ("version_info", "alembic_version", "trial_heartbeats"):
            base.execute(f"DROP TABLE {table}")
    storage = open_storage(f"sqlite:///{file}")
    optuna.create_study(storage=storage, study_name="run/search", direction="maximize")
    study = open_study(storage, "run/search", ["maximize"], "same", prune_until=2)
    assert study.user_attrs == {"identity": "same"}


def test_a_foreign_study_of_the_same_name(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path / 'study.db'}")
    optuna.create_study(storage=storage, study_name="run/search").ask()
    with pytest.raises(EvenhandError, match="other settings or data"):
        open_study(storage, "run/search", ["maximize"], "same", prune_until=2)


def test_a_worker_that_cannot_reach_the_study(study, monkeypatch):
    monkeypatch.setattr(storages, "_PATIENCE", 0.5)
    with storages.serve_study(study, NetworkHost("127.0.0.1")) as theirs:
        storages.check_study_reachable(theirs)
    with pytest.raises(EvenhandError, match="cannot reach the study that this command serves at"):
        storages.check_study_reachable(theirs)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    flags = training(tmp_path_factory.mktemp("cache"), "--epochs", 2)
    return ("tune", PHANTOMS, *flags, "--confirm", 0, "--trials", 2)


def finished(out) -> dict[tuple[int, int], float | None]:
    """Return the values of the trials that are done, also while another process writes."""
    if not (out / "study.db").exists():
        return {}
    request = (
        "SELECT study_id, number, value FROM trials LEFT JOIN trial_values USING (trial_id) "
        "WHERE state IN ('COMPLETE', 'PRUNED')"
    )
    with contextlib.closing(sqlite3.connect(out / "study.db", timeout=30)) as base:
        try:
            return {(study, number): value for study, number, value in base.execute(request)}
        except sqlite3.OperationalError:  # its tables are not there yet
            return {}


def wait_for(true, seconds=120):
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.mark.slow
def test_two_workers_continue_what_one_began(words, tmp_path, monkeypatch):
    out = tmp_path / "out"
    driver = start(*words, "--out", out)
    wait_for(lambda: finished(out))
    driver.kill()
    driver.wait()
    before = finished(out)
    monkeypatch.setattr(
        "evenhand.experiments.task.fit", lambda *arguments, **more: pytest.fail("here")
    )
    ended = evenhand(*words, "--workers", 2, "--out", out)
    assert ended.status == 0, ended.err
    assert ended.out.startswith("6 fits at most: 3 searches of 2 trials, 2 epochs each")
    assert ", 2 at a time." in ended.out
    assert "workers" not in read_json(out / "run.json")["settings"]
    trials = pd.read_csv(out / "trials.csv")
    trained = trials.loc[trials["adopted"].isna(), "study"]
    assert trained.value_counts().to_dict() == {"fairtune": 2, "full": 2, "head": 2}
    assert before.items() <= finished(out).items()


@pytest.mark.slow
def test_kills_of_driver_and_workers_lose_no_finished_trial(words, tmp_path):
    """Ten kills at random times, of a worker and of the driver by turns, each at work."""
    out, dice, seen = tmp_path / "out", random.Random(0), {}
    command = changed(words, "--trials", 8, "--workers", 2, "--out", out)
    driver = start(*command)
    for number in range(10):
        wait_for(at_work(driver.pid, out, number + 1), 300)
        time.sleep(dice.uniform(0, 1))
        assert driver.poll() is None
        seen |= finished(out)
        workers = children(driver.pid)
        if number % 2:
            os.kill(dice.choice(workers), signal.SIGKILL)
            continue
        driver.kill()
        driver.wait()
        wait_for(lambda workers=workers: not any(map(is_alive, workers)), 20)
        assert seen.items() <= finished(out).items()
        driver = start(*command)
    assert driver.wait(timeout=240) == 0
    assert len(seen) >= 10
    assert seen.items() <= finished(out).items()
    assert len(finished(out)) == 8 * 4  # those of head are trials of FairTune's study, too
    assert read_json(out / "run.json")["status"] == "finished"


def at_work(driver, out, trials):
    """Return what tells whether a driver has both its workers, and so many trials are done."""
    return lambda: len(finished(out)) >= trials and len(children(driver)) == 2


@pytest.fixture
def ray_address(monkeypatch):
    """The address of a Ray that `ray start` has begun, with two CPUs and, by its word, a GPU.

    Its folder is its own, lest others on this machine take it for theirs, and has a short name,
    since sockets lie in it.
    """
    pytest.importorskip("ray")
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(2)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        port, client = (probe.getsockname()[1] for probe in probes)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))  # of this test alone
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    binary = Path(sysconfig.get_path("scripts")) / "ray"
    words = ["--head", "--block", "--node-ip-address", "127.0.0.1", "--port", port]
    words += ["--ray-client-server-port", client, "--include-dashboard", "false"]
    words += ["--temp-dir", folder]
    words += ["--num-cpus", 2, "--num-gpus", 1, "--object-store-memory", 80_000_000]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    ray = subprocess.Popen([binary, "start", *map(str, words)], **silent, start_new_session=True)
    try:
        wait_for(lambda: ray.poll() is not None or answers(port))
        assert ray.poll() is None
        yield f"127.0.0.1:{port}"
    finally:  # with --block it ends all that it has started; `ray stop` would end every Ray
        ray.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            ray.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(ray.pid, signal.SIGKILL)
        ray.wait()
        shutil.rmtree(folder, ignore_errors=True)


def answers(port):
    with socket.socket() as request:
        return request.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
def test_a_killed_driver_of_a_ray_goes_on_with_every_finished_trial(words, tmp_path, ray_address):
    out = tmp_path / "out"
    command = changed(words, "--epochs", 1, "--trials", 3, "--baseline", "head", "--out", out)
    command += ("--engine", "ray", "--ray-address", ray_address, "--workers", 2)
    command += ("--worker-gpus", 0.5)
    driver = start(*command)
    wait_for(lambda: finished(out) or driver.poll() is not None)
    assert driver.poll() is None
    driver.kill()
    driver.wait()
    before = finished(out)
    assert before
    assert start(*command).wait(timeout=240) == 0
    assert before.items() <= finished(out).items()
    assert len(finished(out)) == 3 * 3  # those of head are trials of FairTune's study, too
    assert read_json(out / "run.json")["status"] == "finished"


def children(pid: int) -> list[int]:
    """Return the local workers of a driver; they are forked from a child of it."""
    servers = _listed("-P", pid, "-f", "forkserver")
    return _listed("-P", servers[0]) if servers else []


def _listed(*words) -> list[int]:
    result = subprocess.run(["pgrep", *map(str, words)], capture_output=True)
    return [int(line) for line in result.stdout.split()]


def is_alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
