"""Order the classes of a label: of two classes, the positive one is last."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from evenhand.errors import EvenhandError, flag_text, pick
from evenhand.tables.attributes import level_order
from evenhand.tables.spelling import spelling_key

_NEGATIVE = re.compile(
    r"0|-1|-|false|no|n|negative|neg|absent|absence|healthy|normal|controls?|benign|nv|na?evus"
    r"|alive|survived|survivor|none|nothing|no findings?|unaffected|unremarkable|well|stable"
)
_POSITIVE = re.compile(
    r"1|\+|true|yes|y|positive|pos|present|presence|sick|ill|diseased?|abnormal|cases?|malignant"
    r"|mel|melanoma|cancer|tumou?r|carcinoma|dead|died|death|deceased|affected|finding|event"
    r"|pathological|glaucoma|pneumonia|dementia"
)
_NUMBERS = ({"0", "1"}, {"-1", "1"})  # 1 is positive; for 1 and 2, it is not obvious
_LETTERS = {"t", "f"}  # true and false, if both occur
_NOT = ("no ", "non ", "non", "not ", "without ", "un")


@dataclass(frozen=True)
class Classes:
    """The classes of a label.

    Attributes
    ----------
    names
        The names in order; of two classes, the positive one is last.
    ordered
        False if there are two classes and it is unknown which one is positive.
    """

    names: tuple[str, ...]
    ordered: bool = True


def order_classes(values: Sequence[str], positive: str | None, what: str) -> Classes:
    """Return the classes in order.

    Parameters
    ----------
    values
        Every class, once.
    positive
        The positive class that the user names, if any.
    what
        The name of the label, for messages.

    Raises
    ------
    EvenhandError
        If the positive class that the user names does not occur, or there are more than two
        classes.

    Examples
    --------
    >>> order_classes(["malignant", "benign"], None, "dx").names
    ('benign', 'malignant')
    >>> order_classes(["ward", "icu"], "icu", "unit").names
    ('ward', 'icu')
    >>> order_classes(["ward", "icu"], None, "unit").ordered
    False
    """
    names = sorted(values, key=level_order)
    if positive is not None:
        pick(f"class of {what} to give as --positive", positive, dict.fromkeys(names))
        if len(names) > 2:
            raise EvenhandError(
                f"--positive {positive}: {what} has {len(names)} classes, and --positive is for "
                "two classes. Leave it out."
            )
    elif len(names) == 2:
        positive = _obvious_positive(names[0], names[1])
        if positive is None:
            return Classes(tuple(names), ordered=False)
    if positive is None:
        return Classes(tuple(names))
    return Classes((*(name for name in names if name != positive), positive))


def polarity(value: str) -> int | None:
    """Return 1 for a value that means yes, 0 for one that means no, None for any other.

    Examples
    --------
    >>> polarity("True"), polarity("-1"), polarity("icu")
    (1, 0, None)
    """
    key = spelling_key(value)
    if _POSITIVE.fullmatch(key):
        return 1
    return 0 if _NEGATIVE.fullmatch(key) else None


def unclear_positive(names: Sequence[str], where: str) -> EvenhandError:
    """Return the error for two classes of which neither is obviously the positive one."""
    first, second = names
    return EvenhandError(
        f"{where}: it is not obvious which of the classes {first!r} and {second!r} is the positive "
        "one (scores are its probability, and sensitivity is measured on it). Name it: "
        f"{flag_text('positive', first)} or {flag_text('positive', second)}"
    )


def _obvious_positive(first: str, second: str) -> str | None:
    """Return the positive class of two; None if it is not obvious."""
    keys = spelling_key(first), spelling_key(second)
    if all(_is_number(key) for key in keys):
        return max(first, second, key=float) if {*keys} in _NUMBERS else None
    for class_key, other, name in ((keys[0], keys[1], second), (keys[1], keys[0], first)):
        if any(class_key == f"{word}{other}" for word in _NOT):
            return name
    if {*keys} == _LETTERS:
        return max(first, second, key=str.casefold)
    polarities = polarity(first), polarity(second)
    if polarities[0] == polarities[1]:
        return None
    return second if polarities[1] == 1 or polarities[0] == 0 else first


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
