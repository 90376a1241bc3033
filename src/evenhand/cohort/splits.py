"""Split cohorts by patient, write and read splits, and exclude patients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evenhand.cohort.cohort import Cohort
from evenhand.errors import EvenhandError, count_text, first_few
from evenhand.spreadsheets import unquote_formulas, write_csv
from evenhand.tables.attributes import attribute_parts, group_of
from evenhand.tables.predictions import SPLITS
from evenhand.tables.reading import read_table
from evenhand.tables.spelling import clean
from evenhand.tables.table_checks import refuse_rows, require_columns


@dataclass(frozen=True, eq=False)
class Splits:
    """Three cohorts that share no patient.

    Attributes
    ----------
    train, val, test
        The cohorts.
    pool
        All training samples, if `train` is a part of them and other fits train on other parts.
        Activations of frozen layers are then computed once for all fits.
    """

    train: Cohort
    val: Cohort
    test: Cohort
    pool: Cohort | None = None

    def items(self) -> Iterator[tuple[str, Cohort]]:
        """Yield the name and the cohort of each split."""
        return ((name, getattr(self, name)) for name in SPLITS)


def split_patients(
    cohort: Cohort,
    attributes: Sequence[str],
    fractions: tuple[float, float, float],
    rng: np.random.Generator,
) -> Splits:
    """Split a cohort by patient; a cohort with a column ``split`` keeps its own splits.

    Patients are stratified by label × attributes. Each stratum is divided in the given shares,
    rounded down or up; rounding errors are balanced in the next stratum. The order of the rows has
    no influence.

    Parameters
    ----------
    cohort
        Any cohort.
    attributes
        Attributes and intersections to stratify by.
    fractions
        Shares of the patients for train, val and test, which sum to 1.
    rng
        Draws the patients of each split.

    Raises
    ------
    EvenhandError
        If a split would be empty, or the cohort's own ``split`` column puts a patient in two
        splits.
    """
    if "split" in cohort.table.columns:
        return _splits_of(cohort, cohort.table["split"], cohort.source.path)
    index_of_split = _assign_parts(cohort, attributes, fractions, rng)
    names = pd.Series(np.array(SPLITS)[index_of_split], index=cohort.table.index)
    return _splits_of(cohort, names, cohort.source.path)


def draw_patients(
    cohort: Cohort, share: float, attributes: Sequence[str], rng: np.random.Generator
) -> Cohort:
    """Return a random share of a cohort's patients, stratified as in `split_patients`."""
    return cohort.select(_assign_parts(cohort, attributes, (share, 1 - share), rng) == 0)


def assign_folds(
    cohort: Cohort, folds: int, attributes: Sequence[str], rng: np.random.Generator
) -> NDArray[np.intp]:
    """Return the fold ``(n,)`` of each sample, 0 … folds − 1, equal for all samples of a patient.

    Patients are stratified as in `split_patients`; a column ``split`` is ignored.

    Raises
    ------
    EvenhandError
        If there are fewer patients than folds.
    """
    patients = cohort.table["patient_id"].nunique()
    if patients < folds:
        raise EvenhandError(
            f"{cohort.source.path}: {count_text(patients, 'patient')} for {folds} folds; each fold "
            "needs at least one. Give fewer folds or more patients."
        )
    return _assign_parts(cohort, attributes, [1 / folds] * folds, rng)


def fold_splits(
    cohort: Cohort,
    test: NDArray[np.bool_],
    val_share: float,
    attributes: Sequence[str],
    rng: np.random.Generator,
) -> Splits:
    """Return the splits of one fold: the given test samples, and the other patients divided.

    Parameters
    ----------
    cohort
        Any cohort.
    test
        ``(n,)`` whether each sample is in the test split, equal for all samples of a patient.
    val_share
        The share of the other patients for validation.
    attributes
        Attributes and intersections to stratify by.
    rng
        Draws the patients of each split.

    Raises
    ------
    EvenhandError
        If a split would be empty.
    """
    index_of_split = np.full(len(cohort), SPLITS.index("test"))
    others = cohort.select(~test)
    index_of_split[~test] = _assign_parts(others, attributes, (1 - val_share, val_share), rng)
    names = pd.Series(np.array(SPLITS)[index_of_split], index=cohort.table.index)
    return _splits_of(cohort, names, cohort.source.path)


