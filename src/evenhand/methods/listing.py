"""The list of methods: what each does, what it can be told, and what it needs."""

from __future__ import annotations

import inspect
from textwrap import fill

from evenhand.methods.base import TrainingMethod
from evenhand.methods.registry import Method, Stage, methods

HEADINGS: dict[Stage, str] = {
    "training": "In training: --method NAME or NAME:SETTING=VALUE,… (of finetune and tune)",
    "afterwards": "For a trained model, in Python: evenhand.methods.afterwards",
}
WIDTH = 100


def method_listing() -> str:
    """Return every method with its settings, and whether training needs the attribute."""
    parts = []
    for stage, heading in HEADINGS.items():
        listed = [_lines(method) for method in methods(stage).values()]
        parts.append("\n".join([heading, "", *listed]))
    return "\n\n".join(parts)


def _lines(method: Method) -> str:
    kind = method.load()
    facts = [_settings(kind)]
    if isinstance(kind, type) and issubclass(kind, TrainingMethod):
        needs = "needs" if kind.needs_attribute else "does not need"
        facts.append(f"Training {needs} the attribute.")
    text = " ".join([method.title, *filter(None, facts)])
    indent = " " * 22
    return fill(text, WIDTH, initial_indent=f"  {method.name:<20}", subsequent_indent=indent)


def _settings(kind: object) -> str:
    """Return the keyword settings with their defaults; those that the caller computes are left."""
    assert callable(kind)
    parameters = inspect.signature(kind).parameters.values()
    given = [p for p in parameters if p.default is not p.empty and p.name not in ("patients",)]
    if not given:
        return ""
    return f"Settings: {', '.join(f'{p.name}={p.default}' for p in given)}."
