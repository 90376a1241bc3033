"""`evenhand export`: write a run's model to a file for other programs, with its card."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from evenhand.errors import EvenhandError, pick
from evenhand.evaluation.rows import choose_cut
from evenhand.experiments.runs import Run, finished_run
from evenhand.files import remove_abandoned, replacing, to_path, write_text
from evenhand.jobs.adjust.adjustment import Adjustment, read_adjustment
from evenhand.jobs.adjust.rule import group_rule
from evenhand.jobs.card import card_text
from evenhand.jobs.keywords import StrPath
from evenhand.networks.adjusted import AdjustedModel, write_adjusted_onnx
from evenhand.networks.checkpoints import load_model
from evenhand.networks.export import FORMATS, check_answers, to_onnx
from evenhand.tables.predictions import read_predictions


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
