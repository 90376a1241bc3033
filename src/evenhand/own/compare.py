"""Compare the layers of two networks by group, with your own modules and loader."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from evenhand.errors import EvenhandError, check_count, check_level, check_seed, first_few
from evenhand.masks.structure import block_names
from evenhand.metrics.claims import CLAIM
from evenhand.metrics.groups import Groups
from evenhand.metrics.rows import EVERYBODY
from evenhand.networks.calling import (
    call,
    count_rows,
    move_to_device,
    output_of,
    require_network,
    restore_state,
)
from evenhand.networks.layers import layer_names, record_activations
from evenhand.networks.model import Model
from evenhand.own.inputs import as_codes, as_groups
from evenhand.representation import Layer
from evenhand.representation.by_group import Comparison, PatientLayers, measure_similarity
from evenhand.representation.results import GroupSimilarity, Similarity
from evenhand.tables.arrays import as_array

MOST_LAYERS = 12
"""The largest number of layers that are compared by default."""

LEAST = 4
"""The smallest number of patients for which unbiased CKA is defined."""

CONSTANT = "one of the two layers does not vary among these patients"
"""The reason why a pair of layers has no similarity."""

Layers = Sequence[str] | tuple[Sequence[str], Sequence[str]] | None


@dataclass(frozen=True, eq=False)
class SimilarityTable:
    """The similarity of two networks' layers, by group.

    Attributes
    ----------
    frame
        A row for each pair of layers, for everybody (``*``) and for each group: ``attribute``,
        ``group``, ``first`` and ``second`` (names of the layers), ``value`` (CKA, from 0 to 1, the
        value of identical layers), ``low``, ``high``, ``p_adjusted`` (of the test that the group
        differs from all other patients, corrected over all pairs of layers and, by Bonferroni, over
        all groups), ``patients``, ``undefined`` (null or the reason: too few patients, or a layer
        that does not vary).
    """

    frame: pd.DataFrame

    def matrix(self, attribute: str = "*", group: str = "*") -> pd.DataFrame:
        """Return the CKA of a group: rows are layers of the first network, columns of the second.

        Raises
        ------
        EvenhandError
            If the table has no values of the group.
        """
        rows = self.frame[(self.frame["attribute"] == attribute) & (self.frame["group"] == group)]
        if rows["value"].isna().all():
            groups = self.frame.dropna(subset="value")[["attribute", "group"]].drop_duplicates()
            listed = first_few(_column_name(*group) for group in groups.itertuples(index=False))
            raise EvenhandError(
                f"there are no values of {_column_name(attribute, group)}. Groups: {listed}."
            )
        return rows.pivot(index="first", columns="second", values="value").loc[
            rows["first"].unique(), rows["second"].unique()
        ]

    def layers(self) -> pd.DataFrame:
        """Return a row for each layer of the first network, and a column for each group.

        Returns
        -------
        DataFrame
            ``first``; ``second``, its counterpart: the layer of the second network at the same
            depth; ``best``, the layer of the second network that is most similar to it for
            everybody, missing if no similarity is defined; then the CKA of ``first`` and
            ``second`` for ``everybody`` and in each group (``sex=f``; an attribute's name that has
            ``=`` is in quotes), NaN where it is undefined.
        """
        columns = {
            _column_name(attribute, group): rows.set_index(["first", "second"])["value"]
            for (attribute, group), rows in self._by_group
        }
        pairs = pd.MultiIndex.from_tuples(self._counterparts, names=["first", "second"])
        values = pd.DataFrame(columns).astype(float)
        everybody = values["everybody"].unstack(sort=False)
        best = everybody.fillna(-np.inf).idxmax(axis=1).where(everybody.notna().any(axis=1))
        shown = values.loc[pairs].reset_index()
        shown.insert(2, "best", shown["first"].map(best))
        return shown

    @property
    def _by_group(self) -> Any:
        return self.frame.groupby(["attribute", "group"], sort=False)

    @property
    def _counterparts(self) -> list[tuple[str, str]]:
        """The layers of the first network, each with that of the second at the same depth."""
        first, second = (list(self.frame[name].unique()) for name in ("first", "second"))
        depths = np.linspace(0, len(second) - 1, len(first)).round().astype(int)
        return [(name, second[depth]) for name, depth in zip(first, depths, strict=True)]

    def _marked(self) -> pd.DataFrame:
        """Return `layers` as text, with a mark where a group differs from all other patients."""
        shown = self.layers().fillna({"best": "undefined"})
        for (attribute, group), rows in self._by_group:
            name = _column_name(attribute, group)
            p = rows.set_index(["first", "second"])["p_adjusted"].astype(float)
            differs = (p.loc[self._counterparts] <= CLAIM).to_numpy()
            shown[name] = [
                "undefined" if np.isnan(value) else f"{value:.3f}{' *' if mark else '  '}"
                for value, mark in zip(shown[name], differs, strict=True)
            ]
        return shown

    def _remarks(self) -> list[str]:
        """Return the meaning of the table's columns and marks, and why values are undefined."""
        undefined: dict[str, list[str]] = {}
        for (attribute, group), rows in self._by_group:
            for reason in rows["undefined"].dropna().unique():
                undefined.setdefault(reason, []).append(_column_name(attribute, group))
        return [
            f"* the group differs from all other patients (p_adjusted of at most {CLAIM:g}, "
            "corrected over layers and groups).",
            "second: the layer at the same depth; best: the layer most similar to first for "
            "everybody. .frame has all pairs of layers, with intervals.",
            *(f"{', '.join(names)}: {reason}." for reason, names in undefined.items()),
        ]

    def __repr__(self) -> str:
        """Return the CKA of each layer with its counterpart, by group."""
        table = self._marked().to_string(index=False, line_width=100)
        title = "CKA of each layer with its counterpart (1: identical up to rotation and scale):"
        return "\n".join([title, table, *self._remarks()])

    def _repr_html_(self) -> str:
        """Return the table, for notebooks."""
        remarks = "".join(f"<p>{escape(remark)}</p>" for remark in self._remarks())
        return f"{self._marked().to_html(index=False)}{remarks}"


