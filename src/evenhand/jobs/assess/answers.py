"""The answer of an assessment: as sentences for the page, and as rows of ``verdicts.json``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evenhand.jobs.assess.claims import RecipeClaim, RecipeClaims, claims_of
from evenhand.jobs.assess.evaluation import Evaluation, Value
from evenhand.jobs.assess.evidence import text_of
from evenhand.jobs.assess.settings import SUPERVISED
from evenhand.reporting.sections.assessment import Verdict
from evenhand.reporting.text.numbers import NBSP, Scale, listed, p_value
from evenhand.reporting.verdicts import Verdict as Row

OUTCOMES = {
    1: ("better", "fairer", "Yes, fairer"),
    0: ("unsure", "not certain", "Not certain"),
    -1: ("worse", "less fair", "No, less fair"),
}


@dataclass(frozen=True)
class Answer:
    """The answer for one attribute, for the page and for ``verdicts.json``."""

    verdict: Verdict
    rows: tuple[Row, ...]


def answers(evaluation: Evaluation) -> tuple[Answer, ...]:
    """Return the answer for each attribute."""
    claims = claims_of(evaluation)
    return tuple(_answer(evaluation, claims, attribute) for attribute in claims.deviation)


def sentences(evaluation: Evaluation) -> list[str]:
    """Return the answer as lines of text."""
    verdicts = [answer.verdict for answer in answers(evaluation)]
    return [
        *(
            " ".join((f"{verdict.topic}: {verdict.headline}", *verdict.details))
            for verdict in verdicts
        ),
        about_seeds(evaluation),
    ]


def verdict_rows(evaluation: Evaluation) -> Iterator[Row]:
    """Yield every verdict of the answer."""
    claims = claims_of(evaluation)
    yield _row(evaluation, "AUC", "*", [claims.everybody], _cost(evaluation, claims))
    for answer in answers(evaluation):
        yield from answer.rows


def about_seeds(evaluation: Evaluation) -> str:
    """Say what the claims are about: two models, or two recipes."""
    count = len(claims_of(evaluation).family)
    family = (
        f"A difference is claimed where its p-value, corrected by Holm over the {count} "
        "differences of this stage and doubled (the claims about similarity share the 5 % of the "
        "page), is at most .05. The intervals are not corrected."
    )
    if evaluation.seeds == 1:
        return (
            "Each cell has one seed: the claims are about these two models, on other patients. "
            "Another seed may tell otherwise; with --seeds 3 or more they are about the two ways "
            f"to train. {family}"
        )
    return (
        f"Each cell has {evaluation.seeds} seeds: intervals and p-values of differences allow for "
        "other test patients and other seeds "
        "(t, Satterthwaite's degrees of freedom), and not for other "
        f"training patients. {family}"
    )


def _answer(evaluation: Evaluation, claims: RecipeClaims, attribute: str) -> Answer:
    cost = _cost(evaluation, claims)
    if not evaluation.claims(evaluation.chosen):
        text = (
            "No claim about fairness: of one of the two models the interval of the AUC does not "
            "lie above .5."
        )
        verdict = Verdict(attribute, "unsure", "no claim", text, (cost,))
        return Answer(verdict, (_row(evaluation, "deviation from parity", attribute, [], text),))
    claim = claims.deviation[attribute]
    headline = _headline(evaluation, claim)
    groups, levelled = _groups(claims, attribute), _levelled(claims, attribute)
    outcome, chip, _ = OUTCOMES[claim.sign]
    losses = claims.levelled_down(attribute)
    if losses:
        outcome, chip = "worse", "levelled down"
    elif claim.change.value is None:
        chip = "undefined"
    verdict = Verdict(attribute, outcome, chip, headline, (levelled, groups, cost))
    rows = (
        _row(evaluation, "deviation from parity", attribute, [claim], headline),
        _row(evaluation, "AUC by group", attribute, claims.groups[attribute], groups),
        _row(evaluation, "levelling down", attribute, losses, levelled),
    )
    return Answer(verdict, rows)


def _row(
    evaluation: Evaluation, about: str, attribute: str, claims: Sequence[RecipeClaim], text: str
) -> Row:
    p = [claim.p_adjusted for claim in claims if claim.p_adjusted is not None]
    name = f"{about}, {evaluation.chosen} against {SUPERVISED}"
    return Row(name, attribute, any(c.sign for c in claims), text, min(p, default=None))


def _headline(evaluation: Evaluation, claim: RecipeClaim) -> str:
    """Say whether the deviation from parity differs, and by how much."""
    cell, change = evaluation.chosen, claim.change
    supervised, other = (
        evaluation.deviation(name, claim.attribute).value for name in (SUPERVISED, cell)
    )
    if supervised is None or other is None:
        return "Deviation from parity is undefined: some group lacks a class or a decision."
    outcome = OUTCOMES[claim.sign][2]
    if evaluation.seeds == 1 and claim.sign:
        outcome = f"{outcome}, of these two models"
    if change.difference is None:
        outcome = (
            "Not certain, as the difference has no interval (in more than 5 % of the resamples of "
            "patients some group lacks a class or a decision)"
        )
    return (
        f"{outcome}: deviation from parity {supervised:.3f} supervised, {other:.3f} with "
        f"self-supervision ({cell}), a change of {text_of(change.shown, sign=True)}{_p(claim)}"
        f"{_reduced(evaluation.reduction(cell, claim.attribute))}."
    )


def _p(claim: RecipeClaim) -> str:
    if claim.p_adjusted is None:
        return ""
    return f", corrected p {p_value(claim.p_adjusted)}"


def _reduced(less: Value) -> str:
    """Say the change as a share of supervised's value, where that share has an interval."""
    if less.value is None or less.low is None or less.high is None:
        return ""
    scale = Scale(100.0, 0, f"{NBSP}%", signed=True)
    return f"; {scale.text(-less.value)} ({scale.interval(-less.high, -less.low)}) of supervised's"


def _cost(evaluation: Evaluation, claims: RecipeClaims) -> str:
    """Say what self-supervision does to the AUC of everybody."""
    cell, claim = evaluation.chosen, claims.everybody
    both = [Value.of(evaluation.judged[name].auc) for name in (cell, SUPERVISED)]
    sure = {1: "certain, a gain", 0: "not certain", -1: "certain, a loss"}[claim.sign]
    return (
        f"AUC {text_of(both[0])} with self-supervision, {text_of(both[1])} supervised: a change of "
        f"{text_of(claim.change.shown, sign=True)}, {sure}."
    )


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
    """Say whether self-supervision levels down."""
    losses = claims.levelled_down(attribute)
    worst = claims.worst.get(attribute)
    if not losses:
        if any(claim.sign < 0 for claim in claims.groups[attribute]):
            return f"No levelling down: {worst or 'another group'} is shown to be served better."
        return "Levelling down is not shown: no group is certain to lose AUC."
    served = (
        f"{worst}, the group that supervised serves worst on validation," if worst else "no group"
    )
    way = "is not shown" if worst else "is shown"
    lost = listed([f"{c.group} ({text_of(c.change.shown, sign=True)})" for c in losses])
    return f"Levelled down: {served} {way} to be served better, and AUC is lost in {lost}."
