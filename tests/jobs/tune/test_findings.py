"""What a search leaves: its table, its best, what fresh seeds confirm, which units matter."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial
from scipy.stats import t as student

from evenhand.errors import EvenhandError
from evenhand.jobs.tune.importance import factor_importance, method_importance, unit_importance
from evenhand.jobs.tune.job import delivery_of
from evenhand.metrics import find_rule, find_target
from evenhand.reporting.search_record import StudyRecord
from evenhand.reporting.sections.findings import findings
from evenhand.search.confirmation import Candidate, best_candidate, choices_to_confirm
from evenhand.search.spaces import Choice, Space

AUC, GAP = find_target("auc_worst"), find_target("auc_gap")


def finished(number, mask):
    trial = create_trial(state=TrialState.COMPLETE, value=1.0, params={}, distributions={})
    trial.number = number
    trial.set_user_attr("mask", mask)
    return trial


def test_each_mask_is_confirmed_once_before_any_is_twice():
    space = Space(lambda trial: Choice(frozenset(trial.user_attrs["mask"]), 1e-3, 0), 1)
    best = [finished(number, mask) for number, mask in ((5, "a"), (2, "a"), (7, "b"), (1, ""))]
    assert [*choices_to_confirm(best, space, 3)] == [5, 7, 1]
    assert [*choices_to_confirm(best, space, 4)] == [5, 7, 1, 2]
    assert [*choices_to_confirm(best, space, 9)] == [5, 7, 1, 2]


def candidate(trial, searched, again, study="one"):
    again = np.array(again, dtype=float).reshape(len(again), -1)
    choice = Choice(frozenset(), 1e-3, 0)
    seeds = tuple(range(1, len(again) + 1))
    return Candidate(study, trial, choice, np.atleast_1d(searched), again, seeds)


def test_optimism_is_how_much_better_the_search_looked_whichever_way_is_better():
    item = candidate(4, [0.80, 0.05], [[0.70, 0.10], [0.74, 0.14], [0.72, 0.12]])
    text = item.facts((AUC, GAP))["objectives"]
    half = student.ppf(0.975, 2) * 0.02 / np.sqrt(3)
    assert text["auc_worst"]["mean"] == pytest.approx(0.72)
    assert text["auc_worst"]["optimism"] == pytest.approx(0.08)
    assert text["auc_gap"]["optimism"] == pytest.approx(0.07)
    assert text["auc_worst"]["optimism_low"] == pytest.approx(0.08 - half)
    assert text["auc_gap"]["mean_high"] == pytest.approx(0.12 + half)


@pytest.mark.parametrize(
    ("target", "again", "interval"),
    [
        (AUC, [0.9, 0.3], (0.0, 1.0)),
        (GAP, [0.02, 0.2], (0.0, 1.0)),
        (find_target("eopp1_sum"), [0.2, 1.8], (0.0, None)),
        (find_target("log_loss_worst"), [0.5, 3.0], (None, None)),
    ],
)
def test_the_interval_over_two_seeds_is_cut_at_the_limits_of_the_target(target, again, interval):
    objective = candidate(4, [0.8], [[value] for value in again]).objective(0, target)
    mean, half = np.mean(again), student.ppf(0.975, 1) * np.std(again, ddof=1) / np.sqrt(2)
    low, high = (end if end is not None else free for end, free in
                 zip(interval, (mean - half, mean + half), strict=True))  # fmt: skip
    assert (objective.mean_low, objective.mean_high) == pytest.approx((low, high))
    sign = 1 if target.maximise else -1
    ends = sorted(sign * (0.8 - end) for end in (low, high))
    assert [objective.optimism_low, objective.optimism_high] == pytest.approx(ends)


def test_the_best_mean_wins_over_the_luckiest_search_and_a_divergence_hardly_ever():
    lucky, steady = candidate(1, 0.9, [0.6, 0.7]), candidate(2, 0.8, [0.78, 0.76])
    diverged = candidate(3, 0.95, [0.99, np.nan])
    rule = find_rule(None, (AUC,))
    assert best_candidate([diverged, lucky, steady], (AUC,), rule).trial == 2
    assert best_candidate([diverged], (AUC,), rule).trial == 3
    assert diverged.median_seed((AUC,), rule) == 1
    assert diverged.facts((AUC,))["objectives"]["auc_worst"]["mean"] is None
    assert candidate(1, 0.9, [0.8]).facts((AUC,))["objectives"]["auc_worst"]["optimism_low"] is None
    with pytest.raises(EvenhandError, match=r"every fit .* of one diverged"):
        best_candidate([candidate(1, 0.9, [np.nan, np.nan])], (AUC,), rule)


@given(
    st.lists(
        st.tuples(st.booleans(), st.lists(st.floats(0, 1), min_size=3, max_size=3)), min_size=1
    )
)
def test_no_candidate_that_was_not_chosen_has_a_better_mean(candidates):
    pool = [
        candidate(number, 1.0, again, "baseline" if baseline else "own")
        for number, (baseline, again) in enumerate(candidates)
    ]
    chosen = best_candidate(pool, (AUC,), find_rule(None, (AUC,)))
    assert all(chosen.mean >= item.mean for item in pool)


@pytest.mark.parametrize(
    ("goal", "values", "seed"),
    [
        (AUC, [0.7, 0.9, 0.8], 3),
        (GAP, [0.1, 0.3, 0.2], 3),
        (AUC, [0.7, 0.9], 1),  # of two the worse
        (GAP, [0.1, 0.3], 2),
        (AUC, [0.9, np.nan, 0.7, 0.8], 4),
    ],
)
def test_the_fit_in_the_middle_is_delivered(goal, values, seed):
    chosen, rule = candidate(0, 0.9, values), find_rule(None, (goal,))
    assert chosen.median_seed((goal,), rule) == seed
    job = SimpleNamespace(task=SimpleNamespace(targets=(goal,)), rule=rule)
    result = SimpleNamespace(contender=SimpleNamespace(name="full"), chosen=chosen)
    delivery = delivery_of(job, result)
    assert (delivery.seed, delivery.seeds) == (seed, chosen.seeds)


def test_of_several_goals_the_rule_says_which_fit_is_in_the_middle():
    goals = (find_target("auc"), AUC)
    fits = candidate(0, [0.9, 0.9], [[0.80, 0.70], [0.85, 0.69], [0.90, 0.50]])
    assert fits.median_seed(goals, find_rule("budget=6", goals)) == 3  # the first is refused
    assert fits.median_seed(goals, find_rule("minimax", goals)) in fits.seeds


def test_importance_is_the_mean_difference_of_trials_with_and_without_a_unit():
    trials = pd.DataFrame(
        {
            "state": ["complete"] * 5 + ["pruned"],
            "mask": ["a b", "a", "a c", "", "", "a"],
            "auc_worst": [0.8, 0.9, 0.7, 0.5, 0.6, 0.0],
        }
    )
    (row,) = unit_importance(trials, (AUC,))  # b and c are tuned by one trial alone
    assert (row.unit, row.trials_with, row.trials_without) == ("a", 3, 2)
    assert row.difference == pytest.approx(0.8 - 0.55)
    first, other = np.array([0.8, 0.9, 0.7]), np.array([0.5, 0.6])
    parts = [first.var(ddof=1) / 3, other.var(ddof=1) / 2]
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 1)
    half = student.ppf(0.975, freedom) * np.sqrt(sum(parts))
    assert row.low == pytest.approx(0.25 - half)
    assert row.high == pytest.approx(0.25 + half)


def test_values_without_spread_have_a_difference_and_no_warning():
    trials = pd.DataFrame(
        {"state": ["complete"] * 4, "mask": ["a", "a", "", ""], "auc_worst": [0.8, 0.8, 0.6, 0.6]}
    )
    (row,) = unit_importance(trials, (AUC,))
    assert row.difference == row.low == row.high == pytest.approx(0.2)


def test_a_trial_whose_worker_died_is_in_the_table(tmp_path):
    import optuna

    from evenhand.jobs.tune.searching import study_table

    def suggest(trial):
        return Choice(frozenset(), trial.suggest_float("lr", 1e-4, 1e-2), 0)

    study = optuna.create_study(study_name="run/one")
    for draw, state in ((True, "COMPLETE"), (True, "FAIL"), (False, "FAIL")):
        trial = study.ask()
        if draw:
            suggest(trial)
        study.tell(trial, 0.7 if state == "COMPLETE" else None, state=TrialState[state])
    table = study_table(study, Space(suggest, np.inf), (AUC,))
    assert table["state"].tolist() == ["complete", "fail", "fail"]
    assert table["pareto"].tolist() == [True, False, False]
    assert table["lr"].notna().tolist() == [True, True, False]


def chosen_by(rng, count, worth):
    """Return choices drawn at random, and values that depend on what ``worth`` says."""
    names = ("erm", "group-dro")
    choices = [
        Choice(
            frozenset(unit for unit in "abcd" if rng.random() < 0.5),
            float(10 ** rng.uniform(-4, -2)),
            0,
            method := names[int(rng.integers(2))],
            (("rate", float(rng.random())),) if method == "group-dro" else (),
        )
        for _ in range(count)
    ]
    values = np.array([worth(choice) for choice in choices]) + rng.normal(0, 0.01, count)
    return choices, values[:, None]


@pytest.mark.parametrize(
    ("factor", "worth"),
    [
        ("method", lambda choice: float(choice.method == "group-dro")),
        ("mask", lambda choice: float("a" in choice.mask)),
        ("rate", lambda choice: np.log10(choice.lr)),
    ],
)
def test_the_factor_that_values_depend_on_is_the_important_one(factor, worth):
    rows = factor_importance(*chosen_by(np.random.default_rng(0), 40, worth), (AUC,))
    lost = {row.factor: row.lost for row in rows}
    assert rows[0].explained > 0.8
    assert lost.pop(factor) > 0.8
    assert max(lost.values()) < 0.05


def test_noise_is_explained_by_no_factor_and_few_trials_by_none():
    rng = np.random.default_rng(0)
    rows = factor_importance(*chosen_by(rng, 40, lambda choice: 0.0), (AUC,))
    assert {row.factor for row in rows} == {"mask", "method", "rate"}
    assert rows[0].explained <= 0
    assert factor_importance(*chosen_by(rng, 19, lambda choice: 0.0), (AUC,)) == []


def test_a_method_is_compared_with_all_others():
    table = pd.DataFrame(
        {
            "state": ["complete"] * 5 + ["pruned"],
            "method": ["erm", "erm", "jtt", "jtt", "swad", "swad"],
            "auc_worst": [0.6, 0.7, 0.8, 0.9, 0.7, 0.1],
        }
    )
    rows = {row.method: row for row in method_importance(table, (AUC,))}
    assert rows.keys() == {"erm", "jtt"}  # of swad one trial was trained to its end
    assert rows["jtt"].difference == pytest.approx(0.85 - 2.0 / 3)
    assert (rows["jtt"].trials_with, rows["jtt"].trials_without) == (2, 3)


@pytest.mark.parametrize(
    ("explained", "sentence"),
    [
        (0.62, "the method by 50 and the learning rate by 0 percentage points"),
        (-0.1, "the 24 trials are too few or too similar"),
    ],
)
def test_the_page_says_which_factor_matters_or_that_none_can_be_told(explained, sentence):
    about = {"objective": "auc_worst", "explained": explained, "trials": 24}
    factors = [
        {"factor": "rate", "lost": -0.01, **about},
        {"factor": "method", "lost": 0.5, **about},
    ]
    chosen = {
        "study": "one",
        "trial": 3,
        "method": "group-dro",
        "method_settings": {"rate": 0.0532},
        "lr": 1e-3,
    }
    study = StudyRecord(name="one", chosen=chosen, factors=factors)
    laid_out = findings(study, (AUC,))
    assert laid_out.choice == "Method chosen: group-dro (rate 0.053), at a learning rate of 0.001."
    assert sentence in laid_out.factors[0]
