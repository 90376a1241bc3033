"""MESA sleep, as exported by the sleep/wake benchmark (Palotti et al. 2019, npj Digit. Med. 2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.cohort.attributes import named
from evenhand.cohort.bins import binned
from evenhand.cohort.cohort import Values
from evenhand.cohort.labels import by_value
from evenhand.cohort.layouts import find_entry
from evenhand.cohort.published import Samples, published
from evenhand.cohort.registry import DataSet, Entry
from evenhand.cohort.series import Recordings, Series
from evenhand.cohort.tables import look_up, read_columns, read_table, some
from evenhand.errors import EvenhandError

TRAIN = Entry("dftrain_task1.csv", "one row per epoch of 30 s")
TEST = Entry("dftest_task1.csv", "one row per epoch of 30 s")
DEMOGRAPHICS = Entry("demographics.csv", "one row per mesaid, semicolons between the columns")
CHANNELS = ("activity", "whitelight", "redlight", "greenlight", "bluelight")
HALF = 50  # epochs on either side of the one that is labelled
EPOCH = 30  # seconds

MESA_SLEEP = DataSet(
    title="MESA sleep (sleep/wake benchmark)",
    task="asleep or awake, by polysomnography",
    modality="series: wrist actigraphy and light, 101 epochs of 30 s around each one",
    licence="NSRR data use agreement",
    access="https://sleepdata.org/datasets/mesa, on request; exported by "
    "https://github.com/qcri/sleep_awake_benchmark with activity and light columns",
    layout=(TRAIN, TEST, DEMOGRAPHICS),
    labels={"sleep": by_value("gt", {"awake": ("false", "0"), "asleep": ("true", "1")}, ("",))},
    attributes=(
        named("sex", "nsrr_sex", {"female": ("female",), "male": ("male",)}),
        binned("age", "nsrr_age", (65,)),
        named(
            "race",
            "nsrr_race",
            {
                "White": ("white",),
                "Black": ("black", "black or african american"),
                "Hispanic": ("hispanic",),
                "Asian": ("asian",),
            },
        ),
    ),
)


@published("mesa_sleep", MESA_SLEEP)
def find_mesa_sleep(root: Path) -> Samples:
    """Find the epochs, each with 50 before and 50 after it in the order of time.

    Beyond the ends of a night nothing is observed. The label is ``gt``, never the device's own
    ``wake``; patients are people, of whom each has one night.
    """
    paths = [find_entry(root, entry) for entry in (TRAIN, TEST)]
    epochs = pd.concat([_epochs(path) for path in paths], ignore_index=True)
    epochs = epochs.sort_values("mesaid", kind="stable", ignore_index=True)
    _check_order(epochs, root)
    people = find_entry(root, DEMOGRAPHICS)
    about = read_table(people)
    number = epochs.groupby("mesaid", sort=False).cumcount()
    person = epochs["mesaid"].astype("str")
    table = pd.DataFrame({"mesaid": person, "gt": epochs["gt"], "offset": number.astype("int32")})
    table["epoch"] = person + "-" + (number + 1).astype("str")
    columns = [rule.column for rule in MESA_SLEEP.attributes]
    table = look_up(table, "mesaid", about, people, columns).astype({"mesaid": "category"})
    values = epochs[list(CHANNELS)].to_numpy(np.float32)
    return Samples(
        table,
        "epoch",
        "mesaid",
        root,
        (*paths, people),
        read=lambda rows: _series(rows, values, epochs["mesaid"].to_numpy()),
        channels=CHANNELS,
    )


def _epochs(path: Path) -> pd.DataFrame:
    """Read a table of epochs; ``time`` is in seconds since midnight."""
    types = {
        "mesaid": "int32",
        "linetime": "str",
        "gt": "str",
        **dict.fromkeys(CHANNELS, "float32"),
    }
    epochs = read_columns(path, types)
    time = pd.to_timedelta(epochs.pop("linetime"), errors="coerce").dt.total_seconds()
    return epochs.assign(time=time.astype("float32"))


def _check_order(epochs: pd.DataFrame, root: Path) -> None:
    """Refuse nights whose rows are not in the order of time: windows would be nonsense."""
    step = epochs["time"].diff().mod(24 * 3600).where(epochs["mesaid"].diff() == 0)
    usual = step.groupby(epochs["mesaid"]).median()
    wrong = usual[usual.notna() & (usual != EPOCH)]
    if len(wrong):
        raise EvenhandError(
            f"{root}: the epochs of mesaid {some(wrong.index)} are not {EPOCH} s apart in "
            "'linetime'. Put the rows of each person in the order of time."
        )


def _series(rows: pd.DataFrame, values: Values, person: NDArray[np.int32]) -> Series:
    """Return the windows of epochs; what lies beyond a night is padding without observations."""
    names, first = np.unique(person, return_index=True)
    nights = dict(zip(names.astype(str), np.split(values, first[1:]), strict=True))
    padding = np.full((HALF, len(CHANNELS)), np.nan, np.float32)

    def load(name: str) -> Values:
        return np.concatenate([padding, nights[name], padding])

    windows = rows[["mesaid", "offset"]].rename(columns={"mesaid": "recording"})
    windows = windows.set_axis(rows["epoch"])
    return Series(Recordings(tuple(nights), load), windows, 2 * HALF + 1)