def _column_name(attribute: str, group: str) -> str:
    """Return the name of a group as a column; no two groups have the same name."""
    if attribute == EVERYBODY:
        return "everybody"
    is_plain = "=" not in attribute and attribute[:1] not in "'\""
    return f"{attribute if is_plain else repr(attribute)}={group}"


def compare_layers(
    first: nn.Module,
    second: nn.Module,
    loader: Iterable[Any],
    groups: Any,
    *,
    layers: Layers = None,
    pool: Literal["mean", "flat"] = "mean",
    patients: ArrayLike | None = None,
    forward: Callable[[nn.Module, Any], Any] = call,
    minimum: int = 20,
    batch: int = 512,
    level: float = 0.95,
    permutations: int = 200,
    seed: int = 0,
) -> SimilarityTable:
    """Compare the layers of two networks by centred kernel alignment, in each group.

    The measure is the unbiased linear CKA of Nguyen et al. (ICLR 2021). Intervals come from the
    jackknife over patients; a permutation test compares each group with all other patients. Both
    networks keep their state.

    Parameters
    ----------
    first, second
        Two networks that take the same inputs.
    loader
        Yields inputs, or tuples that begin with inputs and labels, in the order of ``groups``.
        Labels may be None, or classes of any kind, ``(n,)`` or ``(n, k)``. With labels, the test
        permutes within classes.
    groups
        The groups of all rows: a Series, a mapping of names to arrays, or a data frame.
    layers
        Names of layers in both networks, or a pair of sequences, one for each network. None takes
        at most twelve blocks of each network, evenly over its depth.
    pool
        ``"mean"`` averages over positions, steps or tokens; ``"flat"`` keeps every number.
    patients
        ``(n,)`` patients; only the first row of each patient is used. By default each row is a
        patient.
    forward
        Calls a network on inputs; needed if they are not a tensor, a tuple or a mapping of
        arguments.
    minimum
        The smallest number of patients of a group.
    batch
        The number of patients in a batch of CKA.
    level
        The nominal coverage of the intervals, in (0, 1).
    permutations
        The number of permutations of the test.
    seed
        The seed of batches and permutations.

    Raises
    ------
    EvenhandError
        If a network has no such layer, a layer returns no tensor, groups have another length than
        the rows, the loader is empty or its labels are not classes, or there are too few patients.
    """
    require_network(first, "first")
    require_network(second, "second")
    check_seed(seed)
    check_level(level)
    check_count("minimum", minimum)
    check_count("permutations", permutations)
    check_count("batch", batch, least=LEAST)
    if not isinstance(loader, Iterable):
        raise EvenhandError(
            f"loader= is {type(loader).__name__}; give a list or a DataLoader of batches."
        )
    if pool not in ("mean", "flat"):
        raise EvenhandError(f"pool={pool!r}: give 'mean' or 'flat'.")
    names = [
        _layers(module, wanted)
        for module, wanted in zip((first, second), _layers_by_network(layers), strict=True)
    ]
    with restore_state(first), restore_state(second):
        features, labels = _activations((first, second), names, loader, pool, forward)
    count = len(features[0][0])
    columns = as_groups(groups, count)
    rows = _first_rows(patients, count)
    strata = np.zeros(count, dtype=np.int64) if labels is None else labels
    sides = [[Layer(layer[rows]) for layer in side] for side in features]
    data = PatientLayers(
        (sides[0], sides[1]),
        strata[rows],
        {name: Groups(column.codes[rows], column.levels) for name, column in columns.items()},
        {name: {} for name in columns},
    )
    if len(rows) < minimum:
        raise EvenhandError(
            f"there are {len(rows)} patients; a comparison needs {minimum}. Give more patients, or "
            "a lower minimum=."
        )
    settings = Comparison(batch, minimum, level, permutations, seed)
    return SimilarityTable(_frame(measure_similarity(data, settings), names))


