"""The model card: verdicts by attribute, numbers by group, and the origin of the model."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence

import yaml

from evenhand.experiments.records import Parent, RunRecord, SourceRecord
from evenhand.metrics import EVERYBODY, FAIRNESS, MetricRow
from evenhand.reporting.estimates import (
    Estimate,
    Estimates,
    estimates,
    extremes,
    find_rows,
    first_row,
    names,
)
from evenhand.reporting.report import Pruning
from evenhand.reporting.sections.answers import group_answer
from evenhand.reporting.sections.groups import leading_first
from evenhand.reporting.sections.strategies import metric_of_comparison
from evenhand.reporting.text.sentences import NO_SPLIT, chance_remark, introduction, level
from evenhand.reporting.text.vocabulary import (
    PERCENT,
    display_name,
    join_words,
    model_at_sentence_start,
    model_names,
    term,
)
from evenhand.settings import Settings

COLUMNS = 4
"""Number of metrics by group on the card; the report has all metrics."""
DECISIONS = ("sensitivity", "specificity", "accuracy")
"""Metrics whose rows have the threshold of decisions."""


def model_card(
    record: RunRecord[Settings],
    rows: Sequence[MetricRow],
    name: str,
    *,
    split: str = "test",
    names_split: bool = True,
    positive: str = "positive",
    pruning: Pruning | None = None,
) -> str:
    """Return the card of one model of a run as Markdown with front matter.

    Parameters
    ----------
    record
        The record of the run.
    rows
        The metric rows of the run.
    name
        The name of the model in the run.
    split
        The split that the card reports.
    names_split
        Whether the data have splits; if they have none, all rows are reported.
    positive
        The word for a positive sample.
    pruning
        The pruning of the run, None without one.
    """
    shown_names = model_names(record.files)
    run_rows = estimates(rows, record.files, record.excluded)
    model_rows = find_rows(run_rows, model=shown_names.get(name, name), split=split, against=None)
    unit, source = record.unit, record.source or SourceRecord(reader="unknown", path="")
    by_group = Estimates(row for row in model_rows if row.is_of_group)
    metrics = leading_first(names(by_group, "metric"))[:COLUMNS] if by_group else ()
    sections = {
        "In short": _short(model_rows, split if names_split else None, unit, positive),
        "Results by group": _groups(by_group, metrics, unit),
        "Gaps between groups": _gaps(model_rows, metrics),
        "The model": [
            *_about(record),
            *_decisions(by_group),
            *(() if pruning is None else _pruned(record.parent, pruning, name)),
        ],
        "Data": [
            f"- source: {_plain(source.reader)} {_plain(source.path)}",
            f"- label: {_plain(source.label or 'as in the predictions')}",
            f"- split reported: {split if names_split else f'all rows {NO_SPLIT}'}; "
            f"independent units: {_plain(unit)}s",
            *_inputs(source),
            *(f"- left out: {_plain(sentence)}" for sentence in source.left_out),
        ],
        "Limits": [
            *(f"- {_plain(note)}" for note in record.notes),
            "- Intervals come from resamples of whole patients, with a fixed decision threshold.",
            "- All numbers, and the reasons for undefined ones, are in report.html and "
            "metrics.json of the run.",
            "- The model is for research; it is not a medical device.",
        ],
        "Versions": [", ".join(f"{_plain(k)} {_plain(v)}" for k, v in record.versions.items())],
    }
    parts = [
        f"---\n{_front(record, model_rows, name)}---",
        f"# {_plain(model_at_sentence_start(shown_names.get(name, name)))}",
    ]
    parts += [f"## {title}\n\n" + "\n".join(lines) for title, lines in sections.items() if lines]
    return "\n\n".join(parts) + "\n"


def _front(record: RunRecord[Settings], rows: Sequence[Estimate], name: str) -> str:
    """Return the front matter: the usual fields of a model card, with the overall results."""
    overall = [row for row in rows if row.attribute == EVERYBODY and row.value is not None]
    data = record.source.reader if record.source else "unknown"
    result = {
        "task": {"type": "classification"},
        "dataset": {"name": data, "type": data},
        "metrics": [
            {"type": row.metric, "name": row.term.label, "value": row.value} for row in overall
        ],
    }
    front = {
        "library_name": "evenhand",
        "tags": ["medical", "fairness", record.job],
        "datasets": [data],
        "metrics": [row.metric for row in overall],
        "model-index": [{"name": name, "results": [result]}],
    }
    text: str = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    return text


def _about(record: RunRecord[Settings]) -> list[str]:
    """Return the recipe and the job of a model, a line each."""
    *_, first_run = record.lineage()
    recipe = ("backbone", "strategy", "method", "weights")
    recipe_values = first_run.settings.model_dump(include={*recipe})
    lines = [
        f"- {name}: {_plain(join_words(value) if isinstance(value, tuple) else value)}"
        for name in recipe
        if (value := recipe_values.get(name))
    ]
    origin = "made by" if recipe_values else "measured from a file of predictions by"
    return [*lines, f"- {origin} evenhand {record.job}, seed {record.seed}"]


def _decisions(rows: Sequence[Estimate]) -> Iterator[str]:
    """Yield the threshold of decisions, or those of the groups; nothing without decisions."""
    by_group = {
        _group(row): f"{row.threshold:.6g}"
        for row in rows
        if row.metric in DECISIONS and row.threshold is not None
    }
    thresholds = dict.fromkeys(by_group.values())
    if len(thresholds) == 1:
        yield f"- decision: positive if the score is at least {join_words([*thresholds])}"
    elif thresholds:
        each = [f"{threshold} ({group})" for group, threshold in by_group.items()]
        yield f"- decision: positive if the score is at least {join_words(each)}"


def _inputs(source: SourceRecord) -> Iterator[str]:
    """Yield the form of the stored samples, and of the network's inputs."""
    if source.stored is None:
        return
    yield f"- stored samples: {source.stored}"
    if source.stored.dtype == "uint8":
        yield (
            "- input of the network: float32, channels x height x width, from 0 to 1 (the stored "
            "samples divided by 255); other images are resized by Pillow's bicubic filter"
        )


