"""Write and read ``benchmark.json``: the plan with its hash, entries added later, and results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evenhand.errors import EvenhandError
from evenhand.experiments.runs import Run, open_run
from evenhand.files import parse_record, read_object, write_json
from evenhand.jobs.benchmark.comparing import Result
from evenhand.jobs.benchmark.entries import ERM, SSL, Entry, recipe_values
from evenhand.jobs.benchmark.external import ExternalResult
from evenhand.jobs.benchmark.record import (
    SCHEMA,
    BenchmarkRecord,
    CurveRecord,
    DataSets,
    DifferenceRecord,
    EntryRecord,
    ExternalRecord,
    PlannedDifference,
    PlanRecord,
    RecipeTerms,
    number_records,
)
from evenhand.jobs.benchmark.settings import ENTRIES, BenchmarkSettings
from evenhand.jobs.benchmark.verdicts import Statement
from evenhand.metrics.claims import CLAIM
from evenhand.metrics.learning_curve import LearningCurve
from evenhand.metrics.recipes import Difference, levelled_down
from evenhand.metrics.rows import EVERYBODY
from evenhand.reporting.probe_record import ProbeRow
from evenhand.run_files import RECORD

FILE = "benchmark.json"
TEST = (
    "differences from erm on out-of-fold predictions, paired by patient, fold and seed; t test "
    "over patients (bootstrap) and seeds (Satterthwaite); step-down max-t over all entries and "
    "numbers"
)


def make_plan(
    settings: BenchmarkSettings, entries: Sequence[Entry], fingerprint: str
) -> PlanRecord:
    """Return the plan: entries, primary number, test, recipe and patients."""
    plan = PlanRecord(
        entries=tuple(entries),
        reference=ERM,
        attributes=settings.attribute,
        primary=settings.primary,
        decides=settings.decides,
        test=TEST,
        level=CLAIM,
        selection=settings.target[0],
        folds=settings.folds,
        seeds=tuple(settings.seed + number for number in range(settings.seeds)),
        recipe=RecipeTerms.model_validate(recipe_values(settings)),
        patients=fingerprint,
    )
    if not settings.also:
        return plan
    return plan.model_copy(update={"data_sets": tuple(map(str, settings.also))})


def hash_of(plan: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the JSON of a plan, with sorted keys and without spaces.

    Examples
    --------
    >>> hash_of({"primary": "auc_worst"})[:8] == hash_of({"primary": "auc_gap"})[:8]
    False
    """
    text = json.dumps(plan, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def lock_plan(run: Run, plan: PlanRecord) -> None:
    """Write the plan of a run, or check that it equals the plan written before.

    Raises
    ------
    EvenhandError
        If the file holds another plan, or a plan that does not match its hash.
    """
    path = run.root / FILE
    if not path.exists():
        values = plan.as_json()
        write_json(path, {"schema": SCHEMA, "plan": values, "hash": hash_of(values)})
        return
    saved = read_plan(run).plan
    if saved != plan:
        raise EvenhandError(
            f"{path}: the plan was written before any test patient was scored, and it differs from "
            f"this command in {', '.join(_changed_fields(saved, plan))}. Name another --out, or "
            "give --overwrite."
        )


def _changed_fields(saved: PlanRecord, plan: PlanRecord) -> list[str]:
    """Return the names of the fields that differ between two plans."""
    before, after = dict(saved), dict(plan)
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


def read_plan(run: Run) -> BenchmarkRecord:
    """Return the content of ``benchmark.json``.

    Raises
    ------
    EvenhandError
        If the file is damaged, or its plan does not match its hash.
    """
    path = run.root / FILE
    values = read_object(path, SCHEMA)
    record = parse_record(BenchmarkRecord, values, path)
    # hash the plan of the file itself, as another version may have written it
    if hash_of(values["plan"]) != record.hash:
        raise EvenhandError(
            f"{path}: its plan does not match its hash, so it was changed after it was written. "
            "Restore the file, or start again with --overwrite."
        )
    return record


def add_entries(run: Run, entries: Sequence[Entry]) -> None:
    """Record entries that are not in the plan of a run."""
    record = read_plan(run)
    present = {entry.name for entry in record.all_entries}
    new = [entry for entry in entries if entry.name not in present]
    _write_beside_plan(run.root / FILE, added=[asdict(entry) for entry in (*record.added, *new)])


def write_result(
    run: Run,
    result: Result,
    statements: Sequence[Statement],
    external: ExternalResult | None = None,
    data_sets: DataSets | None = None,
    curves: Sequence[LearningCurve] = (),
    probes: Sequence[ProbeRow] = (),
) -> None:
    """Write the results into ``benchmark.json``; the plan stays."""
    primary = [
        statement.verdict.text
        for statement in statements
        if statement.kind == "number"
        and statement.key in result.primary
        and not statement.exploratory
    ]
    _write_beside_plan(
        run.root / FILE,
        added=[asdict(entry) for entry in read_plan(run).added],
        entries=[_entry_record(result, name).as_json() for name in result.values],
        claims=[DifferenceRecord.of(claim).as_json() for claim in _claims(result, statements)],
        primary_verdicts=primary,
        external=None if external is None else _external_record(external).as_json(),
        data_sets=None if data_sets is None else data_sets.as_json(),
        curves=[CurveRecord.of(curve).as_json() for curve in curves],
        probes=[row.model_dump() for row in probes],
    )


def _write_beside_plan(path: Path, **parts: object) -> None:
    """Replace parts of ``benchmark.json``, and keep the plan and its hash unchanged."""
    write_json(path, {**read_object(path, SCHEMA), **parts})


def _external_record(external: ExternalResult) -> ExternalRecord:
    return ExternalRecord(
        entries={name: number_records(values) for name, values in external.values.items()},
        differences=tuple(map(DifferenceRecord.of, external.differences)),
    )


def _claims(result: Result, statements: Sequence[Statement]) -> list[Difference]:
    """Return the improvements; for entries that only move decisions, those that verdicts claim."""
    claimed = {
        (statement.entry, statement.key)
        for statement in statements
        if statement.kind == "decisions" and statement.verdict.claim
    }
    return [
        difference
        for difference in result.planned
        if difference.better
        and (
            difference.recipe not in result.roles.decision_entries
            or (difference.recipe, difference.key) in claimed
        )
    ]


def _entry_record(result: Result, name: str) -> EntryRecord:
    differences = result.of_recipe(name)
    attributes = sorted({difference.key.attribute for difference in differences} - {EVERYBODY})
    harmed = {
        attribute: tuple(levels)
        for attribute in attributes
        if (levels := levelled_down(differences, attribute, result.worst.get(attribute)))
    }
    return EntryRecord(
        name=name,
        numbers=number_records(result.values[name]),
        differences=tuple(_difference_record(result, difference) for difference in differences),
        levelled_down=harmed,
    )


def _difference_record(result: Result, difference: Difference) -> PlannedDifference:
    update = {"exploratory": not result.is_planned(difference)}
    return PlannedDifference.of(difference).model_copy(update=update)


@dataclass(frozen=True)
class Addition:
    """The settings of a run before and after entries are added.

    Attributes
    ----------
    before
        The present settings of the run.
    after
        The same settings with the new entries.
    """

    before: BenchmarkSettings
    after: BenchmarkSettings


def find_addition(settings: BenchmarkSettings, out: Path) -> Addition:
    """Return the settings of a run before and after ``--add``.

    Raises
    ------
    EvenhandError
        If the folder holds no benchmark, one with another recipe, or one with all these entries.
    """
    present = _settings_in(out)
    if present is None:
        raise EvenhandError(
            f"--add: {out} holds no benchmark. Name the folder of one with --out, or leave --add "
            "out."
        )
    may_change = ENTRIES if _has_pretraining(present) else (*ENTRIES, "pretrain_epochs")
    before = settings.model_copy(update={name: getattr(present, name) for name in may_change})
    old, new = present.recorded(), before.recorded()
    changed = [name for name in new if old.get(name) != new[name]]
    if changed:
        changes = "; ".join(f"{name} was {old.get(name)!r}, is {new[name]!r}" for name in changed)
        raise EvenhandError(
            f"--add: the plan of {out} is locked, and this command changes more than its entries "
            f"({changes}). Give the same recipe, or name another --out."
        )
    union = {
        name: tuple(dict.fromkeys((*getattr(present, name), *getattr(settings, name))))
        for name in ENTRIES
    }
    after = settings.model_copy(update=union)
    if after.recorded() == present.recorded() and open_run(out).finished:
        raise EvenhandError(
            f"--add: {out} has every entry of this command already. Name a new entry."
        )
    return Addition(before, after)


def _has_pretraining(settings: BenchmarkSettings) -> bool:
    return any(start.startswith(SSL) for start in settings.start)


def refuse_other_entries(settings: BenchmarkSettings, out: Path) -> None:
    """Refuse to continue a benchmark with other entries than those of its plan.

    Raises
    ------
    EvenhandError
        If the folder holds a benchmark with other entries.
    """
    present = _settings_in(out)
    if present is None:
        return
    lists = ((getattr(present, name), getattr(settings, name)) for name in ENTRIES)
    changed = sorted({entry for old, new in lists for entry in {*old} ^ {*new}})
    if changed:
        raise EvenhandError(
            f"{out} holds a benchmark whose plan is locked, and this command has other entries "
            f"({', '.join(changed)}). Give --add to add new ones, which are exploratory; or name "
            "another --out, or give --overwrite."
        )


def _settings_in(out: Path) -> BenchmarkSettings | None:
    """Return the settings of the benchmark in a folder; None if there is no benchmark."""
    if not (out / RECORD).is_file():
        return None
    settings = open_run(out).record.settings
    return settings if isinstance(settings, BenchmarkSettings) else None
