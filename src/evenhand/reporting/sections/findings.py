"""Results of a search: confirmation by fresh seeds, fits of the choice, importance of factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evenhand.errors import count_text
from evenhand.metrics import EVERYBODY, Target
from evenhand.reporting.charts.forest import Forest, ForestEntry, ForestFrame, forest
from evenhand.reporting.estimates import Estimate
from evenhand.reporting.search_record import (
    CandidateRecord,
    ChosenRecord,
    FitRecord,
    MethodImportance,
    StudyRecord,
    UnitImportance,
)
from evenhand.reporting.text.vocabulary import (
    SIGNED,
    display_name,
    join_words,
    plain,
    plain_or_undefined,
)

TWO_SEEDS = "Two seeds give very wide intervals; three or more make them narrower."
FACTORS = {"mask": "mask", "method": "method", "rate": "learning rate"}


@dataclass(frozen=True)
class Findings:
    """The results of a study; a field without results is empty.

    Attributes
    ----------
    confirmed, optimism
        For each target: the values with fresh seeds, and a sentence on the optimism of the search,
        after a remark on the intervals if there are two seeds.
    importance, methods
        For each target: the importance of units, and of methods.
    choice
        The sentence with the chosen method and learning rate.
    factors
        For each target: a sentence on the importance of mask, method and learning rate.
    origin
        The chosen trial if it belongs to another study, else "".
    fit_columns, fits
        The table of the fits of the choice.
    """

    confirmed: tuple[Forest, ...]
    optimism: tuple[str, ...]
    importance: tuple[Forest, ...]
    choice: str = ""
    factors: tuple[str, ...] = ()
    methods: tuple[Forest, ...] = ()
    origin: str = ""
    fit_columns: tuple[str, ...] = ()
    fits: tuple[FitRow, ...] = ()


@dataclass(frozen=True)
class FitRow:
    """One fit of the chosen setting, or the mean over its fits."""

    name: str
    delivered: bool
    cells: tuple[str, ...]


def findings(study: StudyRecord, targets: Sequence[Target]) -> Findings:
    """Lay out the results of a study in ``search.json``."""
    confirmed, fits, chosen = study.confirmed, study.fits, study.chosen
    is_of_other_study = chosen is not None and chosen.study != study.name
    return Findings(
        confirmed=tuple(_confirmed(confirmed, target, study) for target in targets if confirmed),
        optimism=(
            *((TWO_SEEDS,) if any(candidate.seeds == 2 for candidate in confirmed) else ()),
            *(_optimism(confirmed, target) for target in targets if confirmed),
        ),
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
        origin=f"trial {chosen.trial} of {chosen.study}" if chosen and is_of_other_study else "",
        fit_columns=_fit_columns(fits[0], targets) if fits else (),
        fits=_fit_rows(fits, targets, chosen.seed if chosen else None),
    )


def _confirmed(candidates: Sequence[CandidateRecord], target: Target, study: StudyRecord) -> Forest:
    """Draw the value of each candidate in the search, and its mean over fresh seeds."""
    chosen = study.chosen or ChosenRecord(study=study.name, trial=study.trial)
    entries = []
    for candidate in candidates:
        objective = candidate.objectives[target.name]
        origin = study.name if candidate.study is None else candidate.study
        is_chosen = (origin, candidate.trial) == (chosen.study, chosen.trial)
        trial = f"trial {candidate.trial}"
        name = trial if origin == study.name else f"{origin}, {trial}"
        section = f"{name}{', chosen' if is_chosen else ''}"
        entries.append(
            ForestEntry(
                "in the search", _estimate(objective.searched), kind="other", section=section
            )
        )
        mean = _estimate(objective.mean, objective.mean_low, objective.mean_high)
        kind = "chosen" if is_chosen else "group"
        entries.append(
            ForestEntry(f"mean of {candidate.seeds} fresh seeds", mean, kind=kind, section=section)
        )
    better = "Higher" if target.maximise else "Lower"
    return forest(entries, ForestFrame(target.label, f"On the validation set. {better} is better."))


def _fit_columns(fit: FitRecord, targets: Sequence[Target]) -> tuple[str, ...]:
    """Return the column names of the table of chosen fits."""
    groups = (
        "everyone"
        if row.group == EVERYBODY
        else f"{display_name(row.attribute)}: {display_name(row.group)}"
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
    """Return a row for each fit, and a row with their mean if there are several."""
    values = [
        [
            *(fit.val[target.name] for target in targets),
            *(fit.test[target.name] for target in targets),
            *(row.value for row in fit.auc),
        ]
        for fit in fits
    ]
    rows = [
        FitRow(f"seed {fit.seed}", fit.seed == delivered, tuple(map(plain_or_undefined, row)))
        for fit, row in zip(fits, values, strict=True)
    ]
    if len(fits) > 1:
        means = (
            None if None in column else sum(column) / len(fits)
            for column in zip(*values, strict=True)
        )
        rows.append(FitRow("mean", False, tuple(map(plain_or_undefined, means))))
    return tuple(rows)


def _optimism(confirmed: Sequence[CandidateRecord], target: Target) -> str:
    """Return the sentence on how much better the first candidate looked in the search."""
    first = confirmed[0]
    objective = first.objectives[target.name]
    if objective.optimism is None:
        return f"{target.label}: a training with a fresh seed diverged, so there is no mean."
    optimism, interval = objective.optimism, ""
    if objective.optimism_low is not None and objective.optimism_high is not None:
        ends = SIGNED.interval(objective.optimism_low, objective.optimism_high)
        interval = f" (95 % interval over seeds {ends})"
    word = "better" if optimism > 0 else "worse" if optimism < 0 else "no better"
    size = f"{plain(abs(optimism))} {word}" if optimism else word
    return (
        f"{target.label}: in the search, trial {first.trial} (the first of these) looked {size} "
        f"than with fresh seeds{interval}."
    )


def _importance(
    rows: Sequence[UnitImportance] | Sequence[MethodImportance], kind: str, target: Target
) -> Forest:
    """Draw the importance of each unit or method for a target, the largest first."""
    target_rows = [row for row in rows if row.objective == target.name]
    target_rows.sort(key=lambda row: -abs(row.difference))
    entries = [
        ForestEntry(
            row.name,
            _estimate(row.difference, row.low, row.high),
            note=f"{count_text(row.trials_with, 'trial')} with, {row.trials_without} without",
        )
        for row in target_rows
    ]
    compared = {
        "unit": "trials that tune the unit, less the mean of trials that do not.",
        "method": "trials with the method, less the mean of all other trials.",
    }
    frame = ForestFrame(
        f"{kind.capitalize()}s and {target.name}",
        f"Mean {target.label} of {compared[kind]}",
        SIGNED,
        0.0,
        "no difference",
    )
    return forest(entries, frame)


def _choice(chosen: ChosenRecord) -> str:
    """Return the sentence with the chosen method, its settings and the learning rate."""
    settings = join_words(
        [f"{name} {_text(value)}" for name, value in chosen.method_settings.items()]
    )
    details = f" ({settings})" if settings else ""
    rate = "" if chosen.lr is None else f", at a learning rate of {chosen.lr:.2g}"
    return f"Method chosen: {chosen.method}{details}{rate}."


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.2g}"


def _factors(study: StudyRecord, target: Target) -> str | None:
    """Return the sentence on the importance of mask, method and rate for a target, or None."""
    rows = [row for row in study.factors or () if row.objective == target.name]
    if not rows:
        return None
    explained, trials = rows[0].explained, count_text(rows[0].trials, "trial")
    if explained <= 0:
        return (
            f"{target.label}: the importance of mask, method and learning rate is not known, as "
            f"the {trials} are too few or too similar for a random forest to predict held-out "
            "trials."
        )
    rows.sort(key=lambda row: -row.lost)
    parts = [f"the {FACTORS[row.factor]} by {100 * max(0.0, row.lost):.0f}" for row in rows]
    return (
        f"{target.label}: a random forest explains {100 * explained:.0f} % of the variance of "
        f"held-out trials (of {trials}). Shuffling a factor among the trials lowers this share: "
        f"{join_words(parts)} percentage points."
    )


def _estimate(value: float | None, low: float | None = None, high: float | None = None) -> Estimate:
    """Return a value on the validation set as an estimate."""
    return Estimate(
        split="val",
        base="",
        value=value,
        low=low,
        high=high,
        level=0.95,
        undefined="a training diverged" if value is None else None,
    )