def _pruned(parent: Parent | None, pruning: Pruning, name: str) -> Iterator[str]:
    """Yield the origin of a pruned model, and how and how far it was pruned, a line each."""
    if parent is not None:
        yield f"- pruned from: the model {_plain(parent.model)} of the run {_plain(parent.run)}"
    record = pruning.record
    step = pruning.curve.iloc[record.chosen]
    before, after = record.cost["before"], record.cost[name]
    if name == "before":
        yield f"- state: before pruning, {before.parameters:,} parameters"
        return
    betas = join_words([f"{group} (beta {beta:.3g})" for group, beta in record.betas.items()])
    yield (
        f"- pruned for {_plain(record.unprivileged)}, the unprivileged group by "
        f"{_plain(display_name(record.attribute))}, against {_plain(betas)}"
    )
    channels = record.structure == "channel"
    yield f"- structure: {'whole channels are removed' if channels else 'single weights are zero'}"
    yield (
        f"- parameters: {before.parameters:,} before, {after.parameters:,} after, of which "
        f"{after.zeros:,} are zero"
    )
    yield (
        f"- chosen: step {step['step']:.0f} of {len(pruning.curve) - 1}, a sparsity of "
        f"{PERCENT.text(step['sparsity'])} of the prunable parameters"
    )
    if name == "pruned" and record.chosen == 0:
        yield "- unchanged: no step within the budget was better on validation than no pruning"
    if name == "finetuned":
        yield "- fine-tuned after the pruning; pruned parameters stay zero"


