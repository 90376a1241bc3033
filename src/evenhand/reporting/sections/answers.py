"""The answer in words: what the report says before it shows anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from evenhand.metrics import BESIDE, EVERYBODY, headline_order
from evenhand.reporting.estimates import Estimate, find, first, names
from evenhand.reporting.report import Report
from evenhand.reporting.section import section
from evenhand.reporting.sections.levelling import group_changes, levelling_verdict
from evenhand.reporting.sections.strategies import metric_of_comparison
from evenhand.reporting.text.numbers import hundredths, listed
from evenhand.reporting.text.sentences import (
    OutcomeWord,
    alone_sentence,
    apart_sentence,
    chance_remark,
    chance_sentence,
    detectable_sentence,
    gap_sentence,
    group_sentence,
    groups_sentence,
    models_sentence,
    overall_cost_sentence,
    paired_chip,
    paired_sentence,
    smaller_sentence,
    strategy_sentence,
    usual_sentences,
    where,
)
from evenhand.reporting.text.vocabulary import (
    first_upper,
    in_sentence,
    lower_first,
    opening,
    shown,
    term,
)
from evenhand.reporting.text.worst_best import Extremes, extremes, is_unknown
from evenhand.reporting.verdicts import Verdict

PICKED = (
    "The worst group is picked from the same data, which biases its value and its interval where "
    "groups are close. The verdict does not depend on which group is picked."
)
SPREAD = (
    "A smaller difference across groups does not say how well each group is served; the next "
    "answer says what each gains and loses."
)
TWO_MODELS = (
    "This holds for these two models: training the same recipe with another seed may give another "
    "result."
)


@dataclass(frozen=True)
class Dots:
    """A hundred cases, so many of them found."""

    name: str
    count: int
    counted: str  # "7 of 9"; empty where nobody has counted


@dataclass(frozen=True)
class ReportAnswer:
    """One thing that the report can say, or say that it cannot.

    Attributes
    ----------
    topic
        What it is about, in a few words.
    headline
        The sentence that a reader takes away.
    details
        Sentences on how sure that is.
    outcome
        The answer in a word or two.
    dots
        Two groups as a hundred cases each, empty when the metric is no share of positives.
    verdicts
        The sentences that claim a difference or say that none is shown, as verdicts.
    found_in
        The metrics that show a gap, in words, where that of the headline shows none; else "".
    """

    topic: str
    headline: str
    details: tuple[str, ...]
    outcome: OutcomeWord
    dots: tuple[Dots, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    found_in: str = ""

    @property
    def chip(self) -> str:
        """The outcome as it is shown, with the metrics of a gap that is not the headline's."""
        return f"{self.outcome} in {self.found_in}" if self.found_in else self.outcome


