"""The examples of the pages on Python are run."""

from __future__ import annotations

import doctest

from tests.conftest import ROOT


def test_the_examples_of_the_python_page_print_what_it_says():
    outcome = doctest.testfile(
        str(ROOT / "docs" / "guides" / "python.md"),
        module_relative=False,
        optionflags=doctest.ELLIPSIS,
    )
    assert outcome.attempted > 5
    assert outcome.failed == 0
