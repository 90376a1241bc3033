"""Earlier names of settings and targets, which flags and files still accept."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from evenhand.errors import EvenhandError

SETTINGS: Mapping[str, str] = {"objective": "target", "objective_bound": "pessimistic"}
"""Earlier name of a setting → its name today."""

SSL_SETTINGS: Mapping[str, str] = {"method": "ssl", "label_shares": "label_share"}
"""The same for jobs that pre-train; in other jobs, ``method`` is a mitigation method."""

TARGETS: Mapping[str, str] = {
    "min_auc": "auc_worst",
    "overall_auc": "auc",
    "min_acc": "accuracy_worst",
    "acc_gap": "accuracy_gap",
    "overall_acc": "accuracy",
    "min_acc_argmax": "accuracy_worst_argmax",
    "acc_gap_argmax": "accuracy_gap_argmax",
    "overall_acc_argmax": "accuracy_argmax",
    "max_loss": "log_loss_worst",
    "eodd_difference": "equalized_odds_difference",
}
"""Earlier name of a target → its name today."""


def current_target(text: str) -> str:
    """Return a target with today's name in place of an earlier one.

    Examples
    --------
    >>> current_target("min_auc:age"), current_target("acc_gap=0.02"), current_target("auc_gap")
    ('auc_worst:age', 'accuracy_gap=0.02', 'auc_gap')
    """
    stem, *_ = re.split("[:=]", text, maxsplit=1)
    return TARGETS.get(stem, stem) + text[len(stem) :]


def earlier_settings(fields: Collection[str] = ()) -> Mapping[str, str]:
    """Return the mapping of earlier names to today's, for a job with the settings ``fields``.

    Examples
    --------
    >>> earlier_settings(["ssl", "seed"])["method"], "method" in earlier_settings(["seed"])
    ('ssl', False)
    """
    return {**SETTINGS, **SSL_SETTINGS} if "ssl" in fields else SETTINGS


def refuse_both_names(
    names: Collection[str], fields: Collection[str] = (), word: Callable[[str], str] = str
) -> None:
    """Refuse a setting that the user gives under both its earlier name and today's.

    Parameters
    ----------
    names
        The names of the settings that the user gives.
    fields
        The names of all settings of the job.
    word
        Writes a name as the user does, for example as a flag.

    Raises
    ------
    EvenhandError
        If ``names`` has both names of a setting.
    """
    for name, now in earlier_settings(fields).items():
        if name in names and now in names:
            raise EvenhandError(
                f"{word(name)} is the earlier name of {word(now)}; give one of them."
            )


def current_settings(settings: Mapping[str, Any], fields: Collection[str] = ()) -> dict[str, Any]:
    """Return the settings of a command or a run under today's names.

    ``fields`` are the names of the job's settings: jobs that pre-train used to call their SSL
    objective ``method``. If a setting has both names, the value under today's name counts, unless
    it is None: earlier prunings wrote a stopping ``target`` beside the ``objective``.

    Examples
    --------
    >>> current_settings({"objective": ["min_auc"], "seed": 0})
    {'target': ['auc_worst'], 'seed': 0}
    >>> current_settings({"objective": "auc_gap", "target": "auc_worst=0.8"})
    {'target': 'auc_worst=0.8'}
    """
    names = earlier_settings(fields)
    current: dict[str, Any] = {}
    for key, value in settings.items():
        name = names.get(key, key)
        if name == key or settings.get(name) is None:
            current.setdefault(name, None)
            current[name] = value if value is not None else current[name]
    target = current.get("target")
    if isinstance(target, str):
        current["target"] = current_target(target)
    elif isinstance(target, list | tuple):
        current["target"] = type(target)(
            current_target(target_name) if isinstance(target_name, str) else target_name
            for target_name in target
        )
    return current


def current_record(value: Any) -> Any:
    """Return the content of a JSON file with today's names of targets in keys and values.

    Examples
    --------
    >>> current_record({"name": "min_auc", "val": {"max_loss": 0.4}})
    {'name': 'auc_worst', 'val': {'log_loss_worst': 0.4}}
    """
    if isinstance(value, str):
        return current_target(value)
    if isinstance(value, list):
        return [current_record(item) for item in value]
    if isinstance(value, dict):
        return {current_target(name): current_record(item) for name, item in value.items()}
    return value