def strategy_answer(
    rows: Sequence[Estimate],
    model: str,
    attribute: str,
    metric: str,
    validation: Sequence[Estimate] = (),
    beside: Sequence[str] = (),
) -> ReportAnswer | None:
    """Say whether a model serves its worst group better than the models it is held against.

    Parameters
    ----------
    rows
        The rows of one split, paired differences among them.
    model, attribute
        Which model's worst group of which attribute.
    metric
        What it is served by (``"auc"``).
    validation
        Rows of the validation split, which show the group that each other model serves worst.
    beside
        Further metrics, whose claimed differences are told, too.

    Returns
    -------
    Answer or None
        None when the model is held against no other.
    """
    worst_rows = find(rows, attribute=attribute, group=EVERYBODY, base=metric, aggregate="worst")
    paired = [row for row in worst_rows if row.model == model and row.against]
    if not paired:
        return None
    everybody = find(rows, attribute=EVERYBODY, group=EVERYBODY, metric=metric)
    overall = [row for row in everybody if row.model == model and row.against]
    others = [row.against or "" for row in paired]
    possible = [
        group_changes(rows, validation, (model, other), attribute, metric) for other in others
    ]
    defined = [change for change in possible if change is not None]
    changed = [group.difference for change in defined for group in change.groups]
    levelling = [verdict for change in defined if (verdict := levelling_verdict(change))]
    others_told = _changed(rows, model, (EVERYBODY, attribute), beside)
    down = any(verdict.claim for verdict in levelling)
    return ReportAnswer(
        topic=f"{listed((opening(model), *others), 'or')}, by {shown(attribute)}?",
        headline=_headline(paired, others_told, beside) + overall_cost_sentence(overall),
        details=(
            *_side_by_side(worst_rows, paired),
            *(_side_by_side(everybody, overall) if overall else ()),
            *(group_sentence(row) for row in changed if paired_chip(row) != "cannot tell"),
            *map(_beside_sentence, others_told),
            *(verdict.text for verdict in levelling),
            *usual_sentences(rows, paired),
            PICKED,
            TWO_MODELS,
        ),
        outcome="levelled down" if down else _outcome(paired, others_told),
        verdicts=(
            *(_paired_verdict(row, paired_sentence(row)) for row in (*paired, *overall)),
            *(
                _paired_verdict(row, group_sentence(row))
                for row in changed
                if paired_chip(row) != "cannot tell"
            ),
            *(_paired_verdict(row, _beside_sentence(row)) for row in others_told),
            *levelling,
        ),
    )


def spread_answer(
    rows: Sequence[Estimate], model: str, attribute: str, metric: str
) -> ReportAnswer | None:
    """Say whether a model's difference across groups is smaller than that of other models.

    Parameters
    ----------
    rows
        The rows of one split, paired differences among them.
    model, attribute
        Which model, and whose groups.
    metric
        The full name of the difference (``"equalized_odds_difference"``).

    Returns
    -------
    Answer or None
        None when the model is held against no other.
    """
    spreads = find(rows, attribute=attribute, group=EVERYBODY, metric=metric)
    paired = [row for row in spreads if row.model == model and row.against]
    if not paired:
        return None
    others = listed((opening(model), *(row.against or "" for row in paired)), "or")
    return ReportAnswer(
        topic=f"{others}: {lower_first(paired[0].term.label)} by {shown(attribute)}?",
        headline=smaller_sentence(paired),
        details=(*_side_by_side(spreads, paired), SPREAD, TWO_MODELS),
        outcome=_outcome(paired, ()),
        verdicts=tuple(_paired_verdict(row, paired_sentence(row)) for row in paired),
    )


def _headline(
    paired: Sequence[Estimate], others_told: Sequence[Estimate], beside: Sequence[str]
) -> str:
    """Return the headline; with further metrics, also what it is by and what it costs."""
    text = strategy_sentence(paired)
    if not beside:
        return text
    lost = dict.fromkeys(row.metric for row in others_told if paired_chip(row) == "worse")
    cost = f" It costs {listed([in_sentence(name) for name in lost])}." if lost else ""
    by = paired[0].base_term.label
    return f"{by}: {text}{cost}"


def _outcome(paired: Sequence[Estimate], others_told: Sequence[Estimate]) -> OutcomeWord:
    """Return the answer in a word or two; better by one metric and worse by another is a trade."""
    least = _least([paired_chip(row) for row in paired])
    costs = any(paired_chip(row) == "worse" for row in others_told)
    return "a trade" if least == "better" and costs else least


def _changed(
    rows: Sequence[Estimate], model: str, attributes: Sequence[str], metrics: Sequence[str]
) -> list[Estimate]:
    """Return a model's claimed differences for everybody and each group, in some metrics."""
    return [
        row
        for metric in metrics
        for attribute in attributes
        for row in find(rows, model=model, attribute=attribute, metric=metric)
        if row.against and paired_chip(row) != "cannot tell"
        if row.group != EVERYBODY or attribute == EVERYBODY
    ]


