"""Series by sample id: windows of equal length in recordings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from evenhand.cohort.cohort import Values
from evenhand.errors import EvenhandError
from evenhand.networks.inputs import RGB, ImageForm, Images


@dataclass(frozen=True, eq=False)
class Recordings:
    """Recordings by name: what is decoded, each once.

    Parameters
    ----------
    ids
        Their names.
    load
        From a name to values ``(T, C)`` float32, NaN where nothing was observed; T may differ
        from one to the next. Raises ``UnreadableError`` for a damaged one.
    """

    ids: Sequence[str]
    load: Callable[[str], Values]

    def __call__(self, name: str) -> Values:
        """Return the values ``(T, C)`` of a recording."""
        return self.load(name)


@dataclass(frozen=True, eq=False)
class Series:
    """Samples that are windows in recordings, which may overlap: none is ever copied.

    Parameters
    ----------
    recordings
        What the windows are cut from.
    windows
        ``recording`` (a name) and ``offset`` (its first step there), by ``sample_id``.
    steps
        Length of each window.
    """

    recordings: Recordings
    windows: pd.DataFrame
    steps: int

    @property
    def ids(self) -> Sequence[str]:
        """Every sample, in the order of ``windows``."""
        return tuple(self.windows.index)

    def __call__(self, sample_id: str) -> Values:
        """Read one window, ``(steps, C)``, out of its recording."""
        row = self.windows.index.get_loc(sample_id)
        offset = self.windows["offset"].iloc[row]
        name = str(self.windows["recording"].iloc[row])
        return self.recordings(name)[offset : offset + self.steps]

    def resized(self, images: Images | None) -> Series:
        """Return the series themselves, which have no image size."""
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
    """Return series of which each is a recording of its own, ``steps`` long."""
    ids = list(sample_ids)
    windows = pd.DataFrame({"recording": ids, "offset": 0}, index=ids)
    return Series(Recordings(ids, load), windows, steps)
