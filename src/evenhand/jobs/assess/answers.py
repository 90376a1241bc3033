"""The answers of an assessment: sentences for the page, and rows of ``verdicts.json``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evenhand.jobs.assess.claims import RecipeClaim, RecipeClaims
from evenhand.jobs.assess.evaluation import Value
from evenhand.jobs.assess.evidence import value_text
from evenhand.jobs.assess.grid import with_share
from evenhand.reporting.section import AnswerBox
from evenhand.reporting.text.vocabulary import NBSP, Scale, in_sentence, join_words, p_value_text
from evenhand.reporting.verdicts import Verdict

OUTCOMES = {  # by the sign of a claim: outcome, chip and first words of the headline
    1: ("better", "fairer", "Yes, fairer"),
    0: ("unsure", "not certain", "Not certain"),
    -1: ("worse", "less fair", "No, less fair"),
}


@dataclass(frozen=True)
class Judgement:
    """A verdict on one topic, such as ``AUC by group``, for a pair of cells."""

    topic: str
    verdict: Verdict


@dataclass(frozen=True)
class AttributeAnswer:
    """The answer for one attribute, for the page and for ``verdicts.json``."""

    answer: AnswerBox
    judgements: tuple[Judgement, ...]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The rows of ``verdicts.json``."""
        return tuple(judgement.verdict for judgement in self.judgements)


def answers(claims: RecipeClaims) -> tuple[AttributeAnswer, ...]:
    """Return the answer for each attribute."""
    return tuple(_answer(claims, attribute) for attribute in claims.deviation)


def sentences(all_claims: Sequence[RecipeClaims]) -> list[str]:
    """Return the answer about the chosen cell against supervised, as lines of text."""
    chosen = [answer.answer for answer in answers(all_claims[0])]
    return [
        *(" ".join((f"{answer.topic}: {answer.headline}", *answer.details)) for answer in chosen),
        seeds_text(all_claims),
    ]


def verdict_rows(all_claims: Sequence[RecipeClaims]) -> Iterator[Verdict]:
    """Yield every verdict of stage 5."""
    for claims in all_claims:
        for judgement in judgements(claims):
            yield judgement.verdict


def judgements(claims: RecipeClaims) -> Iterator[Judgement]:
    """Yield the judgements of a pair of cells: the AUC of everybody, then each attribute."""
    yield _judgement(claims, "AUC", "*", [claims.everybody], _auc_text(claims))
    for answer in answers(claims):
        yield from answer.judgements


def seeds_text(all_claims: Sequence[RecipeClaims]) -> str:
    """Return sentences about the scope of the claims: two models, or two recipes."""
    count = sum(len(claims.family) for claims in all_claims)
    seeds = all_claims[0].evaluation.seeds
    family = (
        "A difference is claimed if its p-value is at most .05. The p-value is corrected by Holm "
        f"over the {count} differences of this stage, and then doubled, as the claims about "
        "similarity have the other half of the 5 %. The intervals are not corrected."
    )
    if seeds == 1:
        return (
            "Each cell has one seed: the claims hold for these two models on new patients. "
            "Other seeds may give other results; with --seeds 3 or more, the claims hold for the "
            f"two recipes. {family}"
        )
    return (
        f"Each cell has {seeds} seeds: intervals and p-values of differences (t, Satterthwaite's "
        "degrees of freedom) allow for other test patients and other seeds, but not for other "
        f"training patients. {family}"
    )


def pair_name(claims: RecipeClaims) -> str:
    """Return the names of the two cells of claims, with the share of labels if it is below 1."""
    share = claims.evaluation.share
    return f"{with_share(claims.cell, share)} against {with_share(claims.against, share)}"


def _answer(claims: RecipeClaims, attribute: str) -> AttributeAnswer:
    overall = _auc_text(claims)
    if not claims.evaluation.allows_claims(claims.cell, claims.against):
        text = (
            "No claim about fairness: the interval of the AUC of one of the two models does not "
            "lie above .5."
        )
        answer = AnswerBox(attribute, "unsure", "no claim", text, (overall,))
        return AttributeAnswer(
            answer, (_judgement(claims, "deviation from parity", attribute, [], text),)
        )
    claim = claims.deviation[attribute]
    headline = _headline(claims, claim)
    groups, levelled = _groups_text(claims, attribute), _levelling_text(claims, attribute)
    outcome, chip, _ = OUTCOMES[claim.sign]
    losses = claims.levelled_down(attribute)
    if losses:
        outcome, chip = "worse", "levelled down"
    elif claim.change.value is None:
        chip = "undefined"
    picked = tuple(_picked_judgements(claims, attribute))
    details = (levelled, *(judgement.verdict.text for judgement in picked), groups, overall)
    answer = AnswerBox(attribute, outcome, chip, headline, details)
    judged = (
        _judgement(claims, "deviation from parity", attribute, [claim], headline),
        _judgement(claims, "AUC by group", attribute, claims.groups[attribute], groups),
        _judgement(claims, "levelling down", attribute, losses, levelled),
        *picked,
    )
    return AttributeAnswer(answer, judged)


