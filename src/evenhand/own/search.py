"""Search of masks with the user's own training loop."""

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

from evenhand.errors import EvenhandError, pick, some
from evenhand.experiments.study_storage import open_storage
from evenhand.experiments.trials import Report, search
from evenhand.masks.units import Family, Unit
from evenhand.metrics import Target, find_target
from evenhand.metrics.groups import Groups
from evenhand.metrics.pareto import ideal
from evenhand.own.inputs import as_groups, as_labels, as_numbers, of_length
from evenhand.own.search_result import MaskChoice, MaskSearch, confirmed_row, trials_table
from evenhand.search.confirmation import Candidate, best_candidate, confirmed_candidates
from evenhand.search.methods import SearchedMethod, with_methods
from evenhand.search.space import Space
from evenhand.search.spaces import Choice, Rates, flat_space, repeat_space
from evenhand.search.study import identity_of, open_study, originals, stopping_floor
from evenhand.tables.row_order import group_columns, refuse_other_order
from evenhand.training.loop import DivergedError
from evenhand.workers.inline import Inline

NAME = "masks"
GENERATOR = "Make it a generator function that yields the validation scores after each epoch."


Train = Callable[[MaskChoice], Iterable[ArrayLike]]
"""Trains a network, and yields the scores of the validation rows after each epoch."""


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

    Optuna draws a mask, a learning rate and, of several, a method for each trial. After each
    epoch the target is computed on the validation rows; trials that fall behind are stopped
    (successive halving). The best choices and the baselines are trained again with fresh seeds; the
    choice with the best mean wins.

    Parameters
    ----------
    train
        A generator function: it builds the network, lets ``choice.units`` change (`tune_only`),
        trains with ``choice.lr`` and ``choice.seed``, and yields the scores of the validation rows
        after each epoch, ``(n,)`` or ``(n, C)`` probabilities. The last ones count.
    units
        The units that a mask may contain, from `units_of`.
    y_true, groups, patients
        Labels ``(n,)`` of the validation rows, their groups (a Series, a mapping of names to
        arrays, or a data frame), and their patients.
    target
        A metric with an aggregate over groups, such as ``auc_worst``, or a fairness metric.
    trials
        The number of trainings in the search.
    lr
        The lowest and the highest learning rate.
    confirm
        How many of the best choices are trained again; 0 chooses by the search alone.
    storage
        A file for the study, Optuna's URL or storage; the same call continues it. None keeps the
        study in memory.
    seed
        The seed of the search and of every training in it; confirmation uses the next seeds.
    confirm_seeds
        The number of trainings of each choice that is confirmed.
    baselines
        Known strategies. The search tries them first, each at the middle learning rate, and
        confirms them with the same seeds: ``"full"``, ``"head"``, or the kind of the units
        (``"attn"``, ``"norm"``, ``"mlp"``, ``"conv"`` …). Each has one trial, without a search
        of its learning rate; other trials may have the same mask.
    methods
        The values of ``choice.method``.
    stopping
        Whether trials that fall behind are stopped. The first trial always runs to its end, as it
        shows how many epochs there are.
    pessimistic
        Whether the worse end of the target's 95 % interval over patients counts, not its value.

    Raises
    ------
    EvenhandError
        There is no unit, the target is undefined on these rows, an argument has another length or
        range, ``train`` yields nothing or no probabilities, or the storage has another study.
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
    _check(units, rows, trials, lr, confirm, confirm_seeds)
    masks = _known_masks(units, baselines)
    rates = Rates(*lr, seed)
    first = {name: Choice(mask, rates.middle, seed) for name, mask in masks.items()}
    if not methods:
        raise EvenhandError("methods= is empty; name one, such as 'erm'.")
    own_methods = [SearchedMethod(name, {}, {}, {}) for name in methods]
    space = with_methods(flat_space(Family("units", tuple(units)), rates, first), own_methods)
    fits = _Fits(train, tuple(units), rows)
    studies = _Studies(_opened(storage), _identity(units, rows, lr, methods, seed), rows.target)
    study = studies.searched(space, fits.score, trials, seed, stopping=stopping)
    best = _best_first(study, rows.target)
    if not best:
        raise EvenhandError(
            f"all {trials} trials diverged: their scores are not finite. Give a lower lr=, up to "
            f"{lr[1]:g} now."
        )
    numbers = _to_confirm(best, space, first, confirm)
    candidates = studies.confirmed(
        best, {n: space.ask(study.trials[n]) for n in numbers}, fits.score, seed, confirm_seeds
    ) if confirm else [_unconfirmed(best[0], space)]  # fmt: skip
    chosen = best_candidate(candidates, [rows.target], ideal)
    middle = chosen.median([rows.target], ideal)
    ordered = sorted(candidates, key=lambda candidate: candidate is not chosen)
    return MaskSearch(
        fits.own(replace(chosen.choice, seed=middle)),
        rows.target,
        trials_table(study, space),
        pd.DataFrame([confirmed_row(candidate, study, rows.target) for candidate in ordered]),
        study,
    )


