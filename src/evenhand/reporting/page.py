"""The report: one self-contained HTML page from plain data."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from evenhand.experiments.records import RunRecord
from evenhand.metrics import EVERYBODY, Groups, MetricRow, Scored
from evenhand.reporting.charts.curves import score_views
from evenhand.reporting.charts.explorer import COLUMNS, explorer
from evenhand.reporting.estimates import Estimate, Estimates, estimates, find, names
from evenhand.reporting.sections.answers import Answer, group_answer, strategy_answer
from evenhand.reporting.sections.groups import GroupView, group_view
from evenhand.reporting.sections.provenance import fact_tables, undefined
from evenhand.reporting.sections.pruning import Pruning, pruning_view
from evenhand.reporting.sections.search import Search, search_views
from evenhand.reporting.sections.strategies import comparison, generalisation, leading_metric
from evenhand.reporting.sections.units import UnitShare, unit_view
from evenhand.reporting.text.sentences import chance_remark, detectable_sentence, lede, reading
from evenhand.reporting.text.vocabulary import first_upper, model_names, opening
from evenhand.reporting.verdicts import Verdict
from evenhand.settings import Settings

if TYPE_CHECKING:
    from evenhand.reporting.sections.assessment import Part

CORRECTED = (
    "p-values are corrected over all groups and models that this page compares: of 100 pages "
    "without any true difference, at most 5 claim one. Intervals are not corrected: one that does "
    "not contain zero is no claim by itself."
)


@dataclass(frozen=True, eq=False)
class Samples:
    """The reported samples as one model scores them, and the level that each has by attribute.

    ``compared`` names the levels of each attribute that take part in gaps.
    """

    scored: Scored
    groups: Mapping[str, Groups]
    compared: Mapping[str, Sequence[str]]


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that a report shows, as plain data.

    Attributes
    ----------
    title
        The page's heading.
    record
        The record of the run; None where the rows come from no run.
    rows
        The rows of ``metrics.json``; every model and split that is shown.
    attributes
        The attributes in the order in which they are shown.
    split
        The split that the report speaks of.
    positive
        What a positive sample is, in a word (``"malignant"``).
    patient
        What ``patient_id`` really is in these data: ``"patient"``, ``"lesion"``, ``"stay"``.
    search
        What an outer search tried, None without one.
    units
        The units of the backbone, and which of them the chosen mask tunes.
    pruning
        What a pruning did, None without one.
    samples
        The reported samples by model, for the curves and the threshold explorer; none for more
        than two classes, which have neither.
    detectable
        Smallest gap that the test set would show, as (attribute, metric, gap).
    threshold_rule
        Where the decision threshold comes from, as a sentence.
    left_out
        What took no part: unreadable images, excluded groups; one sentence each.
    notes
        What else a reader must know; one sentence each.
    judged
        The metrics that a model is compared by, by its shown name; of others the leading one.
    adjusted
        What methods have fitted to a trained model, None without any.
    promises
        What these methods promise of new patients.
    """

    title: str
    rows: Sequence[MetricRow]
    attributes: Sequence[str]
    record: RunRecord[Settings] | None = None
    split: str = "test"
    positive: str = "positive"
    patient: str = "patient"
    search: Search | None = None
    units: Sequence[UnitShare] = ()
    pruning: Pruning | None = None
    samples: Mapping[str, Samples] = field(default_factory=dict)
    detectable: Sequence[tuple[str, str, float]] = ()
    threshold_rule: str = ""
    left_out: Sequence[str] = ()
    notes: Sequence[str] = ()
    judged: Mapping[str, Sequence[str]] = field(default_factory=dict)
    adjusted: Part | None = None
    promises: Sequence[Verdict] = ()

    @cached_property
    def estimates(self) -> Estimates:
        """All rows as estimates."""
        excluded = self.record.excluded if self.record else ()
        return estimates(self.rows, self._files, excluded)

    @property
    def _files(self) -> tuple[Path, ...]:
        return self.record.files if self.record else ()

    @cached_property
    def called(self) -> dict[str, str]:
        """What models are called that have a name of ours; see `model_names`."""
        return model_names(self._files)

    @property
    def chosen(self) -> str | None:
        """What the model is called that the run recommends, if it recommends one."""
        chosen = self.record.chosen if self.record else None
        return chosen and self.called.get(chosen, chosen)


def render(report: Report) -> str:
    """Return the report as one HTML page that needs no network and no script."""
    called, rows = report.called, report.estimates
    here = find(rows, split=report.split)
    single = find(here, against=None)
    models = names(single, "model")
    chosen = report.chosen or next(iter(models), "")
    views = _group_views(single, report)
    samples = [(called.get(name, name), of) for name, of in report.samples.items()]
    samples.sort(key=lambda item: item[0] != chosen)
    answers, remarks = answers_of(report)
    page: dict[str, Any] = {
        "answers": answers,
        "groups": [view for model, view in views if model == chosen],
        "other_groups": [view for model, view in views if model != chosen],
        "scores_by_group": [
            (name, score_views(of.scored, of.groups, report.positive)) for name, of in samples
        ],
        "explorers": [(name, explorer(of.scored, of.groups, of.compared)) for name, of in samples],
        "comparison": comparison(
            here, report.attributes, report.chosen, find(rows, split="val"), report.judged
        ),
        "splits": generalisation(rows, report.attributes),
        "searches": () if report.search is None else search_views(report.search),
        "pruning": None if report.pruning is None else pruning_view(report.pruning),
        "units": unit_view(report.units) if report.units else None,
        "adjusted": report.adjusted,
        "undefined": undefined(rows),
        "facts": fact_tables(report.record) if report.record else (),
        "thresholds": _thresholds(single),
    }
    script = _script()
    return template("page.html").render(
        **page,
        title=report.title,
        report=report,
        many=len(models) > 1,
        explorer_columns=COLUMNS,
        script=Markup(script) if samples else "",
        script_hash=b64encode(sha256(script.encode()).digest()).decode(),
        patients=f"{report.patient}s",
        lede=lede(single, report.split, report.patient, report.positive),
        reading=reading(single),
        remarks=remarks,
        contents=_contents(page, report),
    )