def _picked_judgements(claims: RecipeClaims, attribute: str) -> Iterator[Judgement]:
    """Yield a judgement of each metric that the decision guide or the user picked."""
    by_metric: dict[str, list[RecipeClaim]] = {}
    for claim in claims.picked[attribute]:
        by_metric.setdefault(claim.key.base, []).append(claim)
    for metric, judged in by_metric.items():
        gap, *groups = _gap_first(judged)
        name = in_sentence(metric)
        certain = [claim.group for claim in groups if claim.sign]
        outcome = {1: "smaller", 0: "not certain", -1: "larger"}[gap.sign]
        text = (
            f"Gap in {name}: {_both_values(claims, gap)}, a change of "
            f"{value_text(gap.change.shown, sign=True)}{_p_text(gap)}, {outcome}."
        )
        if groups:
            changes = "; ".join(
                f"{c.group} {value_text(c.change.shown, sign=True)}" for c in groups
            )
            certainty = f"certain for {join_words(certain)}" if certain else "certain for no group"
            text = f"{text} The change within groups is {certainty}: {changes}."
        yield _judgement(claims, f"gap in {name}", attribute, [gap, *groups], text)


def _gap_first(claims: Sequence[RecipeClaim]) -> list[RecipeClaim]:
    return sorted(claims, key=lambda claim: claim.key.aggregate != "gap")


def _both_values(claims: RecipeClaims, claim: RecipeClaim) -> str:
    """Return the values of a number for the two cells, as text."""
    texts = []
    for cell in (claims.against, claims.cell):
        value = Value.of_size(claims.evaluation.judged[cell].numbers[claim.key])
        texts.append(f"{value_text(value)} with {claims.evaluation.display_name(cell)}")
    return ", ".join(texts)


def _judgement(
    claims: RecipeClaims, topic: str, attribute: str, judged: Sequence[RecipeClaim], text: str
) -> Judgement:
    p = [claim.p_adjusted for claim in judged if claim.p_adjusted is not None]
    about = f"{topic}, {pair_name(claims)}"
    is_claimed = any(claim.sign for claim in judged)
    return Judgement(topic, Verdict(about, attribute, is_claimed, text, min(p, default=None)))


def _headline(claims: RecipeClaims, claim: RecipeClaim) -> str:
    """Return a sentence about the change in deviation from parity."""
    evaluation, change = claims.evaluation, claim.change
    cell, against = evaluation.display_name(claims.cell), evaluation.display_name(claims.against)
    before, after = (
        evaluation.deviation(name, claim.attribute).value for name in (claims.against, claims.cell)
    )
    if before is None or after is None:
        return "Deviation from parity is undefined: some group lacks a class or a decision."
    outcome = OUTCOMES[claim.sign][2]
    if evaluation.seeds == 1 and claim.sign:
        outcome = f"{outcome}, of these two models"
    if change.difference is None:
        outcome = (
            "Not certain, as the difference has no interval (in more than 5 % of the resamples of "
            "patients some group lacks a class or a decision)"
        )
    reduction = evaluation.reduction(claims.cell, claim.attribute, claims.against)
    return (
        f"{outcome}: deviation from parity {before:.3f} with {against}, {after:.3f} with {cell}, "
        f"a change of {value_text(change.shown, sign=True)}{_p_text(claim)}"
        f"{_reduction_text(reduction, against)}."
    )


def _p_text(claim: RecipeClaim) -> str:
    if claim.p_adjusted is None:
        return ""
    return f", corrected p {p_value_text(claim.p_adjusted)}"


def _reduction_text(reduction: Value, against: str) -> str:
    """Return the change as a share of the value of ``against``; "" without an interval."""
    if reduction.value is None or reduction.low is None or reduction.high is None:
        return ""
    scale = Scale(100.0, 0, f"{NBSP}%", signed=True)
    interval = scale.interval(-reduction.high, -reduction.low)
    return f"; {scale.text(-reduction.value)} ({interval}) of the value with {against}"


def _auc_text(claims: RecipeClaims) -> str:
    """Return a sentence about the change in the AUC of everybody."""
    evaluation, claim = claims.evaluation, claims.everybody
    pair = (claims.cell, claims.against)
    cell, other = (
        f"{value_text(Value.of(evaluation.judged[name].auc))} with {evaluation.display_name(name)}"
        for name in pair
    )
    certainty = {1: "certain, a gain", 0: "not certain", -1: "certain, a loss"}[claim.sign]
    change = value_text(claim.change.shown, sign=True)
    return f"AUC {cell}, {other}: a change of {change}, {certainty}."


def _groups_text(claims: RecipeClaims, attribute: str) -> str:
    """Return a sentence about the groups whose change in AUC is certain."""
    groups = claims.groups[attribute]
    changes = "; ".join(f"{c.group} {value_text(c.change.shown, sign=True)}" for c in groups)
    certain = [claim.group for claim in groups if claim.sign]
    if not certain:
        return f"The change in AUC is certain for no group: {changes}."
    return f"The change in AUC is certain for {join_words(certain)}; all groups: {changes}."


def _levelling_text(claims: RecipeClaims, attribute: str) -> str:
    """Return a sentence about levelling down."""
    losses = claims.levelled_down(attribute)
    worst = claims.worst.get(attribute)
    if not losses:
        if any(claim.sign < 0 for claim in claims.groups[attribute]):
            return f"No levelling down: {worst or 'another group'} is shown to be served better."
        return "Levelling down is not shown: no group is certain to lose AUC."
    against = claims.evaluation.display_name(claims.against)
    lost = join_words([f"{c.group} ({value_text(c.change.shown, sign=True)})" for c in losses])
    gain = (
        f"{worst}, the group that {against} serves worst on validation, is not shown"
        if worst
        else "no group is shown"
    )
    return f"Levelled down: {gain} to be served better, and AUC is lost in {lost}."
