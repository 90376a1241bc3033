"""Pages that list what is registered: metrics, methods, strategies, SSL objectives, readers."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterable

from evenhand.cohort.listing import data_set_facts
from evenhand.cohort.registry import READERS
from evenhand.masks.registry import STRATEGIES
from evenhand.methods.listing import method_facts
from evenhand.methods.registry import methods
from evenhand.metrics.listing import list_metrics
from evenhand.pretraining.registry import SSL_OBJECTIVES
from markup import cell, table

BETTER = {
    "higher": "Higher is better.",
    "lower": "Lower is better.",
    "ideal": "Nearer to the ideal is better.",
}
METRICS = """# Metrics

`evenhand audit --list-metrics` prints the same list. The guide on
[measuring](../guides/measurement.md) explains intervals, tests and undefined numbers.
"""
KINDS = {
    "group": (
        "Of each group",
        "`--metric NAME`. Names that take a number in brackets say so: "
        "`sensitivity_at_specificity[0.95]`.",
    ),
    "suffix": (
        "Across the groups, of any metric",
        "`--across NAME`; rows call it `auc_gap`, `sensitivity_worst` and so on.",
    ),
    "across": ("Across the groups, by name", "`--across NAME`."),
}
METHODS = """# Methods

`evenhand methods` prints the same list. The guide on
[mitigation methods](../guides/mitigation.md) says what each repairs and does not repair.
"""
STAGES = {
    "training": ("In training", "`--method NAME:SETTING=VALUE,…` of `finetune` and `tune`."),
    "afterwards": ("For a trained model", "`--method NAME:SETTING=VALUE,…` of `adjust`."),
}
STRATEGY_PAGE = """# Strategies

`finetune --strategy NAME` says what may change in fine-tuning; `tune` compares some of them with
the masks that it finds. Names of units joined by commas are a strategy, too (`evenhand units` lists
them). The guide on [tuning](../guides/tuning.md#strategies) says more.
"""
OBJECTIVE_PAGE = """# SSL objectives

`pretrain --ssl NAME` and `assess --ssl NAME` pre-train an encoder without labels. The guide on
[self-supervision](../guides/self_supervision.md) says when it may help.
"""
READER_PAGE = """# Data sets

`evenhand datasets` prints the same list; DATA is `READER:PATH`. The guide on
[data sets](../guides/datasets.md) says how labels, bins and patients are read.
"""


def pages() -> dict[str, str]:
    """Return the pages, by their paths."""
    makers: dict[str, Callable[[], str]] = {
        "metrics": metrics_page,
        "methods": methods_page,
        "strategies": strategies_page,
        "objectives": objectives_page,
        "readers": readers_page,
    }
    return {f"reference/{name}.md": make() for name, make in makers.items()}


def metrics_page() -> str:
    """Return the page of everything that can be asked for."""
    frame = list_metrics()
    parts = [METRICS]
    for kind, (heading, introduction) in KINDS.items():
        rows = frame[frame["kind"] == kind].to_dict("records")
        parts.append(f"## {heading}\n\n{introduction}")
        parts.append(
            entries(
                (row["name"], sentences(row["title"], *_metric_facts(row)), row["caution"])
                for row in rows
            )
        )
    return "\n\n".join(parts)


def _metric_facts(row: dict[str, object]) -> list[str]:
    """Return which way is better, from what it is computed, and its source."""
    ideal, needs, source = row["ideal"], row["needs"], row["source"]
    has_ideal = isinstance(ideal, float) and not math.isnan(ideal)
    better = BETTER.get(str(row["direction"]), "")
    return [
        better.replace(" is better.", f" is better, ideal {ideal:g}.") if has_ideal else better,
        f"From {needs}." if needs != "any metric" else "",
        f"Source: {source}." if source else "",
    ]


def methods_page() -> str:
    """Return the page of the mitigation methods."""
    parts = [METHODS]
    for stage, (heading, introduction) in STAGES.items():
        rows = ((name, method) for name, method in methods().items() if method.stage == stage)
        parts.append(f"## {heading}\n\n{introduction}")
        parts.append(
            entries(
                (name, sentences(method.title, *method_facts(method)), method.caution)
                for name, method in rows
            )
        )
    return "\n\n".join(parts)


def strategies_page() -> str:
    """Return the page of the strategies."""
    strategies = list(STRATEGIES.items())  # imports them all, so that families are listed, too
    titles, cautions = STRATEGIES.titles(), STRATEGIES.cautions()
    rows = ((f"{name}{one.usage}", titles[name], cautions[name]) for name, one in strategies)
    return f"{STRATEGY_PAGE}\n\n{entries(rows)}"


def objectives_page() -> str:
    """Return the page of the SSL objectives."""
    titles = SSL_OBJECTIVES.titles()
    cautions, rows = SSL_OBJECTIVES.cautions(), []
    for name, one in SSL_OBJECTIVES.items():
        facts = [
            f"For {one.modality or 'images and series'}.",
            f"{one.views} view{'s' * (one.views != 1)} of each sample.",
            f"Has a {' and a '.join(one.needs)}." if one.needs else "",
        ]
        rows.append((name, sentences(titles[name], *facts), cautions[name]))
    return f"{OBJECTIVE_PAGE}\n\n{entries(rows)}"


def readers_page() -> str:
    """Return the page of the data sets."""
    parts = [READER_PAGE]
    for name, reader in sorted(READERS.items()):
        facts = [
            f"- **{fact}:** " + "; ".join(text.splitlines())
            for fact, text in data_set_facts(reader.about).items()
        ]
        parts.append(f"## `{name}:PATH`\n\n{reader.about.title}\n\n" + "\n".join(facts))
    return "\n\n".join(parts)


def entries(rows: Iterable[tuple[str, str, str]]) -> str:
    """Return a table of names, what they are, and when they mislead."""
    listed = table(
        ("name", "what it is", "when it misleads"),
        [
            (breakable(name), cell(what), cell(caution.removeprefix("Misleads ")))
            for name, what, caution in rows
        ],
    )
    return f'<div class="entries" markdown>\n\n{listed}\n\n</div>'


def breakable(name: str) -> str:
    """Return a name as code that may break behind an underscore, a dash or a colon."""
    parts = re.split(r"(?<=[_:-])", html.escape(cell(name)))
    return f"<code>{'<wbr>'.join(parts)}</code>"


def sentences(*parts: str) -> str:
    """Join sentences; a title may lack its full stop."""
    return " ".join(part if part.endswith(".") else f"{part}." for part in parts if part)
