"""The search of one contender: its start, trials, confirmation and choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from evenhand.errors import EvenhandError
from evenhand.experiments.task import Task
from evenhand.experiments.task_cache import FitContext
from evenhand.experiments.trials import search
from evenhand.jobs.tune.contenders import AllowedMethods, Contender, fairtune_space, learning_rates
from evenhand.jobs.tune.fitting import remove_other_fits, score_and_save_choice, score_choice
from evenhand.jobs.tune.settings import TuneSettings
from evenhand.masks.masks import Mask, find_units
from evenhand.masks.strategies import strategy_mask
from evenhand.metrics import Target, costs, front, rank_points
from evenhand.metrics.pareto import PickRule
from evenhand.networks.model import Model
from evenhand.search.confirmation import (
    Candidate,
    best_candidate,
    choices_to_confirm,
    confirmed_candidates,
)
from evenhand.search.spaces import Choice, Space, expressible_masks, mask_family, repeat_space
from evenhand.search.study import (
    ADOPTED,
    FINISHED,
    StudyDirection,
    adopt,
    identity_of,
    open_study,
    originals,
    stopping_floor,
)
from evenhand.workers import Engine


@dataclass(frozen=True, eq=False)
class SearchJob:
    """What all searches of a run share: data, context of the fits, rule, storage and workers."""

    task: Task
    context: FitContext[TuneSettings]
    rule: PickRule
    storage: BaseStorage
    engine: Engine


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The finished search of a contender: its study, tables of trials, candidates and choice."""

    contender: Contender
    study: Study
    tables: tuple[pd.DataFrame, ...]
    candidates: tuple[Candidate, ...]
    chosen: Candidate

    def tuned_baseline(self) -> TunedBaseline | None:
        """Return the trials that FairTune's search may adopt; None if it does not contain them."""
        if self.contender.mask is None:
            return None
        trials, space = originals(self.study), self.contender.space
        best = space.suggest(self.study.trials[self.best]).lr
        choices = [space.suggest(trial) for trial in trials]
        return TunedBaseline(self.contender.name, self.contender.mask, trials, choices, best)

    @property
    def best(self) -> int:
        """The trial with the best value in the search."""
        return self.candidates[0].trial


def study_identity(
    task: Task, settings: TuneSettings, root: Path, name: str
) -> tuple[str, list[StudyDirection], str]:
    """Return the name of a study in its storage, its directions and its identity."""
    return (
        f"{root.resolve().name}/{name}",
        [target.direction for target in task.targets],
        identity_of(settings.recorded(), task.fingerprint),
    )


def search_contender(
    job: SearchJob,
    contender: Contender,
    start: SearchStart | None = None,
    others: Sequence[Candidate] = (),
) -> SearchResult:
    """Run a contender's search and confirmation, and choose a candidate.

    Parameters
    ----------
    job
        The data, storage and workers of all searches.
    contender
        The contender.
    start
        The space with its first trials, and adopted trials; None for the contender's own space.
    others
        Candidates of baselines that the contender may choose, too.
    """
    targets, settings = job.task.targets, job.context.settings
    space = start.space if start else contender.space
    study = _study(job, contender.name, adopted=start.adopted if start else ())
    with job.context.run.phase(f"search {contender.name}"):
        # without confirmation, the fit of a trial is delivered, and must be saved
        score_trial = score_choice if settings.confirm else score_and_save_choice
        score = partial(score_trial, job.context, contender.name)
        search(study, space, score, settings.trials, settings.seed, job.engine)
    tables = [study_table(study, space, targets)]
    best = ranked_trials(study, targets, job.rule)
    own_trials = [trial for trial in best if ADOPTED not in trial.user_attrs]
    if settings.confirm:
        candidates, confirmation_tables = _confirm(job, contender, space, own_trials)
        tables += confirmation_tables
    else:
        candidates = [_unconfirmed(contender.name, trial, space) for trial in own_trials[:1]]
    pool = (*candidates, *others)
    chosen = best_candidate(pool, targets, job.rule)
    remove_other_fits(job.context.run, contender.name, _fitted_choices(chosen, contender))
    return SearchResult(contender, study, tuple(tables), pool, chosen)


def _fitted_choices(chosen: Candidate, contender: Contender) -> list[Choice]:
    """Return the choices of the fits that may be delivered, if they are the contender's own."""
    if chosen.study != contender.name:
        return []
    return [replace(chosen.choice, seed=seed) for seed in chosen.seeds]


def _confirm(
    job: SearchJob, contender: Contender, space: Space[Choice], best: Sequence[FrozenTrial]
) -> tuple[list[Candidate], list[pd.DataFrame]]:
    """Train the best trials again with fresh seeds; return candidates, and a table of the fits."""
    targets, settings = job.task.targets, job.context.settings
    choices = choices_to_confirm(best, space, settings.confirm)
    if not choices:
        return [], []
    seeds = range(settings.seed + 1, settings.seed + 1 + settings.confirm_seeds)
    repeats = repeat_space(choices, seeds)
    study = _study(job, contender.confirmation, stopping=False)
    with job.context.run.phase(f"search {contender.confirmation}"):
        score = partial(score_and_save_choice, job.context, contender.name)
        search(study, repeats, score, int(repeats.size), settings.seed, job.engine)
    candidates = confirmed_candidates(study, contender.name, best, choices, len(targets))
    return candidates, [study_table(study, repeats, targets)]


