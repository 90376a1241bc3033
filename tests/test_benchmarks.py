"""Each benchmark script can be imported, and each name that it replaces in Evenhand exists."""

from __future__ import annotations

import ast
import runpy

import pytest
from tests.conftest import ROOT

SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))


def replaced_names(tree: ast.AST) -> list[tuple[str, str]]:
    """Return the expression and the name of each ``patch.object(expression, "name", …)``."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [
        (ast.unparse(call.args[0]), call.args[1].value)
        for call in calls
        if ast.unparse(call.func) == "patch.object" and isinstance(call.args[1], ast.Constant)
    ]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_can_be_imported_and_replaces_what_exists(script, monkeypatch):
    monkeypatch.syspath_prepend(script.parent)
    names = runpy.run_path(str(script))
    replaced = replaced_names(ast.parse(script.read_text()))
    owners = [(eval(owner, names), name) for owner, name in replaced]
    owners += names.get("TIMED_PARTS", {}).values()
    missing = [f"{owner}.{name}" for owner, name in owners if not hasattr(owner, name)]
    assert missing == []