def share_of_patients(
    cohort: Cohort, share: float, rng: np.random.Generator, attributes: Sequence[str] = ()
) -> Cohort:
    """Return a share of a cohort's patients, the same share of each label.

    With equal generators, a smaller share is a part of every larger one. At least one patient of
    each label stays; with attributes, at least one of each label in each group.
    """
    strata = [_first_level(cohort, name) for name in attributes]
    label = cohort.table.groupby("patient_id", sort=True)["label"].max()
    shuffled = pd.concat([label, *strata], axis=1).iloc[rng.permutation(len(label))]
    by = shuffled.groupby(list(shuffled.columns), observed=True)
    rank, size = by.cumcount(), by["label"].transform("size")
    kept = shuffled.index[(rank == 0) | (rank + 1 <= share * size + 0.5)]
    return cohort.select(cohort.table["patient_id"].isin(kept))


def _first_level(cohort: Cohort, attribute: str) -> pd.Series:
    """Return each patient's level of an attribute, taken from the first sample."""
    levels = group_of(cohort.table, attribute, cohort.levels).astype(str)
    return levels.groupby(cohort.table["patient_id"], sort=True).first().rename(attribute)


def write_splits(path: Path, splits: Splits) -> None:
    """Write ``sample_id``, ``patient_id`` and ``split`` of every sample (see `write_csv`)."""
    tables = [
        cohort.table[["sample_id", "patient_id"]].assign(split=name)
        for name, cohort in splits.items()
    ]
    write_csv(path, pd.concat(tables))


def read_split_table(path: Path) -> pd.DataFrame:
    """Return a table of ``sample_id``, ``patient_id`` and ``split``, indexed by its rows.

    Raises
    ------
    EvenhandError
        If the table is absent or damaged, a column is missing, or a split is not called train, val
        or test.
    """
    table = read_listing(path)
    require_columns(table, path, ("sample_id", "patient_id", "split"))
    for name in ("sample_id", "patient_id"):
        refuse_rows(table[name].isna(), path, f"{name} is empty.")
    check_split_names(table["split"], path)
    return table


def read_splits(path: Path, cohort: Cohort) -> Splits:
    """Split a cohort by a table of splits; samples that the table lacks are left out.

    Parameters
    ----------
    path
        A CSV or parquet table with ``sample_id``, ``patient_id`` and ``split``.
    cohort
        The cohort that was split.

    Raises
    ------
    EvenhandError
        If a column is missing, a split is not called train, val or test, a patient is in two
        splits, or the cohort lacks a sample.
    """
    table = read_split_table(path)
    refuse_rows(
        ~table["sample_id"].isin(cohort.table["sample_id"]),
        path,
        f"{cohort.source.path} has no sample of that name. Were the splits made from other data?",
    )
    split_of = table.drop_duplicates("sample_id").set_index("sample_id")["split"]
    check_patients_apart(table["patient_id"], table["split"], str(path))
    chosen = cohort.select(cohort.table["sample_id"].isin(split_of.index))
    return _splits_of(chosen, chosen.table["sample_id"].map(split_of), str(path))


def read_listing(path: Path) -> pd.DataFrame:
    """Read a table of samples or patients, without the quotes of Evenhand's CSV files.

    Raises
    ------
    EvenhandError
        If the file is not a table.
    """
    table = read_table(path, ids=("sample_id", "patient_id"))
    return table.apply(unquote_formulas) if path.suffix.lower() == ".csv" else table


def split_column(table: pd.DataFrame, patient: str, source: Path) -> dict[str, pd.Series]:
    """Return the column ``split`` of a table for a cohort's table; {} without such a column.

    Raises
    ------
    EvenhandError
        If a split is not called train, val or test, or a patient is in two splits.
    """
    if "split" not in table.columns:
        return {}
    check_split_names(table["split"], source)
    check_patients_apart(table[patient], table["split"], str(source))
    return {"split": table["split"].reset_index(drop=True)}


def check_split_names(split: pd.Series, path: Path) -> None:
    """Refuse rows whose split is not train, val or test; the index is the row in the file."""
    problem = f"the split must be one of {', '.join(SPLITS)}."
    refuse_rows(~split.isin(SPLITS), path, problem)


def check_patients_apart(patient: pd.Series, split: pd.Series, where: str) -> None:
    """Refuse patients in two splits.

    Raises
    ------
    EvenhandError
        If a patient is in two splits; the message names the first few.
    """
    splits_of = split.groupby(patient).unique()
    several = splits_of[splits_of.map(len) > 1].sort_index()
    if len(several):
        listed = first_few(
            f"{name} ({' and '.join(sorted(splits))})" for name, splits in several.items()
        )
        raise EvenhandError(
            f"{where}: {len(several)} patient{'s are' if len(several) > 1 else ' is'} in two "
            f"splits: {listed}. Put all samples of a patient in one split."
        )


