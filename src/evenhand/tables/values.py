"""The user's rules for values: which are merged, which mean unknown, how conflicts end."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from evenhand.errors import EvenhandError, pick
from evenhand.tables.attributes import Attribute
from evenhand.tables.settings import ValueSettings
from evenhand.tables.spelling import clean

CONFLICTS = {
    "majority": "the patient's most frequent value; unknown if two are equally frequent",
    "unknown": "unknown",
    "keep": "each row keeps its own value",
}
"""The value of a patient who has several values of an attribute, by the rule's name."""


@dataclass(frozen=True)
class ValueRules:
    """Rules for the values of columns, by the name of the attribute or of the label.

    Attributes
    ----------
    merged
        The name that each merged value gets.
    unknown
        Values that mean unknown.
    conflicts
        The rule for a patient with several values: a name in `CONFLICTS`.
    """

    merged: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unknown: Mapping[str, frozenset[str]] = field(default_factory=dict)
    conflicts: Mapping[str, str] = field(default_factory=dict)

    def applied(self, name: str, raw: pd.Series) -> pd.Series:
        """Return a column of text in which values are merged, and missing where they mean unknown.

        Examples
        --------
        >>> values = ValueRules({"sex": {"male": "Male"}}, {"sex": frozenset({"U"})})
        >>> values.applied("sex", pd.Series(["male", "Male", "U"])).tolist()
        ['Male', 'Male', nan]
        """
        merged, unknown = self.merged.get(name, {}), self.unknown.get(name, frozenset())
        text = raw.mask(raw.isin(unknown)) if unknown else raw
        return text.replace(dict(merged)) if merged else text

    def settled(self, rule: Attribute) -> Attribute:
        """Return a rule whose levels are merged, or unknown where these rules say so.

        A value that means unknown may be a level or a raw value.
        """
        name = rule.name
        merged, unknown = self.merged.get(name, {}), self.unknown.get(name, frozenset())
        if not (merged or unknown):
            return rule
        kept = [level for level in rule.levels if level not in unknown]
        levels = tuple(dict.fromkeys(merged.get(level, level) for level in kept))

        def to_level(raw: pd.Series) -> pd.Series:
            level = rule.to_level(raw.mask(raw.astype("str").isin(unknown)))
            return level.map({each: merged.get(each, each) for each in kept})

        return replace(rule, levels=levels, to_level=to_level)

    def check_names(self, names: Iterable[str]) -> None:
        """Refuse rules for what is neither an attribute nor the label.

        Raises
        ------
        UnknownNameError
            If a name is not among ``names``.
        """
        there = dict.fromkeys(names)
        for what, rules in (
            ("--merge", self.merged),
            ("--unknown-value", self.unknown),
            ("--conflict", self.conflicts),
        ):
            for name in rules:
                pick(f"attribute or label to give {what} for", name, there)


def read_values(settings: ValueSettings) -> ValueRules:
    """Return the rules for values that settings hold.

    Raises
    ------
    EvenhandError
        If a text does not have the form NAME=VALUE,VALUE, or two texts contradict each other.

    Examples
    --------
    >>> read_values(ValueSettings(merge=("sex=Male,male,M",))).merged["sex"]
    {'male': 'Male', 'M': 'Male'}
    """
    merged: dict[str, dict[str, str]] = {}
    for name, values in _parsed("merge", settings.merge, "sex=Male,male", least=2):
        _merge(merged.setdefault(name, {}), values, name)
    unknown: dict[str, frozenset[str]] = {}
    for name, values in _parsed("unknown-value", settings.unknown_value, "sex=U,X", least=1):
        unknown[name] = unknown.get(name, frozenset()) | {*values}
    conflicts: dict[str, str] = {}
    for name, values in _parsed("conflict", settings.conflict, "sex=majority", least=1):
        pick(f"--conflict for {name!r}", ",".join(values), CONFLICTS)
        if conflicts.setdefault(name, values[0]) != values[0]:
            raise EvenhandError(f"--conflict gives two rules for {name!r}; give one.")
    return ValueRules(merged, unknown, conflicts)


def _merge(merged: dict[str, str], values: Sequence[str], name: str) -> None:
    target, *others = values
    for value in others:
        if merged.setdefault(value, target) != target or value == target or target in merged:
            raise EvenhandError(
                f"--merge gives {value!r} of {name!r} two names; give each value once, after the "
                "name that all of them get, as in --merge sex=Male,male,M."
            )


def _parsed(
    what: str, texts: Sequence[str], example: str, least: int
) -> Iterable[tuple[str, list[str]]]:
    for text in texts:
        name, _, listed = text.partition("=")
        values = [clean(value) for value in next(csv.reader([listed]), [])]
        if not name.strip() or len(values) < least or not all(values):
            raise EvenhandError(
                f"--{what} {text!r} is not of the form NAME=VALUE,…, as in --{what} {example}."
            )
        yield clean(name), values
