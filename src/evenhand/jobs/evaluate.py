"""Evaluate a run: measure its predictions, and write ``metrics.json`` and the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pandas as pd
from pydantic import BaseModel

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
from evenhand.files import parse_record, read_json_record, read_object, write_json, write_text
from evenhand.jobs.adjust.adjustment import adjustments_of, judged_metrics
from evenhand.jobs.adjust.page import adjustment_part, promise_verdicts
from evenhand.jobs.prune.settings import PruneSettings
from evenhand.metrics import Measured, MetricRow, Progress, compared_levels, find_target, judge
from evenhand.progress import bar
from evenhand.reporting import (
    ModelSamples,
    Pruning,
    Report,
    Search,
    UnitShare,
    probe_record,
    render,
    verdicts_of,
)
from evenhand.reporting.estimates import find_rows
from evenhand.reporting.probe_record import ProbeRecord
from evenhand.reporting.pruning_record import PruningRecord
from evenhand.reporting.search_record import SearchRecord
from evenhand.reporting.text.vocabulary import join_words, model_names
from evenhand.reporting.verdicts import write_verdicts
from evenhand.settings import Settings, current_record, current_target
from evenhand.tables.predictions import Predictions, read_predictions

STEPS = 100
"""Steps of the progress bar for each table of numbers."""


class _Units(BaseModel):
    """The units of the backbone that were tuned, in a ``model.json``."""

    units: list[UnitShare]


FITTED_THRESHOLD = (
    "The threshold{} was chosen on the reported rows, so rates look better than they would on "
    "new patients."
)
"""The note about a threshold that was chosen on the reported rows; ``{}`` is " of MODELS"."""


def evaluate(
    run: Run, *, chosen: str | None, requests: Mapping[str, Request] | None = None
) -> list[MetricRow]:
    """Measure every model of a run; write ``metrics.json``, ``report.html``, ``verdicts.json``.

    Rows of the reported split have intervals. Models are compared on the same samples in the pairs
    of the run; if it names none, the chosen model is compared with each other one. The other splits
    are measured for the fairness generalisation gap.

    Parameters
    ----------
    run
        The run, with the predictions of its models.
    chosen
        The model that the run chose, or None.
    requests
        The predictions and the metrics of each model; by default those in the run directory.

    Returns
    -------
    list
        The rows of ``metrics.json``.
    """
    requests = requests or _requests_of(run)
    rows = measure_run(run, requests, chosen)
    run.write_metrics(rows)
    page = report_of(run, requests, rows, chosen)
    if page.twins is not None:
        write_json(run.root / "twins.json", page.twins.model_dump())
    write_verdicts(run.root / "verdicts.json", verdicts_of(page))
    write_text(run.root / "report.html", render(page))  # last: its presence means complete
    return rows


def _requests_of(run: Run) -> dict[str, Request]:
    """Return the request of each model of a run, from its record and its predictions."""
    models = {name: read_predictions(run.predictions_file(name)) for name in run.models}
    record = run.record
    return resolve_requests(models, record.attributes, _measure_settings(record), record.cuts)


def measure_run(run: Run, requests: Mapping[str, Request], chosen: str | None) -> list[MetricRow]:
    """Return the metric rows of all models of a run; p-values are corrected over all of them."""
    record = run.record
    seed, reported = record.seed, _measure_settings(record).split
    splits = {name: request.predictions.splits or ("test",) for name, request in requests.items()}
    pairs = pairs_of(record, requests, chosen)
    judged = judged_metrics(adjustments_of(run))
    parts: list[Measured] = []
    with _progress_bar(sum(map(len, splits.values())) + len(pairs)) as watch:
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
    """Return the pairs of the record, else the chosen model with each other model."""
    if record.pairs is not None:
        return record.pairs
    return tuple((chosen, name) for name in models if chosen and name != chosen)


@contextmanager
def _progress_bar(tables: int) -> Iterator[Callable[[str], Progress]]:
    """Show one bar for several tables; yield a function that starts the progress of a table."""
    with bar("Measuring", STEPS * tables) as advance:

        def watch(text: str) -> Progress:
            shown = 0

            def progress(done: int, total: int) -> None:
                nonlocal shown
                reached = STEPS * done // total
                advance(reached - shown, text=text)
                shown = reached

            return progress

        yield watch


def report_of(
    run: Run, requests: Mapping[str, Request], rows: Sequence[MetricRow], chosen: str | None
) -> Report:
    """Return the content of a run's report."""
    record = run.record.model_copy(update={"chosen": chosen})
    settings = _measure_settings(record)
    main_model = chosen or next(iter(requests))
    request = requests[main_model]
    groups = groups_in(split_rows(request.predictions, settings.split), request.attributes)
    display_names = model_names(record.files)
    rules = _rules(requests, display_names)
    adjustments = {
        display_names.get(name, name): adjustment
        for name, adjustment in adjustments_of(run).items()
    }
    page = Report(
        title=f"evenhand {record.job}: {run.root.resolve().name}",
        record=record,
        rows=rows,
        attributes=tuple(groups),
        split=settings.split,
        names_split=any(request.predictions.splits for request in requests.values()),
        positive=positive_of(request.predictions.classes),
        patient=record.unit,
        search=_search(run),
        pruning=pruning_of(run),
        units=_units(run, main_model),
        samples=_samples(requests, settings.split),
        threshold_rule=" ".join(
            f"Decision rule{of_models}: {how}." for (_, how), of_models in rules.items()
        ),
        left_out=_left_out(record),
        notes=(
            *record.notes,
            *_fitted_threshold_notes(rules, settings.split),
            *_cautions(record.settings),
        ),
        judged={name: adjustment.judged for name, adjustment in adjustments.items()},
        spreads=_spreads(record.settings),
        promises=promise_verdicts(adjustments),
        probe=_probe(run),
        twins=twin_record(requests, pairs_of(run.record, requests, chosen), settings),
    )
    if not adjustments:
        return page
    reported = find_rows(page.estimates, split=settings.split)
    return replace(page, adjusted=adjustment_part(adjustments, reported, page.attributes))


