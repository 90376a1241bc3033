"""`evenhand export`: write a run's model to a file for other programs, with its card."""

from __future__ import annotations

import math
from contextlib import suppress
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from evenhand.errors import EvenhandError, pick
from evenhand.evaluation.rows import DecisionThreshold, choose_cut
from evenhand.experiments.runs import Run, finished_run
from evenhand.files import remove_abandoned, replacing, to_path, write_text
from evenhand.jobs.adjust.adjustment import Adjustment, read_adjustment
from evenhand.jobs.keywords import StrPath
from evenhand.jobs.report import card_text
from evenhand.methods.afterwards.multicalibrate import Multicalibrated
from evenhand.methods.afterwards.recalibrate import Recalibrated
from evenhand.methods.afterwards.thresholds import Thresholds
from evenhand.methods.arrays import logit
from evenhand.methods.attribute_free import AttributeFree
from evenhand.networks.export import (
    FORMATS,
    AdjustedModel,
    GroupRule,
    check_answers,
    to_onnx,
    write_adjusted_onnx,
)
from evenhand.networks.model import load_model
from evenhand.tables.attributes import UNKNOWN, attribute_parts
from evenhand.tables.predictions import Predictions, read_predictions


def export(
    run: StrPath,
    out: StrPath,
    *,
    format: str = "onnx",
    model: str | None = None,
    overwrite: bool = False,
) -> Run:
    """Write a model to a file, with a card beside it; return the model's run.

    Parameters
    ----------
    run
        A finished run.
    out
        The file; the card gets its name with ``.md``.
    format
        ``onnx`` or ``safetensors``.
    model
        The name of a model of the run; by default the one that the run chose.
    overwrite
        Whether existing files may be replaced.

    Raises
    ------
    EvenhandError
        If the run is not finished or lacks the model, the file name has the ending of another
        format, a file exists already, a library is missing, or the exported model gives other
        logits than the model. Nothing is written in these cases.
    """
    return write_model(run, out, format=format, model=model, overwrite=overwrite)[0]


def write_model(
    run: StrPath,
    out: StrPath,
    *,
    format: str = "onnx",
    model: str | None = None,
    overwrite: bool = False,
) -> tuple[Run, float]:
    """Write a model and its card; return its run and the largest difference of a logit.

    The difference is between the logits of the file and of the model. Parameters and errors are
    those of `export`.
    """
    write = pick("format", format, FORMATS)
    out = to_path(out, "out")
    _refuse_ending(out, format)
    opened = finished_run(run)
    name = opened.model_with_weights(model)
    adjustment = read_adjustment(opened.folder(name))
    if adjustment is not None and not adjustment.in_weights and format != "onnx":
        raise EvenhandError(
            f"--format {format} holds weights alone, and {adjustment.text} works on the scores "
            "after them; give --format onnx."
        )
    card = out.with_suffix(".md")
    text = card_text(opened, name)
    remove_abandoned(out.parent)
    is_unfinished = not out.exists() and _has_text(card, text)  # killed between the two files
    existing = [str(path) for path in (out, card) if path.exists()]
    if existing and not (overwrite or is_unfinished):
        raise EvenhandError(
            f"already there: {' and '.join(existing)}. Give --overwrite to replace, or another "
            f"name to --out (its card is called {card.name})."
        )
    if out.is_dir():
        raise EvenhandError(f"--out {out} is a folder; name a file, as in {out}/model.{format}.")
    network = load_model(opened.folder(name))
    with replacing(out) as part:
        if adjustment is not None and format == "onnx":
            deviation = _write_adjusted(opened, name, adjustment, part)
        else:
            deviation = check_answers(network, write(network, part))
        write_text(card, text)  # inside `replacing`: if this fails, the model is not written
    return opened, deviation


