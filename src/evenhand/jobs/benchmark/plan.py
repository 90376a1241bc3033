"""``benchmark.json``: the plan, its hash, and what came of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from evenhand.errors import EvenhandError
from evenhand.experiments.runs import Run
from evenhand.files import checked, read_object, write_json
from evenhand.jobs.benchmark.comparing import Result
from evenhand.jobs.benchmark.elsewhere import Elsewhere
from evenhand.jobs.benchmark.entries import ERM, Entry, loop_of
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.jobs.benchmark.verdicts import decision_statements
from evenhand.metrics.claims import CLAIM
from evenhand.metrics.recipes import Difference, Values, levelled_down

if TYPE_CHECKING:
    from evenhand.jobs.benchmark.across import Across

SCHEMA = 1
FILE = "benchmark.json"
TEST = (
    "differences from erm on out-of-fold predictions, paired by patient, fold and seed; t test "
    "over patients (bootstrap) and seeds (Satterthwaite); step-down max-t over all entries and "
    "numbers"
)


class BenchmarkRecord(BaseModel, frozen=True):
    """What ``benchmark.json`` holds."""

    schema_version: int = Field(SCHEMA, alias="schema")
    plan: dict[str, Any]
    """What was fixed before any test row was scored."""
    hash: str
    """Of the plan; see `hash_of`."""
    added: tuple[dict[str, Any], ...] = ()
    """Entries that came later; they are exploratory."""
    external: dict[str, Any] | None = None
    """The numbers of each entry on patients of elsewhere, and what was tested there."""
    data_sets: dict[str, Any] | None = None
    """The number that decides on several data sets, and what their ranks say."""
    entries: tuple[dict[str, Any], ...] = ()
    """The numbers of each entry."""
    claims: tuple[dict[str, Any], ...] = ()
    """The entries shown to be better, corrected."""


def plan_of(
    settings: BenchmarkSettings, entries: Sequence[Entry], fingerprint: str
) -> dict[str, Any]:
    """Return the plan: entries, the number that decides, the test, the recipe, the patients."""
    return {
        "entries": [asdict(entry) for entry in entries],
        "reference": ERM,
        "attributes": list(settings.attribute),
        "primary": settings.primary,
        "decides": settings.decides,
        "test": TEST,
        "level": CLAIM,
        "selection": settings.target[0],
        "folds": settings.folds,
        "seeds": [settings.seed + number for number in range(settings.seeds)],
        "recipe": loop_of(settings),
        "patients": fingerprint,
    } | ({"data_sets": [str(path) for path in settings.also]} if settings.also else {})


def hash_of(plan: dict[str, Any]) -> str:
    """Return the SHA-256 of a plan: of its JSON with sorted keys and without spaces.

    Examples
    --------
    >>> hash_of({"primary": "auc_worst"})[:8] == hash_of({"primary": "auc_gap"})[:8]
    False
    """
    text = json.dumps(plan, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def lock_plan(run: Run, plan: dict[str, Any]) -> None:
    """Write the plan of a run, or see that it is still the one that was written.

    Raises
    ------
    EvenhandError
        The file holds another plan, or one that does not fit its hash.
    """
    path = run.root / FILE
    if not path.exists():
        write_json(path, {"schema": SCHEMA, "plan": plan, "hash": hash_of(plan)})
        return
    kept = read_plan(run)
    if kept.plan != plan:
        changed = sorted(key for key in {*plan, *kept.plan} if plan.get(key) != kept.plan.get(key))
        raise EvenhandError(
            f"{path}: the plan was written before any test patient was scored, and it differs from "
            f"this command in {', '.join(changed)}. Name another --out, or give --overwrite."
        )


def read_plan(run: Run) -> BenchmarkRecord:
    """Return the content of ``benchmark.json``.

    Raises
    ------
    EvenhandError
        It is damaged, or the plan is not the one that its hash is of.
    """
    path = run.root / FILE
    record = checked(BenchmarkRecord, read_object(path, SCHEMA), path)
    if hash_of(record.plan) != record.hash:
        raise EvenhandError(
            f"{path}: its plan does not fit its hash, so it was changed after it was written. "
            "Put the file back, or start again with --overwrite."
        )
    return record


def all_entries(record: BenchmarkRecord) -> tuple[Entry, ...]:
    """Return the entries of a plan, and those that were added later."""
    return (*planned_entries(record), *(Entry(**entry) for entry in record.added))


def planned_entries(record: BenchmarkRecord) -> tuple[Entry, ...]:
    """Return the entries of a plan."""
    return tuple(Entry(**entry) for entry in record.plan["entries"])


def add_entries(run: Run, entries: Sequence[Entry]) -> None:
    """Write down entries that are not in the plan of a run."""
    record = read_plan(run)
    present = {entry.name for entry in all_entries(record)}
    new = [asdict(entry) for entry in entries if entry.name not in present]
    values = record.model_copy(update={"added": (*record.added, *new)})
    write_json(run.root / FILE, values.model_dump(mode="json", by_alias=True))


def write_result(
    run: Run, result: Result, outside: Elsewhere | None = None, across: Across | None = None
) -> None:
    """Write what came of the plan beside it."""
    record = read_plan(run)
    write_json(
        run.root / FILE,
        {
            "schema": SCHEMA,
            "plan": record.plan,
            "hash": record.hash,
            "added": list(record.added),
            "entries": [_entry(result, name) for name in result.values],
            "claims": [_row(one) for one in _claims(result)],
            "external": None if outside is None else _external(outside),
            "data_sets": None if across is None else asdict(across),
        },
    )


def _external(outside: Elsewhere) -> dict[str, Any]:
    return {
        "entries": {name: _numbers(values) for name, values in outside.values.items()},
        "differences": [_row(one) for one in outside.differences],
    }


def _numbers(values: Values) -> list[dict[str, Any]]:
    return [
        {**key._asdict(), "value": _finite(float(of[:, 0].mean()))} for key, of in values.items()
    ]


def _claims(result: Result) -> list[Difference]:
    """Return what is shown to be better; where decisions move, as their verdicts say."""
    good = {
        (one.verdict.about, one.key) for one in decision_statements(result) if one.verdict.claim
    }
    return [
        one
        for one in result.planned
        if one.better
        and (one.recipe not in result.roles.apart or (f"{one.recipe}: decisions", one.key) in good)
    ]


def _entry(result: Result, name: str) -> dict[str, Any]:
    differences = result.of_recipe(name)
    down = {
        attribute: levels
        for attribute in {one.key.attribute for one in differences} - {"*"}
        if (levels := levelled_down(differences, attribute, result.worst.get(attribute)))
    }
    return {
        "name": name,
        "numbers": _numbers(result.values[name]),
        "differences": [
            {**_row(one), "exploratory": not result.is_planned(one)} for one in differences
        ],
        "levelled_down": down,
    }


def _row(difference: Difference) -> dict[str, Any]:
    values = asdict(difference)
    del values["key"]
    return {**difference.key._asdict(), **values}


def _finite(value: float) -> float | None:
    return value if value == value else None
