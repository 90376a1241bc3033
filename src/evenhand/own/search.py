"""Search masks with your own training loop."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from evenhand.errors import EvenhandError, first_few, pick
from evenhand.experiments.study_storage import open_storage
from evenhand.experiments.trials import Report, search
from evenhand.masks.units import Family, Unit
from evenhand.metrics import Target, find_target
from evenhand.metrics.groups import Groups
from evenhand.metrics.pareto import ideal
from evenhand.own.inputs import as_groups, as_labels, as_numbers, of_length
from evenhand.own.search_result import MaskChoice, MaskSearch, confirmed_row, mask_trials
from evenhand.search.confirmation import Candidate, best_candidate, confirmed_candidates
from evenhand.search.spaces import (
    Choice,
    Rates,
    SearchedMethod,
    Space,
    flat_space,
    repeat_space,
    with_methods,
)
from evenhand.search.study import identity_of, open_study, originals, stopping_floor
from evenhand.tables.arrays import group_columns, refuse_other_order
from evenhand.training.loop import DivergedError
from evenhand.workers.engine import Inline

STUDY_NAME = "masks"
GENERATOR = "Make it a generator function that yields the validation scores after each epoch."


Train = Callable[[MaskChoice], Iterable[ArrayLike]]
"""Trains a network and yields the scores of the validation rows after each epoch."""


def search_masks(
    train: Train,
    units: Sequence[Unit],
    *,
    y_true: ArrayLike,
    groups: Any,
    patients: ArrayLike | None = None,
    target: str = "auc_worst",
    trials: int = 30,
    lr: tuple[float, float] = (1e-5, 1e-2),
    confirm: int = 3,
    storage: str | Path | BaseStorage | None = None,
    seed: int = 0,
    confirm_seeds: int = 2,
    baselines: Sequence[str] = ("full", "head"),
    methods: Sequence[str] = ("erm",),
    stopping: bool = True,
    pessimistic: bool = False,
) -> MaskSearch:
    """Search which units to tune, with your own training loop (FairTune).

    For each trial, Optuna draws a mask, a learning rate and one of ``methods``. After each epoch
    the target is computed on the validation rows; trials that fall behind are stopped (successive
    halving). The best choices and the baselines are trained again with fresh seeds. The result is
    the choice with the best mean over these seeds.

    Parameters
    ----------
    train
        A generator function. It builds the network, makes ``choice.units`` trainable
        (`tune_only`), trains with ``choice.lr`` and ``choice.seed`` (for its first weights, too:
        ``torch.manual_seed(choice.seed)`` comes before the network), and yields the scores of the
        validation rows after each epoch: probabilities ``(n,)`` or ``(n, C)``. The scores of the
        last epoch decide.
    units
        The units that a mask may contain, from `units_of`.
    y_true
        ``(n,)`` labels of the validation rows.
    groups
        The groups of the validation rows: a Series, a mapping of names to arrays, or a data frame.
    patients
        ``(n,)`` patients of the validation rows; by default each row is a patient.
    target
        The name of a metric with an aggregate over groups, such as ``auc_worst``, or of a fairness
        metric.
    trials
        The number of trials of the search.
    lr
        The lowest and the highest learning rate.
    confirm
        The number of best choices that are trained again; with 0, the best trial is the result.
    storage
        A file for the study, or a URL or storage of Optuna; the same call continues the study. None
        keeps the study in memory.
    seed
        The seed of the search and of each of its trainings. Confirmation uses the seeds
        ``seed + 1``, ``seed + 2`` and so on.
    confirm_seeds
        The number of trainings of each choice that is confirmed.
    baselines
        Masks that the search tries first, each once at the middle learning rate, and confirms with
        the same seeds: ``"full"``, ``"head"``, or a kind of units (``"attn"``, ``"norm"``,
        ``"mlp"``, ``"conv"`` …). Other trials may draw the same mask.
    methods
        The possible values of ``choice.method``.
    stopping
        Whether trials that fall behind are stopped. The first trial is never stopped, because it
        shows the number of epochs.
    pessimistic
        Whether a trial is judged by the worse end of the target's 95 % interval over patients
        instead of its value.

    Raises
    ------
    EvenhandError
        If there is no unit, the target is undefined on these rows, an argument has the wrong length
        or range, ``train`` yields nothing or values that are not probabilities, or the storage
        holds another study.
    """
    columns = {"y_true": y_true, "patients": patients}
    refuse_other_order({**columns, **group_columns(groups)})
    labels = as_labels(y_true)
    rows = _Rows(
        labels,
        as_groups(groups, len(labels)),
        None if patients is None else of_length(patients, len(labels), "patients"),
        find_target(target, pessimistic=pessimistic),
    )
    _check_types(train, units, trials, lr, confirm, confirm_seeds)
    _check_values(units, rows, trials, lr, confirm, confirm_seeds)
    baseline_masks = _baseline_masks(units, baselines)
    rates = Rates(*lr, seed)
    baseline_choices = {
        name: Choice(mask, rates.middle, seed) for name, mask in baseline_masks.items()
    }
    if not methods:
        raise EvenhandError("methods= is empty; give at least one, such as 'erm'.")
    searched_methods = [SearchedMethod(name, {}, {}, {}) for name in methods]
    space = with_methods(
        flat_space(Family("units", tuple(units)), rates, baseline_choices), searched_methods
    )
    fits = _Fits(train, tuple(units), rows)
    studies = _Studies(
        _open_storage(storage), _identity(units, rows, lr, methods, seed), rows.target
    )
    study = studies.run_trials(space, fits.score, trials, seed, stopping=stopping)
    best = _best_first(study, rows.target)
    if not best:
        raise EvenhandError(
            f"all {trials} trials diverged: their scores are not finite. Give lower learning rates "
            f"(lr= goes up to {lr[1]:g})."
        )
    numbers = _trials_to_confirm(best, space, baseline_choices, confirm)
    candidates = studies.confirm(
        best, {n: space.suggest(study.trials[n]) for n in numbers}, fits.score, seed, confirm_seeds
    ) if confirm else [_unconfirmed(best[0], space)]  # fmt: skip
    chosen = best_candidate(candidates, [rows.target], ideal)
    middle = chosen.median_seed([rows.target], ideal)
    ordered = sorted(candidates, key=lambda candidate: candidate is not chosen)
    return MaskSearch(
        fits.mask_choice(replace(chosen.choice, seed=middle)),
        rows.target,
        mask_trials(study, space),
        pd.DataFrame([confirmed_row(candidate, study, rows.target) for candidate in ordered]),
        study,
    )


@dataclass(frozen=True, eq=False)
class _Rows:
    """The validation rows and the target."""

    labels: NDArray[np.int64]
    groups: Mapping[str, Groups]
    patients: NDArray[Any] | None
    target: Target

    def value(self, scores: ArrayLike, epoch: int) -> float:
        """Check that scores are probabilities, and return the target's value."""
        table = as_numbers(scores, f"scores that train yields after epoch {epoch}")
        classes = max(2, int(self.labels.max()) + 1)
        shapes = [(len(self.labels),)] * (classes == 2) + [(len(self.labels), classes)]
        if table.shape not in shapes:
            raise EvenhandError(
                f"train yields scores {table.shape} after epoch {epoch}; give "
                f"{' or '.join(map(str, shapes))}, one row for each label of y_true."
            )
        if np.isfinite(table).all() and (table.min() < 0 or table.max() > 1):
            raise EvenhandError(
                f"train yields scores from {table.min():.3g} to {table.max():.3g} after epoch "
                f"{epoch}; they must be probabilities from 0 to 1, such as the softmax or sigmoid "
                "of logits."
            )
        patients = np.arange(len(self.labels)) if self.patients is None else self.patients
        if self.target.pessimistic:
            return self.target.pessimistic_value(self.labels, table, self.groups, patients=patients)
        return self.target.value(self.labels, table, self.groups, patients=patients)