@dataclass(frozen=True, eq=False)
class _Rows:
    """The validation rows, and the target that is computed on them."""

    labels: NDArray[np.int64]
    groups: Mapping[str, Groups]
    patients: NDArray[Any] | None
    target: Target

    def value(self, scores: ArrayLike, epoch: int) -> float:
        """Return the target of scores, after a check that they are probabilities."""
        table = as_numbers(scores, f"scores that train yields after epoch {epoch}")
        classes = max(2, int(self.labels.max()) + 1)
        wanted = [(len(self.labels),)] * (classes == 2) + [(len(self.labels), classes)]
        if table.shape not in wanted:
            raise EvenhandError(
                f"train yields scores {table.shape} after epoch {epoch}; give "
                f"{' or '.join(map(str, wanted))}, one row for each of y_true."
            )
        if np.isfinite(table).all() and (table.min() < 0 or table.max() > 1):
            raise EvenhandError(
                f"train yields scores from {table.min():.3g} to {table.max():.3g} after epoch "
                f"{epoch}; they are probabilities, from 0 to 1. Give the softmax or sigmoid of "
                "logits."
            )
        patients = np.arange(len(self.labels)) if self.patients is None else self.patients
        if self.target.pessimistic:
            return self.target.pessimistic_value(self.labels, table, self.groups, patients=patients)
        return self.target.value(self.labels, table, self.groups, patients=patients)


@dataclass(frozen=True, eq=False)
class _Fits:
    """Trainings of the user's loop."""

    train: Train
    units: tuple[Unit, ...]
    rows: _Rows

    def own(self, choice: Choice) -> MaskChoice:
        """Return a choice in the form that the user's loop takes."""
        units = tuple(unit for unit in self.units if unit.name in choice.mask)
        return MaskChoice(units, choice.lr, choice.seed, choice.method)

    def score(self, choice: Choice, report: Report) -> tuple[float, ...]:
        """Train a choice, and return its target after the last epoch."""
        epochs: Any = self.train(self.own(choice))
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
    """The studies of one search in its storage."""

    storage: BaseStorage
    identity: str
    target: Target

    def searched(
        self, space: Space[Choice], score: Any, trials: int, seed: int, *, stopping: bool
    ) -> Study:
        """Return the finished study; trials after the first are stopped where they fall behind."""
        study = self._open(NAME, 0)
        search(study, space, score, min(1, trials), seed, Inline())
        ended = [trial for trial in originals(study) if trial.state is TrialState.COMPLETE]
        if stopping and ended:
            study = self._open(NAME, int(ended[0].user_attrs["epochs"]))
        search(study, space, score, trials, seed, Inline())
        return study

    def confirmed(
        self,
        best: Sequence[FrozenTrial],
        choices: dict[int, Choice],
        score: Any,
        seed: int,
        count: int,
    ) -> list[Candidate]:
        """Train choices again with fresh seeds."""
        repeats = repeat_space(choices, range(seed + 1, seed + 1 + count))
        study = self._open(f"{NAME}-confirmation", 0)
        search(study, repeats, score, int(repeats.size), seed, Inline())
        return confirmed_candidates(study, NAME, best, choices, 1)

    def _open(self, name: str, epochs: int) -> Study:
        directions = [self.target.direction]
        floor = stopping_floor(epochs, 0.0)
        return open_study(
            self.storage, name, directions, self.identity, prune_until=epochs, prune_from=floor
        )


