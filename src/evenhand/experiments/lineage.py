"""Which patients weights have been trained on, over all runs that they have come through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from evenhand.cohort.registry import READERS
from evenhand.cohort.splits import Splits, read_listing, read_split_table
from evenhand.errors import EvenhandError, some
from evenhand.networks.settings import weights_path
from evenhand.runs import Run, open_run
from evenhand.spreadsheets import write_csv
from evenhand.tables.table_checks import require_columns

SEEN = "seen.csv"
"""What a run keeps of the runs before it: the patients that its weights were trained on there."""

SOURCE = ("reader", "path", "fingerprint")
COLUMNS = (*SOURCE, "patient_id")


def refuse_leak(splits: Splits, weights: str) -> None:
    """Refuse weights that have been trained on patients that are to be validated or tested on.

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
        if met := sorted(held & _named(splits.train.source.facts, seen)):
            raise EvenhandError(
                f"--weights {weights} was trained on {len(met)} of the {len(held)} patients that "
                f"are to be validated and tested on ({some(met)}). Give the same --seed, --split "
                "and --attribute as in the run that did, or keep its patients out with "
                f"--exclude-patients {patients}."
            )


def write_seen(run: Run, weights: str) -> None:
    """Write down in a run what its weights were trained on before, so that nobody has to ask again.

    The runs that they come from may be gone by the time that somebody builds on this one.
    """
    root = _run_behind(weights)
    if root is not None:
        seen = pd.concat([_trained_on(open_run(root)), _seen_before(root)]).drop_duplicates()
        write_csv(run.root / SEEN, seen)


def read_by(splits: Splits, weights: str, excluded: Iterable[Path]) -> list[Path]:
    """Return the data, weights and runs that a training reads, none of which it may write over."""
    named = weights_path(weights)
    return [Path(splits.train.source.path), *([named] if named else []), *excluded]


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
    source = run.facts["source"]
    return patients.assign(**{name: source[name] for name in SOURCE})[list(COLUMNS)]


def _seen_before(root: Path) -> pd.DataFrame:
    """Return the patients that a run's weights were trained on in the runs before it."""
    path = root / SEEN
    if not path.is_file():
        return pd.DataFrame(columns=list(COLUMNS))
    found = read_listing(path)
    require_columns(found, path, COLUMNS)
    return found.fillna("")  # the path of phantoms


def _named(source: Mapping[str, Any], seen: pd.DataFrame) -> set[str]:
    """Return those of the patients whose ids mean patients of a source."""
    named: set[str] = set()
    for about, rows in seen.groupby(list(SOURCE)):
        if _same_data(source, dict(zip(SOURCE, about, strict=True))):
            named |= set(rows["patient_id"])
    return named


def _same_data(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Say whether ids of two sources mean the same patients.

    A published data set is known by its reader, wherever its copy lies; data of one's own by where
    they lie, or by what they are.
    """
    alike = {name for name in ("path", "fingerprint") if one[name] == other[name]}
    published = one["reader"] in READERS and bool(READERS[one["reader"]].about.layout)
    return bool(one["reader"] == other["reader"] and (published or alike))
