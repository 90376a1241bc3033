"""`evenhand pretrain`: train an encoder on training patients, without their labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from evenhand.cohort.prepare import prepare_splits
from evenhand.experiments.lineage import paths_read, refuse_leak, write_patients
from evenhand.experiments.records import SourceRecord
from evenhand.experiments.runs import Run, begin_run
from evenhand.jobs.keywords import as_job
from evenhand.jobs.pretrain.settings import PretrainSettings
from evenhand.jobs.pretrain.training import (
    make_learner,
    patience_of,
    remove_state,
    train_tracked_encoder,
)
from evenhand.networks.model import build_model, save_model
from evenhand.pretraining.registry import SSL_OBJECTIVES
from evenhand.spreadsheets import write_csv
from evenhand.training.device import settle_precision
from evenhand.training.inputs import input_notes, model_inputs

ENCODER = "encoder"
"""The name of the model in the run."""


@as_job(PretrainSettings, "data")
def pretrain(settings: PretrainSettings, out: Path, *, overwrite: bool = False) -> Run:
    """Pre-train a backbone on views of each training sample.

    The split is the one that every job makes from the same data, attributes, shares and seed.
    Validation and test patients are not used. Labels are used for stratifying the split only.

    Parameters
    ----------
    settings
        The data, the network, the objective and the training.
    out
        The run directory, which ``--weights`` of other jobs accepts. An unfinished run of the same
        settings in it continues from its last saved state.
    overwrite
        Whether a finished or different run in ``out`` may be replaced.

    Raises
    ------
    EvenhandError
        If the data, the settings or the weights cannot be used. Nothing is written to ``out``.
    """
    settings = settle_precision(settings)
    SSL_OBJECTIVES.find(settings.ssl)
    splits = prepare_splits(settings, settings.images, np.random.default_rng(settings.seed))
    refuse_leak(splits, settings.weights)
    inputs, source = model_inputs(splits.train), splits.train.source
    model = build_model(
        settings.backbone, settings.weights, inputs, splits.train.classes, settings.seed
    )
    make_learner(model, settings, len(splits.train))  # refuses an unsuitable objective early
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
        notes=[*source.notes, *input_notes(inputs, settings.weights), *_patience_note(settings)],
    )
    write_patients(run, splits, settings.weights)
    with run.phase("training"):
        model, curve = train_tracked_encoder(
            model,
            splits.train,
            settings,
            settings.seed,
            root=run.root,
            name=ENCODER,
            folder=run.root,
        )
    write_csv(run.root / "curve.csv", curve.table())
    folder = run.folder(ENCODER)
    save_model(folder, model, ssl=settings.ssl, loss=curve.best_loss, **curve.best_record)
    remove_state(run.root)
    sentences = curve.best_embeddings.sentences(f"The encoder ({settings.ssl})")
    run.note(notes=[*run.record.notes, *sentences])
    run.finish(chosen=ENCODER)
    return run


def _patience_note(settings: PretrainSettings) -> Iterator[str]:
    """Yield a note if patience has no effect for the objective."""
    if settings.patience and not patience_of(settings):
        yield (
            f"{settings.ssl} trains for all {settings.epochs} epochs and holds no patients out, as "
            "its target moves: a lower loss does not mean a better encoder."
        )