def _contents(page: Mapping[str, Any], report: Report) -> list[tuple[str, str]]:
    """Return anchor and title of the sections that the page has."""
    present = {
        "answer": ("The answer", True),
        "groups": ("Groups", page["groups"]),
        "scores": ("Scores by group", page["scores_by_group"]),
        "explorer": ("Explore the threshold", page["explorers"]),
        "strategies": (f"{_contenders(report)} side by side", page["comparison"]),
        "generalisation": ("Does fairness generalise?", page["splits"]),
        "pruning": ("What was pruned", page["pruning"]),
        "adjusted": ("What was adjusted", page["adjusted"]),
        "search": ("The search", page["searches"]),
        "units": ("What the best mask tunes", page["units"]),
        "undefined": ("What is not here", page["undefined"] or report.left_out),
        "provenance": (
            "Settings and provenance",
            page["facts"] or page["thresholds"] or report.threshold_rule,
        ),
    }
    return [(name, title) for name, (title, there) in present.items() if there]


def _contenders(report: Report) -> str:
    """Return what the models of a run are to each other: strategies where a search chose one."""
    chose = report.chosen and report.pruning is None and report.adjusted is None
    return "Strategies" if chose else "Models"


def _told(single: Sequence[Estimate], report: Report, chosen: str) -> Sequence[str]:
    """Return the models that the page answers for: the one that was chosen, or all."""
    return [chosen] if report.chosen else names(single, "model")


def verdicts_of(report: Report) -> tuple[Verdict, ...]:
    """Return the page's statements that claim a difference or say that none is shown."""
    rows, chosen = _rows_of(report)
    answers = _answers(rows, report, chosen)
    doubts = ((row, chance_remark(row)) for row in _doubted(rows, report, chosen))
    return (
        *dict.fromkeys(verdict for answer in answers for verdict in answer.verdicts),
        *(
            Verdict(f"chance: {row.model}", EVERYBODY, row.claimed, text, row.p_adjusted)
            for row, text in doubts
            if text
        ),
        *report.promises,
    )


def answers_of(report: Report) -> tuple[tuple[Answer, ...], tuple[str, ...]]:
    """Return the answers of the page, and its further remarks."""
    rows, chosen = _rows_of(report)
    answers = _answers(rows, report, chosen)
    doubts = map(chance_remark, _doubted(rows, report, chosen))
    tested = any(verdict.p_adjusted is not None for of in answers for verdict in of.verdicts)
    remarks = (
        *filter(None, doubts),
        *((CORRECTED,) if tested else ()),
        *(detectable_sentence(*one) for one in report.detectable),
        *report.notes,
    )
    return answers, remarks


def _rows_of(report: Report) -> tuple[Estimates, str]:
    """Return all rows of a report, and the shown name of the model that it is about."""
    rows = report.estimates
    single = find(rows, split=report.split, against=None)
    return rows, report.chosen or next(iter(names(single, "model")), "")


def _doubted(rows: Sequence[Estimate], report: Report, chosen: str) -> list[Estimate]:
    """Return the AUC of everybody under each model that the page answers for."""
    single = find(rows, split=report.split, against=None)
    told = _told(single, report, chosen)
    overall = find(single, attribute=EVERYBODY, group=EVERYBODY, metric="auc")
    return [row for row in overall if row.model in told]


def _answers(every: Sequence[Estimate], report: Report, chosen: str) -> tuple[Answer, ...]:
    rows, validation = find(every, split=report.split), find(every, split="val")
    single = find(rows, against=None)
    models = _told(single, report, chosen)
    told = [
        replace(answer, topic=f"{answer.topic} under {model}") if len(models) > 1 else answer
        for model in models
        for attribute in report.attributes
        if (answer := group_answer(single, model, attribute, report.positive)) is not None
    ]
    metric = leading_metric(single)
    compared = [
        strategy_answer(rows, model, name, first, validation, beside)
        for model in models
        for first, *beside in [report.judged.get(model) or (metric,)]
        for name in report.attributes
    ]
    return (*(answer for answer in compared if answer is not None), *told)


def _group_views(rows: Sequence[Estimate], report: Report) -> list[tuple[str, GroupView]]:
    return [
        (model, view)
        for model in names(rows, "model")
        for attribute in report.attributes
        if (view := group_view(rows, model, attribute, report.positive)) is not None
    ]


def _thresholds(rows: Sequence[Estimate]) -> tuple[tuple[str, float], ...]:
    """Return the thresholds that decisions were made at, with their models."""
    pairs = [(opening(row.model), row.threshold) for row in rows]
    return tuple(dict.fromkeys((name, at) for name, at in pairs if at is not None))


@cache
def _script() -> str:
    """Return the page's one script; its hash is what the page allows to run."""
    script = resources.files("evenhand.reporting").joinpath("templates/explorer.js")
    return script.read_text("utf-8")


@cache
def template(name: str) -> Template:
    """Return one of the report's templates."""
    environment = Environment(
        loader=PackageLoader("evenhand", "reporting/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["first_upper"] = first_upper
    return environment.get_template(name)
