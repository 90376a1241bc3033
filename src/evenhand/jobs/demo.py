"""`evenhand demo`: FairTune on phantoms with a planted bias."""

from __future__ import annotations

from pathlib import Path

from evenhand.experiments.runs import Run
from evenhand.experiments.settings import FinetuneSettings
from evenhand.files import to_path
from evenhand.jobs.finetune.job import finetune
from evenhand.jobs.keywords import Notify, StrPath, ignore_text
from evenhand.jobs.tune.job import tune
from evenhand.jobs.tune.settings import TuneSettings

CLEAN = "phantom:patients=1200,minority=0.5,harder=0.3,shortcut=0,seed={seed}"
"""The data of pre-training: the group is independent of the label."""

PLANTED = (
    "phantom:patients=2400,minority=0.4,prevalence=0.5,harder=0,shortcut=0,tilt=0.6,tilt_test=0,"
    "test_share=0.45,seed={seed}"
)
"""The data of tuning: in training, most lesions of the minority and few of the majority are
malignant.

Among test patients, malignant lesions are equally frequent in both groups, as in another clinic.
"""

METHODS = ("erm", "group-balance", "group-dro")
TARGET = "equalized_odds_difference"

SIZE = 64  # pixels
SEED = 0


def demo(out: StrPath, *, overwrite: bool = False, notify: Notify = ignore_text) -> Run:
    """Pre-train a small network on unbiased phantoms, then tune it on biased ones.

    Full fine-tuning learns to call lesions of the minority malignant, and misses malignant lesions
    of the majority. FairTune chooses the tuned parts and the training method by the equalised odds
    of validation patients.

    Parameters
    ----------
    out
        The folder of the two runs, ``pretrained`` and ``tuned``.
    overwrite
        Whether an earlier demo in ``out`` may be replaced.
    notify
        Called with a text about each step and its expected time.

    Returns
    -------
    Run
        The run in ``tuned``.
    """
    out = to_path(out, "out")
    pretrained = out / "pretrained"
    if overwrite or not (pretrained / "report.html").exists():
        notify("Pre-training a small ViT on phantoms whose group is independent of the label …")
        finetune(pretrain_settings(SEED), pretrained, overwrite=overwrite)
    notify("Searching what to tune, and how, where the minority is malignant more often …")
    settings = search_settings(pretrained, SEED, confirm=2, confirm_seeds=3)
    return tune(settings, out / "tuned", overwrite=overwrite, notify=notify)


def pretrain_settings(seed: int, cache: Path | None = None) -> FinetuneSettings:
    """Return the settings of the demo's pre-training, on phantoms of a seed."""
    return FinetuneSettings(
        data=CLEAN.format(seed=100_000 + seed),
        attribute=("group",),
        backbone="test_vit",
        weights="none",
        image_size=SIZE,
        split=(0.8, 0.1, 0.1),
        epochs=10,
        lr=3e-3,
        seed=seed,
        cache=cache,
    )


def search_settings(
    pretrained: Path, seed: int, *, confirm: int, confirm_seeds: int, cache: Path | None = None
) -> TuneSettings:
    """Return the settings of the demo's search, on phantoms of a seed."""
    return TuneSettings(
        data=PLANTED.format(seed=seed),
        attribute=("group",),
        backbone="test_vit",
        weights=str(pretrained),
        image_size=SIZE,
        batch_size=32,
        epochs=4,
        baseline=("full",),
        search="both",
        method=METHODS,
        target=(TARGET,),
        space="staged",
        trials=6,
        confirm=confirm,
        confirm_seeds=confirm_seeds,
        lr_min=1e-3,
        lr_max=1e-2,
        seed=seed,
        cache=cache,
    )
