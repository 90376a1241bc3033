"""The list of methods: the purpose, settings and requirements of each."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from textwrap import fill

from evenhand.methods.post_hoc import PostHoc
from evenhand.methods.ranges import OneOf, SettingRange
from evenhand.methods.registry import Method, Stage, methods

HEADINGS: dict[Stage, str] = {
    "training": "In training: --method NAME or NAME:SETTING=VALUE,… (of finetune and tune)",
    "afterwards": "For a trained model: --method NAME or NAME:SETTING=VALUE,… (of adjust)",
}
WIDTH = 100


def method_listing() -> str:
    """Return every method with its settings, and whether training needs the attribute."""
    parts = []
    for stage, heading in HEADINGS.items():
        listed = [_lines(method) for method in methods(stage).values()]
        parts.append("\n".join([heading, "", *listed]))
    return "\n\n".join(parts)


def method_facts(method: Method) -> list[str]:
    """Return sentences about a method's settings and requirements."""
    kind = method.load()
    if isinstance(kind, PostHoc):
        facts = [_settings(kind.settings), kind.needs, f"Source: {kind.source}."]
    else:
        needs = "needs" if kind.needs_attribute else "does not need"
        facts = [
            _settings(inspect.signature(kind).parameters),
            f"Training {needs} the attribute.",
            _ranges(kind.ranges),
        ]
    return [fact for fact in facts if fact]


def _lines(method: Method) -> str:
    text = " ".join([method.title, *method_facts(method), method.caution]).strip()
    indent = " " * 22
    return fill(text, WIDTH, initial_indent=f"  {method.name:<20}", subsequent_indent=indent)


def _settings(parameters: Mapping[str, inspect.Parameter]) -> str:
    """Return the settings with their defaults; the caller computes those without a default."""
    optional = [p for p in parameters.values() if p.default is not p.empty]
    if not optional:
        return ""
    return f"Settings: {', '.join(f'{p.name}={_text(p.default)}' for p in optional)}."


def _ranges(ranges: Mapping[str, SettingRange]) -> str:
    """Return the settings that a search varies, with their ranges."""
    range_texts = [
        f"{name} {'/'.join(map(str, r.values))}"
        if isinstance(r, OneOf)
        else f"{name} {r.low:g} to {r.high:g}"
        for name, r in ranges.items()
    ]
    return f"Searched by tune --search methods: {', '.join(range_texts)}." if range_texts else ""


def _text(value: object) -> str:
    """Return a default as it can be written on the command line."""
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)
