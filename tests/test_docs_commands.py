"""The commands that README and docs show are accepted, and the first ones do what the pages say."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from tests.command import evenhand
from tests.conftest import ROOT

from evenhand import flags
from evenhand.cli import app

PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
BLOCK = re.compile(r"^[ ]*```sh\n(.*?)^[ ]*```", re.MULTILINE | re.DOTALL)
ELLIPSES = {"...", "…"}


@dataclass(frozen=True)
class Command:
    """A command of a page, and its words after `evenhand`."""

    page: Path
    words: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether the page leaves no part of it out."""
        return not ELLIPSES & set(self.words)


class Accepted(Exception):  # noqa: N818  (not an error: the settings are allowed)
    """Ends a command whose settings are allowed, before it works."""


def commands() -> list[Command]:
    """Return every command in the shell blocks of the pages."""
    rows = []
    for page in PAGES:
        for block in BLOCK.findall(page.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["evenhand"]:
                    rows.append(Command(page, tuple(words[1:])))
    return rows


@pytest.fixture
def only_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a command check its settings and stop; modules of ``--import`` need not be there."""
    gather = flags.gather_settings

    def stop(*parts: Any) -> None:
        gather(*parts)
        raise Accepted

    monkeypatch.setattr(flags, "gather_settings", stop)
    monkeypatch.setattr(flags, "import_modules", lambda modules: None)


def accept(words: tuple[str, ...], *, whole: bool = True) -> None:
    """Parse a command as the command line does, and check its settings if it is whole."""
    name, *rest = words
    group = typer.main.get_command(app)
    assert name in group.commands, f"there is no command {name}"
    command = group.commands[name]
    if not whole:  # what the ellipsis stands for may hold a required flag
        rest = [*(word for word in rest if word not in ELLIPSES), "--out", "run"]
        rest = rest[: -2 * (rest.count("--out") - 1) or None]
    context = command.make_context(name, rest)
    if whole and any(parameter.name == "config" for parameter in command.params):
        with pytest.raises(Accepted):
            command.invoke(context)


@pytest.mark.usefixtures("only_settings")
@pytest.mark.parametrize(
    "command",
    [entry for entry in commands() if not {"--help", "--list-metrics"} & set(entry.words)],
    ids=lambda entry: f"{entry.page.stem}: {' '.join(entry.words)[:60]}",
)
def test_the_command_of_a_page_is_accepted(command: Command) -> None:
    accept(command.words, whole=command.is_whole)


def test_the_pages_show_many_commands() -> None:
    assert len(commands()) > 50


@pytest.mark.usefixtures("only_settings")
@pytest.mark.parametrize(
    "words",
    [
        ("audit", "mine.csv", "--atribute", "sex", "--out", "a"),
        ("finetune", "d.csv", "--attribute", "sex", "--epochs", "few", "--out", "a"),
    ],
)
def test_a_wrong_flag_or_value_on_a_page_is_seen(words: tuple[str, ...]) -> None:
    with pytest.raises(Exception, match=r"atribute|few"):
        accept(words)


def command_of(page: str, start: str) -> list[str]:
    """Return the words of the first command of a page that begins like this."""
    path = ROOT / page
    return next(
        list(command.words)
        for command in commands()
        if command.page == path and " ".join(command.words).startswith(start)
    )


@pytest.fixture
def predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Write `predictions.csv` with the columns of the pages, and work beside it."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    rows = 200
    label = generator.integers(0, 2, rows)
    table = pd.DataFrame(
        {
            "sample_id": [f"img-{row:03}" for row in range(rows)],
            "patient_id": [f"p{row // 2:02}" for row in range(rows)],
            "label": label,
            "score": np.clip(0.3 * label + 0.7 * generator.random(rows), 0, 1),
            "sex": np.repeat(generator.choice(["female", "male"], rows // 2), 2),
            "age": np.repeat(generator.integers(30, 90, rows // 2), 2),
        }
    )
    table.to_csv("predictions.csv", index=False)
    return table


@pytest.mark.usefixtures("predictions")
@pytest.mark.parametrize("page", ["README.md", "docs/start.md", "docs/index.md"])
def test_the_first_audit_of_a_page_runs_as_it_stands(page: str, tmp_path: Path) -> None:
    outcome = evenhand(*command_of(page, "audit"))
    assert outcome.status == 0, outcome.err
    assert (tmp_path / "runs" / "audit" / "report.html").exists()
    assert "sex" in outcome.out


def test_the_table_that_start_shows_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    block = re.search(r"```csv\n(sample_id.*?)```", text, re.DOTALL)
    assert block
    monkeypatch.chdir(tmp_path)
    Path("predictions.csv").write_text(block[1], encoding="utf-8")
    outcome = evenhand(*command_of("docs/start.md", "audit"))
    assert outcome.status == 0, outcome.err
