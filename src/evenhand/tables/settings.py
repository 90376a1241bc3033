"""Settings for reading the values of tables."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from evenhand.settings import Settings


class ValueSettings(Settings, title="Values"):
    """Rules for the values of attributes and labels."""

    merge: tuple[str, ...] = Field(
        (),
        description="values of an attribute or of the label that mean the same; the first one "
        "replaces the others: sex=Male,male; repeatable",
    )
    unknown_value: tuple[str, ...] = Field(
        (), description="values of an attribute that mean unknown: sex=U,X; repeatable"
    )
    conflict: tuple[str, ...] = Field(
        (),
        description="rule for a patient with several values of an attribute: sex=majority, "
        "sex=unknown or sex=keep (each row keeps its value); repeatable",
    )

    @model_validator(mode="after")
    def _check_attributes(self) -> Self:
        """Refuse repeated attributes, and intersections of an attribute with itself."""
        attributes: tuple[str, ...] = getattr(self, "attribute", ())
        by_parts: dict[frozenset[str], str] = {}
        for attribute in attributes:
            parts = attribute.replace("|", "*").split("*")
            if not all(part.strip() for part in parts):
                raise ValueError(f"--attribute {attribute!r} lacks a name; write it sex*age")
            if len({*parts}) < len(parts):
                raise ValueError(
                    f"--attribute {attribute!r} names an attribute twice; name it once"
                )
            key = frozenset([*parts, *(["|"] if "|" in attribute else [])])
            if key in by_parts:
                raise ValueError(
                    f"--attribute {by_parts[key]!r} and --attribute {attribute!r} are the same; "
                    "give one of them"
                )
            by_parts[key] = attribute
        return self


class ClassSettings(ValueSettings, title="Values"):
    """Rules for values, and the positive class of a label."""

    positive: str | None = Field(
        None, description="positive class of two, if their names do not show it: icu"
    )