def _layers_by_network(layers: Layers) -> tuple[Sequence[str] | None, Sequence[str] | None]:
    if layers is None:
        return None, None
    if isinstance(layers, str):
        layers = (layers,)
    if not isinstance(layers, Sequence) or not all(layers) or not layers:
        raise EvenhandError(
            f"layers={layers!r}: give names of layers, or two sequences of names, one for each "
            "network."
        )
    if len(layers) == 2 and not any(isinstance(entry, str) for entry in layers):
        return layers[0], layers[1]
    return list(map(str, layers)), list(map(str, layers))


def _layers(module: nn.Module, wanted: Sequence[str] | None) -> tuple[str, ...]:
    network = module.backbone if isinstance(module, Model) else module
    modules = dict(network.named_modules())
    if wanted is None:
        is_timm = isinstance(module, Model) or hasattr(network, "feature_info")
        names = layer_names(network) if is_timm else block_names(network)
        if not names:
            raise EvenhandError(
                f"layers=: {type(network).__name__} has no blocks. Name the layers to compare."
            )
        indices = np.unique(np.linspace(0, len(names) - 1, MOST_LAYERS).round().astype(int))
        return tuple(names[index] for index in indices)
    if missing := [name for name in wanted if name not in modules or not name]:
        blocks = ", ".join(_layers(module, None))
        raise EvenhandError(
            f"layers=: {type(network).__name__} has no layer {missing[0]!r}. Some of its layers: "
            f"{blocks}."
        )
    return tuple(dict.fromkeys(wanted))