def _beside_sentence(row: Estimate) -> str:
    """Say a difference in a metric that is not the one of the answer."""
    label = term(row.metric).label
    if row.group == EVERYBODY:
        return f"{label} of everybody. {paired_sentence(row)}"
    return f"{label}. {group_sentence(row)}"


def _paired_verdict(row: Estimate, text: str) -> Verdict:
    about = f"{row.metric} of {row.model} less {row.against}"
    if row.group != EVERYBODY:
        about += f", {row.group}"
    return Verdict(about, row.attribute, paired_chip(row) != "cannot tell", text, row.p_adjusted)


def _side_by_side(rows: Sequence[Estimate], paired: Sequence[Estimate]) -> tuple[str, ...]:
    """Say what one number is under each model, and how the first one's differs from the others'."""
    models = (paired[0].model, *names(paired, "against"))
    held = [first(rows, model=name, against=None) for name in models]
    return (
        models_sentence([row for row in held if row is not None]),
        *map(paired_sentence, paired),
    )


def group_answer(
    rows: Sequence[Estimate], model: str, attribute: str, positive: str
) -> ReportAnswer | None:
    """Say how a model serves the groups of an attribute, None when it has no such rows."""
    own = find(rows, model=model, attribute=attribute, against=None)
    members = [row for row in own if row.group != EVERYBODY and not is_unknown(row.group)]
    if not members:
        return None
    for metric in headline_order(names(members, "metric")):
        if ends := extremes(own, metric):
            others = (extremes(own, other) for other in BESIDE if other != metric)
            return _told(
                ends, [group_ends for group_ends in others if group_ends is not None], positive
            )
    return ReportAnswer(
        topic=first_upper(shown(attribute)),
        headline=f"Nothing can be said about {shown(attribute)}: {_why_nothing(members)}.",
        details=tuple(_why(members)),
        outcome="cannot tell",
    )


def _why_nothing(members: Sequence[Estimate]) -> str:
    """Return why no group of an attribute is worse served than another."""
    compared = [row for row in members if row.compared and row.of_group]
    if len(names(compared, "group")) < 2:
        return "there are no two groups to compare"
    judged = [row for row in compared if row.term.better != "neither"]
    if not judged:
        labels = [term(metric).label for metric in names(compared, "metric")]
        return f"there is no better or worse in {listed(labels)}"
    defined = Counter(row.metric for row in judged if row.value is not None)
    if max(defined.values(), default=0) < 2:
        return "there are no two groups whose numbers are defined"
    return "the numbers of all groups are equal"


def _told(ends: Extremes, others: Sequence[Extremes], positive: str) -> ReportAnswer:
    """Tell the groups by one metric, and by others where these alone tell them apart."""
    beside = [] if ends.apart else [group_ends for group_ends in others if group_ends.apart]
    headline = groups_sentence(ends.worst, ends.best, positive)
    size, chance = gap_sentence(ends), chance_sentence(ends)
    others_told = [_gap_verdict(group_ends, apart_sentence(group_ends)) for group_ends in beside]
    return ReportAnswer(
        topic=first_upper(shown(ends.worst.attribute)),
        headline=headline,
        details=(
            size,
            chance,
            *filter(None, [alone_sentence(ends)]),
            *(verdict.text for verdict in others_told),
        ),
        outcome="a gap" if ends.apart or beside else "cannot tell",
        dots=_dots(ends.worst, ends.best) if ends.worst.metric == "sensitivity" else (),
        found_in=listed([in_sentence(group_ends.worst.metric) for group_ends in beside]),
        verdicts=(_gap_verdict(ends, f"{headline} {size} {chance}"), *others_told),
    )


def _gap_verdict(ends: Extremes, text: str) -> Verdict:
    worst, p = ends.worst, None if ends.gap is None else ends.gap.p_adjusted
    return Verdict(f"{worst.metric} gap of {worst.model}", worst.attribute, ends.apart, text, p)


