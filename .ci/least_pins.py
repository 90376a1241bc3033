"""Print the least version of each dependency that pyproject.toml allows, as pip's requirements.

torch alone is the constraints' version: older ones come only as builds of several gigabytes.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTED = ("export", "lora", "plot", "readers", "structured")  # Ray's workers start too slowly
TOOLS = ("fairlearn", "hypothesis", "pytest>")


def main() -> None:
    """Print a line for each dependency, of the extras too, and for what runs the tests."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for name in TESTED for line in extras[name])]
    lines += [line for line in extras["dev"] if line.startswith(TOOLS)]
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    torch = re.search(r"^torch==.*$", pinned, re.MULTILINE)
    assert torch, "constraints.txt pins no torch"
    for line in lines:
        name, version = re.split(">=", line)
        print(torch[0] if name == "torch" else f"{name}=={version}")


if __name__ == "__main__":
    main()
