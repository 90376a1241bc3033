"""`evenhand export`: a run's model in a file for other programs, with its card."""

from __future__ import annotations

from pathlib import Path

from evenhand.errors import EvenhandError, pick
from evenhand.experiments.runs import finished_run
from evenhand.files import replacing
from evenhand.jobs.report import write_card
from evenhand.networks.checkpoints import load_model
from evenhand.networks.export import FORMATS, check_answers


def export(
    run: Path, out: Path, *, form: str = "onnx", model: str | None = None, overwrite: bool = False
) -> float:
    """Write a model to a file and its card beside it; return how far the file's logits are off.

    Parameters
    ----------
    run
        A finished run.
    out
        The file; the card gets its name with ``.md``.
    form
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
    write = pick("format", form, FORMATS)
    found = finished_run(run)
    name = found.held_model(model)
    card = out.with_suffix(".md")
    there = [str(path) for path in (out, card) if path.exists()]
    if there and not overwrite:
        raise EvenhandError(f"{' and '.join(there)}: there already; give --overwrite to replace.")
    if out.is_dir():
        raise EvenhandError(f"--out {out} is a folder; name a file, as in {out}/model.{form}.")
    network = load_model(found.folder(name))
    with replacing(out) as part:
        off = check_answers(network, write(network, part))
        write_card(found, name, card)  # where it fails, nothing is written
    return off
