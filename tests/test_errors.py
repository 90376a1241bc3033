"""Looking names up."""

from __future__ import annotations

import pytest

from evenhand.errors import EvenhandError, pick


def test_the_nearest_name_is_offered():
    with pytest.raises(EvenhandError, match=r"no metric 'aux'; there are: auc, f1\. Did you mean"):
        pick("metric", "aux", {"f1": 1, "auc": 2})


def test_a_name_that_begins_so_is_nearer_than_one_of_similar_letters():
    with pytest.raises(EvenhandError, match=r"Did you mean 'accuracy'\?$"):
        pick("metric", "acc", {"accuracy": 1, "mcc": 2})


def test_no_name_is_offered_when_none_is_near():
    with pytest.raises(EvenhandError, match=r"no metric 'zzz'; there are: auc\.$"):
        pick("metric", "zzz", {"auc": 1})


def test_what_is_there_is_returned_even_if_false():
    assert pick("metric", "auc", {"auc": 0}) == 0
