"""The contract of engines: the same outcomes wherever jobs run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from tests.conftest import ROOT
from tests.workers import jobs

from evenhand.errors import EvenhandError
from evenhand.workers import Job, Lost, WorkerSettings, cluster, complete_jobs, open_engine
from evenhand.workers.local import _ready

pytestmark = pytest.mark.usefixtures("importable_tests")


def squares(count):
    return [Job(str(number), jobs.square, (number,)) for number in range(count)]


def test_the_grid_does_not_depend_on_the_engine(serial_engine, parallel_engine):
    expected = {job.name: value for job, value in serial_engine.run(squares(5))}
    assert expected == {str(number): number**2 for number in range(5)}
    assert {job.name: value for job, value in parallel_engine.run(squares(5))} == expected
    assert list(parallel_engine.run([])) == []


def test_two_run_at_the_same_time(parallel_engine, tmp_path):
    pair = [Job(name, jobs.meet, (tmp_path, name, 1)) for name in "ab"]
    assert [value for _, value in parallel_engine.run(pair)] == [True, True]


def test_what_ended_decides_what_comes_next(serial_engine, parallel_engine):
    for engine in (serial_engine, parallel_engine):
        expected, drawn = [], []

        def ask(results=expected, drawn=drawn):
            while len(results) < 6:
                drawn.append(len(results))
                yield Job("next", jobs.square, (len(drawn),))

        for _, value in engine.run(ask()):
            expected.append(value)
        assert drawn[: engine.workers] == [0] * engine.workers
        assert all(seen >= place - engine.workers + 1 for place, seen in enumerate(drawn))


def test_what_a_job_raises_is_raised_here(serial_engine, parallel_engine):
    for engine in (serial_engine, parallel_engine):
        with pytest.raises(EvenhandError, match="no such thing"):
            list(engine.run([Job("bad", jobs.refuse, ("such thing",)), *squares(3)]))
        assert len(list(engine.run(squares(3)))) == 3


def test_a_worker_that_dies_costs_its_job_only(parallel_engine, tmp_path):
    grid = [Job("deadly", jobs.die, (tmp_path / "trace", 1)), *squares(4)]
    outcomes = {job.name: value for job, value in parallel_engine.run(grid)}
    lost = outcomes.pop("deadly")
    assert isinstance(lost, Lost)
    assert outcomes == {str(number): number**2 for number in range(4)}


def test_complete_runs_a_lost_job_once_more(parallel_engine, tmp_path):
    trace = tmp_path / "trace"
    grid = [Job("deadly", jobs.die, (trace, 1)), *squares(2)]
    assert {job.name: value for job, value in complete_jobs(parallel_engine, grid)} == {
        "deadly": 2,
        "0": 0,
        "1": 1,
    }
    with pytest.raises(EvenhandError, match="deadly was given up: two workers died during it"):
        list(
            complete_jobs(
                parallel_engine, [Job("deadly", jobs.die, (tmp_path / "other", 9)), *squares(2)]
            )
        )
    assert (tmp_path / "other").read_text() == "xx"


def test_local_workers_have_their_share_and_stay(monkeypatch, capfd):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with open_engine(WorkerSettings(workers=2, worker_cpus=2)) as engine:
        first, again = ([v for _, v in engine.run([Job("w", jobs.where)] * 2)] for _ in range(2))
        assert {threads for _, threads, _ in first} == {"2"}
        assert {gpu for *_, gpu in first} == {"3", "5"}
        assert {pid for pid, *_ in again} <= {pid for pid, *_ in first} - {os.getpid()}
        torch_jobs = [Job("t", jobs.threads_of_torch), Job("n", jobs.networks)]
        assert {job.name: value for job, value in engine.run(torch_jobs)} == {"t": 2, "n": True}
        list(engine.run(squares(1)))
    assert capfd.readouterr() == ("", "")
    assert [pid for pid, *_ in first if alive(pid)] == []


@pytest.mark.skipif(sys.platform != "linux", reason="there each worker imports by itself")
def test_two_workers_import_once(tmp_path):
    script = tmp_path / "driver.py"
    script.write_text("""
