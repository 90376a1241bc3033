"""From the predictions in a run directory to its ``metrics.json`` and its report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pandas as pd
from pydantic import BaseModel

from evenhand.earlier_names import current_record, current_target
from evenhand.evaluation.requests import (
    Request,
    measure_settings,
    resolve_requests,
    without_intervals,
)
from evenhand.evaluation.rows import (
    Origin,
    groups_in,
    measure_model,
    measure_pair,
    scored_rows,
    split_rows,
)
from evenhand.evaluation.settings import MeasureSettings
from evenhand.evaluation.twins import twin_record
from evenhand.experiments.records import RunRecord
from evenhand.experiments.runs import Run
from evenhand.experiments.settings import TargetSettings
from evenhand.files import checked, read_object, write_json, write_text
from evenhand.jobs.adjust.adjustment import adjustments_of, judged_metrics
from evenhand.jobs.adjust.page import adjustment_part, promise_verdicts
from evenhand.jobs.probe_file import read_probe
from evenhand.jobs.prune.settings import PruneSettings
from evenhand.metrics import (
    Measured,
    MetricRow,
    Progress,
    compared_levels,
    find_target,
    judge,
)
from evenhand.progress import bar
from evenhand.reporting import (
    ModelSamples,
    Pruning,
    Report,
    Search,
    UnitShare,
    detectable_differences,
    render,
    verdicts_of,
)
from evenhand.reporting.estimates import find
from evenhand.reporting.pruning_record import PruningRecord
from evenhand.reporting.search_record import SearchRecord
from evenhand.reporting.text.numbers import listed
from evenhand.reporting.text.vocabulary import model_names
from evenhand.reporting.verdicts import write_verdicts
from evenhand.settings import Settings
from evenhand.tables.predictions import Predictions, read_predictions

PARTS = 100
"""Steps of the progress bar for each table of numbers."""


class _Units(BaseModel):
    """The part of a ``model.json`` that says which units of the backbone were tuned."""

    units: list[UnitShare]


FITTED = (
    "The threshold{} was chosen on the rows that are reported, so rates look better than they "
    "would on new patients."
)


def evaluate(
    run: Run, *, chosen: str | None, requests: Mapping[str, Request] | None = None
) -> list[MetricRow]:
    """Measure every model of a run; write ``metrics.json``, ``report.html``, ``verdicts.json``.

    The rows of the reported split have intervals; models are compared in pairs on the same samples,
    as the run says, else the chosen one with each other one; the other splits are measured for the
    fairness generalisation gap.

    Parameters
    ----------
    chosen
        The model that the run has chosen, if any.
    requests
        What is measured of each model, where the job has resolved that already; by default it is
        read from the run directory, so that a run can be evaluated again at any time.

    Returns
    -------
    list
        The rows of ``metrics.json``.
    """
    requests = requests or _requests_of(run)
    rows = metrics_of(run, requests, chosen)
    run.write_metrics(rows)
    page = report_of(run, requests, rows, chosen)
    if page.twins is not None:
        write_json(run.root / "twins.json", page.twins.model_dump())
    write_verdicts(run.root / "verdicts.json", verdicts_of(page))
    write_text(run.root / "report.html", render(page))  # last: with it, a killed job is complete
    return rows


def _requests_of(run: Run) -> dict[str, Request]:
    """Return what is measured of each model of a run, as its record says."""
    models = {name: read_predictions(run.predictions_file(name)) for name in run.models}
    record = run.record
    return resolve_requests(models, record.attributes, _measured(record), record.cuts)


def metrics_of(run: Run, requests: Mapping[str, Request], chosen: str | None) -> list[MetricRow]:
    """Return the metric rows of all models of a run; their claims are tested together."""
    record = run.record
    seed, reported = record.seed, _measured(record).split
    splits = {name: request.predictions.splits or ("test",) for name, request in requests.items()}
    pairs = pairs_of(record, requests, chosen)
    judged = judged_metrics(adjustments_of(run))
    parts: list[Measured] = []
    with _steps(sum(map(len, splits.values())) + len(pairs)) as watch:
        for name, request in requests.items():
            for split in splits[name]:
                plan = request.plan if split == reported else without_intervals(request.plan)
                parts.append(
                    measure_model(
                        request.predictions, request.attributes,
                        model=name, seed=seed, plan=plan, split=split, cut=request.cut,
                        progress=watch(f"{name}, {split}"),
                    )
                )  # fmt: skip
        for name, against in pairs:
            first, second = requests[name], requests[against]
            plan = replace(
                first.plan, judged=judged.get(name, ()), spreads=_spreads(record.settings)
            )
            parts.append(
                measure_pair(
                    (first.predictions, second.predictions), first.attributes,
                    names=(name, against), seed=seed, plan=plan, split=reported,
                    cuts=(first.cut, second.cut), progress=watch(f"{name} less {against}"),
                )
            )  # fmt: skip
    return judge(parts)


def pairs_of(
    record: RunRecord[Settings], models: Iterable[str], chosen: str | None
) -> tuple[tuple[str, str], ...]:
    """Return the pairs of models that are compared: as the run says, else the chosen with each."""
    if record.pairs is not None:
        return record.pairs
    return tuple((chosen, name) for name in models if chosen and name != chosen)


@contextmanager
def _steps(tables: int) -> Iterator[Callable[[str], Progress]]:
    """Show a bar over several tables; give a function that reports progress within a table."""
    with bar("Measuring", PARTS * tables) as advance:

        def watch(text: str) -> Progress:
            shown = 0

            def progress(done: int, total: int) -> None:
                nonlocal shown
                now = PARTS * done // total
                advance(now - shown, text=text)
                shown = now

            return progress

        yield watch


def report_of(
    run: Run, requests: Mapping[str, Request], rows: Sequence[MetricRow], chosen: str | None
) -> Report:
    """Return what the report of a run shows."""
    record = run.record.model_copy(update={"chosen": chosen})
    measured = _measured(record)
    shown = chosen or next(iter(requests))
    request = requests[shown]
    groups = groups_in(split_rows(request.predictions, measured.split), request.attributes)
    called = model_names(record.files)
    rules = _rules(requests, called)
    adjustments = {
        called.get(name, name): adjustment for name, adjustment in adjustments_of(run).items()
    }
    page = Report(
        title=f"evenhand {record.job}: {run.root.resolve().name}",
        record=record,
        rows=rows,
        attributes=tuple(groups),
        split=measured.split,
        names_split=any(request.predictions.splits for request in requests.values()),
        positive=positive_of(request.predictions.classes),
        patient=record.unit,
        search=_search(run),
        pruning=pruning_of(run),
        units=_units(run, shown),
        samples=_samples(requests, measured.split),
        detectable=detectable_differences(rows, shown, measured.split),
        threshold_rule=" ".join(
            f"Decision rule{whose}: {how}." for (_, how), whose in rules.items()
        ),
        left_out=_left_out(record),
        notes=(*record.notes, *_fitted(rules, measured.split), *_cautions(record.settings)),
        judged={name: adjustment.judged for name, adjustment in adjustments.items()},
        spreads=_spreads(record.settings),
        promises=promise_verdicts(adjustments),
        probe=read_probe(run),
        twins=twin_record(requests, pairs_of(run.record, requests, chosen), measured),
    )
    if not adjustments:
        return page
    reported = find(page.estimates, split=measured.split)
    return replace(page, adjusted=adjustment_part(adjustments, reported, page.attributes))


def _left_out(record: RunRecord[Settings]) -> tuple[str, ...]:
    excluded = (f"Group {group}: no part in gaps." for group in record.excluded)
    return (*(record.source.left_out if record.source else ()), *excluded)


def _fitted(rules: Mapping[tuple[Origin, str], str], split: str) -> list[str]:
    """Return a note for each threshold that was fitted on the rows that are reported."""
    if split != "val":
        return []
    return [FITTED.format(whose) for (origin, _), whose in rules.items() if origin == "validation"]


def _measured(record: RunRecord[Settings]) -> MeasureSettings:
    return measure_settings(record.settings, record.excluded)


def _spreads(settings: Settings) -> tuple[str, ...]:
    """Return the differences across groups that models were chosen by, as in ``metrics.json``."""
    names = settings.target if isinstance(settings, TargetSettings) else ()
    if isinstance(settings, PruneSettings):
        names = (settings.target,)
    return tuple(target.row for target in map(find_target, names) if target.is_spread)


def _cautions(settings: Settings) -> list[str]:
    """Return the cautions of the targets that the models were chosen by."""
    if not isinstance(settings, TargetSettings):  # a pruning has its own, at its own threshold
        return []
    return [target.caution for target in map(find_target, settings.target) if target.caution]


def _rules(
    requests: Mapping[str, Request], called: Mapping[str, str]
) -> dict[tuple[Origin, str], str]:
    """Return each decision rule (origin, words) with " of MODELS"; "" where all share one."""
    models: dict[tuple[Origin, str], list[str]] = {}
    for name, request in requests.items():
        rule = request.cut.origin, request.cut.how
        models.setdefault(rule, []).append(called.get(name, name))
    if len(models) == 1:
        return dict.fromkeys(models, "")
    return {rule: f" of {listed(names)}" for rule, names in models.items()}


def _samples(requests: Mapping[str, Request], split: str) -> dict[str, ModelSamples]:
    """Return the reported samples of each model that tells two classes apart."""
    reported = {
        name: (split_rows(request.predictions, split), request)
        for name, request in requests.items()
        if len(request.predictions.classes) == 2
    }
    return {name: _as_scored(rows, request) for name, (rows, request) in reported.items()}


def _as_scored(rows: Predictions, request: Request) -> ModelSamples:
    groups = groups_in(rows, request.attributes)
    compared = {
        name: compared_levels(request.plan, name, levels) for name, levels in groups.items()
    }
    return ModelSamples(scored_rows(rows, request.cut), groups, compared)


def positive_of(classes: tuple[str, ...]) -> str:
    """Return what a positive sample is called; a class that goes by its number has no name."""
    return "positive" if len(classes) != 2 or classes[1].isdecimal() else classes[1]


def _search(run: Run) -> Search | None:
    path = run.root / "search.json"
    if not path.exists():
        return None
    content = read_object(path)
    columns = [target.name for target in checked(SearchRecord, content, path).objectives]
    record = checked(SearchRecord, current_record(content), path)
    targets = [find_target(target.name, pessimistic=target.bound) for target in record.objectives]
    numbers = {name: [""] for name in (*columns, "lr", "repeats", "adopted")}
    trials = pd.read_csv(run.root / "trials.csv", keep_default_na=False, na_values=numbers)
    return Search(trials.rename(columns=current_target), targets, record.studies)


def pruning_of(run: Run) -> Pruning | None:
    """Return the pruning that a run holds, None where it holds none."""
    path = run.root / "pruning.json"
    if not path.exists():
        return None
    record = checked(PruningRecord, read_object(path), path)
    saliency = run.root / "saliency.csv"
    sample = pd.read_csv(saliency) if saliency.exists() else None
    return Pruning(pd.read_csv(run.root / "curve.csv"), record, sample)


def _units(run: Run, model: str) -> tuple[UnitShare, ...]:
    """Return the units of a model; none where the run has only its predictions."""
    path = run.folder(model) / "model.json"
    if not path.exists() and not path.with_suffix(".safetensors").exists():
        return ()
    return tuple(checked(_Units, read_object(path), path).units)
