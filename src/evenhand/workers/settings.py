"""Settings of the workers that run the fits of a job."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from evenhand.settings import Settings


class WorkerSettings(Settings, title="Workers"):
    """The number and place of workers; a killed run may continue with other values."""

    unrecorded = frozenset(
        {
            *("workers", "engine", "ray_address", "worker_cpus", "worker_gpus"),
            *("tls_certificate", "tls_key"),
        }
    )

    workers: int = Field(1, gt=0, description="fits that run at the same time")
    engine: Literal["local", "ray"] = Field(
        "local", description="local: processes on this machine; ray: tasks on a Ray cluster"
    )
    ray_address: str | None = Field(
        None, description="HOST:PORT of the Ray cluster [default: $RAY_ADDRESS, or a local one]"
    )
    worker_cpus: int | None = Field(
        None, gt=0, description="CPU threads of each worker [default: an equal share; 1 with ray]"
    )
    worker_gpus: float = Field(
        0.0, ge=0, description="GPUs of each worker on ray; a fraction lets workers share one"
    )

    tls_certificate: Path | None = Field(
        None, description="PEM certificate for this machine's address: nodes reach the study by TLS"
    )
    tls_key: Path | None = Field(None, description="PEM file of the certificate's key")

    @model_validator(mode="after")
    def _check_engine(self) -> WorkerSettings:
        if self.engine == "local" and self.ray_address:
            raise ValueError(f"--ray-address {self.ray_address} needs --engine ray")
        if self.engine == "local" and self.worker_gpus:
            raise ValueError(f"--worker-gpus {self.worker_gpus:g} needs --engine ray")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("--tls-certificate and --tls-key go together: give both")
        if self.engine == "local" and self.tls_certificate:
            raise ValueError("--tls-certificate needs --engine ray: local workers use no network")
        return self
