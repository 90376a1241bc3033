"""`evenhand pretrain`: an encoder from training patients, without their labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from evenhand.cohort.prepare import prepare_splits
from evenhand.cohort.splits import write_splits
from evenhand.experiments.lineage import paths_read, refuse_leak, write_earlier_patients
from evenhand.experiments.records import SourceRecord
from evenhand.experiments.runs import Run, begin_run
from evenhand.jobs.keywords import with_keywords
from evenhand.jobs.pretrain.settings import PretrainSettings
from evenhand.jobs.pretrain.state import STATE
from evenhand.jobs.pretrain.training import (
    forget_state,
    make_learner,
    patience_of,
    train_encoder,
)
from evenhand.networks.checkpoints import save_model
from evenhand.networks.model import build_model
from evenhand.pretraining.registry import SSL_OBJECTIVES
from evenhand.runs import run_scope
from evenhand.spreadsheets import write_csv
from evenhand.training.inputs import input_notes, model_inputs
from evenhand.training.precision import settle_precision
from evenhand.training.settings import LoopSettings
from evenhand.training.tracking import tracked

ENCODER = "encoder"


@with_keywords(PretrainSettings, "data")
@run_scope()
def pretrain(settings: PretrainSettings, out: Path, *, overwrite: bool = False) -> Run:
    """Pre-train a backbone on two views of each training sample.

    The split is that which every job makes of the same data, attributes, shares and seed: its
    validation and test patients take no part. Labels decide nothing but that split.

    Parameters
    ----------
    settings
        Data, network, method and training.
    out
        The run directory; ``--weights`` of other jobs takes it. An unfinished run of the same
        settings in it goes on from the last state that it saved.
    overwrite
        Whether another or a finished run in ``out`` may be replaced.

    Raises
    ------
    EvenhandError
        Whatever is wrong with the input; nothing is written to ``out`` then.
    """
    settings = settle_precision(settings)
    SSL_OBJECTIVES.find(settings.ssl)
    splits = prepare_splits(settings, settings.images, np.random.default_rng(settings.seed))
    refuse_leak(splits, settings.weights)
    inputs, source = model_inputs(splits.train), splits.train.source
    model = build_model(
        settings.backbone, settings.weights, inputs, splits.train.classes, settings.seed
    )
    make_learner(model, settings, len(splits.train))  # so that one that does not fit is refused
    run = begin_run(
        out,
        "pretrain",
        settings,
        fingerprint=source.fingerprint,
        reads=paths_read(splits, settings.weights, settings.exclude_patients),
        overwrite=overwrite,
    )
    run.note(
        source=SourceRecord.of(source),
        notes=[
            *source.notes,
            *input_notes(inputs, settings.weights),
            *_no_early_stop(settings),
        ],
    )
    write_splits(run.root / "splits.csv", splits)
    write_earlier_patients(run, settings.weights)
    with run.phase("training"):
        loop = LoopSettings(
            device=settings.device, precision=settings.precision, track=settings.track
        )
        about = {"lr": settings.lr, "seed": settings.seed, "ssl": settings.ssl}
        resumed = (run.root / STATE).exists()
        with tracked(loop, run.root, ENCODER, about, resumed=resumed) as tracker:
            model, curve = train_encoder(
                model, splits.train, settings, settings.seed, run.root, tracker
            )
    write_csv(run.root / "curve.csv", curve.table())
    save_model(
        run.folder(ENCODER),
        model,
        ssl=settings.ssl,
        loss=curve.judged[curve.best - 1],
        **curve.facts,
    )
    forget_state(run.root)
    run.note(notes=[*run.record.notes, *curve.kept.sentences(f"The encoder ({settings.ssl})")])
    run.finish(chosen=ENCODER)
    return run


def _no_early_stop(settings: PretrainSettings) -> Iterator[str]:
    """Say that patience has no effect, where the loss does not tell when to stop."""
    if settings.patience and not patience_of(settings):
        yield (
            f"{settings.ssl} trains for all {settings.epochs} epochs and holds no patients out: "
            "its target moves, so that a lower loss is no sign of a better encoder."
        )
