from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evenhand.errors import EvenhandError
from evenhand.metrics import as_scored


@pytest.mark.parametrize(
    ("labels", "scores", "more", "says"),
    [
        ([0, 1], [0.2, 1.3], {}, r"score 1\.3 at position 1 is not a probability.*expit"),
        (
            [0, 1],
            [-4.0, 2.0],
            {},
            r"score -4\.0 at position 0 is not a probability.*2 scores in all",
        ),
        ([0, 1], [[3.0, -1, 0], [0, 1, 0]], {}, "position 0 is not a probability.*softmax"),
        ([0, 1], [[0.2, 0.3, 0.5], [0.9, 0.8, 0.7]], {}, "at position 1 .* do not add up to 1"),
        ([0, 1], [0.2, np.nan], {}, "score nan at position 1 is not a finite number"),
        ([0, 1], ["a", 0.1], {}, "scores must be numbers"),
        ([0, 1], [[0.2], [0.3]], {}, r"scores must have shape \(n,\).*they have \(2, 1\)"),
        ([0, 0.7], [0.2, 0.3], {}, r"label 0\.7 at position 1 is not a whole number"),
        ([0, 1.2], [0.2, 0.3], {}, r"label 1\.2 at position 1 is not a whole number"),
        ([0, np.nan], [0.2, 0.3], {}, "label nan at position 1 is missing"),
        ([0, None], [0.2, 0.3], {}, "label None at position 1 is missing"),
        (["ward", "icu"], [0.2, 0.3], {}, "labels must be whole numbers"),
        (np.zeros((2, 14)), [0.2, 0.3], {}, r"labels must have shape \(n,\).*they have \(2, 14\)"),
        ([0, 2], [0.2, 0.3], {}, "labels run from 0 to 2; the scores have 2 classes"),
        ([0, 1, 1], [0.2, 0.3], {}, "there are 3 labels, 2 scores"),
        ([0, 1], [0.2, 0.3], {"patients": ["p", None]}, "patient None at position 1 is missing"),
        ([0, 1], [0.2, 0.3], {"patients": np.zeros((2, 2))}, "patients must have shape"),
        ([0, 1], [0.2, 0.3], {"threshold": [0.1, 0.2, 0.3]}, "threshold must be a number, or one"),
        ([0, 1], [0.2, 0.3], {"threshold": np.nan}, "threshold must be a number, or one"),
    ],
)
def test_arrays_that_are_refused(labels, scores, more, says):
    with pytest.raises(EvenhandError, match=says):
        as_scored(labels, scores, **more)


def test_arrays_that_are_taken():
    for labels in ([False, True], [0.0, 1.0], np.array([0, 1], np.uint8), pd.Series([0, 1])):
        assert as_scored(labels, [0.0, 1.0]).labels.tolist() == [0, 1]
    assert len(as_scored([], [])) == 0
    assert as_scored([0, 1], np.eye(3)[:2]).classes == ("0", "1", "2")
