"""The page on the command line: every command, argument and flag, as the code declares them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from evenhand.cli import app
from markup import cell, table

INTRODUCTION = """# Command line

`evenhand COMMAND --help` prints the same. Values that a flag does not give come from the file of
`--config`, then from the default. In Python, commands are functions and flags are keywords:
[Jobs in Python](../guides/python.md).
"""


def page() -> str:
    """Return the page as Markdown."""
    group: Any = typer.main.get_command(app)
    listing = table(
        ("command", "what it does"),
        [
            (f"[`{name}`](#evenhand-{name})", (command.help or "").partition("\n")[0])
            for name, command in group.commands.items()
        ],
    )
    sections = [
        section
        for name, command in group.commands.items()
        for section in _sections(f"evenhand {name}", command)
    ]
    return "\n\n".join([INTRODUCTION, listing, *sections])


def _sections(name: str, command: Any) -> Iterator[str]:
    """Yield the section of a command, and those of the commands below it."""
    context = command.make_context(name, [], resilient_parsing=True)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    yield f"## `{name}`\n\n{command.help or ''}\n\n```text\n{usage}\n```\n"
    headings: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(context):
        words, text = parameter.get_help_record(context) or ("", "")
        if getattr(parameter, "hidden", False) or words == "--help":
            continue
        argument = parameter.param_type_name == "argument"
        heading = getattr(parameter, "rich_help_panel", None) or "Options"
        row = (cell(f"`{parameter.metavar if argument else words}`"), cell(text))
        headings.setdefault("Arguments" if argument else heading, []).append(row)
    for heading, rows in headings.items():
        yield f"**{heading}**\n\n{table(('flag', 'meaning'), rows)}"
    for below, other in getattr(command, "commands", {}).items():
        yield from _sections(f"{name} {below}", other)
