"""From the predictions in a run directory to its ``metrics.json`` and its report."""

from __future__ import annotations

from typing import Any

import pandas as pd

from evenhand.audit.rows import Cut, cut_of, groups_in, metric_rows, paired_rows, scored_rows
from evenhand.files import read_json, write_json, write_text
from evenhand.measure import Excluded, Plan, as_records, excluded_groups
from evenhand.predictions import Predictions, read_predictions
from evenhand.report import Goal, Pruning, Report, Search, UnitShare, render
from evenhand.runs import Run

ACROSS = ("worst", "best", "gap", "difference", "detectable")
FAIRNESS = ("equalized_odds_difference", "demographic_parity_difference")


def evaluate(run: Run, *, chosen: str) -> pd.DataFrame:
    """Measure every model of a run and write ``metrics.json`` and ``report.html``.

    Everything is read from the run directory, so that it can be done again at any time. The rows
    of the test split have intervals; the chosen model is compared with each other one on the same
    patients; train and validation are measured for the fairness generalisation gap.

    Returns
    -------
    pandas.DataFrame
        The rows of ``metrics.json``.
    """
    models = {name: read_predictions(run.predictions(name)) for name in run.models()}
    rows = metrics_of(run, models, chosen)
    write_json(run.root / "metrics.json", {"schema": 1, "rows": as_records(rows)})
    page = report_of(run, models, rows, chosen)
    write_text(run.root / "report.html", render(page))
    return rows


def metrics_of(run: Run, models: dict[str, Predictions], chosen: str) -> pd.DataFrame:
    """Return the metric rows of all models of a run."""
    settings = run.facts["settings"]
    attributes, seed = settings["attribute"], run.facts["seed"]
    plan = _plan(run, models[chosen])
    tables = []
    for name, predictions in models.items():
        cut = _cut(run, name, predictions)
        for split in predictions.splits or ("test",):
            how = plan if split == "test" else _points(plan)
            tables.append(
                metric_rows(
                    predictions, attributes, model=name, seed=seed, plan=how, split=split, cut=cut
                )
            )
    for name, predictions in models.items():
        if name != chosen:
            pair, names = (models[chosen], predictions), (chosen, name)
            tables.append(paired_rows(pair, attributes, names=names, seed=seed, plan=plan))
    return pd.concat(tables, ignore_index=True)


def report_of(run: Run, models: dict[str, Predictions], rows: pd.DataFrame, chosen: str) -> Report:
    """Return what the report of a run shows."""
    facts = {**run.facts, "chosen": chosen}
    settings, source = facts["settings"], facts.get("source", {})
    predictions, attributes = models[chosen], facts["settings"]["attribute"]
    cut = _cut(run, chosen, predictions)
    two = len(predictions.classes) == 2
    test = predictions.of_split("test")
    return Report(
        title=f"evenhand {facts['job']}: {run.root.resolve().name}",
        facts=facts,
        rows=rows,
        attributes=attributes,
        positive=predictions.classes[1] if two else "positive",
        patient=source.get("unit", "patient"),
        search=_search(run),
        pruning=_pruning(run),
        units=_units(run, chosen),
        scored=scored_rows(test, cut) if two else None,
        groups=groups_in(test, attributes) if two else {},
        detectable=_detectable(rows, chosen),
        threshold_rule=cut.how,
        left_out=(
            *source.get("left_out", ()),
            *(f"Group {group}: no part in gaps." for group in settings.get("exclude_group", ())),
        ),
        notes=facts.get("notes", ()),
    )


def _plan(run: Run, predictions: Predictions) -> Plan:
    settings = run.facts["settings"]
    groups = groups_in(predictions, settings["attribute"])
    excluded: Excluded = excluded_groups(settings.get("exclude_group", ()), groups)
    across = (*ACROSS, *FAIRNESS) if len(predictions.classes) == 2 else ACROSS
    return Plan(across=across, excluded=excluded)


def _points(plan: Plan) -> Plan:
    across = tuple(name for name in plan.across if name != "detectable")
    return Plan(metrics=plan.metrics, across=across, excluded=plan.excluded, bootstrap=None)


def _cut(run: Run, name: str, predictions: Predictions) -> Cut:
    """Return the threshold of a model: the one that the run brings, or one from its own rows."""
    brought: dict[str, Any] | None = run.facts.get("cuts", {}).get(name)
    return Cut(**brought) if brought else cut_of(predictions)


def _search(run: Run) -> Search | None:
    path = run.root / "search.json"
    if not path.exists():
        return None
    found = read_json(path)
    goals = [
        Goal(one["name"], maximise=one["direction"] == "maximize", bound=one["bound"])
        for one in found["objectives"]
    ]
    numbers = {name: [""] for name in (*(goal.name for goal in goals), "lr", "repeats")}
    trials = pd.read_csv(run.root / "trials.csv", keep_default_na=False, na_values=numbers)
    return Search(trials, goals, found["studies"])


def _pruning(run: Run) -> Pruning | None:
    path = run.root / "pruning.json"
    if not path.exists():
        return None
    return Pruning(pd.read_csv(run.root / "curve.csv"), read_json(path))


def _units(run: Run, chosen: str) -> tuple[UnitShare, ...]:
    path = run.model(chosen) / "model.json"
    known = read_json(path)["units"] if path.exists() else ()
    return tuple(UnitShare(**unit) for unit in known)


def _detectable(rows: pd.DataFrame, chosen: str) -> list[tuple[str, str, float]]:
    """Return the largest of each attribute's detectable differences in AUC."""
    of_chosen = (rows["model"] == chosen) & (rows["split"] == "test") & rows["against"].isna()
    found = rows[of_chosen & (rows["metric"] == "auc_detectable") & rows["value"].notna()]
    largest = found.groupby("attribute", sort=False)["value"].max()
    return [(str(attribute), "auc", float(value)) for attribute, value in largest.items()]
