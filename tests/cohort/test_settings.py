"""Settings of data."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from evenhand.cohort.settings import SplitSettings


def test_every_field_is_described():
    fields = SplitSettings.model_fields
    assert all(field.description and "\n" not in field.description for field in fields.values())


@pytest.mark.parametrize(
    "wrong",
    [
        {"split": (0.5, 0.5, 0.0)},
        {"split": (0.6, 0.3, 0.3)},
        {"patient_share": 0.0},
        {"patient_share": 1.5},
        {"seed": -1},
        {"atribute": ("sex",)},
    ],
)
def test_what_is_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        SplitSettings(data="phantom:", **wrong)


def test_thirds_are_a_split():
    assert sum(SplitSettings(data="phantom:", split=(1 / 3, 1 / 3, 1 / 3)).split) == 1