import os
from tests.workers import jobs
from evenhand.workers import Job, WorkerSettings, expect_workers, open_engine
if __name__ == "__main__":
    settings = WorkerSettings(workers=2, worker_cpus=1)
    expect_workers(settings, "tests.workers.jobs")
    with open_engine(settings) as engine:
        for _, (worker, importer) in engine.run([Job("a", jobs.importer), Job("b", jobs.importer)]):
            print(os.getpid(), worker, importer)
""")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, check=True, capture_output=True, text=True
    )
    rows = [line.split() for line in done.stdout.splitlines()]
    drivers, workers, importers = zip(*rows, strict=True)
    assert len({*workers}) == 2
    assert len({*importers}) == 1
    assert not {*importers} & {*drivers, *workers}


@pytest.mark.skipif(sys.platform != "linux", reason="only there is a server that forks workers")
def test_the_server_of_workers_ends_with_a_driver_that_ends_early(tmp_path):
    (tmp_path / "slow.py").write_text(f"""
import os, time
from pathlib import Path
Path({str(tmp_path / "pid")!r}).write_text(str(os.getpid()))
time.sleep(300)
""")
    script = tmp_path / "driver.py"
    script.write_text(f"""
from pathlib import Path
from evenhand.workers import WorkerSettings, expect_workers
if __name__ == "__main__":
    expect_workers(WorkerSettings(workers=2), "slow")
    while not (Path({str(tmp_path)!r}) / "pid").exists():
        pass
""")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    subprocess.run([sys.executable, str(script)], env=environment, check=True, timeout=240)
    wait_for(lambda: not alive(int((tmp_path / "pid").read_text())))


@pytest.mark.parametrize("end", ["break", "kill"])
def test_local_workers_end_with_their_driver(tmp_path, end):
    trace = tmp_path / "pid"
    script = tmp_path / "driver.py"
    script.write_text(f"""
import sys
from pathlib import Path
from tests.conftest import ROOT
from tests.workers import jobs
from evenhand.workers import Job, WorkerSettings, open_engine
if __name__ == "__main__":
    with open_engine(WorkerSettings(workers=2)) as engine:
        work = [Job("s", jobs.sleep_for_ever, (Path({str(trace)!r}),)), Job("q", jobs.square, (2,))]
        for job, value in engine.run(work):
            if {end == "break"}:
                while not Path({str(trace)!r}).exists():
                    pass
                break
""")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    driver = subprocess.Popen([sys.executable, str(script)], env=environment)
    wait_for(trace.exists)
    if end == "kill":
        driver.kill()
    assert (driver.wait(timeout=240) == 0) == (end == "break")
    wait_for(lambda: not alive(int(trace.read_text())))


def test_a_launcher_s_processes_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(EvenhandError, match="shares its work"), open_engine(WorkerSettings()):
        pass


def test_a_pipe_of_any_class_is_heard():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"done")
        worker = SimpleNamespace(pipe=ours)
        assert _ready([worker]) == [worker]


def test_the_loss_tells_why(tmp_path):
    with open_engine(WorkerSettings(workers=2)) as engine:
        pair = [Job("out", jobs.shout_and_exit), Job("killed", jobs.die, (tmp_path / "trace", 1))]
        reasons = {job.name: outcome.reason for job, outcome in engine.run(pair)}
    assert reasons["out"] == "its process ended with status 7\n  the disk is full"
    assert reasons["killed"] == "its process was ended by SIGKILL (out of memory?)"


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(true, seconds=240):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_worker_gets_the_gpus_that_it_is_to_have(monkeypatch):
    ray = MagicMock()
    ray.nodes.return_value = [{"Alive": True, "Resources": {"CPU": 2.0, "GPU": 1.0}}]
    monkeypatch.setattr(cluster, "_import_ray", lambda: ray)
    with open_engine(WorkerSettings(engine="ray", worker_gpus=0.5)) as engine:
        list(engine.run([]))
    ray.remote().options.assert_called_with(num_cpus=1, num_gpus=0.5, max_retries=0)
    wanted = WorkerSettings(engine="ray", worker_gpus=2)
    with (
        pytest.raises(EvenhandError, match=r"has 1 CPUs and 2 GPUs.*2 CPUs, 1 GPUs"),
        open_engine(wanted),
    ):
        pass