def _activations(
    modules: tuple[nn.Module, nn.Module],
    names: Sequence[Sequence[str]],
    loader: Iterable[Any],
    pool: Literal["mean", "flat"],
    forward: Callable[[nn.Module, Any], Any],
) -> tuple[list[list[NDArray[np.float32]]], NDArray[np.int64] | None]:
    """Return the features ``(n, d)`` of each network's layers, and labels if the loader has any."""
    parts: list[list[list[NDArray[np.float32]]]] = [[[] for _ in layers] for layers in names]
    labels: list[Any] = []
    for module in modules:
        module.eval()
    for item in loader:
        inputs = item[0] if isinstance(item, tuple | list) else item
        if isinstance(item, tuple | list) and len(item) > 1:
            labels.extend(_labels(item[1]))
        for module, layers, features in zip(modules, names, parts, strict=True):
            device = next(module.parameters()).device
            with (
                torch.no_grad(),
                record_activations(module, layers, pool, count_rows(inputs)) as outputs,
            ):
                output_of(module, move_to_device(inputs, device), forward)
            for index, name in enumerate(layers):
                if name not in outputs:
                    raise EvenhandError(
                        f"the layer {name} did not run on a batch. Leave it out of layers=."
                    )
                features[index].append(outputs[name].float().cpu().numpy())
    if not parts[0][0]:
        raise EvenhandError(
            "loader= is empty. A generator can be read only once: give a list or a DataLoader."
        )
    joined = [[np.concatenate(layer) for layer in side] for side in parts]
    count = len(joined[0][0])
    if labels and len(labels) != count:
        raise EvenhandError(
            f"loader= gives {len(labels)} labels for {count} rows; give one label for each row, or "
            "no labels."
        )
    for layers, side in zip(names, joined, strict=True):
        for name, layer in zip(layers, side, strict=True):
            if not np.isfinite(layer).all():
                raise EvenhandError(
                    f"the layer {name} gives values that are not finite. Are inputs or weights NaN?"
                )
    return joined, _number_labels(labels) if labels else None


def _labels(labels: Any) -> list[tuple[Any, ...]]:
    """Return the label of each row of a batch; an empty list if the loader yields None."""
    if labels is None:
        return []
    try:
        array = as_array(labels)
    except ValueError:  # lists of several lengths
        array = np.empty(0)
    fractions = array.dtype.kind == "f" and not bool((array == np.round(array)).all())
    rows = (
        []
        if array.ndim not in (1, 2)
        else [tuple(row) if array.ndim == 2 else (row,) for row in array.tolist()]
    )
    hashable = all(isinstance(value, Hashable) for row in rows for value in row)
    if not rows or fractions or not hashable:
        raise EvenhandError(
            f"loader=: the labels of a batch are {type(labels).__name__} {array.shape} of "
            f"{array.dtype}, which are no classes (n,) or (n, k). Labels are optional: give None "
            "instead, or inputs alone."
        )
    return rows


def _number_labels(labels: Sequence[tuple[Any, ...]]) -> NDArray[np.int64]:
    """Return a whole number for each label; equal labels have the same number."""
    numbers: dict[tuple[Any, ...], int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels])


def _first_rows(patients: ArrayLike | None, count: int) -> NDArray[np.intp]:
    if patients is None:
        return np.arange(count)
    return np.sort(np.unique(as_codes(patients, count, "patients"), return_index=True)[1])


def _frame(similarity: Similarity, names: Sequence[Sequence[str]]) -> pd.DataFrame:
    everybody = GroupSimilarity(
        group="*", patients=similarity.patients, auc=None, **vars(similarity.everybody)
    )
    rows = _pairs("*", everybody, names)
    for name, attribute in similarity.attributes.items():
        for group in attribute.groups:
            rows += _pairs(name, group, names)
    frame = pd.DataFrame(rows)
    tested = frame.dropna(subset="p_adjusted").groupby(["attribute", "group"]).ngroups
    frame["p_adjusted"] = (frame["p_adjusted"].astype(float) * tested).clip(upper=1.0)
    return frame


def _pairs(attribute: str, group: GroupSimilarity, names: Sequence[Sequence[str]]) -> list[Any]:
    empty = ((None,) * len(names[1]),) * len(names[0])
    value, low, high = group.value or empty, group.low or empty, group.high or empty
    p_adjusted = group.p_layers or empty
    return [
        {
            "attribute": attribute,
            "group": group.group,
            "first": first,
            "second": second,
            "value": value[row][column],
            "low": low[row][column],
            "high": high[row][column],
            "p_adjusted": p_adjusted[row][column],
            "patients": group.patients,
            "undefined": group.undefined or (CONSTANT if value[row][column] is None else None),
        }
        for row, first in enumerate(names[0])
        for column, second in enumerate(names[1])
    ]
