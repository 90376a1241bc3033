"""What came of a search: what fresh seeds confirm, and which units seem to matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from evenhand.metrics import EVERYBODY, Target
from evenhand.reporting.charts.forest import Forest, Line, Look, forest
from evenhand.reporting.estimates import Estimate
from evenhand.reporting.search_record import (
    CandidateRecord,
    ChosenRecord,
    FitRecord,
    MethodImportance,
    StudyRecord,
    UnitImportance,
)
from evenhand.reporting.text.numbers import PLAIN, listed, plain
from evenhand.reporting.text.vocabulary import shown
from evenhand.wording import counted

SIGNED = replace(PLAIN, signed=True)
NAMES = {"mask": "mask", "method": "method", "rate": "learning rate"}


@dataclass(frozen=True)
class Findings:
    """Confirmation, chosen fits and importance of one study, empty where there are none."""

    confirmed: tuple[Forest, ...]
    optimism: tuple[str, ...]
    importance: tuple[Forest, ...]
    choice: str = ""  # the method and the learning rate that were chosen
    factors: tuple[str, ...] = ()  # a sentence for each target: mask, method and rate
    methods: tuple[Forest, ...] = ()
    origin: str = ""  # the trial of another study that was chosen; "" where it is the study's own
    fit_columns: tuple[str, ...] = ()
    fits: tuple[FitRow, ...] = ()


@dataclass(frozen=True)
class FitRow:
    """One fit of the chosen setting, or the mean over its fits."""

    name: str
    delivered: bool
    cells: tuple[str, ...]


def findings(study: StudyRecord, targets: Sequence[Target]) -> Findings:
    """Lay out what ``search.json`` says of a study."""
    confirmed, fits, chosen = study.confirmed, study.fits, study.chosen
    elsewhere = chosen is not None and chosen.study != study.name
    return Findings(
        confirmed=tuple(_confirmed(confirmed, target, study) for target in targets if confirmed),
        optimism=tuple(_optimism(confirmed, target) for target in targets if confirmed),
        importance=tuple(
            _importance(study.units, "unit", target) for target in targets if study.units
        ),
        choice=_choice(chosen) if chosen and study.factors is not None else "",
        factors=tuple(
            sentence for target in targets if (sentence := _factors(study, target)) is not None
        ),
        methods=tuple(
            _importance(study.methods, "method", target) for target in targets if study.methods
        ),
        origin=f"trial {chosen.trial} of {chosen.study}" if chosen and elsewhere else "",
        fit_columns=_fit_columns(fits[0], targets) if fits else (),
        fits=_fit_rows(fits, targets, chosen.seed if chosen else None),
    )


def _confirmed(candidates: Sequence[CandidateRecord], target: Target, study: StudyRecord) -> Forest:
    own = study.name
    chosen = study.chosen or ChosenRecord(study=own, trial=study.trial)
    lines = []
    for candidate in candidates:
        objective = candidate.objectives[target.name]
        origin = own if candidate.study is None else candidate.study
        best = (origin, candidate.trial) == (chosen.study, chosen.trial)
        trial = f"trial {candidate.trial}"
        name = trial if origin == own else f"{origin}, {trial}"
        section = f"{name}{', chosen' if best else ''}"
        lines.append(
            Line("in the search", _estimate(objective.searched), kind="other", section=section)
        )
        again = _estimate(objective.mean, objective.mean_low, objective.mean_high)
        kind = "chosen" if best else "group"
        lines.append(
            Line(f"mean of {candidate.seeds} fresh seeds", again, kind=kind, section=section)
        )
    better = "Higher" if target.maximise else "Lower"
    return forest(lines, Look(target.label, f"On the validation set. {better} is better."))


def _fit_columns(fit: FitRecord, targets: Sequence[Target]) -> tuple[str, ...]:
    """Return the column names of the table of chosen fits."""
    groups = (
        "everyone" if row.group == EVERYBODY else f"{shown(row.attribute)}: {shown(row.group)}"
        for row in fit.auc
    )
    return (
        *(f"{target.label}, validation" for target in targets),
        *(f"{target.name}, test" for target in targets),
        *(f"AUC of {group}, test" for group in groups),
    )


def _fit_rows(
    fits: Sequence[FitRecord], targets: Sequence[Target], delivered: int | None
) -> tuple[FitRow, ...]:
    """Return a row for each fit, and their mean where there are several."""
    values = [
        [
            *(fit.val[target.name] for target in targets),
            *(fit.test[target.name] for target in targets),
            *(row.value for row in fit.auc),
        ]
        for fit in fits
    ]
    rows = [
        FitRow(f"seed {fit.seed}", fit.seed == delivered, tuple(map(_number, row)))
        for fit, row in zip(fits, values, strict=True)
    ]
    if len(fits) > 1:
        means = (
            None if None in column else sum(column) / len(fits)
            for column in zip(*values, strict=True)
        )
        rows.append(FitRow("mean", False, tuple(map(_number, means))))
    return tuple(rows)


def _number(value: float | None) -> str:
    return "undefined" if value is None else plain(value)


def _optimism(confirmed: Sequence[CandidateRecord], target: Target) -> str:
    """Say how much better the search's best looked than it is."""
    first = confirmed[0]
    objective = first.objectives[target.name]
    if objective.optimism is None:
        return f"{target.label}: a training with a fresh seed diverged, so no mean can be given."
    by, interval = objective.optimism, ""
    if objective.optimism_low is not None and objective.optimism_high is not None:
        ends = SIGNED.interval(objective.optimism_low, objective.optimism_high)
        interval = f" (95 % interval over seeds {ends})"
    looked = "better" if by > 0 else "worse" if by < 0 else "no better"
    size = f"{plain(abs(by))} {looked}" if by else looked
    return (
        f"{target.label}: in the search trial {first.trial}, the first of these, looked {size} "
        f"than with fresh seeds{interval}."
    )


