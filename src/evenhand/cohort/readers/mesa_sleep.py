"""MESA sleep, as exported by the sleep/wake benchmark (Palotti et al. 2019, npj Digit. Med. 2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from evenhand.cohort.cohort import Values
from evenhand.cohort.layouts import find_entry
from evenhand.cohort.published import SourceSamples, published
from evenhand.cohort.registry import DataSet, LayoutEntry, by_value
from evenhand.cohort.series.recordings import Recordings, Series
from evenhand.errors import EvenhandError, first_few
from evenhand.tables.attributes import attribute_by_level
from evenhand.tables.bins import attribute_by_bins
from evenhand.tables.reading import look_up, read_columns, read_table
from evenhand.tables.table_checks import refuse_rows, require_columns

TRAIN = LayoutEntry("dftrain_task1.csv", "one row per epoch of 30 s")
TEST = LayoutEntry("dftest_task1.csv", "one row per epoch of 30 s")
DEMOGRAPHICS = LayoutEntry("demographics.csv", "one row per mesaid, semicolons between the columns")
CHANNELS = ("activity", "whitelight", "redlight", "greenlight", "bluelight")
HALF = 50  # epochs on each side of the labelled epoch
EPOCH = 30  # seconds
DAY = 24 * 3600

MESA_SLEEP = DataSet(
    title="MESA sleep (sleep/wake benchmark)",
    task="asleep or awake, by polysomnography",
    modality="series: wrist actigraphy and light, 101 epochs of 30 s, labelled in the middle",
    licence="NSRR data use agreement",
    access="https://sleepdata.org/datasets/mesa, on request; exported by "
    "https://github.com/qcri/sleep_awake_benchmark with activity and light columns",
    layout=(TRAIN, TEST, DEMOGRAPHICS),
    labels={"sleep": by_value("gt", {"awake": ("false", "0"), "asleep": ("true", "1")}, ("",))},
    attributes=(
        attribute_by_level("sex", "nsrr_sex", {"female": ("female",), "male": ("male",)}),
        attribute_by_bins("age", "nsrr_age", (65,)),
        attribute_by_level(
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
    caution="Misleads because neighbouring epochs of a night are similar: the number of persons "
    "counts, not the number of samples.",
)


@published("mesa_sleep", MESA_SLEEP)
def find_mesa_sleep(root: Path) -> SourceSamples:
    """Find the epochs; a sample is an epoch with the 50 epochs before and the 50 after it.

    Values are NaN outside the night, and in epochs that the tables omit. The label is ``gt``, not
    the device's own ``wake``. Each patient has one night.
    """
    paths = [find_entry(root, entry) for entry in (TRAIN, TEST)]
    train, test = (_read_epochs(path) for path in paths)
    in_both = test["mesaid"].isin(train["mesaid"])
    problem = f"mesaid {first_few(test['mesaid'][in_both].unique())} is in {paths[0].name}, too."
    refuse_rows(in_both, paths[1], f"{problem} Keep each person in one of the two.")
    epochs = pd.concat([train, test], ignore_index=True)
    epochs = epochs.sort_values("mesaid", kind="stable", ignore_index=True)
    demographics = find_entry(root, DEMOGRAPHICS)
    person, number = epochs["mesaid"].astype("str"), epochs["number"]
    # HALF blank epochs precede each recording, so the window around epoch k begins at step k.
    table = pd.DataFrame({"mesaid": person, "gt": epochs["gt"], "offset": number})
    table["epoch"] = person + "-" + (number + 1).astype("str")
    columns = [rule.column for rule in MESA_SLEEP.attributes]
    table = look_up(table, "mesaid", _read_people(demographics), demographics, columns)
    table = table.astype({"mesaid": "category"})
    nights = _night_recordings(epochs)
    return SourceSamples(
        table,
        sample="epoch",
        patient="mesaid",
        source=root,
        tables=(*paths, demographics),
        read=lambda rows: _windows(rows, nights),
        channels=CHANNELS,
    )


def _read_epochs(path: Path) -> pd.DataFrame:
    """Read a table of epochs, sorted by person; ``number`` counts the epochs of a night from 0."""
    types = {
        "mesaid": "int32",
        "linetime": "str",
        "gt": "str",
        **dict.fromkeys(CHANNELS, "float32"),
    }
    epochs = read_columns(path, types).sort_values("mesaid", kind="stable")
    seconds = _to_seconds(epochs.pop("linetime"), path)
    return epochs.assign(number=_epoch_numbers(epochs["mesaid"], seconds, path))


def _to_seconds(linetime: pd.Series, path: Path) -> pd.Series:
    """Return times of day, or dates and times, in seconds."""
    codes, texts = pd.factorize(linetime, use_na_sentinel=False)  # parse each distinct text once
    clock = pd.to_datetime(pd.Series(texts), format="%H:%M:%S", errors="coerce", utc=True)
    dated = pd.to_datetime(pd.Series(texts), format="ISO8601", errors="coerce", utc=True)
    duration = clock.fillna(dated) - pd.Timestamp(0, tz="UTC")
    seconds = pd.Series(duration.dt.total_seconds().to_numpy()[codes], linetime.index)
    problem = "'linetime' is neither a time (21:00:30) nor a date and a time (1900-01-01 21:00:30)."
    refuse_rows(seconds.isna(), path, problem)
    return seconds


def _epoch_numbers(person: pd.Series, seconds: pd.Series, path: Path) -> pd.Series:
    """Return the number of each row's epoch in its night, from 0; omitted epochs count too.

    Times of day restart at midnight, so a time before that of the row above is on the next day.
    Rows that are out of order then span a day or more, and are refused.
    """
    same_person = person.diff() == 0
    step = seconds.diff().where(same_person, 0)
    step = step.where(step >= 0, step + DAY)
    elapsed = step.groupby(person).cumsum()
    bad = same_person & ((step <= 0) | (step % EPOCH != 0) | (elapsed >= DAY))
    problem = (
        f"in the rows of one mesaid, 'linetime' must increase by multiples of {EPOCH} s, in total "
        "by less than a day. Sort the rows of each person by time."
    )
    refuse_rows(bad[bad].sort_index(), path, problem)  # in the order of the file
    median_step = step[same_person].median()
    if same_person.any() and median_step != EPOCH:
        raise EvenhandError(
            f"{path}: rows are {median_step:.0f} s apart in 'linetime'; they must be {EPOCH} s."
        )
    return (elapsed // EPOCH).astype("int32")


def _read_people(path: Path) -> pd.DataFrame:
    """Read the demographic table; its ids may have leading zeros."""
    table = read_table(path)
    require_columns(table, path, ("mesaid",))
    number = pd.to_numeric(table["mesaid"], errors="coerce")
    refuse_rows(number.isna() | (number % 1 != 0), path, "'mesaid' is not a whole number.")
    return table.assign(mesaid=number.astype("int64").astype("str"))


def _night_recordings(epochs: pd.DataFrame) -> Recordings:
    """Return each night as a recording; values are NaN outside it and in omitted epochs."""
    names, starts = np.unique(epochs["mesaid"].to_numpy(), return_index=True)
    ends = [*starts[1:].tolist(), len(epochs)]
    rows = dict(zip(names.astype(str).tolist(), map(slice, starts.tolist(), ends), strict=True))
    values, numbers = epochs[list(CHANNELS)].to_numpy(np.float32), epochs["number"].to_numpy()

    def load(name: str) -> Values:
        steps = HALF + numbers[rows[name]]
        night = np.full((steps[-1] + 1 + HALF, len(CHANNELS)), np.nan, np.float32)
        night[steps] = values[rows[name]]
        return night

    return Recordings(tuple(rows), load)


def _windows(rows: pd.DataFrame, nights: Recordings) -> Series:
    windows = rows[["mesaid", "offset"]].rename(columns={"mesaid": "recording"})
    return Series(nights, windows.set_axis(rows["epoch"]), 2 * HALF + 1)
