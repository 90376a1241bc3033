"""Every number that can be asked for, as a table."""

from __future__ import annotations

import pandas as pd

from evenhand.measure.across import CONTRASTS, DETECTABLE, SUMMARIES
from evenhand.measure.fairness import FAIRNESS
from evenhand.measure.registry import METRICS

KINDS = {"score": "scores", "decision": "decisions", "label": "labels"}


def list_metrics() -> pd.DataFrame:
    """Return a row for each metric: name, kind, direction, ideal, needs, source, title.

    ``kind`` is ``"group"`` for a number about one group, ``"across"`` for one across groups, and
    ``"suffix"`` for what can be asked across groups of any metric (``auc_gap``).
    """
    groups = [
        (one.name, "group", one.direction, one.ideal, KINDS[one.needs], one.source, one.title)
        for one in METRICS.values()
    ]
    across = [
        (one.name, "across", one.direction, one.ideal, " and ".join(one.of), one.source, one.title)
        for one in FAIRNESS.values()
    ]
    titles = {
        name: (function.__doc__ or "").partition("\n")[0].removeprefix("Return ")
        for name, function in {**SUMMARIES, **CONTRASTS}.items()
    }
    titles[DETECTABLE] = "the difference from the reference that is found with 80 % power."
    suffixes = [
        (f"_{name}", "suffix", "", None, "any metric", "", title[:1].upper() + title[1:])
        for name, title in titles.items()
    ]
    columns = ["name", "kind", "direction", "ideal", "needs", "source", "title"]
    return pd.DataFrame([*groups, *suffixes, *across], columns=columns)
