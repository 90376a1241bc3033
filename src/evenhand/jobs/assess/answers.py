"""The answer of an assessment: as sentences for the page, and as rows of ``verdicts.json``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evenhand.jobs.assess.claims import RecipeClaim, RecipeClaims
from evenhand.jobs.assess.evidence import text_of
from evenhand.jobs.assess.grid import with_share
from evenhand.jobs.assess.values import Value
from evenhand.reporting.part import PartAnswer
from evenhand.reporting.text.numbers import NBSP, Scale, listed, p_value
from evenhand.reporting.text.vocabulary import in_sentence
from evenhand.reporting.verdicts import Verdict as Row

OUTCOMES = {
    1: ("better", "fairer", "Yes, fairer"),
    0: ("unsure", "not certain", "Not certain"),
    -1: ("worse", "less fair", "No, less fair"),
}


@dataclass(frozen=True)
class Judgement:
    """What of a pair of cells is judged (``AUC by group``), and its row of ``verdicts.json``."""

    topic: str
    row: Row


@dataclass(frozen=True)
class AttributeAnswer:
    """The answer for one attribute, for the page and for ``verdicts.json``."""

    verdict: PartAnswer
    judgements: tuple[Judgement, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of ``verdicts.json``."""
        return tuple(judgement.row for judgement in self.judgements)


def answers(claims: RecipeClaims) -> tuple[AttributeAnswer, ...]:
    """Return the answer for each attribute."""
    return tuple(_answer(claims, attribute) for attribute in claims.deviation)


def sentences(every: Sequence[RecipeClaims]) -> list[str]:
    """Return the answer as lines of text, that of the chosen cell against supervised alone."""
    verdicts = [answer.verdict for answer in answers(every[0])]
    return [
        *(
            " ".join((f"{verdict.topic}: {verdict.headline}", *verdict.details))
            for verdict in verdicts
        ),
        about_seeds(every),
    ]


def verdict_rows(every: Sequence[RecipeClaims]) -> Iterator[Row]:
    """Yield every verdict of stage 5."""
    for claims in every:
        for judgement in judgements(claims):
            yield judgement.row


def judgements(claims: RecipeClaims) -> Iterator[Judgement]:
    """Yield what is judged of a pair of cells: the AUC of everybody, then each attribute."""
    yield _judgement(claims, "AUC", "*", [claims.everybody], _cost(claims))
    for answer in answers(claims):
        yield from answer.judgements


def about_seeds(every: Sequence[RecipeClaims]) -> str:
    """Say what the claims are about: two models, or two recipes."""
    count, seeds = sum(len(claims.family) for claims in every), every[0].evaluation.seeds
    family = (
        f"A difference is claimed where its p-value, corrected by Holm over the {count} "
        "differences of this stage and doubled (the claims about similarity share the 5 % of the "
        "page), is at most .05. The intervals are not corrected."
    )
    if seeds == 1:
        return (
            "Each cell has one seed: the claims are about these two models, on other patients. "
            "Another seed may tell otherwise; with --seeds 3 or more they are about the two ways "
            f"to train. {family}"
        )
    return (
        f"Each cell has {seeds} seeds: intervals and p-values of differences allow for "
        "other test patients and other seeds "
        "(t, Satterthwaite's degrees of freedom), and not for other "
        f"training patients. {family}"
    )


def pair_name(claims: RecipeClaims) -> str:
    """Return the two cells that claims are about, and the share of labels below 1."""
    share = claims.evaluation.share
    return f"{with_share(claims.cell, share)} against {with_share(claims.against, share)}"


def _answer(claims: RecipeClaims, attribute: str) -> AttributeAnswer:
    cost = _cost(claims)
    if not claims.evaluation.claims(claims.cell, claims.against):
        text = (
            "No claim about fairness: of one of the two models the interval of the AUC does not "
            "lie above .5."
        )
        verdict = PartAnswer(attribute, "unsure", "no claim", text, (cost,))
        return AttributeAnswer(
            verdict, (_judgement(claims, "deviation from parity", attribute, [], text),)
        )
    claim = claims.deviation[attribute]
    headline = _headline(claims, claim)
    groups, levelled = _groups(claims, attribute), _levelled(claims, attribute)
    outcome, chip, _ = OUTCOMES[claim.sign]
    losses = claims.levelled_down(attribute)
    if losses:
        outcome, chip = "worse", "levelled down"
    elif claim.change.value is None:
        chip = "undefined"
    picked = tuple(_picked(claims, attribute))
    details = (levelled, *(judgement.row.text for judgement in picked), groups, cost)
    verdict = PartAnswer(attribute, outcome, chip, headline, details)
    judged = (
        _judgement(claims, "deviation from parity", attribute, [claim], headline),
        _judgement(claims, "AUC by group", attribute, claims.groups[attribute], groups),
        _judgement(claims, "levelling down", attribute, losses, levelled),
        *picked,
    )
    return AttributeAnswer(verdict, judged)