def _check_types(train: Any, units: Any, trials: Any, lr: Any, confirm: Any, seeds: Any) -> None:
    if not callable(train):
        raise EvenhandError(f"train={train!r:.60} is no function. {GENERATOR}")
    if other := [unit for unit in units if not isinstance(unit, Unit)]:
        raise EvenhandError(f"units= holds {other[0]!r:.60}; give units of units_of(network).")
    if not (isinstance(lr, tuple | list) and len(lr) == 2 and all(isinstance(r, Real) for r in lr)):
        raise EvenhandError(f"lr={lr!r}: give the lowest and the highest rate, as (1e-5, 1e-2).")
    counts = {"trials": trials, "confirm": confirm, "confirm_seeds": seeds}
    if wrong := {name: count for name, count in counts.items() if not isinstance(count, Integral)}:
        raise EvenhandError(f"{wrong}: give whole numbers.")


def _check(
    units: Sequence[Unit],
    rows: _Rows,
    trials: int,
    lr: tuple[float, float],
    confirm: int,
    seeds: int,
) -> None:
    if not units:
        raise EvenhandError(
            "units= is empty, so there is no mask to search. Give those of units_of(network)."
        )
    names = [unit.name for unit in units]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise EvenhandError(f"units= holds {some(twice)} twice; every unit is one bit.")
    if not 0 < lr[0] <= lr[1] < math.inf:
        raise EvenhandError(f"lr={lr}: give the lowest and the highest rate, both above 0.")
    if trials < 1 or confirm < 0 or seeds < 1:
        raise EvenhandError(
            f"trials={trials}, confirm={confirm}, confirm_seeds={seeds}: these are counts; trials "
            "and confirm_seeds from 1 up, confirm from 0."
        )
    target, count = rows.target, max(2, int(rows.labels.max()) + 1)
    if target.attribute is not None:
        pick("attribute", target.attribute, rows.groups)
    if problems := target.problems(rows.labels, rows.groups, n_classes=count):
        listed = "\n".join(f"  {problem.text}" for problem in problems)
        raise EvenhandError(
            f"target={target.name!r} is undefined on these rows:\n{listed}\nLeave such groups out "
            "of the rows (or name them 'unknown'), or take another target."
        )


def _known_masks(units: Sequence[Unit], names: Sequence[str]) -> dict[str, frozenset[str]]:
    kinds = dict.fromkeys(unit.kind for unit in units)
    masks = {kind: frozenset(u.name for u in units if u.kind == kind) for kind in kinds}
    masks |= {"full": frozenset(unit.name for unit in units), "head": frozenset()}
    return {name: pick("baseline", name, masks) for name in names}


def _best_first(study: Study, target: Target) -> list[FrozenTrial]:
    complete = [trial for trial in originals(study) if trial.state is TrialState.COMPLETE]
    sign = -1.0 if target.maximise else 1.0
    return sorted(complete, key=lambda trial: sign * trial.values[0])


def _to_confirm(
    best: Sequence[FrozenTrial],
    space: Space[Choice],
    first: Mapping[str, Choice],
    confirm: int,
) -> list[int]:
    """Return the trials to train again: the best of each mask, and those of known strategies."""
    masks: dict[frozenset[str], int] = {}
    for trial in best:
        masks.setdefault(space.ask(trial).mask, trial.number)
    from_baselines = [trial.number for trial in best if trial.user_attrs.get("origin") in first]
    return list(dict.fromkeys([*[*masks.values()][:confirm], *from_baselines]))


def _unconfirmed(trial: FrozenTrial, space: Space[Choice]) -> Candidate:
    choice, values = space.ask(trial), np.array(trial.values)
    return Candidate(NAME, trial.number, choice, values, values[None], (choice.seed,))


def _opened(storage: str | Path | BaseStorage | None) -> BaseStorage:
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
