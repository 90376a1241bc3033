"""`evenhand export`: a run's model in a file for other programs, with its card."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from evenhand.errors import EvenhandError, pick
from evenhand.experiments.runs import finished_run
from evenhand.files import remove_abandoned, replacing, write_text
from evenhand.jobs.keywords import StrPath
from evenhand.jobs.report import card_text
from evenhand.networks.checkpoints import load_model
from evenhand.networks.export import FORMATS, check_answers


def export(
    run: StrPath,
    out: StrPath,
    *,
    format: str = "onnx",
    model: str | None = None,
    overwrite: bool = False,
) -> float:
    """Write a model to a file and its card beside it; return how far the file's logits are off.

    Parameters
    ----------
    run
        A finished run.
    out
        The file; the card gets its name with ``.md``.
    format
        ``onnx`` or ``safetensors``.
    model
        Which of the run's models; by default the one that it chose.
    overwrite
        Whether files that are there may be replaced.

    Raises
    ------
    EvenhandError
        The run is not finished or lacks the model, a file is there already, the libraries are
        missing, or what was written says something else than the model. Nothing is written then.
    """
    write = pick("format", format, FORMATS)
    out = Path(out)
    found = finished_run(run)
    name = found.held_model(model)
    card = out.with_suffix(".md")
    text = card_text(found, name)
    remove_abandoned(out.parent)
    is_unfinished = not out.exists() and _holds(card, text)  # it was killed between its two files
    there = [str(path) for path in (out, card) if path.exists()]
    if there and not (overwrite or is_unfinished):
        raise EvenhandError(f"{' and '.join(there)}: there already; give --overwrite to replace.")
    if out.is_dir():
        raise EvenhandError(f"--out {out} is a folder; name a file, as in {out}/model.{format}.")
    network = load_model(found.folder(name))
    with replacing(out) as part:
        off = check_answers(network, write(network, part))
        write_text(card, text)  # where it fails, nothing is written
    return off


def _holds(path: Path, text: str) -> bool:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8") == text
    return False
