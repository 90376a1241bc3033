"""Metric rows as plain values, and the few ways in which the report looks them up."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from evenhand.metrics import CLAIM, is_approximate
from evenhand.reporting.text.vocabulary import model_names

EVERYONE = "*"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Estimate:
    """One row of ``metrics.json``: a value with its interval, or the reason why there is none.

    ``compared`` tells whether its group takes part in comparisons; the caller may exclude it.
    """

    model: str
    split: str
    attribute: str
    group: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    level: float
    n: int
    patients: int
    positives: int | None
    against: str | None = None
    threshold: float | None = None
    method: str | None = None
    p_adjusted: float | None = None
    replicates_undefined: int = 0
    undefined: str | None = None
    compared: bool = True

    @property
    def has_interval(self) -> bool:
        """Whether both ends of the interval are known."""
        return self.low is not None and self.high is not None

    @property
    def claimed(self) -> bool:
        """Whether a difference is claimed: by its corrected p-value, never on approximate rows."""
        p = self.p_adjusted
        return p is not None and p <= CLAIM and not is_approximate(self.method)


class Estimates(tuple[Estimate, ...]):
    """Estimates with indexes by field values, so that a look-up does not scan all of them.

    The index of each set of fields is built at its first use.
    """

    @cached_property
    def _indexes(self) -> dict[tuple[str, ...], dict[tuple[object, ...], Estimates]]:
        return {}

    def where(self, **wanted: object) -> Estimates:
        """Return the estimates whose fields have the wanted values, in their order."""
        fields = tuple(sorted(wanted))
        if fields not in self._indexes:
            self._indexes[fields] = self._indexed(fields)
        return self._indexes[fields].get(tuple(wanted[name] for name in fields), NO_ESTIMATES)

    def _indexed(self, fields: tuple[str, ...]) -> dict[tuple[object, ...], Estimates]:
        index: dict[tuple[object, ...], list[Estimate]] = {}
        for row in self:
            index.setdefault(tuple(getattr(row, name) for name in fields), []).append(row)
        return {key: Estimates(rows) for key, rows in index.items()}


NO_ESTIMATES = Estimates()


def estimates(
    rows: pd.DataFrame, files: Iterable[Path] = (), excluded: Collection[str] = ()
) -> Estimates:
    """Return the rows of a metric table (columns as in ``metrics.json``) in their order.

    Parameters
    ----------
    rows
        The table.
    files
        The files that models are named by; see `model_names`.
    excluded
        The groups that take no part in comparisons, as ``attribute=level``.
    """
    called = model_names(files)
    plain = rows.astype("object").where(rows.notna(), None)
    return Estimates(_estimate(row, called, excluded) for row in plain.to_dict("records"))


def find(rows: Iterable[Estimate], **wanted: object) -> Estimates:
    """Return the rows whose fields have the wanted values."""
    return (rows if isinstance(rows, Estimates) else Estimates(rows)).where(**wanted)


def first(rows: Iterable[Estimate], **wanted: object) -> Estimate | None:
    """Return the first row whose fields have the wanted values, None without one."""
    return next(iter(find(rows, **wanted)), None)


def names(rows: Iterable[Estimate], field: str) -> tuple[str, ...]:
    """Return the values of a field in the order in which they first appear."""
    return tuple(dict.fromkeys(getattr(row, field) for row in rows))


def _estimate(
    known: dict[Any, Any], called: Mapping[str, str], excluded: Collection[str]
) -> Estimate:
    model, against = (known[name] or "" for name in ("model", "against"))
    attribute, group = str(known["attribute"]), str(known["group"])
    return Estimate(
        model=called.get(model, str(model)),
        split=str(known["split"] or "all"),
        attribute=attribute,
        group=group,
        metric=str(known["metric"]),
        value=known["value"],
        low=known["low"],
        high=known["high"],
        level=known["level"] or 0.95,
        n=int(known["n"] or 0),
        patients=int(known["patients"] or 0),
        positives=None if known["positives"] is None else int(known["positives"]),
        against=called.get(against, against) or None,
        threshold=known["threshold"],
        method=known["method"],
        p_adjusted=known["p_adjusted"],
        replicates_undefined=int(known["replicates_undefined"] or 0),
        undefined=known["undefined"],
        compared=f"{attribute.partition('|')[0]}={group}" not in excluded,
    )
