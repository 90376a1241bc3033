"""The saliency of the untouched model, and the sample of it that the report draws."""

from __future__ import annotations

import pandas as pd

from evenhand.jobs.prune.loop import step_curvature
from evenhand.jobs.prune.task import PruneTask
from evenhand.pruning.eligible import prunable_parameters
from evenhand.pruning.masks import WeightMask
from evenhand.pruning.saliency import GroupSaliency

ROWS = 6000  # rows of the sample over all layers, about
LEAST_ROWS, MOST_ROWS = 10, 100  # rows of a layer


def first_saliency(task: PruneTask) -> GroupSaliency:
    """Return the saliency of the untouched model, from the batches of the first step."""
    names = prunable_parameters(task.model, task.settings.structure, task.settings.prunable)
    h = step_curvature(task, task.model, names, 1)
    theta = {name: task.model.get_parameter(name).detach() for name in names}
    return GroupSaliency.compute(theta, h, task.roles.unprivileged, task.roles.betas)


def saliency_table(saliency: GroupSaliency, kept: WeightMask | None) -> pd.DataFrame:
    """Return the saliency of a sample of each layer's weights, and whether they were pruned.

    Parameters
    ----------
    saliency
        The saliency of the untouched model.
    kept
        The mask of the chosen model; None if whole channels were pruned.

    Returns
    -------
    pandas.DataFrame
        The columns of `GroupSaliency.sample`; with a mask also ``pruned``, 1 if the chosen model
        lacks the weight, else 0. At most 100 rows for each layer, fewer if there are more than 60.
    """
    most = min(max(ROWS // len(saliency), LEAST_ROWS), MOST_ROWS)
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
