"""Experiment trackers (accelerate's), which log each epoch of a training."""

from __future__ import annotations

import logging
import math
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker

from evenhand.errors import EvenhandError
from evenhand.launcher import is_main
from evenhand.training.device import make_accelerator
from evenhand.training.settings import LoopSettings, TrackerName

PROJECT = "evenhand"
"""The project (MLflow: experiment) of runs, unless the tracker's environment variable names one."""
_NOT_IN_MLFLOW = re.compile(r"[^\w\-. :/]")
_log = logging.getLogger(__name__)


class Trackers:
    """The trackers of one fit; false if there are none.

    A tracker that fails after its start is dropped with a warning; the training goes on.
    """

    def __init__(self, trackers: Sequence[GeneralTracker] = ()) -> None:
        self._trackers = [*trackers]

    def __bool__(self) -> bool:
        return bool(self._trackers)

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Log the values of an epoch, counted from 1, in every tracker."""
        for tracker in tuple(self._trackers):
            shown = _mlflow_names(values) if tracker.name == "mlflow" else dict(values)
            try:
                tracker.log(shown, step=epoch)
            except Exception as error:  # whatever a server or its client raises
                self._trackers.remove(tracker)
                _log.warning("--track %s ended in epoch %d: %r", tracker.name, epoch, error)


NO_TRACKERS = Trackers()
"""The trackers of a fit that is not tracked."""


@contextmanager
def open_trackers(
    settings: LoopSettings,
    root: Path,
    fit: str,
    about: Mapping[str, Any],
    *,
    resumed: bool = False,
) -> Iterator[Trackers]:
    """Start the trackers of a fit, and finish them at the end of the block.

    Only the main process of a launcher starts trackers. Each fit is a run of its own in each
    tracker, so workers do not write into the same run. TensorBoard's files are in
    ``tensorboard/<fit>`` of the run directory; MLflow and W&B write where their own settings say.

    Parameters
    ----------
    settings
        Settings of the training: the trackers, the device.
    root, fit
        The run directory, and the fit's name in it.
    about
        Settings of the fit that trackers show beside its curves.
    resumed
        Whether the fit continues after a kill; TensorBoard then keeps the earlier epochs.

    Raises
    ------
    EvenhandError
        If a tracker does not start.
    """
    with ExitStack() as stack:
        names, trackers = settings.track if is_main() else (), []
        if names:
            make_accelerator(settings)  # first, else a tracker makes one for another device
        for name in names:
            tracker = _started(name, root, fit.replace("/", "-"), about, resumed=resumed)
            stack.callback(_finish, tracker)
            trackers.append(tracker)
        yield Trackers(trackers) if trackers else NO_TRACKERS


def epoch_numbers(loss: float, validation: Mapping[str, float], seconds: float) -> dict[str, float]:
    """Return the values of an epoch for trackers, without those that are undefined."""
    defined = {f"validation/{name}": v for name, v in validation.items() if math.isfinite(v)}
    return {"loss": loss, **defined, "seconds": seconds}


def _started(
    name: TrackerName, root: Path, fit: str, about: Mapping[str, Any], *, resumed: bool
) -> GeneralTracker:
    try:
        if name == "tensorboard" and not resumed:  # remove files of an interrupted fit
            shutil.rmtree(root / name / fit, ignore_errors=True)
        tracker = _new_tracker(name, root, fit)
        tracker.start()
        texts = {key: str(value) for key, value in about.items()}
        if name == "tensorboard":  # would show a table as a second run
            tracker.log({"settings": "  \n".join(f"{k}: {v}" for k, v in texts.items())})
        else:
            tracker.store_init_configuration(texts)
    except Exception as error:  # whatever a server or its client raises
        raise EvenhandError(
            f"--track {name} does not start: {str(error) or repr(error)}\nCorrect this, or "
            f"repeat the command without --track {name}."
        ) from error
    return tracker


def _new_tracker(name: TrackerName, root: Path, fit: str) -> GeneralTracker:
    kind, run = LOGGER_TYPE_TO_CLASS[name], root.resolve().name
    if name == "tensorboard":
        return kind(fit, logging_dir=root / name)
    if name == "mlflow":
        return kind(PROJECT, run_name=f"{run}/{fit}", tags={"run": run})
    return kind(PROJECT, name=f"{run}/{fit}", group=run)


def _finish(tracker: GeneralTracker) -> None:
    try:
        tracker.finish()
    except Exception as error:
        _log.warning("--track %s did not finish: %r", tracker.name, error)


def _mlflow_names(values: Mapping[str, float]) -> dict[str, float]:
    """Return values by names that MLflow accepts; other characters become their code (``_3C_``).

    Examples
    --------
    >>> _mlflow_names({"validation/auc:age:<60": 0.8})
    {'validation/auc:age:_3C_60': 0.8}
    """
    return {
        _NOT_IN_MLFLOW.sub(lambda sign: f"_{ord(sign[0]):X}_", name): value
        for name, value in values.items()
    }