def _importance(
    rows: Sequence[UnitImportance] | Sequence[MethodImportance], kind: str, target: Target
) -> Forest:
    """Draw how the trials with each unit, or by each method, differ from the others."""
    shown = [row for row in rows if row.objective == target.name]
    shown.sort(key=lambda row: -abs(row.difference))
    lines = [
        Line(
            row.name,
            _estimate(row.difference, row.low, row.high),
            note=f"{counted(row.trials_with, 'trial')} with, {row.trials_without} without",
        )
        for row in shown
    ]
    compared = {
        "unit": "trials that tune the unit, less that of trials that do not.",
        "method": "trials by the method, less that of all others.",
    }
    look = Look(
        f"{kind.capitalize()}s and {target.name}",
        f"Mean {target.label} of {compared[kind]}",
        SIGNED,
        0.0,
        "no difference",
    )
    return forest(lines, look)


def _choice(chosen: ChosenRecord) -> str:
    """Say which method was chosen, with its settings and the learning rate."""
    settings = listed([f"{name} {_set(value)}" for name, value in chosen.method_settings.items()])
    details = f" ({settings})" if settings else ""
    rate = "" if chosen.lr is None else f", at a learning rate of {chosen.lr:.2g}"
    return f"Method chosen: {chosen.method}{details}{rate}."


def _set(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.2g}"


def _factors(study: StudyRecord, target: Target) -> str | None:
    """Say how much of a target's variance depends on mask, method and rate; None if unknown."""
    rows = [row for row in study.factors or () if row.objective == target.name]
    if not rows:
        return None
    explained, trials = rows[0].explained, counted(rows[0].trials, "trial")
    if explained <= 0:
        return (
            f"{target.label}: the {trials} are too few, or too much alike, to tell mask, method "
            "and learning rate apart: a random forest does not predict a trial that it has not "
            "seen."
        )
    rows.sort(key=lambda row: -row.lost)
    parts = [f"the {NAMES[row.factor]} by {100 * max(0.0, row.lost):.0f}" for row in rows]
    return (
        f"{target.label}: a random forest explains {100 * explained:.0f} % of the variance of "
        f"trials that it has not seen (of {trials}). Shuffled among the trials, one factor after "
        f"the other lowers this share: {listed(parts)} percentage points."
    )


def _estimate(value: float | None, low: float | None = None, high: float | None = None) -> Estimate:
    return Estimate(
        model="",
        split="val",
        attribute=EVERYBODY,
        group=EVERYBODY,
        base="",
        value=value,
        low=low,
        high=high,
        level=0.95,
        n=0,
        patients=0,
        positives=None,
        undefined="a training diverged" if value is None else None,
    )