@dataclass(frozen=True, eq=False)
class _Fits:
    """Trainings with the user's loop, judged by the target."""

    train: Train
    units: tuple[Unit, ...]
    rows: _Rows

    def mask_choice(self, choice: Choice) -> MaskChoice:
        """Return a choice as the `MaskChoice` that the user's loop takes."""
        units = tuple(unit for unit in self.units if unit.name in choice.mask)
        return MaskChoice(units, choice.lr, choice.seed, choice.method)

    def score(self, choice: Choice, report: Report) -> tuple[float, ...]:
        """Train with a choice, and return the target's value after the last epoch."""
        epochs: Any = self.train(self.mask_choice(choice))
        if not isinstance(epochs, Iterable):
            raise EvenhandError(f"train returns {type(epochs).__name__}. {GENERATOR}")
        value = None
        with ExitStack() as stack:
            if isinstance(epochs, Generator):
                stack.callback(epochs.close)
            for number, scores in enumerate(epochs, 1):
                value = self.rows.value(scores, number)
                if math.isnan(value):
                    raise DivergedError(f"the scores of epoch {number} are not finite.")
                report(number, (value,))
        if value is None:
            raise EvenhandError(f"train yields nothing. {GENERATOR}")
        return (value,)


@dataclass(frozen=True, eq=False)
class _Studies:
    """The two studies of a search: trials, and trainings that confirm."""

    storage: BaseStorage
    identity: str
    target: Target

    def run_trials(
        self, space: Space[Choice], score: Any, trials: int, seed: int, *, stopping: bool
    ) -> Study:
        """Run the trials and return the study; ``stopping`` never stops the first trial."""
        study = self._open(STUDY_NAME, 0)
        search(study, space, score, min(1, trials), seed, Inline())
        finished = [trial for trial in originals(study) if trial.state is TrialState.COMPLETE]
        if stopping and finished:
            study = self._open(STUDY_NAME, int(finished[0].user_attrs["epochs"]))
        search(study, space, score, trials, seed, Inline())
        return study

    def confirm(
        self,
        best: Sequence[FrozenTrial],
        choices: dict[int, Choice],
        score: Any,
        seed: int,
        count: int,
    ) -> list[Candidate]:
        """Train choices again with ``count`` fresh seeds each."""
        repeats = repeat_space(choices, range(seed + 1, seed + 1 + count))
        study = self._open(f"{STUDY_NAME}-confirmation", 0)
        search(study, repeats, score, int(repeats.size), seed, Inline())
        return confirmed_candidates(study, STUDY_NAME, best, choices, 1)

    def _open(self, name: str, epochs: int) -> Study:
        directions = [self.target.direction]
        floor = stopping_floor(epochs, 0.0)
        return open_study(
            self.storage, name, directions, self.identity, prune_until=epochs, prune_from=floor
        )


