"""What a model is to take in, from the cohort that it is trained on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.store.samples import SampleStore
from evenhand.errors import EvenhandError, some
from evenhand.networks.inputs import RGB, ImageForm, Images, SeriesInputs
from evenhand.networks.model import Model
from evenhand.networks.weights_file import adaptation

EXTREME = 0.1  # per cent of a channel's values, at either end, that count as the next one does


def model_inputs(train: Cohort) -> Images | SeriesInputs:
    """Return what a stored cohort's images are read as, or what its series are.

    The scale of a channel comes from the observed values of these samples: mean and standard
    deviation, with the most extreme 0.1 % at either end drawn in, so that a slip of the pen (a pH
    of 735) does not set it. Steps that windows share count once.
    """
    store = train.read
    assert isinstance(store, SampleStore)
    if store.steps is None:
        height, width, channels = store.samples.shape[1:]
        return ImageForm(int(height), int(width), int(channels)).plain
    used = np.zeros(len(store.samples), np.bool_)
    for step in range(store.steps):
        used[store.rows(train.table["sample_id"]) + step] = True
    scales = [_scale(store.samples[used, channel]) for channel in range(len(train.channels))]
    mean, std = zip(*scales, strict=True)
    return SeriesInputs(steps=store.steps, channels=train.channels, mean=mean, std=std)


def check_fits(cohort: Cohort, model: Model) -> None:
    """Check that a model can read a cohort: both of images, or of series of the same channels.

    Raises
    ------
    EvenhandError
        It cannot.
    """
    inputs = model.spec.inputs
    wanted = inputs.channels if isinstance(inputs, SeriesInputs) else ()
    if cohort.channels != wanted:
        kinds = {True: "series of {} channels ({})", False: "images"}
        texts = [kinds[bool(c)].format(len(c), some(c)) for c in (wanted, cohort.channels)]
        raise EvenhandError(
            f"the model takes {texts[0]}, and {cohort.source.path} holds {texts[1]}."
        )


def input_notes(inputs: Images | SeriesInputs, weights: str) -> Iterator[str]:
    """Say what of the inputs a network cannot learn from, or was not made for.

    Parameters
    ----------
    inputs
        What it takes in.
    weights
        Where its weights come from, as ``--weights`` has it.
    """
    if isinstance(inputs, SeriesInputs):
        silent = [name for name, std in zip(inputs.channels, inputs.std, strict=True) if std == 0]
        if silent:
            yield (
                "Channels that were never observed in training patients, or always with the same "
                f"value: {', '.join(silent)}. Only whether they were observed is used."
            )
        return
    channels = ImageForm.of(inputs).channels
    if channels != RGB and weights == "pretrained":
        yield adaptation(channels)


def _scale(values: NDArray[np.float32]) -> tuple[float, float]:
    """Return mean and standard deviation of a channel; 0 and 0 where it was never observed."""
    seen = values[~np.isnan(values)].astype(np.float64)
    if not len(seen):
        return 0.0, 0.0
    seen = seen.clip(*np.percentile(seen, (EXTREME, 100 - EXTREME)))
    return float(seen.mean()), float(seen.std())
