"""The saliency of the untouched model, and the sample of it that the report draws."""

from __future__ import annotations

import pandas as pd

from evenhand.jobs.prune.loop import curvature_of
from evenhand.jobs.prune.task import PruneTask
from evenhand.pruning.eligible import prunable_parameters
from evenhand.pruning.masks import WeightMask
from evenhand.pruning.saliency import GroupSaliency

ROWS = 6000  # of the sample, over all layers
FEW, MANY = 10, 100  # numbers of a layer, where there are many layers or few


def first_saliency(task: PruneTask) -> GroupSaliency:
    """Return the saliency of the untouched model, from the batches of the first step."""
    names = prunable_parameters(task.model, task.settings.structure, task.settings.prunable)
    h = curvature_of(task, task.model, names, 1)
    theta = {name: task.model.get_parameter(name).detach() for name in names}
    return GroupSaliency.compute(theta, h, task.roles.unprivileged, task.roles.betas)


def saliency_table(saliency: GroupSaliency, kept: WeightMask | None) -> pd.DataFrame:
    """Return a sample of each layer's numbers, and which of them were pruned.

    Parameters
    ----------
    saliency
        Of the untouched model.
    kept
        The mask of the chosen model; None where whole channels went.

    Returns
    -------
    pandas.DataFrame
        The columns of `GroupSaliency.sample`; with a mask also ``pruned``, 1 where the chosen model
        has lost the number, else 0. At most 100 rows a layer, fewer of more than 60 layers.
    """
    most = min(max(ROWS // len(saliency), FEW), MANY)
    parts = []
    for name in saliency:
        part = saliency.sample(name, most)
        if kept is not None:
            part["pruned"] = 1 - kept[name].flatten().cpu().numpy()[part["place"]].astype(int)
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    floats = table.select_dtypes("float").columns
    table[floats] = table[floats].map(_rounded)
    return table


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