def _unconfirmed(name: str, trial: FrozenTrial, space: Space[Choice]) -> Candidate:
    """Return a candidate of a trial that was not trained again."""
    choice, values = space.suggest(trial), np.array(trial.values)
    return Candidate(name, trial.number, choice, values, values[None], (choice.seed,))


def _study(
    job: SearchJob, name: str, *, stopping: bool = True, adopted: Sequence[FrozenTrial] = ()
) -> Study:
    """Open a study of the run, and add adopted trials."""
    settings = job.context.settings
    study = open_study(
        job.storage,
        *study_identity(job.task, settings, job.context.run.root, name),
        prune_until=settings.epochs if stopping and settings.stopping == "halving" else 0,
        prune_from=stopping_floor(settings.epochs, settings.warmup),
    )
    adopt(study, adopted)
    return study


def study_table(study: Study, space: Space[Choice], targets: Sequence[Target]) -> pd.DataFrame:
    """Return a table with a row for each trial that ended.

    Returns
    -------
    pandas.DataFrame
        The columns ``study``, ``number``, ``state`` (complete, pruned, repeated, fail), ``origin``
        (the strategy or baseline that the trial comes from, else ``sampler``), ``repeats`` (the
        number of an earlier trial with the same choice), ``adopted`` (the number of the trial in
        the study of the baseline ``origin``, which trained it), one for each target (a pruned trial
        has the value that it last reported), ``pareto``, ``epochs``, ``seconds`` (of training;
        empty if the trial repeats another, failed or is adopted), ``lr``, ``seed``, ``mask`` (unit
        names), ``method``, and ``method_settings`` (``name=value``, separated by spaces).
    """
    trials = study.get_trials(deepcopy=False, states=(*FINISHED, TrialState.FAIL))
    label = study.study_name.rpartition("/")[2]
    table = pd.DataFrame([_row(trial, space, targets) for trial in trials])
    table.insert(0, "study", label)
    done = (table["state"] == "complete").to_numpy()
    values = table[[target.name for target in targets]].to_numpy(np.float64)
    cost = np.where(done[:, None], costs(values, targets), np.nan)
    return table.assign(pareto=front(cost))


def ranked_trials(study: Study, targets: Sequence[Target], rule: PickRule) -> list[FrozenTrial]:
    """Return the complete trials without repeats, in the order of the rule, the best first.

    Raises
    ------
    EvenhandError
        If no trial was trained to its end.
    """
    done = [trial for trial in originals(study) if trial.state is TrialState.COMPLETE]
    if not done:
        raise EvenhandError(
            f"no trial of {study.study_name} was trained to its end. Give more --trials, or a "
            "lower --lr-max if the training diverges."
        )
    values = np.array([trial.values for trial in done])
    return [done[index] for index in rank_points(costs(values, targets), rule)]


def _row(trial: FrozenTrial, space: Space[Choice], targets: Sequence[Target]) -> dict[str, Any]:
    choice = _choice(trial, space)
    repeats = trial.user_attrs.get("repeats")
    is_complete = trial.state is TrialState.COMPLETE
    values = trial.values if is_complete else _last_reported(trial, len(targets))
    return {
        "number": trial.number,
        "state": "repeated" if repeats is not None else trial.state.name.lower(),
        "origin": trial.user_attrs.get("origin", "sampler"),
        "repeats": repeats,
        "adopted": trial.user_attrs.get(ADOPTED),
        **{target.name: value for target, value in zip(targets, values, strict=True)},
        "epochs": trial.user_attrs.get("epochs", 0),
        "seconds": trial.user_attrs.get("seconds"),
        "lr": choice and choice.lr,
        "seed": choice and choice.seed,
        "mask": " ".join(sorted(choice.mask)) if choice else "",
        "method": choice.method if choice else "",
        "method_settings": " ".join(f"{k}={v}" for k, v in choice.method_settings)
        if choice
        else "",
    }


def _choice(trial: FrozenTrial, space: Space[Choice]) -> Choice | None:
    """Return the choice of a trial; None if its process died before the choice was drawn."""
    try:
        return space.suggest(trial)
    except ValueError:
        if trial.state is not TrialState.FAIL:
            raise
        return None


def _last_reported(trial: FrozenTrial, count: int) -> list[float]:
    """Return the value that an unfinished trial reported last; NaN if it reported none."""
    if trial.last_step is None:
        return [np.nan] * count
    return [trial.intermediate_values[trial.last_step]]


