"""The user's rules for values: to merge them, to mark them as unknown, to settle conflicts."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from evenhand.errors import EvenhandError, pick
from evenhand.tables.attributes import Attribute
from evenhand.tables.settings import ValueSettings
from evenhand.tables.spelling import clean, whole_number

CONFLICTS = {
    "majority": "the patient's most frequent value; unknown if two are equally frequent",
    "unknown": "unknown",
    "keep": "each row keeps its own value",
}
"""Name of a rule → the value of a patient who has several values of an attribute."""


@dataclass(frozen=True)
class ValueRules:
    """Rules for the values of columns; keys are names of attributes, or ``"label"``.

    Attributes
    ----------
    merged
        Name → value → the value that replaces it.
    unknown
        Name → values that mean unknown.
    conflicts
        Name → the rule for a patient with several values, from `CONFLICTS`.
    """

    merged: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unknown: Mapping[str, frozenset[str]] = field(default_factory=dict)
    conflicts: Mapping[str, str] = field(default_factory=dict)

    def apply(self, name: str, raw: pd.Series) -> pd.Series:
        """Return a column of text with merged values; values that mean unknown become missing.

        Examples
        --------
        >>> values = ValueRules({"sex": {"male": "Male"}}, {"sex": frozenset({"U"})})
        >>> values.apply("sex", pd.Series(["male", "Male", "U"])).tolist()
        ['Male', 'Male', nan]
        """
        merged, unknown = self.merged.get(name, {}), self.unknown.get(name, frozenset())
        text = raw.mask(raw.isin([*_matches(raw, unknown)])) if unknown else raw
        if not merged:
            return text
        matches = _matches(text, (*merged, *merged.values()))
        return text.replace({value: merged.get(rule, rule) for value, rule in matches.items()})

    def apply_to_levels(self, rule: Attribute) -> Attribute:
        """Return an attribute's rule with merged levels, and without levels that mean unknown.

        The user may have named a level or a raw value as unknown.
        """
        name = rule.name
        merged, unknown = self.merged.get(name, {}), self.unknown.get(name, frozenset())
        if not (merged or unknown):
            return rule
        kept = [level for level in rule.levels if level not in unknown]
        levels = tuple(dict.fromkeys(merged.get(level, level) for level in kept))

        def to_level(raw: pd.Series) -> pd.Series:
            level = rule.to_level(raw.mask(raw.astype("str").isin(unknown)))
            return level.map({name: merged.get(name, name) for name in kept})

        return replace(rule, levels=levels, to_level=to_level)

    def check_names(self, names: Iterable[str]) -> None:
        """Refuse rules whose name is neither an attribute nor the label.

        Raises
        ------
        UnknownNameError
            If a name is not among ``names``.
        """
        choices = dict.fromkeys(names)
        for what, rules in (
            ("--merge", self.merged),
            ("--unknown-value", self.unknown),
            ("--conflict", self.conflicts),
        ):
            for name in rules:
                pick(f"attribute or label to give {what} for", name, choices)


def _matches(raw: pd.Series, values: Iterable[str]) -> dict[str, str]:
    """Return value of a column → the user's value for it; "1" also stands for "1.0"."""
    by_number = {whole_number(value): value for value in values} | {v: v for v in values}
    named = {str(value): whole_number(str(value)) for value in raw.dropna().unique()}
    return {
        value: by_number[key]
        for value, whole in named.items()
        if (key := value if value in by_number else whole) in by_number
    }


def read_values(settings: ValueSettings) -> ValueRules:
    """Return the rules for values in some settings.

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
    for name, values in _parse_rules("merge", settings.merge, "sex=Male,male", least=2):
        _merge(merged.setdefault(name, {}), values, name)
    unknown: dict[str, frozenset[str]] = {}
    for name, values in _parse_rules("unknown-value", settings.unknown_value, "sex=U,X", least=1):
        unknown[name] = unknown.get(name, frozenset()) | {*values}
    conflicts: dict[str, str] = {}
    for name, values in _parse_rules("conflict", settings.conflict, "sex=majority", least=1):
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


def _parse_rules(
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
