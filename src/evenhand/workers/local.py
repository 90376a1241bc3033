"""Run jobs in processes of this machine, each with a share of the CPU's threads."""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from evenhand.files import host_name, is_running
from evenhand.workers.engine import Job, Lost, MeetingPoint, NetworkHost, SocketFolder, T

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

_SPAWN = get_context("spawn")  # a fork of this process would inherit locks of torch's threads
_LAST_LINES = 5  # lines of a dead worker's output in the message


class LocalProcesses:
    """Runs jobs in processes, which start at the first job and are replaced when they die.

    Parameters
    ----------
    workers
        The number of processes.
    threads
        The number of CPU threads of each process.
    gpus
        CUDA's names of the available GPUs, which are assigned to the workers in turn.
    """

    def __init__(self, workers: int, threads: int, gpus: Sequence[str] = ()) -> None:
        self.workers = workers
        self._threads, self._gpus = threads, gpus
        start_fork_server(
            threads, (name for name in [*sys.modules] if name.startswith("evenhand."))
        )
        self._folder = private_folder()
        self.meeting_point: MeetingPoint = NetworkHost("127.0.0.1")
        if sys.platform != "win32":  # on Windows, gRPC has no Unix sockets
            self.meeting_point = SocketFolder(Path(self._folder.name))
        self._idle: list[_Worker] = []
        self._busy: dict[_Worker, Job[Any]] = {}

    def run(self, jobs: Iterable[Job[T] | None]) -> Iterator[tuple[Job[T], T | Lost]]:
        """Run jobs, and yield each with its value when it ends."""
        waiting = iter(jobs)
        try:
            self._fill(waiting)
            while self._busy:
                for worker in _ready(self._busy):
                    outcome = worker.receive()
                    job = self._busy.pop(worker)
                    if not isinstance(outcome, Lost):
                        self._idle.append(worker)
                    if isinstance(outcome, _Raised):
                        raise outcome.error
                    yield job, outcome
                self._fill(waiting)
        finally:  # nobody waits for the workers that are still busy
            for worker in self._busy:
                worker.kill()
            self._busy = {}

    def close(self) -> None:
        """End every process."""
        for worker in self._idle:
            worker.kill()
        self._idle = []
        self._folder.cleanup()

    def _fill(self, waiting: Iterator[Job[Any] | None]) -> None:
        """Give a job to each free worker, until there are no more jobs."""
        while len(self._busy) < self.workers:
            job = next(waiting, None)
            if job is None:
                return
            worker = self._idle.pop() if self._idle else self._start_worker()
            self._busy[worker] = job
            worker.send(job)

    def _start_worker(self) -> _Worker:
        number = min(set(range(self.workers)) - {worker.number for worker in self._busy})
        environment = {**os.environ, "OMP_NUM_THREADS": str(self._threads)}
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[number % len(self._gpus)]
        log = Path(self._folder.name) / f"{number}.log"
        return _Worker(number, log, environment, _context(self._threads))


_fork_server_threads: list[int] = []


def start_fork_server(threads: int, modules: Iterable[str]) -> None:
    """Start the server that forks workers, on Linux; it imports modules in advance.

    There is one server, for one number of threads. Without a server, or for another number of
    threads, each worker is a new process and imports the modules itself. The server only imports:
    it has no threads of torch whose locks a fork would inherit.

    Parameters
    ----------
    threads
        The number of CPU threads of each worker.
    modules
        The modules that workers need.
    """
    if sys.platform != "linux" or _fork_server_threads:
        return
    from multiprocessing import forkserver

    _fork_server_threads.append(threads)
    forkserver.set_forkserver_preload(list(modules))
    with _environment({"OMP_NUM_THREADS": str(threads)}):
        forkserver.ensure_running()
    atexit.register(_end_fork_server)


def _end_fork_server() -> None:
    """End the server at once: by itself, it would end only after its imports."""
    from multiprocessing import forkserver

    process = getattr(forkserver._forkserver, "_forkserver_pid", None)
    if process is not None:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _context(threads: int) -> SpawnContext | ForkServerContext:
    """Return a multiprocessing context whose workers use this number of threads."""
    return get_context("forkserver") if threads in _fork_server_threads else _SPAWN


