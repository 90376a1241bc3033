"""What MkDocs calls while it builds the site: generated pages, and links that leave the folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import commands
import registries
import tutorials

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\[([^\]\n]+)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made from the code, from the changelog and from the tutorials."""
    contents: dict[str, str | bytes] = {
        "changelog.md": changelog(),
        "reference/commands.md": commands.page(),
        **registries.pages(),
        **tutorials.pages(Path(config.docs_dir) / "tutorials"),
    }
    for path, content in contents.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Replace links to files of the repository that are no pages by their names."""
    folder = Path(config.docs_dir, page.file.src_uri).parent

    def inside(match: re.Match[str]) -> str:
        goal = (folder / match[2]).resolve()
        if not goal.is_relative_to(ROOT) or goal.is_relative_to(config.docs_dir):
            return match[0]
        return f"{match[1]} (`{goal.relative_to(ROOT)}` in the repository)"

    return LINK.sub(inside, markdown)


def on_post_build(config: Any) -> None:
    """Refuse a site that loads a script, a style, a font or a picture from elsewhere."""
    loads = re.compile(r"<(?:script|img|iframe)[^>]*src=\"https?:|<link[^>]*stylesheet[^>]*https?:")
    for page in Path(config.site_dir).rglob("*.html"):
        if match := loads.search(page.read_text(encoding="utf-8")):
            raise PluginError(f"{page} loads something from elsewhere: {match[0]}")


def changelog() -> str:
    """Return the changelog of the repository, whose links begin at the root."""
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").replace("](docs/", "](")
