from __future__ import annotations

from dataclasses import replace

import pytest
from tests.evaluation.test_rows import predictions

from evenhand.errors import EvenhandError
from evenhand.jobs.compare import match_samples

NUMBERS = ("0", "1")


@pytest.mark.parametrize("unnamed", [(0,), (1,), (0, 2)])
def test_a_model_whose_classes_have_no_names_takes_those_of_the_others(unnamed):
    models = {f"m{seed}": predictions(seed) for seed in range(3)}
    for place in unnamed:
        models[f"m{place}"] = replace(models[f"m{place}"], classes=NUMBERS)
    result = match_samples(models, "test").models
    assert {item.classes for item in result.values()} == {("benign", "malignant")}


def test_classes_that_nobody_names_are_numbers():
    models = {f"m{seed}": replace(predictions(seed), classes=NUMBERS) for seed in range(2)}
    assert {model.classes for model in match_samples(models, "test").models.values()} == {NUMBERS}


@pytest.mark.parametrize("other", [("malignant", "benign"), ("0", "1", "2")])
def test_other_classes_cannot_be_compared(other):
    models = {"one": predictions(1), "other": replace(predictions(2), classes=other)}
    with pytest.raises(EvenhandError, match=f"different classes: .* {', '.join(other)}"):
        match_samples(models, "test")