def _picked(claims: RecipeClaims, attribute: str) -> Iterator[Judgement]:
    """Yield what is said of each metric that the guide or the user picked."""
    by_metric: dict[str, list[RecipeClaim]] = {}
    for claim in claims.picked[attribute]:
        by_metric.setdefault(claim.key.base, []).append(claim)
    for metric, (gap, *groups) in (
        (name, _gap_first(judged)) for name, judged in by_metric.items()
    ):
        name = in_sentence(metric)
        certain = [claim.group for claim in groups if claim.sign]
        outcome = {1: "smaller", 0: "not certain", -1: "larger"}[gap.sign]
        text = (
            f"Gap in {name}: {_both(claims, gap)}, a change of "
            f"{text_of(gap.change.shown, sign=True)}{_p(gap)}, {outcome}."
        )
        if groups:
            each = "; ".join(f"{c.group} {text_of(c.change.shown, sign=True)}" for c in groups)
            sure = f"certain for {listed(certain)}" if certain else "certain for no group"
            text = f"{text} Its change is {sure}: {each}."
        yield _judgement(claims, f"gap in {name}", attribute, [gap, *groups], text)


def _gap_first(claims: Sequence[RecipeClaim]) -> list[RecipeClaim]:
    return sorted(claims, key=lambda claim: claim.key.aggregate != "gap")


def _both(claims: RecipeClaims, claim: RecipeClaim) -> str:
    """Return a number with each of the two cells."""
    texts = []
    for cell in (claims.against, claims.cell):
        value = Value.of_size(claims.evaluation.judged[cell].numbers[claim.key])
        texts.append(f"{text_of(value)} with {claims.evaluation.called(cell)}")
    return ", ".join(texts)


def _judgement(
    claims: RecipeClaims, topic: str, attribute: str, judged: Sequence[RecipeClaim], text: str
) -> Judgement:
    p = [claim.p_adjusted for claim in judged if claim.p_adjusted is not None]
    about, is_claimed = f"{topic}, {pair_name(claims)}", any(claim.sign for claim in judged)
    return Judgement(topic, Row(about, attribute, is_claimed, text, min(p, default=None)))


def _headline(claims: RecipeClaims, claim: RecipeClaim) -> str:
    """Say whether the deviation from parity differs, and by how much."""
    evaluation, change = claims.evaluation, claim.change
    cell, against = evaluation.called(claims.cell), evaluation.called(claims.against)
    base, other = (
        evaluation.deviation(name, claim.attribute).value for name in (claims.against, claims.cell)
    )
    if base is None or other is None:
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
        f"{outcome}: deviation from parity {base:.3f} with {against}, {other:.3f} with {cell}, "
        f"a change of {text_of(change.shown, sign=True)}{_p(claim)}{_reduced(reduction, against)}."
    )


def _p(claim: RecipeClaim) -> str:
    if claim.p_adjusted is None:
        return ""
    return f", corrected p {p_value(claim.p_adjusted)}"


def _reduced(less: Value, against: str) -> str:
    """Say the change as a share of the other's value, where that share has an interval."""
    if less.value is None or less.low is None or less.high is None:
        return ""
    scale = Scale(100.0, 0, f"{NBSP}%", signed=True)
    interval = scale.interval(-less.high, -less.low)
    return f"; {scale.text(-less.value)} ({interval}) of that with {against}"


def _cost(claims: RecipeClaims) -> str:
    """Say what the cell does to the AUC of everybody."""
    evaluation, claim = claims.evaluation, claims.everybody
    pair = (claims.cell, claims.against)
    cell, other = (
        f"{text_of(Value.of(evaluation.judged[name].auc))} with {evaluation.called(name)}"
        for name in pair
    )
    sure = {1: "certain, a gain", 0: "not certain", -1: "certain, a loss"}[claim.sign]
    change = text_of(claim.change.shown, sign=True)
    return f"AUC {cell}, {other}: a change of {change}, {sure}."


def _groups(claims: RecipeClaims, attribute: str) -> str:
    """Say for which groups the change in AUC is certain."""
    own = claims.groups[attribute]
    text = {c.group: f"{c.group} {text_of(c.change.shown, sign=True)}" for c in own}
    certain = [claim.group for claim in own if claim.sign]
    everyone = "; ".join(text.values())
    if not certain:
        return f"For no group is the change in AUC certain: {everyone}."
    return f"The change in AUC is certain for {listed(certain)}; all groups: {everyone}."


def _levelled(claims: RecipeClaims, attribute: str) -> str:
    """Say whether the cell levels down."""
    losses = claims.levelled_down(attribute)
    worst = claims.worst.get(attribute)
    if not losses:
        if any(claim.sign < 0 for claim in claims.groups[attribute]):
            return f"No levelling down: {worst or 'another group'} is shown to be served better."
        return "Levelling down is not shown: no group is certain to lose AUC."
    against = claims.evaluation.called(claims.against)
    served = (
        f"{worst}, the group that {against} serves worst on validation," if worst else "no group"
    )
    way = "is not shown" if worst else "is shown"
    lost = listed([f"{c.group} ({text_of(c.change.shown, sign=True)})" for c in losses])
    return f"Levelled down: {served} {way} to be served better, and AUC is lost in {lost}."
