"""Run jobs as tasks on a Ray cluster, each with a share of CPUs and GPUs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import evenhand
from evenhand.errors import EvenhandError
from evenhand.workers.engine import Job, Lost, NetworkHost, T
from evenhand.workers.settings import WorkerSettings

_PATIENCE = 10.0  # seconds within which a cluster must answer


class RayTasks:
    """Runs jobs on a Ray cluster; Ray does not repeat a task that fails.

    Evenhand's code is sent to the nodes; its dependencies must be installed there. If this process
    is already connected to a cluster, that connection is used.

    Parameters
    ----------
    settings
        The address of the cluster, the number of tasks at a time, and the CPUs and GPUs of each.

    Raises
    ------
    EvenhandError
        If Ray is not installed, no cluster answers, or no node of the cluster has the resources
        that a task needs.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.workers = settings.workers
        self._ray = _import_ray()
        self._share = {"num_cpus": settings.worker_cpus or 1, "num_gpus": settings.worker_gpus}
        self._owns_connection = not self._ray.is_initialized()
        if self._owns_connection:
            self._connect(settings.ray_address or os.environ.get("RAY_ADDRESS"))
        self._check_room()
        address = str(self._ray.util.get_node_ip_address())
        self.meeting_point = NetworkHost(address, settings.tls_certificate, settings.tls_key)

    def run(self, jobs: Iterable[Job[T] | None]) -> Iterator[tuple[Job[T], T | Lost]]:
        """Run jobs, and yield each with its value when it ends."""
        ray, waiting = self._ray, iter(jobs)
        task = ray.remote(_perform).options(**self._share, max_retries=0)
        running: dict[Any, Job[T]] = {}
        try:
            while True:
                while len(running) < self.workers and (job := next(waiting, None)):
                    running[task.remote(job.work, job.args)] = job
                if not running:
                    return
                (ended,), _ = ray.wait(list(running), num_returns=1)
                yield running.pop(ended), self._outcome(ended)
        finally:  # cancel the tasks that still run: nobody will read their results
            for task in running:
                ray.cancel(task, force=True)

    def close(self) -> None:
        """Leave the cluster; Ray ends the tasks of this process that still run."""
        if self._owns_connection:
            self._ray.shutdown()

    def _outcome(self, task: Any) -> Any:
        failures = self._ray.exceptions
        try:
            return self._ray.get(task)
        except failures.RayTaskError as error:  # the job raised something
            error.cause.add_note(f"in a Ray task:\n{error}")
            raise error.cause from None
        except (failures.RuntimeEnvSetupError, failures.TaskUnschedulableError) as error:
            raise EvenhandError(f"Ray cannot start a task: {error}") from None
        except failures.RayError as error:  # its worker or node is gone
            return Lost(f"{type(error).__name__}: {error}")

    def _connect(self, address: str | None) -> None:
        if address and address not in ("auto", "local"):
            _check_answers(address)
        threads = str(self._share["num_cpus"])
        environment = {"py_modules": [evenhand], "env_vars": {"OMP_NUM_THREADS": threads}}
        try:
            self._ray.init(
                address, log_to_driver=False, logging_level="error", runtime_env=environment
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise EvenhandError(
                f"--ray-address {address or '(none)'}: cannot connect to a Ray cluster: {error}"
            ) from None

    def _check_room(self) -> None:
        """Refuse resources that no node has, because Ray would wait for them forever."""
        cpus, gpus = self._share["num_cpus"], self._share["num_gpus"]
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
            return
        self.close()
        listed = "; ".join(f"{n.get('CPU', 0):g} CPUs, {n.get('GPU', 0):g} GPUs" for n in nodes)
        raise EvenhandError(
            f"no node of the Ray cluster has {cpus} CPUs and {gpus:g} GPUs for a worker; there "
            f"are: {listed}. Give smaller --worker-cpus or --worker-gpus."
        )


def _perform(work: Callable[..., T], args: tuple[Any, ...]) -> T:
    return work(*args)


def _import_ray() -> Any:
    try:
        import ray
    except ImportError:
        raise EvenhandError(
            "--engine ray needs Ray, which is not installed. Install it with: "
            "pip install 'evenhand[ray]'"
        ) from None
    return ray


def _check_answers(address: str) -> None:
    """Refuse an address that has a wrong form or does not answer.

    Ray itself would try the address for two minutes, and then end the process.
    """
    import grpc

    if not re.fullmatch(r"(ray://)?[^\s/]+:[0-9]+", address):
        raise EvenhandError(
            f"--ray-address {address} is not of the form HOST:PORT. Give the address that `ray "
            "start --head` printed, as in 10.0.0.1:6379, or leave it out to start Ray on this "
            "machine."
        )
    with grpc.insecure_channel(address.removeprefix("ray://")) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_PATIENCE)
        except grpc.FutureTimeoutError:
            raise EvenhandError(
                f"--ray-address {address}: nothing that speaks Ray's protocol answered within "
                f"{_PATIENCE:g} s. Give the HOST:PORT that `ray start --head` printed."
            ) from None
