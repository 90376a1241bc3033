"""The inputs of a model, from the cohort that it is trained on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from evenhand.cohort.cohort import Cohort
from evenhand.cohort.store.samples import SampleStore
from evenhand.errors import EvenhandError, first_few
from evenhand.networks.inputs import RGB, ImageForm, Images, SeriesInputs
from evenhand.networks.model import Model
from evenhand.networks.weights_file import adaptation

EXTREME = 0.1  # per cent of a channel's values at each end that are clipped


def model_inputs(train: Cohort) -> Images | SeriesInputs:
    """Return the form of a stored cohort's images, or the steps, channels and scales of its series.

    The scale of a channel is the mean and the standard deviation of its observed values in these
    samples. The most extreme 0.1 % at each end are clipped first, so a typing error (a pH of 735)
    has little influence. Steps that windows share count once.
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
        If it cannot.
    """
    inputs = model.spec.inputs
    channels = inputs.channels if isinstance(inputs, SeriesInputs) else ()
    if cohort.channels != channels:
        kinds = {True: "series of {} channels ({})", False: "images"}
        texts = [kinds[bool(c)].format(len(c), first_few(c)) for c in (channels, cohort.channels)]
        raise EvenhandError(
            f"the model takes {texts[0]}, but {cohort.source.path} has {texts[1]}. Give samples "
            "like those that the model was trained on."
        )


def input_notes(inputs: Images | SeriesInputs, weights: str) -> Iterator[str]:
    """Yield sentences on inputs that a network cannot learn from or that its weights do not fit.

    Parameters
    ----------
    inputs
        The network's inputs.
    weights
        The value of ``--weights``.
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
    """Return mean and standard deviation of a channel; 0 and 0 if it was never observed."""
    observed = values[~np.isnan(values)].astype(np.float64)
    if not len(observed):
        return 0.0, 0.0
    observed = observed.clip(*np.percentile(observed, (EXTREME, 100 - EXTREME)))
    return float(observed.mean()), float(observed.std())