def _check_types(train: Any, units: Any, trials: Any, lr: Any, confirm: Any, seeds: Any) -> None:
    if not callable(train):
        raise EvenhandError(f"train={train!r:.60} is no function. {GENERATOR}")
    if others := [unit for unit in units if not isinstance(unit, Unit)]:
        raise EvenhandError(f"units= holds {others[0]!r:.60}; give units of units_of(network).")
    if not (isinstance(lr, tuple | list) and len(lr) == 2 and all(isinstance(r, Real) for r in lr)):
        raise EvenhandError(
            f"lr={lr!r}: give the lowest and the highest rate, such as (1e-5, 1e-2)."
        )
    counts = {"trials": trials, "confirm": confirm, "confirm_seeds": seeds}
    if wrong := {name: count for name, count in counts.items() if not isinstance(count, Integral)}:
        raise EvenhandError(f"{wrong}: give whole numbers.")


def _check_values(
    units: Sequence[Unit],
    rows: _Rows,
    trials: int,
    lr: tuple[float, float],
    confirm: int,
    seeds: int,
) -> None:
    if not units:
        raise EvenhandError(
            "units= is empty, so there is no mask to search. Give units_of(network)."
        )
    names = [unit.name for unit in units]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise EvenhandError(f"units= holds {first_few(repeated)} twice; give each unit once.")
    if not 0 < lr[0] <= lr[1] < math.inf:
        raise EvenhandError(f"lr={lr}: give the lowest and the highest rate, both above 0.")
    if trials < 1 or confirm < 0 or seeds < 1:
        raise EvenhandError(
            f"trials={trials}, confirm={confirm}, confirm_seeds={seeds}: trials and confirm_seeds "
            "must be at least 1, confirm at least 0."
        )
    target, count = rows.target, max(2, int(rows.labels.max()) + 1)
    if target.attribute is not None:
        pick("attribute", target.attribute, rows.groups)
    if problems := target.problems(rows.labels, rows.groups, n_classes=count):
        listed = "\n".join(f"  {problem.text}" for problem in problems)
        raise EvenhandError(
            f"target={target.name!r} is undefined on these rows:\n{listed}\nLeave these groups out "
            "(or call them 'unknown'), or choose another target."
        )