def _short(rows: Sequence[Estimate], split: str | None, unit: str, positive: str) -> list[str]:
    """Return the samples, a warning about chance, and a paragraph and a row for each attribute."""
    lines = [_plain(introduction(rows, split, unit, positive))]
    overall = find_rows(rows, attribute=EVERYBODY, group=EVERYBODY, metric="auc")
    for remark in filter(None, map(chance_remark, overall)):
        lines += ["", f"**{_plain(remark)}**"]
    attributes = [name for name in names(rows, "attribute") if name != EVERYBODY]
    if not attributes:
        return lines
    for attribute in attributes:
        answer = group_answer(rows, rows[0].model, attribute, positive)
        if answer is not None:
            sentences = " ".join(map(_plain, (answer.headline, *answer.details, *answer.notes)))
            lines += ["", f"**{_plain(answer.topic)}: {answer.chip}.** {sentences}"]
    metric = metric_of_comparison(rows)
    table = [*_extremes(rows, metric, attributes)]
    if not table:
        return lines
    head = f"| {_plain(term(metric).label)} | everyone | worst group | best group | gap |"
    return [*lines, "", head, "|---|---|---|---|---|", *table]


def _extremes(rows: Sequence[Estimate], metric: str, attributes: Sequence[str]) -> Iterator[str]:
    """Yield a row for each attribute: its worst and best group by one metric, and their gap."""
    everyone = _value(first_row(rows, attribute=EVERYBODY, metric=metric))
    for attribute in attributes:
        gap = extremes(find_rows(rows, attribute=attribute), metric)
        if gap:
            ends = [
                f"{_plain(display_name(row.group))} {_value(row)}" for row in (gap.worst, gap.best)
            ]
            cells = (f"by {_plain(display_name(attribute))}", everyone, *ends, _value(gap.gap))
            yield f"| {' | '.join(cells)} |"


def _groups(rows: Sequence[Estimate], metrics: Sequence[str], unit: str) -> list[str]:
    """Return a table with a row for each group."""
    if not metrics:
        return []
    labels = [f"{_plain(term(metric).label)} ({level(rows[0])} interval)" for metric in metrics]
    head = f"| group | samples | {_plain(unit)}s | {' | '.join(labels)} |"
    lines = [head, "|---" * (3 + len(metrics)) + "|"]
    for attribute, group in dict.fromkeys((row.attribute, row.group) for row in rows):
        group_rows = find_rows(rows, attribute=attribute, group=group)
        counts = (f"{group_rows[0].n:,}", f"{group_rows[0].patients:,}")
        values = (_value(first_row(group_rows, metric=metric)) for metric in metrics)
        lines.append(f"| {' | '.join((_group(group_rows[0]), *counts, *values))} |")
    return lines


def _gaps(estimates: Sequence[Estimate], metrics: Sequence[str]) -> list[str]:
    """Return a table of the gaps in these metrics, and of the fairness metrics."""
    wanted = {*((metric, "gap") for metric in metrics), *((name, None) for name in FAIRNESS)}
    rows = [
        row for row in find_rows(estimates, group=EVERYBODY) if (row.base, row.aggregate) in wanted
    ]
    if not rows:
        return []
    head = ["| attribute | number | value (interval) |", "|---|---|---|"]
    return head + [
        f"| {_plain(display_name(row.attribute))} | {_plain(row.term.label)} | {_value(row)} |"
        for row in rows
    ]


def _value(row: Estimate | None) -> str:
    """Return a value with its interval, or the reason why it is undefined."""
    if row is None:
        return "not measured"
    if row.value is None:
        return f"undefined: {_plain(row.undefined)}"
    scale = row.term.scale
    ends = scale.interval(row.low, row.high)
    return f"{scale.text(row.value)} ({ends})" if ends else scale.text(row.value)


def _group(row: Estimate) -> str:
    if row.attribute == EVERYBODY:
        return "everyone"
    return f"{_plain(display_name(row.attribute))}: {_plain(display_name(row.group))}"


def _plain(text: object) -> str:
    """Return text with the special characters of Markdown and HTML escaped."""
    one_line = html.escape(" ".join(str(text).split()), quote=False)
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", one_line)