def exclude_patients(cohort: Cohort, sources: Sequence[Path]) -> Cohort:
    """Return a cohort without the patients that runs or files name.

    Parameters
    ----------
    cohort
        Any cohort.
    sources
        Run directories (the patients of their splits, else of their predictions), tables with a
        ``patient_id`` column, or text files with one patient id per line.

    Raises
    ------
    EvenhandError
        If a source is neither a run nor such a file, names no patient of the cohort, or leaves no
        patient.
    """
    patients = cohort.table["patient_id"]
    excluded = pd.Series(False, index=cohort.table.index)
    for source in sources:
        ids = _patients_of(source)
        in_source = patients.isin(ids)
        if not in_source.any():
            raise EvenhandError(
                f"{source} names {count_text(len(ids), 'patient')} ({first_few(sorted(ids))}), "
                f"none of them in {cohort.source.path} (whose patients are "
                f"{first_few(sorted(set(patients)))}). Was it made from other data?"
            )
        excluded |= in_source
    if excluded.all():
        raise EvenhandError(
            f"{', '.join(map(str, sources))}: these are all the patients of {cohort.source.path}; "
            "none is left. Exclude fewer patients."
        )
    return cohort.select(~excluded)


def _patients_of(source: Path) -> set[str]:
    if source.is_dir():
        source = _patient_table(source)
    if not source.is_file():
        raise EvenhandError(f"there is no run and no file {source} to take patients from.")
    if source.suffix in (".csv", ".parquet"):
        table = read_listing(source)
        require_columns(table, source, ["patient_id"])
        return set(table["patient_id"].dropna())
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise EvenhandError(
            f"{source} is no list of patients: give a run, a table (.csv or .parquet) with a "
            "patient_id column, or a text file with one patient id per line."
        ) from error
    return {clean(line) for line in lines} - {""}


def _patient_table(run: Path) -> Path:
    tables = [run / "splits.csv", *sorted(run.glob("models/*/predictions.parquet"))]
    for table in tables:
        if table.is_file():
            return table
    raise EvenhandError(
        f"{run} is no run that names its patients: it has neither splits.csv nor "
        "models/*/predictions.parquet."
    )


def _splits_of(cohort: Cohort, split: pd.Series, where: str) -> Splits:
    check_patients_apart(cohort.table["patient_id"], split, where)
    cohorts: Mapping[str, Cohort] = {name: cohort.select(split == name) for name in SPLITS}
    empty = [name for name, part in cohorts.items() if not len(part)]
    if empty:
        patients = cohort.table["patient_id"].nunique()
        raise EvenhandError(
            f"{where}: no patient in {' and '.join(empty)} ({count_text(patients, 'patient')} in "
            "all). Give more patients or other shares, or correct the split column."
        )
    return Splits(**cohorts)


def _assign_parts(
    cohort: Cohort, attributes: Sequence[str], fractions: Sequence[float], rng: np.random.Generator
) -> NDArray[np.intp]:
    """Return the part ``(n,)`` of each sample, 0 … len(fractions) − 1; a patient has one part."""
    strata = _strata(cohort, attributes)
    shuffled = strata.iloc[rng.permutation(len(strata))]
    names = list(strata.columns)
    ordered = shuffled.sort_values(names, kind="stable")
    sizes: list[int] = ordered.groupby(names, sort=True).size().tolist()
    counts = _apportion(sizes, np.array(fractions, float))
    parts = [np.repeat(np.arange(len(fractions)), count) for count in counts]
    part_of = pd.Series(np.concatenate(parts), index=ordered.index)
    return np.asarray(cohort.table["patient_id"].map(part_of), np.intp)


def _strata(cohort: Cohort, attributes: Sequence[str]) -> pd.DataFrame:
    """Return the highest label and the first level of each patient, sorted by patient id."""
    names = sorted({part for attribute in attributes for part in attribute_parts(attribute)})
    rules = {"label": "max", **{f"attr_{name}": "min" for name in names}}
    # As text, so that the declared order of levels has no influence either.
    table = cohort.table.astype({f"attr_{name}": "str" for name in names})
    return table.groupby("patient_id", sort=True).agg(rules)


def _apportion(sizes: Sequence[int], fractions: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the number of patients ``(strata, parts)`` of each stratum in each part.

    Each number is rounded down or up. The parts with the largest deficit from earlier rounding are
    rounded up first, so that sums over neighbouring strata stay near their shares.
    """
    deficit = np.zeros(len(fractions))
    counts = np.empty((len(sizes), len(fractions)), np.intp)
    for count, size in zip(counts, sizes, strict=True):
        count[:] = np.floor(size * fractions)
        deficit += size * fractions - count
        rounded_up = np.argsort(-deficit, kind="stable")[: size - count.sum()]
        count[rounded_up] += 1
        deficit[rounded_up] -= 1
    return counts
