from __future__ import annotations

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "guides"


@pytest.mark.parametrize("guide", ["measurement.md", "similarity.md"])
def test_the_guides_examples_print_what_it_says(guide):
    failed, tried = doctest.testfile(str(DOCS / guide), module_relative=False)
    assert tried > 5
    assert not failed