def _left_out(record: RunRecord[Settings]) -> tuple[str, ...]:
    excluded = (f"Group {group}: no part in gaps." for group in record.excluded)
    return (*(record.source.left_out if record.source else ()), *excluded)


def _fitted_threshold_notes(rules: Mapping[tuple[Origin, str], str], split: str) -> list[str]:
    """Return a note for each threshold that was chosen on the reported rows."""
    if split != "val":
        return []
    return [
        FITTED_THRESHOLD.format(of_models)
        for (origin, _), of_models in rules.items()
        if origin == "validation"
    ]


def _measure_settings(record: RunRecord[Settings]) -> MeasureSettings:
    return measure_settings(record.settings, record.excluded)


def _spreads(settings: Settings) -> tuple[str, ...]:
    """Return the metric names of the targets that are differences across groups."""
    names = settings.target if isinstance(settings, TargetSettings) else ()
    if isinstance(settings, PruneSettings):
        names = (settings.target,)
    return tuple(target.row_metric for target in map(find_target, names) if target.is_spread)


def _cautions(settings: Settings) -> list[str]:
    """Return the cautions of the targets that the models were chosen by."""
    if not isinstance(settings, TargetSettings):  # a pruning writes its caution itself
        return []
    return [target.caution for target in map(find_target, settings.target) if target.caution]


def _rules(
    requests: Mapping[str, Request], display_names: Mapping[str, str]
) -> dict[tuple[Origin, str], str]:
    """Return " of MODELS" for each decision rule (origin, text); "" if all models share one."""
    models: dict[tuple[Origin, str], list[str]] = {}
    for name, request in requests.items():
        rule = request.cut.origin, request.cut.how
        models.setdefault(rule, []).append(display_names.get(name, name))
    if len(models) == 1:
        return dict.fromkeys(models, "")
    return {rule: f" of {join_words(names)}" for rule, names in models.items()}


def _samples(requests: Mapping[str, Request], split: str) -> dict[str, ModelSamples]:
    """Return the reported samples of each model with two classes."""
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
    """Return the name of the positive class; "positive" if it is a number or there are several."""
    return "positive" if len(classes) != 2 or classes[1].isdecimal() else classes[1]


def _search(run: Run) -> Search | None:
    path = run.root / "search.json"
    if not path.exists():
        return None
    content = read_object(path)
    columns = [target.name for target in parse_record(SearchRecord, content, path).objectives]
    record = parse_record(SearchRecord, current_record(content), path)
    targets = [find_target(target.name, pessimistic=target.bound) for target in record.objectives]
    numbers = {name: [""] for name in (*columns, "lr", "repeats", "adopted")}
    trials = pd.read_csv(run.root / "trials.csv", keep_default_na=False, na_values=numbers)
    return Search(trials.rename(columns=current_target), targets, record.studies)


def _probe(run: Run) -> ProbeRecord | None:
    path = run.root / probe_record.FILE
    return read_json_record(ProbeRecord, path) if path.exists() else None


def pruning_of(run: Run) -> Pruning | None:
    """Return the pruning in a run; None if the run has none."""
    path = run.root / "pruning.json"
    if not path.exists():
        return None
    record = read_json_record(PruningRecord, path)
    saliency = run.root / "saliency.csv"
    sample = pd.read_csv(saliency) if saliency.exists() else None
    return Pruning(pd.read_csv(run.root / "curve.csv"), record, sample)


def _units(run: Run, model: str) -> tuple[UnitShare, ...]:
    """Return the units of a model; none if the run has only its predictions."""
    path = run.folder(model) / "model.json"
    if not path.exists() and not path.with_suffix(".safetensors").exists():
        return ()
    return tuple(read_json_record(_Units, path).units)
