"""Time series: each sample is a window of a recording; all windows have equal length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from evenhand.cohort.cohort import Values
from evenhand.errors import EvenhandError
from evenhand.networks.inputs import RGB, ImageForm, Images


@dataclass(frozen=True, eq=False)
class Recordings:
    """Recordings by name: each is decoded once, however many windows it has.

    Parameters
    ----------
    ids
        Names of the recordings.
    load
        Returns the values ``(T, C)`` of a recording, float32, with NaN for values that were not
        observed; T may differ between recordings. It raises ``UnreadableError`` for a damaged
        recording.
    """

    ids: Sequence[str]
    load: Callable[[str], Values]

    def __call__(self, name: str) -> Values:
        """Return the values ``(T, C)`` of a recording."""
        return self.load(name)


@dataclass(frozen=True, eq=False)
class Series:
    """Samples that are windows of recordings; windows may overlap and are not copied.

    Parameters
    ----------
    recordings
        The recordings that contain the windows.
    windows
        A table indexed by ``sample_id``, with the columns ``recording`` (a name) and ``offset``
        (first step of the window in the recording).
    steps
        The length of each window.
    """

    recordings: Recordings
    windows: pd.DataFrame
    steps: int

    @property
    def ids(self) -> Sequence[str]:
        """The ids of all samples, in the order of ``windows``."""
        return tuple(self.windows.index)

    def __call__(self, sample_id: str) -> Values:
        """Return one window, ``(steps, C)``, of its recording."""
        row = self.windows.index.get_loc(sample_id)
        offset = self.windows["offset"].iloc[row]
        name = str(self.windows["recording"].iloc[row])
        return self.recordings(name)[offset : offset + self.steps]

    def resized(self, images: Images | None) -> Series:
        """Return the series unchanged: series have no image size."""
        if images is not None:
            form = ImageForm.of(images)
            raise EvenhandError(
                f"--image-size {form}: the samples are series, which have no image size. Leave "
                "it out."
                if form.channels == RGB
                else f"--channels {form.channels}: the samples are series, which have channels of "
                "their own. Leave it out."
            )
        return self


def whole_recordings(
    sample_ids: Sequence[str], load: Callable[[str], Values], steps: int
) -> Series:
    """Return series in which each sample is one whole recording of ``steps`` steps."""
    ids = list(sample_ids)
    windows = pd.DataFrame({"recording": ids, "offset": 0}, index=ids)
    return Series(Recordings(ids, load), windows, steps)
