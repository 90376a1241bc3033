"""The tables of the guides list what is registered, and nothing else."""

from __future__ import annotations

import re

import pytest
from tests.conftest import ROOT

import evenhand
from evenhand.cohort.registry import READERS
from evenhand.masks.registry import STRATEGIES
from evenhand.methods.registry import methods
from evenhand.metrics.listing import list_metrics
from evenhand.pretraining.registry import SSL_OBJECTIVES
from evenhand.pruning.registry import ESTIMATORS


def first_column(guide: str, heading: str) -> set[str]:
    """Return the names in the first column of the table below a header line."""
    text = (ROOT / "docs" / "guides" / guide).read_text(encoding="utf-8")
    table = text.partition(heading)[2].partition("\n\n")[0]
    return {name for line in table.splitlines() for name in re.findall(r"^\| `([^`]+)`", line)}


def test_the_estimators_of_the_guide_are_those_that_are_registered():
    names = first_column("pruning.md", "| name | what | cost in backward passes |")
    assert names == set(ESTIMATORS.titles())


def test_the_table_of_ssl_objectives_says_what_the_registry_says():
    text = (ROOT / "docs" / "guides" / "self_supervision.md").read_text(encoding="utf-8")
    table = text.partition("| `--ssl` | what it does |")[2].partition("\n\n")[0]
    objectives = [(SSL_OBJECTIVES[name], title) for name, title in SSL_OBJECTIVES.titles().items()]
    rows = [
        f"| `{item.name}` | {title} | {item.modality or 'both'} | {item.views} "
        f"| {', '.join(item.needs) or '–'} | {'yes' if item.stops_early else 'no'} |"
        for item, title in objectives
    ]
    assert table.splitlines()[2:] == rows


@pytest.mark.parametrize("registry", [SSL_OBJECTIVES, STRATEGIES], ids=["ssl", "strategies"])
def test_every_name_is_in_the_guides(registry):
    guides = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))
    missing = [
        name for name in registry.titles() if not re.search(rf"\b{re.escape(name)}\b", guides)
    ]
    assert missing == []


def test_every_way_to_register_is_in_the_guide():
    text = (ROOT / "docs" / "guides" / "extend.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"evenhand\.(register_\w+)", text))
    assert listed >= {name for name in evenhand.__all__ if name.startswith("register_")}


def test_every_entry_says_when_it_misleads():
    metrics = list_metrics()
    cautions = {
        **dict(zip(metrics["name"], metrics["caution"], strict=True)),
        **{name: method.caution for name, method in methods().items()},
        **{name: reader.about.caution for name, reader in READERS.items()},
        **STRATEGIES.cautions(),
        **SSL_OBJECTIVES.cautions(),
    }
    wrong = [name for name, text in cautions.items() if not re.match(r"Misleads .*\.$", text)]
    assert wrong == []


def test_the_page_on_python_lists_every_public_name_once():
    text = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^::: evenhand\.(\w+)$", text, flags=re.M)
    assert sorted(listed) == sorted(set(evenhand.__all__) - {"metric"})  # an earlier name