class _Worker:
    """A process that runs one job after another until its pipe is closed."""

    def __init__(
        self,
        number: int,
        log: Path,
        environment: Mapping[str, str],
        context: SpawnContext | ForkServerContext,
    ) -> None:
        self.number, self._log = number, log
        self.pipe, worker_end = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(worker_end, log, environment), daemon=True
        )
        with _environment(environment):
            self._process.start()
        worker_end.close()  # otherwise the pipe would stay open after the worker's death

    def send(self, job: Job[Any]) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # dead, as receive() will return
            self.pipe.send((job.work, job.args))

    def receive(self) -> Any:
        """Return the value of the job, `_Raised` if it raised an error, or `Lost` if it died."""
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            self.pipe.close()
            return Lost(f"its process {_ending(self._process.exitcode)}{self._last_output()}")

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()

    def _last_output(self) -> str:
        if not self._log.exists():
            return ""
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return "".join(f"\n  {line}" for line in lines[-_LAST_LINES:])


@dataclass(frozen=True)
class _Raised:
    """The error that a job raised."""

    error: BaseException


def _ready(workers: Iterable[_Worker]) -> list[_Worker]:
    """Wait until at least one worker has sent an outcome or died; return these workers."""
    by_pipe = {worker.pipe: worker for worker in workers}
    readable = wait(list(by_pipe))  # on Windows, pipes of another class
    return [worker for pipe, worker in by_pipe.items() if pipe in readable]


def _ending(code: int | None) -> str:
    if code is None or code >= 0:
        return f"ended with status {code}"
    name = signal.Signals(-code).name
    return f"was ended by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}"


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables during the block, for a process that starts in it."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(pipe: Connection, log: Path, environment: Mapping[str, str]) -> None:
    """Run as a worker; redirect its output to the log, to keep it off the terminal."""
    os.environ.clear()  # a fork inherits the environment of the fork server
    os.environ.update(environment)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C, the driver ends its workers
    threading.Thread(target=_end_with_driver, daemon=True).start()
    while True:
        try:
            work, args = pipe.recv()
            pipe.send(work(*args))
        except EOFError:  # the driver has closed the pipe
            return
        except Exception as error:
            error.add_note(f"in a worker:\n{traceback.format_exc()}")
            pipe.send(_Raised(error))


def _end_with_driver() -> None:
    """End this process at once when the driver has ended or was killed."""
    driver = parent_process()
    assert driver is not None
    wait([driver.sentinel])
    os._exit(1)


_LONGEST = 60  # characters of the parent's path, because a socket's path may have about 100
_ours: set[str] = set()


def private_folder() -> TemporaryDirectory[str]:
    """Create a temporary folder that only this user may enter; remove those of dead processes.

    It lies in ``$TMPDIR``, or in ``/tmp`` if the path would be too long for a socket.
    """
    parent = Path(tempfile.gettempdir()).resolve()
    if len(os.fsencode(parent)) > _LONGEST and Path("/tmp").is_dir():
        parent = Path("/tmp")
    _remove_abandoned(parent)
    folder = TemporaryDirectory(
        prefix=f"{_prefix()}{os.getpid()}-", dir=parent, ignore_cleanup_errors=True
    )
    _ours.add(folder.name)
    return folder


def _prefix() -> str:
    """Return the beginning of the folders' names, which differs between machines."""
    return f"evenhand-{hashlib.sha256(host_name().encode()).hexdigest()[:6]}-"


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_prefix()}*"):
        process = re.fullmatch(r"(\d+)-\w+", folder.name.removeprefix(_prefix()))
        if process is None or str(folder) in _ours:
            continue
        number = int(process[1])
        is_reused = number == os.getpid()  # the folder is of an earlier process with our number
        if is_reused or not is_running(number):
            with suppress(OSError):
                if sys.platform == "win32" or folder.lstat().st_uid == os.getuid():
                    shutil.rmtree(folder)