def _baseline_masks(units: Sequence[Unit], names: Sequence[str]) -> dict[str, frozenset[str]]:
    kinds = dict.fromkeys(unit.kind for unit in units)
    masks = {kind: frozenset(u.name for u in units if u.kind == kind) for kind in kinds}
    masks |= {"full": frozenset(unit.name for unit in units), "head": frozenset()}
    return {name: pick("baseline", name, masks) for name in names}


def _best_first(study: Study, target: Target) -> list[FrozenTrial]:
    complete = [trial for trial in originals(study) if trial.state is TrialState.COMPLETE]
    sign = -1.0 if target.maximise else 1.0
    return sorted(complete, key=lambda trial: sign * trial.values[0])


def _trials_to_confirm(
    best: Sequence[FrozenTrial],
    space: Space[Choice],
    baselines: Mapping[str, Choice],
    confirm: int,
) -> list[int]:
    """Return the numbers of trials to confirm: the best of each mask, and the baselines."""
    best_of_mask: dict[frozenset[str], int] = {}
    for trial in best:
        best_of_mask.setdefault(space.suggest(trial).mask, trial.number)
    from_baselines = [trial.number for trial in best if trial.user_attrs.get("origin") in baselines]
    return list(dict.fromkeys([*[*best_of_mask.values()][:confirm], *from_baselines]))


def _unconfirmed(trial: FrozenTrial, space: Space[Choice]) -> Candidate:
    choice, values = space.suggest(trial), np.array(trial.values)
    return Candidate(STUDY_NAME, trial.number, choice, values, values[None], (choice.seed,))


def _open_storage(storage: str | Path | BaseStorage | None) -> BaseStorage:
    if storage is None:
        return InMemoryStorage()
    if isinstance(storage, BaseStorage):
        return storage
    text = str(storage)
    return open_storage(text if "://" in text else f"sqlite:///{Path(text).resolve()}")


def _identity(
    units: Sequence[Unit],
    rows: _Rows,
    lr: tuple[float, float],
    methods: Sequence[str],
    seed: int,
) -> str:
    digest = hashlib.sha256(rows.labels.tobytes())
    for name, groups in rows.groups.items():
        digest.update(f"{name} {groups.levels}".encode() + groups.codes.astype(np.int64).tobytes())
    settings = {
        "units": [unit.name for unit in units],
        "target": rows.target.label,
        "lr": list(lr),
        "methods": list(methods),
        "seed": seed,
    }
    return identity_of(settings, digest.hexdigest())