FIRST_STRATEGIES = ("head", "bitfit", "layernorm", "attention", "full")
"""Strategies whose masks a search tries first, if the family can express them.

The cheapest comes first, because early trials have few trials to be compared with and are hardly
ever stopped early; the most expensive one comes last, when it can be stopped.
"""


@dataclass(frozen=True, eq=False)
class TunedBaseline:
    """A baseline that FairTune's search contains, with the trials of its own search.

    Attributes
    ----------
    name, mask
        The baseline.
    trials, choices
        The trials that trained a model, and the choice of each.
    best_rate
        The learning rate of the best trial.
    """

    name: str
    mask: Mask
    trials: Sequence[FrozenTrial]
    choices: Sequence[Choice]
    best_rate: float


@dataclass(frozen=True, eq=False)
class SearchStart:
    """The space of FairTune's search, with its first trials, and the trials that it adopts."""

    space: Space[Choice]
    adopted: tuple[FrozenTrial, ...]


def fairtune_start(
    task: Task, settings: TuneSettings, allowed: AllowedMethods, tuned: Sequence[TunedBaseline]
) -> SearchStart:
    """Return the start of FairTune's search.

    If only methods are searched, it adopts the trials of all baselines that it contains: each
    method with its default settings. If masks are searched, it adopts the trials of each baseline
    whose mask the family can express exactly. If the family can only approximate the mask (``full``
    also tunes the embedding of a ViT), it tries the nearest mask first, at the baseline's best
    learning rate. Then it tries the other common strategies at the middle learning rate, and each
    other method with its default settings and the largest mask.
    """
    space = partial(fairtune_space, task, settings, allowed)
    if settings.search == "methods":
        adopted = (_adopted_trials(baseline, baseline.mask, space) for baseline in tuned)
        return SearchStart(space({}), tuple(chain.from_iterable(adopted)))
    return _mask_search_start(task, settings, allowed, tuned)


def _mask_search_start(
    task: Task, settings: TuneSettings, allowed: AllowedMethods, tuned: Sequence[TunedBaseline]
) -> SearchStart:
    """Return the start of a search of masks."""
    model, rates = task.model(), learning_rates(settings)
    family = mask_family(model.backbone, settings.family)
    space = partial(fairtune_space, task, settings, allowed)
    masks = {baseline.name: baseline.mask for baseline in tuned}
    strategies = {
        name: masks.get(name) or _strategy_mask(name, model) for name in (*FIRST_STRATEGIES, *masks)
    }
    units = {n: find_units(model.backbone, m) for n, m in strategies.items() if m is not None}
    always = frozenset(unit.name for unit in family.always)
    exact_masks = {
        name: mask
        for name in masks
        for mask in expressible_masks(family, {name: units[name]}).values()
        if _parameters(model, mask | always) == _parameters(model, masks[name])
    }
    best_rates = {baseline.name: baseline.best_rate for baseline in tuned}
    first = {
        name: allowed.default.set(Choice(mask, best_rates.get(name, rates.middle), rates.seed))
        for name, mask in expressible_masks(family, units).items()
        if mask not in exact_masks.values()
    }
    largest = always.union(unit.name for unit in family.units)
    for method in allowed.methods:
        if method is not allowed.default:
            choice = Choice(largest, best_rates.get("full", rates.middle), rates.seed)
            first[method.name] = method.set(choice)
    adopted = (
        _adopted_trials(baseline, exact_masks[baseline.name], space)
        for baseline in tuned
        if baseline.name in exact_masks
    )
    return SearchStart(space(first), tuple(chain.from_iterable(adopted)))


def _adopted_trials(
    tuned: TunedBaseline, mask: Mask, space: Callable[[dict[str, Choice]], Space[Choice]]
) -> Iterator[FrozenTrial]:
    """Yield the trials of a baseline as trials of FairTune's space, where they have ``mask``."""
    choices = {str(n): replace(choice, mask=mask) for n, choice in enumerate(tuned.choices)}
    space_with_choices = space(choices)
    for trial, (_, params) in zip(tuned.trials, space_with_choices.first, strict=True):
        fixed = FixedTrial(dict(params))
        space_with_choices.suggest(fixed)  # sets the distributions of the trial
        yield create_trial(
            state=trial.state,
            values=trial.values if trial.state is TrialState.COMPLETE else None,
            params=dict(params),
            distributions=fixed.distributions,
            intermediate_values=trial.intermediate_values,
            user_attrs={
                "origin": tuned.name,
                ADOPTED: trial.number,
                "epochs": trial.user_attrs.get("epochs", 0),
            },
        )


def _strategy_mask(name: str, model: Model) -> Mask | None:
    """Return the mask of a strategy; None if the network lacks the layers that it tunes."""
    try:
        return strategy_mask(name, model)
    except EvenhandError:
        return None


def _parameters(model: Model, mask: Mask) -> set[int]:
    """Return the parameters that a mask tunes, by their ids."""
    return {id(p) for unit in find_units(model.backbone, mask) for p in unit.parameters}
