"""Which patients weights have been trained on, over all runs that they have come through."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from evenhand.cohort.cohort import Source
from evenhand.cohort.registry import READERS
from evenhand.cohort.splits import Splits, read_listing, read_split_table
from evenhand.errors import EvenhandError, some
from evenhand.experiments.records import SourceRecord
from evenhand.experiments.runs import Run, open_run
from evenhand.files import DamagedError
from evenhand.networks.settings import weights_path
from evenhand.spreadsheets import write_csv
from evenhand.tables.table_checks import require_columns

SEEN = "seen.csv"
"""What a run keeps of the runs before it: the patients that its weights were trained on there."""


class Origin(NamedTuple):
    """What tells whether the patient ids of two data sets mean the same patients."""

    reader: str
    path: str
    fingerprint: str


COLUMNS = (*Origin._fields, "patient_id")


def refuse_leak(splits: Splits, weights: str, flag: str = "--weights") -> None:
    """Refuse weights that have been trained on patients that are to be validated or tested on.

    ``flag`` is the flag that named them.

    Raises
    ------
    EvenhandError
        They come from a run on the same data whose training split has some of them, or that began
        with weights of such a run.
    """
    root = _run_behind(weights)
    if root is None:
        return
    held = {*splits.val.table["patient_id"], *splits.test.table["patient_id"]}
    for patients, seen in ((root, _trained_on(open_run(root))), (root / SEEN, _seen_before(root))):
        if met := sorted(held & _named(_origin(splits.train.source), seen)):
            raise EvenhandError(
                f"{flag} {weights} was trained on {len(met)} of the {len(held)} patients that "
                f"are to be validated and tested on ({some(met)}). Give the same --seed, --split "
                "and --attribute as in the run that did, or keep its patients out with "
                f"--exclude-patients {patients}."
            )


def write_seen(run: Run, *weights: str) -> None:
    """Write down in a run what its weights were trained on before, so that nobody has to ask again.

    The runs that they come from may be gone by the time that somebody builds on this one.
    """
    roots = [root for root in map(_run_behind, weights) if root is not None]
    if roots:
        tables = [
            origin for root in roots for origin in (_trained_on(open_run(root)), _seen_before(root))
        ]
        write_csv(run.root / SEEN, pd.concat(tables).drop_duplicates())


def read_by(splits: Splits, weights: str, excluded: Iterable[Path], *more: str) -> list[Path]:
    """Return the data, weights and runs that a training reads, none of which it may write over."""
    named = [path for path in map(weights_path, (weights, *more)) if path]
    return [Path(splits.train.source.path), *named, *excluded]


def _run_behind(weights: str) -> Path | None:
    """Return the run that weights are of, whether they are named by it or by a model's file."""
    named = weights_path(weights)
    if named is None:
        return None
    path = named.resolve()
    folders = (path, *path.parents[2:3])  # RUN/models/NAME/model.safetensors
    return next((folder for folder in folders if (folder / "run.json").is_file()), None)


def _trained_on(run: Run) -> pd.DataFrame:
    """Return the training patients of a run, with the source that they are of."""
    path = run.root / "splits.csv"
    if not path.is_file():
        raise EvenhandError(
            f"{path} is absent, so nobody can tell whether the weights of that run were trained on "
            "patients that are to be validated and tested on. Restore it from a copy, or start "
            "from other --weights."
        )
    table = read_split_table(path)
    patients = table.loc[table["split"] == "train", ["patient_id"]].drop_duplicates()
    source = run.record.source
    if source is None:
        raise DamagedError(run.root / "run.json", "it lacks 'source'")
    return patients.assign(**_origin(source)._asdict())[list(COLUMNS)]


def _origin(source: Source | SourceRecord) -> Origin:
    return Origin(source.reader, source.path, source.fingerprint)


def _seen_before(root: Path) -> pd.DataFrame:
    """Return the patients that a run's weights were trained on in the runs before it."""
    path = root / SEEN
    if not path.is_file():
        return pd.DataFrame(columns=list(COLUMNS))
    listing = read_listing(path)
    require_columns(listing, path, COLUMNS)
    return listing.fillna("")  # the path of phantoms


def _named(source: Origin, seen: pd.DataFrame) -> set[str]:
    """Return those of the patients whose ids mean patients of a source."""
    named: set[str] = set()
    for about, rows in seen.groupby(list(Origin._fields)):
        if _same_data(source, Origin(*map(str, about))):
            named |= set(rows["patient_id"])
    return named


def _same_data(first: Origin, other: Origin) -> bool:
    """Say whether ids of two sources mean the same patients.

    A published data set is known by its reader, wherever its copy lies; data of one's own by where
    they lie, or by what they are.
    """
    alike = first.path == other.path or first.fingerprint == other.fingerprint
    published = first.reader in READERS and bool(READERS[first.reader].about.layout)
    return first.reader == other.reader and (published or alike)