def _least(outcomes: Sequence[OutcomeWord]) -> OutcomeWord:
    """Return the least favourable outcome: better only when every comparison is."""
    order: tuple[OutcomeWord, ...] = ("worse", "cannot tell", "better")
    return min(outcomes, key=order.index)


def _dots(*groups: Estimate) -> tuple[Dots, ...]:
    return tuple(
        Dots(
            shown(row.group),
            hundredths(row.value or 0.0),
            f"{round((row.value or 0.0) * row.positives)} of {row.positives:,}"
            if row.positives
            else "",
        )
        for row in groups
    )


def _why(members: Sequence[Estimate]) -> list[str]:
    reasons = dict.fromkeys(
        f"Where {where(row.attribute, row.group)}: {row.undefined}."
        for row in members
        if row.undefined
    )
    return list(reasons)


CORRECTED = (
    "p-values are corrected over all groups and models that this page compares: of 100 pages "
    "without any true difference, at most 5 claim one. Intervals are not corrected: one that does "
    "not contain zero is no claim by itself."
)


MANY = 4
"""More answers than these have an overview above them."""


@dataclass(frozen=True)
class AnswerView:
    """The answers of a page, and its further remarks."""

    answers: tuple[ReportAnswer, ...]
    remarks: tuple[str, ...]

    @property
    def overview(self) -> dict[OutcomeWord, list[str]]:
        """The topics of many answers by their outcome, claims first; empty for few answers."""
        topics: dict[OutcomeWord, list[str]] = {}
        for answer in sorted(self.answers, key=lambda answer: answer.outcome == "cannot tell"):
            topics.setdefault(answer.outcome, []).append(answer.topic.removesuffix("?"))
        return topics if len(self.answers) > MANY else {}


@section("report", "answer", "The answer", place=10)
def answer_view(report: Report) -> AnswerView:
    """Return what the page answers; it always says something."""
    answers = _answers(report)
    tested = any(
        verdict.p_adjusted is not None for answer in answers for verdict in answer.verdicts
    )
    remarks = (
        *filter(None, map(chance_remark, _overall_aucs(report))),
        *((CORRECTED,) if tested else ()),
        *(detectable_sentence(*answer) for answer in report.detectable),
        *report.notes,
    )
    return AnswerView(answers, remarks)


def verdicts_of(report: Report) -> tuple[Verdict, ...]:
    """Return the page's statements that claim a difference or say that none is shown."""
    doubts = ((row, chance_remark(row)) for row in _overall_aucs(report))
    return (
        *dict.fromkeys(verdict for answer in _answers(report) for verdict in answer.verdicts),
        *(
            Verdict(f"chance: {row.model}", EVERYBODY, row.claimed, text, row.p_adjusted)
            for row, text in doubts
            if text
        ),
        *report.promises,
    )


def _overall_aucs(report: Report) -> list[Estimate]:
    """Return the AUC of everybody under each model that the page answers for."""
    overall = find(report.single, attribute=EVERYBODY, group=EVERYBODY, metric="auc")
    return [row for row in overall if row.model in report.answered]


def _answers(report: Report) -> tuple[ReportAnswer, ...]:
    rows, validation = report.reported, find(report.estimates, split="val")
    models, single = report.answered, report.single
    of_groups = [
        replace(answer, topic=f"{answer.topic} under {model}") if len(models) > 1 else answer
        for model in models
        for attribute in report.attributes
        if (answer := group_answer(single, model, attribute, report.positive)) is not None
    ]
    metric = metric_of_comparison(single)
    spreads = [
        spread_answer(rows, model, name, spread)
        for spread in report.spreads
        for model in models
        for name in report.attributes
    ]
    compared = [
        strategy_answer(rows, model, name, first, validation, beside)
        for model in models
        for first, *beside in [report.judged.get(model) or (metric,)]
        for name in report.attributes
    ]
    return (*(answer for answer in (*spreads, *compared) if answer is not None), *of_groups)
