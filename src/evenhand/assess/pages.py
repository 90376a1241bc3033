"""The pages of what is no audit of predictions, made from the JSON that the jobs write."""

from __future__ import annotations

from evenhand.files import read_json, write_text
from evenhand.report.requirements import requirements_page
from evenhand.report.similarity import similarity_page
from evenhand.runs import Run

PAGES = {
    "check": ("check.json", requirements_page),
    "similarity": ("similarity.json", similarity_page),
}
"""The file that a job's page is made from, and what makes it, by the job's name."""


def write_page(run: Run) -> None:
    """Write ``report.html`` of a finished run of one of the jobs in `PAGES`."""
    name, page = PAGES[run.facts["job"]]
    write_text(run.root / "report.html", page(read_json(run.root / name), run.facts))
