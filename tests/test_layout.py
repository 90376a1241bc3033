"""Imports go downwards only: jobs, services, engines, ground; what is light stays light."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from tests.conftest import ROOT

PACKAGE = ROOT / "src" / "evenhand"
STOREYS = {
    "jobs": (
        ("testing",),
        ("cli",),
        ("listings",),
        ("flags",),
        ("jobs",),
        ("own",),
        ("reporting",),
    ),
    "services": (
        ("experiments",),
        ("evaluation", "training", "workers"),
        ("cohort",),
    ),
    "engines": (
        ("search", "pruning", "pretraining", "representation"),
        ("masks", "methods"),
        ("networks", "metrics"),
    ),
    "ground": (
        ("tables",),
        ("spreadsheets", "runs", "run_files", "files", "progress"),
        ("registry",),
        ("plugins",),
        ("errors", "launcher", "settings"),
    ),
}
"""The storeys from the top down; within a storey, too, a part imports only those below it."""
DEPTH = {
    name: depth
    for depth, line in enumerate(line for lines in STOREYS.values() for line in lines)
    for name in line
}
FILES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, wherever in the file, with full names."""
    package = module_name(path) if path.name == "__init__.py" else module_name(path.parent / "x.py")
    package = package.removesuffix(".x")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{name}.{alias.name}" for alias in node.names)


def part(name: str) -> str:
    """Return the part of the layout that a module of the package belongs to."""
    return name.split(".")[1]


def edges() -> set[tuple[str, str]]:
    pairs = set()
    for path in FILES:
        name = module_name(path)
        inside = (other for other in imported(path) if other.startswith("evenhand."))
        if name != "evenhand":  # the public face, which imports on use
            pairs |= {(part(name), part(other)) for other in inside}
    return {(source, target) for source, target in pairs if source != target}


def test_every_module_has_its_place():
    assert {part(module_name(path)) for path in FILES if path.parent != PACKAGE} <= DEPTH.keys()
    alone = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert alone <= DEPTH.keys()


def test_imports_go_down():
    assert [edge for edge in sorted(edges()) if DEPTH[edge[0]] > DEPTH[edge[1]]] == []


def test_imports_go_round_nowhere():
    graph = TopologicalSorter[str]()
    for source, target in edges():
        graph.add(source, target)
    graph.prepare()  # raises CycleError


@pytest.mark.parametrize("folder", ["cohort", "metrics", "tables", "representation"])
def test_no_torch_where_none_is_needed(folder):
    heavy = {
        path.name
        for path in (PACKAGE / folder).rglob("*.py")
        if any(name.split(".")[0] in {"torch", "timm", "accelerate"} for name in imported(path))
    }
    assert heavy <= {"batches.py"}


def test_engines_know_no_cohort_and_no_run():
    services = {name for line in STOREYS["services"] for name in line}
    engines = {name for line in STOREYS["engines"] for name in line}
    assert {edge for edge in edges() if edge[0] in engines and edge[1] in services} == set()
