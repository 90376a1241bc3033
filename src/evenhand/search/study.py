"""Open, continue and summarise Optuna studies."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

import optuna
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from evenhand.errors import EvenhandError
from evenhand.settings import current_settings

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
HALVING = 2  # half of the trials continue after each of the epochs floor, 2 · floor, 4 · floor …
FLOOR = 0.25  # share of the epochs that every trial is trained for
ADOPTED = "adopted"
"""User attribute of a trial that another study trained; its value is the trial's number there."""

StudyDirection = Literal["maximize", "minimize"]


def identity_of(settings: Mapping[str, Any], fingerprint: str) -> str:
    """Return a run's settings and data as text; only a study with the same text is continued."""
    return json.dumps([settings, fingerprint], sort_keys=True)


def check_study(
    storage: BaseStorage, name: str, directions: Sequence[StudyDirection], identity: str
) -> None:
    """Refuse a name that the storage uses for another study; arguments as in `open_study`.

    Raises
    ------
    EvenhandError
        If the study has other settings, data or directions. An empty study without attributes is
        accepted: its command was killed before it wrote the identity.
    """
    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return
    attributes = study.user_attrs
    fresh = not attributes and not study.get_trials(deepcopy=False)
    earlier = identity if fresh else _current(attributes.get("identity"))
    if earlier != identity or [direction.name.lower() for direction in study.directions] != [
        *directions
    ]:
        raise EvenhandError(
            f"the storage holds a study {name!r} of other settings or data. Name another folder "
            "with --out (studies are named after it), or another --storage."
        )


def _current(identity: Any) -> Any:
    """Return an identity as `identity_of` makes it today, with today's names of settings."""
    try:
        settings, fingerprint = json.loads(identity)
        return identity_of(current_settings(settings), fingerprint)
    except (TypeError, ValueError, AttributeError):
        return identity


def open_study(
    storage: BaseStorage,
    name: str,
    directions: Sequence[StudyDirection],
    identity: str,
    *,
    prune_until: int,
    prune_from: int = 1,
) -> Study:
    """Open the study with a name, or create it.

    Parameters
    ----------
    storage
        From :func:`evenhand.experiments.study_storage.open_storage`.
    name
        The study's name in that storage.
    directions
        ``maximize`` or ``minimize``, one for each objective.
    identity
        Its settings and data, from :func:`identity_of`.
    prune_until
        The epochs of a full training run; with one objective, trials that do worse than others
        are stopped earlier. 0: no trial is stopped.
    prune_from
        The epochs that every trial is trained for, from :func:`stopping_floor`.

    Raises
    ------
    EvenhandError
        If the storage has a study of that name with other settings, data or directions.
    """
    check_study(storage, name, directions, identity)
    pruner: BasePruner = (
        _Halving(prune_from, prune_until) if prune_until and len(directions) == 1 else NopPruner()
    )
    study = optuna.create_study(
        storage=storage, study_name=name, directions=directions, pruner=pruner, load_if_exists=True
    )
    study.set_user_attr("identity", identity)
    return study


def stopping_floor(epochs: int, warmup: float) -> int:
    """Return the number of epochs that every trial is trained for.

    It is a quarter of all epochs, and at least the warm-up and one full epoch after it. A mask with
    few parameters learns fast at first: during and just after the warm-up, it scores better than
    masks that are better at the end.

    Parameters
    ----------
    epochs
        The epochs of a full training run.
    warmup
        Share of these epochs in which the learning rate rises.

    Examples
    --------
    >>> stopping_floor(4, 0.1), stopping_floor(10, 0.1), stopping_floor(30, 0.1)
    (2, 3, 8)
    """
    return max(math.ceil(epochs * FLOOR), math.ceil(epochs * warmup) + 1)


def adopt(study: Study, trials: Sequence[FrozenTrial]) -> None:
    """Add the trials of another study that this study does not have yet.

    Each of these trials has the attribute ``adopted``, and their order is always the same. So if a
    kill interrupted the first call, a second call adds the missing trials.
    """
    present = study.get_trials(deepcopy=False)
    study.add_trials(trials[sum(ADOPTED in trial.user_attrs for trial in present) :])


def drop_study(storage: BaseStorage, name: str) -> None:
    """Delete a study and its trials, if the storage has a study of that name."""
    with suppress(KeyError):
        optuna.delete_study(study_name=name, storage=storage)


class _Halving(SuccessiveHalvingPruner):
    """Stops trials that do worse than others, but never a trial that has reached its last epoch."""

    def __init__(self, floor: int, epochs: int) -> None:
        super().__init__(min_resource=floor, reduction_factor=HALVING)
        self._epochs = epochs

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether to stop a trial after the last epoch that it reported."""
        return trial.last_step != self._epochs and super().prune(study, trial)


def originals(study: Study) -> list[FrozenTrial]:
    """Return the finished trials that do not repeat an earlier trial."""
    done = study.get_trials(deepcopy=False, states=FINISHED)
    return [trial for trial in done if "repeats" not in trial.user_attrs]


def label_of(study: Study) -> str:
    """Return the name of a study without the name of its run."""
    return study.study_name.rpartition("/")[2]


def summary_of(study: Study) -> str:
    """Return a summary of a study: its best value, and how its trials ended."""
    trials = study.get_trials(deepcopy=False)
    parts = []
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    if complete and not study._is_multi_objective():
        parts.append(f"best {study.best_value:.4f} (trial {study.best_trial.number})")
    elif complete:
        parts.append(f"{len(study.best_trials)} on the Pareto front")
    trained = [trial for trial in trials if ADOPTED not in trial.user_attrs]
    parts.append(f"{sum(trial.state is TrialState.PRUNED for trial in trained)} pruned")
    repeated = sum("repeats" in trial.user_attrs for trial in trials)
    return ", ".join([*parts, *([f"{repeated} repeated"] if repeated else [])])


optuna.logging.set_verbosity(logging.WARNING)
