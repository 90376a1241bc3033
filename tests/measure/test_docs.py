from __future__ import annotations

import doctest
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "measurement.md"


def test_the_guides_examples_print_what_it_says():
    failed, tried = doctest.testfile(str(GUIDE), module_relative=False)
    assert tried > 5
    assert not failed
