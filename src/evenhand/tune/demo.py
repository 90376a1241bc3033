"""`evenhand demo`: the main job on phantoms whose bias is planted and known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from evenhand.finetune.job import finetune
from evenhand.finetune.settings import FinetuneSettings
from evenhand.runs import Run
from evenhand.tune.job import tune
from evenhand.tune.settings import TuneSettings

PHANTOMS = "phantom:patients=1600,harder=0.5,shortcut=0.7,seed=1"
SIZE = 64  # pixels


def demo(
    out: Path, *, overwrite: bool = False, say: Callable[[str], None] = lambda text: None
) -> Run:
    """Pre-train a small network on some phantoms, then tune it for fairness on the others.

    The minority's lesions stand out less, and a sticker goes with the label in the majority only.

    Parameters
    ----------
    out
        The folder of the two runs, ``pretrained`` and ``tuned``.
    overwrite
        Whether an earlier demo in ``out`` may be replaced.
    say
        Told what is done, and how long it takes.

    Returns
    -------
    Run
        The second run.
    """
    pretrained = out / "pretrained"
    common = {"data": PHANTOMS, "attribute": ("group",), "backbone": "test_vit", "seed": 1}
    if overwrite or not (pretrained / "report.html").exists():
        say("Pre-training a small ViT on 30 % of the phantoms' patients …")
        settings = FinetuneSettings(
            **common, weights="none", image_size=SIZE, patient_share=0.3, epochs=12, lr=3e-3
        )
        finetune(settings, pretrained, overwrite=overwrite)
    say("Searching what to tune on the other 70 %, for the AUC of the worse group …")
    search = TuneSettings(
        **common,
        weights=str(pretrained),
        image_size=SIZE,
        exclude_patients=(pretrained,),
        trials=8,
        epochs=4,
        lr_min=3e-4,
        lr_max=1e-2,
    )
    return tune(search, out / "tuned", overwrite=overwrite, say=say)
