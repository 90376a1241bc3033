"""Tutorials: each is run from top to bottom while the site is built, and shown with its outputs.

A tutorial is a Python file in Jupytext's percent format. The site offers it as a notebook, too.
"""

from __future__ import annotations

import base64
import os
import re
import tempfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from mkdocs.plugins import get_plugin_logger
from nbclient import NotebookClient
from traitlets.config import Config

LIMIT = 600  # seconds after which a cell hangs
TOGETHER = 2  # tutorials that run at the same time
log = get_plugin_logger("tutorials")


def pages(folder: Path) -> dict[str, str | bytes]:
    """Run all tutorials; return their pages, pictures and notebooks, by their paths."""
    files = sorted(folder.glob("*.py"))
    with tempfile.TemporaryDirectory() as cache, ThreadPoolExecutor(TOGETHER) as pool:
        os.environ["EVENHAND_CACHE"] = cache  # what is decoded here is of no use elsewhere
        os.environ["PYTHONWARNINGS"] = (
            "ignore:IProgress not found"  # of tqdm, which transformers uses
        )
        notebooks = list(pool.map(run, files))
    contents: dict[str, str | bytes] = {}
    for file, (notebook, reports) in zip(files, notebooks, strict=True):
        contents |= page(file.stem, notebook)
        contents[f"tutorials/{file.stem}.ipynb"] = nbformat.writes(notebook)
        contents |= {f"tutorials/{file.stem}/{path}": text for path, text in reports.items()}
    return contents


def run(file: Path) -> tuple[Any, dict[str, str]]:
    """Run a tutorial in an empty folder; return its notebook, and the reports that it wrote.

    Raises
    ------
    CellExecutionError
        A cell raised.
    CellTimeoutError
        A cell hangs.
    """
    notebook = jupytext.read(file)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        own = {"transport": "ipc", "ip": f"{place}/kernel"}  # opens no port
        NotebookClient(
            notebook,
            config=Config({"AsyncKernelManager": own}),
            timeout=LIMIT,
            startup_timeout=LIMIT,
            resources={"metadata": {"path": place}},
        ).execute()
        reports = {
            str(report.relative_to(place)): report.read_text(encoding="utf-8")
            for report in Path(place).rglob("report.html")
        }
    log.info("%s ran in %.0f s", file.name, time.monotonic() - start)
    return notebook, reports


def page(name: str, notebook: Any) -> dict[str, str | bytes]:
    """Return the page of a notebook as Markdown, and its pictures."""
    parts: list[str] = []
    pictures: dict[str, str | bytes] = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            picture = f"{name}_{len(pictures)}.png"
            text, data = shown(output, picture)
            text = text.replace('href="runs/', f'href="{name}/runs/')
            parts.append(text)
            pictures |= {f"tutorials/{picture}": data} if data else {}
    download = f"*[This page as a notebook]({name}.ipynb). The site ran it when it was built.*"
    parts.insert(1, download)
    return {f"tutorials/{name}.md": "\n\n".join(filter(None, parts)), **pictures}


def shown(output: Any, picture: str) -> tuple[str, bytes]:
    """Return an output as Markdown, and the bytes of the picture in it, if there is one."""
    data = output.get("data", {})
    if "image/png" in data:
        return f"![Output]({picture})", base64.b64decode(data["image/png"])
    if "text/html" in data:
        lines = textwrap.dedent(data["text/html"]).splitlines()
        return f'<div class="output">{"".join(map(str.strip, lines))}</div>', b""
    text = output.get("text") or data.get("text/plain", "")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text).rstrip()
    return (f"```{{.text .output}}\n{plain}\n```" if plain else ""), b""
