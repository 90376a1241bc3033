"""The main numbers and verdicts of a run as text for the terminal."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from textwrap import shorten
from typing import Any
from unicodedata import category

import pandas as pd

from evenhand.metrics import find_metric
from evenhand.reporting.text.vocabulary import p_value_text
from evenhand.reporting.verdicts import Verdict

PrintedRow = Mapping[Hashable, Any]
GROUPS = 20
"""Largest number of groups of an attribute that are printed."""
WIDTH = 80
"""Largest length of the reason why a number is undefined."""
SHOWN = 2
"""Number of metrics that are printed by group; the first also with its worst group and gap."""


def print_table(rows: pd.DataFrame, split: str = "test", numbers: Sequence[str] = ()) -> str:
    """Return a table of each model by group, then of each pair of models, as text.

    Parameters
    ----------
    rows
        A table with the columns of ``metrics.json``.
    split
        The split to print.
    numbers
        Full names of the numbers to print; by default the main ones.
    """
    of_split = rows[rows["split"] == split]
    single, paired = of_split[of_split["against"].isna()], of_split[of_split["against"].notna()]
    main = [*_with_extremes(_metrics(single)), *_tested_spreads(paired)]
    tables = [_table(single, "model", numbers or main)]
    if len(paired):
        names = paired["model"] + " − " + paired["against"]
        pairs = paired.assign(model=names)
        tables += [_table(pairs, "difference", numbers)] if numbers else _paired_tables(pairs)
    return "\n\n".join(tables)


def _paired_tables(paired: pd.DataFrame) -> list[str]:
    """Return a table for each set of metrics that pairs of models are judged by."""
    by_metrics: dict[tuple[str, ...], list[pd.DataFrame]] = {}
    for _, rows in paired.groupby("model", sort=False):
        everybody = rows[(rows["attribute"] == "*") & rows["p_adjusted"].notna()]
        judged = tuple(everybody["metric"].unique()) or tuple(_metrics(rows)[:1])
        by_metrics.setdefault(judged, []).append(rows)
    return [
        _table(pd.concat(parts), "difference", [*_with_extremes(metrics), *_tested_spreads(paired)])
        for metrics, parts in by_metrics.items()
    ]


def _tested_spreads(paired: pd.DataFrame) -> list[str]:
    """Return the numbers across groups that models are compared by."""
    across = paired[(paired["group"] == "*") & (paired["attribute"] != "*")]
    tested = across[across["p_adjusted"].notna() & (across["aggregate"] != "worst")]
    return list(tested["metric"].unique())


def print_verdicts(verdicts: Sequence[Verdict]) -> str:
    """Return the claims and warnings of a page as text, or a sentence that it makes no claim."""
    warnings = [plain_text(verdict.text) for verdict in verdicts if verdict.warning]
    answers = [verdict for verdict in verdicts if not verdict.warning]
    claims = [
        f"{plain_text(verdict.about)}, {_by(verdict.attribute)}: {plain_text(verdict.text)}"
        for verdict in answers
        if verdict.claim
    ]
    if not claims and verdicts:
        claims = [_no_claim(answers)]
    return "\n".join([*warnings, *claims])


def _no_claim(verdicts: Sequence[Verdict]) -> str:
    """Return the sentence about verdicts none of which claims a difference."""
    if all(verdict.attribute == "*" for verdict in verdicts):
        return "These data do not show any difference. No groups were compared."
    if all(verdict.p_adjusted is None for verdict in verdicts):
        return "No difference was tested; the report and verdicts.json give the reasons."
    return "These data do not show any difference."


def _by(attribute: str) -> str:
    return "everybody" if attribute == "*" else f"by {plain_text(attribute)}"


def plain_text(name: object) -> str:
    r"""Return a text without control characters, which a terminal would interpret.

    No-break spaces and other blanks become plain spaces.

    Examples
    --------
    >>> plain_text("95\N{NO-BREAK SPACE}% interval")
    '95 % interval'
    """
    return "".join(map(_plain_character, str(name)))


def _plain_character(character: str) -> str:
    if category(character) == "Zs":
        return " "
    return character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"


def _with_extremes(metrics: Sequence[str]) -> list[str]:
    """Return the names of metrics, and of the worst group and the gap of the first metric."""
    return [*metrics, f"{metrics[0]}_worst", f"{metrics[0]}_gap"]


def _metrics(rows: pd.DataFrame) -> list[str]:
    """Return the main metrics: AUC and accuracy if both come first, else the first ones."""
    everybody = rows.loc[(rows["attribute"] == "*"), "metric"].unique()
    leading = [name for name in ("auc", "accuracy") if name in everybody[:SHOWN]]
    return leading if len(leading) == SHOWN else list(everybody[:SHOWN])


def _table(rows: pd.DataFrame, title: str, numbers: Sequence[str]) -> str:
    """Return a table of some numbers, a line for each."""
    printed, hidden = _worst_served(rows[rows["metric"].isin(numbers)], numbers[0])
    shown = printed.to_dict("records")
    tested = int(rows["p_adjusted"].notna().any())
    header = (title, "metric", "group", "value", _level(rows), "n", *(["corrected p"] * tested))
    lines = [header, *(_cells(row)[: len(header)] for row in shown)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(header))]
    more = [f"… and {hidden:,} more groups; metrics.json and the report list all of them"]
    text = "\n".join(
        "  ".join(
            cell.ljust(width) if place in (0, 1, 2, 4) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
    return "\n".join([text, *(more if hidden else [])])


def _worst_served(rows: pd.DataFrame, metric: str) -> tuple[pd.DataFrame, int]:
    """Return the rows to print, and the number of groups that are left out.

    If an attribute has more than `GROUPS` groups, those with the worst leading metric are printed.
    """
    groups = rows[(rows["attribute"] != "*") & (rows["group"] != "*")]
    keys = pd.MultiIndex.from_frame(groups[["model", "attribute", "group"]])
    leading = groups[groups["metric"] == metric].set_index(["model", "attribute", "group"])["value"]
    if leading.groupby(level=[0, 1]).size().max() <= GROUPS or leading.empty:
        return rows, 0
    falling = find_metric(metric).direction == "lower"
    order = leading.sort_values(ascending=not falling, kind="stable")
    printed = order.groupby(level=[0, 1]).head(GROUPS).index
    hidden = len(leading) - len(printed)
    is_printed = pd.Series(keys.isin(printed), groups.index).reindex(rows.index, fill_value=True)
    return rows[is_printed], hidden


def _cells(row: PrintedRow) -> tuple[str, ...]:
    group = "everybody" if row["attribute"] == "*" else f"{row['attribute']}: {row['group']}"
    return (
        plain_text(row["model"]),
        row["metric"],
        plain_text(group),
        _number(row["value"]),
        _interval(row),
        str(row["n"]),
        _p(row["p_adjusted"]) if _is_difference(row) else "",
    )


def _is_difference(row: PrintedRow) -> bool:
    """Return whether the p-value of a row is about a difference of models or groups."""
    return bool(pd.notna(row["against"])) or bool(row["attribute"] != "*")


def _level(rows: pd.DataFrame) -> str:
    levels = rows["level"].dropna().unique()
    return f"{100 * levels[0]:g} % interval" if len(levels) else "interval"


def _interval(row: PrintedRow) -> str:
    if pd.isna(row["value"]):
        return shorten(f"undefined: {plain_text(row['undefined'])}", WIDTH, placeholder=" …")
    if pd.isna(row["low"]):
        reason = row.get("no_interval")
        text = f"none: {plain_text(reason)}" if isinstance(reason, str) else ""
        return shorten(text, WIDTH, placeholder=" …")
    return f"{row['low']:.3f} to {row['high']:.3f}"


def _p(value: float) -> str:
    return "" if pd.isna(value) else p_value_text(value).removeprefix("= ")


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.3f}"