def _refuse_ending(out: Path, format: str) -> None:
    """Refuse a file name with the ending of another format, or of the card."""
    ending = out.suffix.removeprefix(".")
    fitting = out.with_suffix(f".{format}").name
    if ending == "md":
        raise EvenhandError(f"--out {out} is the name of the model's card. Name it {fitting}.")
    if ending in FORMATS and ending != format:
        raise EvenhandError(
            f"--out {out} ends in .{ending}, and --format is {format}. Name it {fitting}, or give "
            f"--format {ending}."
        )


def _has_text(path: Path, text: str) -> bool:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8") == text
    return False


def _write_adjusted(run: Run, name: str, adjustment: Adjustment, path: Path) -> float:
    """Write a model with its adjustment and its threshold as one ONNX graph."""
    predictions = read_predictions(run.predictions_file(name))
    network = load_model(run.folder(name))
    if len(predictions.classes) > 2:
        return check_answers(network, to_onnx(network, path))
    cut = run.record.cuts.get(name) or choose_cut(predictions)
    rule = group_rule(adjustment, cut, predictions)
    return write_adjusted_onnx(AdjustedModel(network, rule), path)


MAX_COMBINATIONS = 100_000
"""The largest number of combinations of levels in a table."""


def group_rule(
    adjustment: Adjustment, cut: DecisionThreshold, predictions: Predictions
) -> GroupRule:
    """Return the adjustment of scores and the threshold of each group.

    Parameters
    ----------
    adjustment
        The fitted method.
    cut
        The decision thresholds of the adjusted scores.
    predictions
        Predictions of the adjusted model; only the levels of their attributes are read.

    Raises
    ------
    EvenhandError
        If the method is the user's own, or the attributes have too many combinations of levels.
    """
    fit, by = adjustment.fit, " and ".join(adjustment.by)
    if isinstance(fit, AttributeFree) and fit.rule == "inferred":
        cuts = tuple(cut.by_level[level] for level in fit.head.levels)
        inferred = (fit.head.weight, fit.head.bias)
        return GroupRule(fit.head.levels, None, None, cuts, inferred, by)
    if adjustment.in_weights:
        return GroupRule((UNKNOWN,), None, None, (cut.threshold,), None, by)
    if isinstance(fit, Thresholds):
        groups = (*fit.groups, UNKNOWN)
        cuts = tuple(cut.by_level.get(level, cut.threshold) for level in groups)
        return GroupRule(groups, None, None, cuts, None, by)
    if isinstance(fit, Recalibrated):
        groups = (*fit.groups, UNKNOWN)
        lines = [fit.groups.get(level, fit.pooled) for level in groups]
        slope = tuple(line.slope for line in lines)
        intercept = tuple(line.intercept for line in lines)
        return GroupRule(groups, slope, intercept, (cut.threshold,) * len(groups), None, by)
    if isinstance(fit, Multicalibrated):
        return _combinations(fit, cut, predictions, by)
    raise EvenhandError(
        f"{adjustment.text} is a method of your own, whose fit is not stored and cannot be "
        "exported. Apply it in Python: evenhand.mitigate."
    )


def _combinations(
    fit: Multicalibrated, cut: DecisionThreshold, predictions: Predictions, by: str
) -> GroupRule:
    """Return the shift of the log-odds for each combination of levels, unknown among them."""
    names = dict.fromkeys(part for name in fit.attributes for part in attribute_parts(name))
    levels = [(*predictions.levels[name], UNKNOWN) for name in names]
    count = math.prod(map(len, levels))
    if count > MAX_COMBINATIONS:
        raise EvenhandError(
            f"{by} have {count:,} combinations of levels; at most {MAX_COMBINATIONS:,} can be "
            "exported. Adjust by fewer attributes."
        )
    table = pd.DataFrame(list(product(*levels)), columns=list(names))
    shifts = logit(fit.apply(np.full(count, 0.5), table))
    groups = tuple(
        ", ".join(f"{name}={level}" for name, level in row.items())
        for row in table.to_dict("records")
    )
    ones = (1.0,) * count
    return GroupRule(groups, ones, tuple(shifts.tolist()), (cut.threshold,) * count, None, by)
