"""The answers: the first section of the report, with a verdict for each question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from evenhand.metrics import BESIDE, EVERYBODY, headline_order
from evenhand.reporting.estimates import (
    Estimate,
    Extremes,
    extremes,
    find_rows,
    first_row,
    is_unknown,
    names,
)
from evenhand.reporting.report import Report
from evenhand.reporting.section import section
from evenhand.reporting.sections.levelling import group_changes, levelling_verdict
from evenhand.reporting.sections.strategies import metric_of_comparison
from evenhand.reporting.text.sentences import (
    INTERVAL_ABOVE_0,
    OutcomeWord,
    apart_sentence,
    chance_remark,
    chance_sentence,
    detectable_group_sentences,
    gap_sentence,
    group_sentence,
    groups_sentence,
    has_interval_above_0,
    models_sentence,
    no_gap_sentence,
    overall_cost_sentence,
    paired_chip,
    paired_sentence,
    spread_sentence,
    strategy_sentence,
    where,
)
from evenhand.reporting.text.vocabulary import (
    MODELS,
    display_name,
    first_upper,
    hundredths,
    in_sentence,
    join_words,
    lower_first,
    model_at_sentence_start,
    term,
)
from evenhand.reporting.verdicts import Verdict

PICKED = (
    "The worst group is picked from the same data, which biases its value and its interval where "
    "groups are close. The verdict does not depend on which group is picked."
)
SPREAD = (
    "A smaller difference across groups does not mean that any group is served better; the answers "
    "on the worst group show what each group gains and loses."
)
NO_GAP = "No gap is shown."
FLAGGED = "The model flags a case if its score is at or above the threshold."
TWO_MODELS = (
    "This holds for these two models: training the same recipe with another seed may give another "
    "result."
)


@dataclass(frozen=True)
class Dots:
    """The share of cases that are found in a group, as a picture of a hundred cases.

    Attributes
    ----------
    name
        The group.
    count
        The number of found cases out of a hundred.
    cases
        The numbers behind it, as in ``"7 of 9"``, or "".
    """

    name: str
    count: int
    cases: str


@dataclass(frozen=True)
class ReportAnswer:
    """The answer to one question.

    Attributes
    ----------
    topic
        The question in a few words.
    headline
        The answer as a sentence.
    details
        Sentences on its uncertainty.
    outcome
        The answer in a word or two.
    dots
        Two groups as pictures of a hundred cases, if the metric is sensitivity.
    verdicts
        The statements of the answer as verdicts.
    gap_in
        The metrics in which a gap is shown, in words; "" if there are none.
    notes
        Sentences that hold for several answers; the page has each of them once.
    """

    topic: str
    headline: str
    details: tuple[str, ...]
    outcome: OutcomeWord
    dots: tuple[Dots, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    gap_in: str = ""
    notes: tuple[str, ...] = ()

    @property
    def chip(self) -> str:
        """The outcome as it is shown, with the metrics in which a gap is shown."""
        return f"{self.outcome} in {self.gap_in}" if self.gap_in else self.outcome


def strategy_answer(
    rows: Sequence[Estimate],
    model: str,
    attribute: str,
    metric: str,
    validation: Sequence[Estimate] = (),
    further_metrics: Sequence[str] = (),
) -> ReportAnswer | None:
    """Return the answer to whether a model serves its worst group better than other models.

    Parameters
    ----------
    rows
        The rows of one split, with paired differences.
    model, attribute
        The model and the attribute.
    metric
        The metric of the comparison (``"auc"``).
    validation
        Rows of the validation split, which decide the group that each other model serves worst.
    further_metrics
        Further metrics whose claimed differences are part of the answer.

    Returns
    -------
    ReportAnswer or None
        None if the model is compared with no other model.
    """
    worst_rows = find_rows(
        rows, attribute=attribute, group=EVERYBODY, base=metric, aggregate="worst"
    )
    paired = [row for row in worst_rows if row.model == model and row.against]
    if not paired:
        return None
    everybody = find_rows(rows, attribute=EVERYBODY, group=EVERYBODY, metric=metric)
    overall = [row for row in everybody if row.model == model and row.against]
    others = [row.against or "" for row in paired]
    possible = [
        group_changes(rows, validation, (model, other), attribute, metric) for other in others
    ]
    defined = [change for change in possible if change is not None]
    claimed = [
        group.difference
        for change in defined
        for group in change.groups
        if paired_chip(group.difference) != "cannot tell"
    ]
    levelling = [verdict for change in defined if (verdict := levelling_verdict(change))]
    further = _claimed_differences(rows, model, (EVERYBODY, attribute), further_metrics)
    down = any(verdict.claim for verdict in levelling)
    models = join_words((model_at_sentence_start(model), *others), "or")
    return ReportAnswer(
        topic=f"{models}, by {display_name(attribute)}?",
        headline=_same_models(paired, overall)
        or _headline(paired, further, further_metrics) + overall_cost_sentence(overall),
        details=(
            *_side_by_side(worst_rows, paired),
            *(_side_by_side(everybody, overall) if overall else ()),
            *map(group_sentence, claimed),
            *map(_further_sentence, further),
            *(verdict.text for verdict in levelling),
            *detectable_group_sentences(rows, paired),
        ),
        notes=(PICKED, TWO_MODELS),
        outcome="levelled down" if down else _outcome(paired, further),
        verdicts=(
            *(_paired_verdict(row, paired_sentence(row)) for row in (*paired, *overall)),
            *(_paired_verdict(row, group_sentence(row)) for row in claimed),
            *(_paired_verdict(row, _further_sentence(row)) for row in further),
            *levelling,
        ),
    )


def spread_answer(
    rows: Sequence[Estimate], model: str, attribute: str, metric: str
) -> ReportAnswer | None:
    """Return the answer to whether a model's difference across groups is smaller than others'.

    Parameters
    ----------
    rows
        The rows of one split, with paired differences.
    model, attribute
        The model and the attribute.
    metric
        The full name of the difference (``"equalized_odds_difference"``).

    Returns
    -------
    ReportAnswer or None
        None if the model is compared with no other model.
    """
    spreads = find_rows(rows, attribute=attribute, group=EVERYBODY, metric=metric)
    paired = [row for row in spreads if row.model == model and row.against]
    if not paired:
        return None
    others = join_words(
        (model_at_sentence_start(model), *(row.against or "" for row in paired)), "or"
    )
    return ReportAnswer(
        topic=f"{others}: {lower_first(paired[0].term.label)} by {display_name(attribute)}?",
        headline=spread_sentence(paired),
        details=_side_by_side(spreads, paired),
        notes=(SPREAD, TWO_MODELS),
        outcome=_outcome(paired, ()),
        verdicts=tuple(_paired_verdict(row, paired_sentence(row)) for row in paired),
    )


def _same_models(paired: Sequence[Estimate], overall: Sequence[Estimate]) -> str:
    """Return the sentence on models whose numbers are equal in every resample, else ""."""
    rows = (*paired, *overall)
    if not overall or any(row.value != 0 or row.low is not None for row in rows):
        return ""
    models = join_words(
        (model_at_sentence_start(paired[0].model), *(str(row.against) for row in paired))
    )
    label = in_sentence(paired[0].base)
    return f"{models} have the same {label} of everybody and of the worst group."


def _headline(
    paired: Sequence[Estimate], further: Sequence[Estimate], further_metrics: Sequence[str]
) -> str:
    """Return the headline; with further metrics, it names its metric and those that get worse."""
    text = strategy_sentence(paired)
    if not further_metrics:
        return text
    lost = dict.fromkeys(row.metric for row in further if paired_chip(row) == "worse")
    cost = f" It costs {join_words([in_sentence(name) for name in lost])}." if lost else ""
    return f"{paired[0].base_term.label}: {text}{cost}"


def _outcome(paired: Sequence[Estimate], further: Sequence[Estimate]) -> OutcomeWord:
    """Return the outcome; better in one metric and worse in another is a trade."""
    least = _least_favourable([paired_chip(row) for row in paired])
    is_worse = any(paired_chip(row) == "worse" for row in further)
    return "a trade" if least == "better" and is_worse else least


def _claimed_differences(
    rows: Sequence[Estimate], model: str, attributes: Sequence[str], metrics: Sequence[str]
) -> list[Estimate]:
    """Return the claimed differences of a model in some metrics, for everybody and each group."""
    return [
        row
        for metric in metrics
        for attribute in attributes
        for row in find_rows(rows, model=model, attribute=attribute, metric=metric)
        if row.against and paired_chip(row) != "cannot tell"
        if row.group != EVERYBODY or attribute == EVERYBODY
    ]


def _further_sentence(row: Estimate) -> str:
    """Return the sentence on a difference in another metric than that of the answer."""
    label = term(row.metric).label
    if row.group == EVERYBODY:
        return f"{label} of everybody. {paired_sentence(row)}"
    return f"{label}. {group_sentence(row)}"


def _paired_verdict(row: Estimate, text: str) -> Verdict:
    """Return a sentence on a paired difference as a verdict."""
    about = f"{row.metric} of {row.model} less {row.against}"
    if row.group != EVERYBODY:
        about += f", {row.group}"
    return Verdict(about, row.attribute, paired_chip(row) != "cannot tell", text, row.p_adjusted)


def _side_by_side(rows: Sequence[Estimate], paired: Sequence[Estimate]) -> tuple[str, ...]:
    """Return sentences on a number of each model, and on the differences between the models."""
    models = (paired[0].model, *names(paired, "against"))
    single = [first_row(rows, model=name, against=None) for name in models]
    return (
        models_sentence([row for row in single if row is not None]),
        *map(paired_sentence, paired),
    )


def group_answer(
    rows: Sequence[Estimate], model: str, attribute: str, positive: str
) -> ReportAnswer | None:
    """Return the answer to whether a model serves the groups of an attribute alike.

    Parameters
    ----------
    rows
        The rows of one split.
    model, attribute
        The model and the attribute.
    positive
        The word for a positive sample.

    Returns
    -------
    ReportAnswer or None
        None if there are no rows about groups.
    """
    attribute_rows = find_rows(rows, model=model, attribute=attribute, against=None)
    members = [
        row for row in attribute_rows if row.group != EVERYBODY and not is_unknown(row.group)
    ]
    if not members:
        return None
    if judged := _judged_extremes(attribute_rows, names(members, "metric")):
        return _extremes_answer(judged, positive)
    return ReportAnswer(
        topic=first_upper(display_name(attribute)),
        headline=f"Nothing can be said about {display_name(attribute)}: {_why_nothing(members)}.",
        details=tuple(_undefined_reasons(members)),
        outcome="cannot tell",
    )


def _why_nothing(members: Sequence[Estimate]) -> str:
    """Return why no group of an attribute is served worse than another."""
    compared = [row for row in members if row.compared and row.is_of_group]
    if len(names(compared, "group")) < 2:
        return "there are no two groups to compare"
    judged = [row for row in compared if row.term.better != "neither"]
    if not judged:
        labels = [term(metric).label for metric in names(compared, "metric")]
        return f"no value of {join_words(labels)} is better than another"
    defined = Counter(row.metric for row in judged if row.value is not None)
    if max(defined.values(), default=0) < 2:
        return "there are no two groups whose numbers are defined"
    return "the numbers of all groups are equal"


def _judged_extremes(rows: Sequence[Estimate], metrics: Sequence[str]) -> list[Extremes]:
    """Return the extremes of each judged metric: first those whose gap is shown.

    The judged metrics are the first one whose values differ between groups, and `BESIDE`.
    """
    possible = (extremes(rows, metric) for metric in headline_order(metrics))
    lead = next(filter(None, possible), None)
    if lead is None:
        return []
    beside = (extremes(rows, metric) for metric in BESIDE if metric != lead.worst.metric)
    return sorted([lead, *filter(None, beside)], key=lambda ends: not ends.differs)


def _extremes_answer(judged: Sequence[Extremes], positive: str) -> ReportAnswer:
    """Return the answer by the judged metrics; the headline is about the first of them."""
    ends, *others = judged
    doubt = "" if ends.differs else f"{NO_GAP} "
    headline = doubt + groups_sentence(ends.worst, ends.best, positive)
    size, chance = gap_sentence(ends), chance_sentence(ends)
    further = [
        _gap_verdict(gap, apart_sentence(gap) if gap.differs else no_gap_sentence(gap))
        for gap in others
    ]
    return ReportAnswer(
        topic=first_upper(display_name(ends.worst.attribute)),
        headline=headline,
        details=(size, chance, *(verdict.text for verdict in further)),
        notes=(INTERVAL_ABOVE_0,) if has_interval_above_0(ends) else (),
        outcome="a gap" if ends.differs else "cannot tell",
        dots=_dots(ends.worst, ends.best) if ends.worst.metric == "sensitivity" else (),
        gap_in=join_words([in_sentence(gap.worst.metric) for gap in judged if gap.differs]),
        verdicts=(_gap_verdict(ends, f"{headline} {size} {chance}"), *further),
    )


def _gap_verdict(ends: Extremes, text: str) -> Verdict:
    """Return sentences on a gap as a verdict."""
    worst, p = ends.worst, None if ends.gap is None else ends.gap.p_adjusted
    return Verdict(f"{worst.metric} gap of {worst.model}", worst.attribute, ends.differs, text, p)


def _least_favourable(outcomes: Sequence[OutcomeWord]) -> OutcomeWord:
    """Return the least favourable of several outcomes."""
    order: tuple[OutcomeWord, ...] = ("worse", "cannot tell", "better")
    return min(outcomes, key=order.index)


def _dots(*groups: Estimate) -> tuple[Dots, ...]:
    return tuple(
        Dots(
            display_name(row.group),
            hundredths(row.value or 0.0),
            f"{round((row.value or 0.0) * row.positives)} of {row.positives:,}"
            if row.positives
            else "",
        )
        for row in groups
    )


def _undefined_reasons(members: Sequence[Estimate]) -> list[str]:
    """Return a sentence for each group and reason why a number is undefined."""
    reasons = dict.fromkeys(
        f"Where {where(row.attribute, row.group)}: {row.undefined}."
        for row in members
        if row.undefined
    )
    return list(reasons)


CORRECTED = (
    "p-values are corrected over all groups and models that this page compares: of 100 pages "
    "without any true difference, at most 5 claim one. Intervals are not corrected: an interval "
    "that does not contain zero is not a claim."
)


MANY = 4
"""Number of answers above which the section begins with an overview."""


@dataclass(frozen=True)
class AnswerView:
    """The answers of a page, and remarks below them."""

    answers: tuple[ReportAnswer, ...]
    remarks: tuple[str, ...]

    @property
    def overview(self) -> dict[OutcomeWord, list[str]]:
        """The topics of the answers by outcome, claims first; empty if there are few answers."""
        topics: dict[OutcomeWord, list[str]] = {}
        for answer in sorted(self.answers, key=lambda answer: answer.outcome == "cannot tell"):
            topics.setdefault(answer.outcome, []).append(answer.topic.removesuffix("?"))
        return topics if len(self.answers) > MANY else {}


@section("report", "answer", "The answer", place=10)
def answer_view(report: Report) -> AnswerView:
    """Return the answers of a report with their remarks."""
    answers = _answers(report)
    tested = any(
        verdict.p_adjusted is not None for answer in answers for verdict in answer.verdicts
    )
    remarks = (
        *((f"{FLAGGED} {report.threshold_rule}",) if report.names_thresholds else ()),
        *dict.fromkeys(note for answer in answers for note in answer.notes),
        *filter(None, map(chance_remark, _overall_aucs(report))),
        *((CORRECTED,) if tested else ()),
        *report.notes,
    )
    return AnswerView(answers, remarks)


def verdicts_of(report: Report) -> tuple[Verdict, ...]:
    """Return the verdicts of a report: its statements on differences, chance and promises."""
    chance = ((row, chance_remark(row)) for row in _overall_aucs(report))
    return (
        *dict.fromkeys(verdict for answer in _answers(report) for verdict in answer.verdicts),
        *(
            Verdict(
                f"chance: {row.model}",
                EVERYBODY,
                row.is_claimed,
                text,
                row.p_adjusted,
                warning=True,
            )
            for row, text in chance
            if text
        ),
        *report.promises,
    )


def _overall_aucs(report: Report) -> list[Estimate]:
    """Return the AUC of everybody under each model that the answers are about."""
    overall = find_rows(report.single, attribute=EVERYBODY, group=EVERYBODY, metric="auc")
    return [row for row in overall if row.model in report.answered_models]


def _answers(report: Report) -> tuple[ReportAnswer, ...]:
    """Return the answers of a report: on spreads, on the worst group, then on each attribute."""
    rows, validation = report.reported, find_rows(report.estimates, split="val")
    models, single = report.answered_models, report.single
    group_answers = [
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
        strategy_answer(rows, model, name, first, validation, further_metrics)
        for model in models
        for first, *further_metrics in [report.judged.get(model) or (metric,)]
        for name in report.attributes
    ]
    comparisons = [answer for answer in (*spreads, *compared) if answer is not None]
    if _is_unchanged(report):
        comparisons = [
            replace(answer, details=(UNCHANGED, *answer.details)) for answer in comparisons
        ]
    return (*comparisons, *group_answers)


UNCHANGED = (
    "Nothing was pruned: no step within the budget was better on validation, so the two models "
    "are the same."
)


def _is_unchanged(report: Report) -> bool:
    """Return whether the answers are about a pruned model that equals the unpruned one."""
    is_kept = report.pruning is not None and report.pruning.record.chosen == 0
    return is_kept and list(report.answered_models) == [MODELS["pruned"]]
