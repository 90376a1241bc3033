"""Clean text, and find values that differ only in their spelling."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from itertools import chain
from pathlib import Path

import pandas as pd

from evenhand.errors import EvenhandError, first_few, flag_text

# Printable ASCII without outer blanks: text that is already clean.
_PLAIN = r"[!-~]([ -~]*[!-~])?"
# Invisible characters: control characters, soft hyphens, zero-width characters, direction marks.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e"
    "\u2060-\u2064\u2066-\u206f\ufe00-\ufe0f\ufeff]"
)
_BLANK = re.compile(r"\s")  # also no-break, thin and ideographic spaces
# Cyrillic and Greek letters that look like Latin ones, in lower case.
_LOOKALIKES = str.maketrans("авекмнорстухіјαβεικνορτυχ", "abekmhopctyxijabeiknoptux")
_SIGNS = {"≥": ">=", "≤": "<=", "\u2212": "-", "\u2013": "-", "\u2014": "-", "\u2010": "-"}
_BETWEEN = re.compile(r"(?<=\w)[\s_-]+(?=[^\W\d])|(?<=[^\W\d])[\s_-]+(?=\w)|\s+")
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d{1,3})?")
_WHOLE = re.compile(r"(-?(?:0|[1-9]\d*))\.0+")  # as programs write whole numbers of type float
_ROMAN = re.compile("[ivxlcdm]+")
_SEXES = ({"f", "female"}, {"m", "male"})
_WORD = 4  # length of the shortest word that its first letter may abbreviate


def clean(text: str) -> str:
    """Return text in composed Unicode form, without invisible characters and outer blanks.

    Blanks of any kind (no-break, thin, tabs, line breaks) become ordinary spaces.

    Examples
    --------
    >>> clean("  Fe\u200bmale\u00a0"), clean("Ma\u0308nnlich") == "M\u00e4nnlich"
    ('Female', True)
    """
    visible = _BLANK.sub(" ", _INVISIBLE.sub("", text))
    return unicodedata.normalize("NFC", visible).strip()


def clean_column(column: pd.Series) -> pd.Series:
    """Return a column of text with every value cleaned (see `clean`)."""
    if column.str.fullmatch(_PLAIN).fillna(True).all():
        return column
    which, values = pd.factorize(column)
    cleaned = pd.Series([clean(str(value)) for value in values] + [None], dtype="str")
    return pd.Series(cleaned.iloc[which].to_numpy(), column.index, dtype="str", name=column.name)


def whole_number(text: str) -> str:
    """Return a text without a zero fraction, if it is a number; other texts are unchanged.

    Examples
    --------
    >>> whole_number("1.0"), whole_number("-0.00"), whole_number("0.5"), whole_number("1.0.0")
    ('1', '0', '0.5', '1.0.0')
    """
    match = _WHOLE.fullmatch(text)
    if match is None:
        return text
    return "0" if match[1] == "-0" else match[1]


def whole_numbers(column: pd.Series) -> pd.Series:
    """Return a column of text in which "1.0" is "1" (see `whole_number`).

    In this way, a CSV, a parquet file and an array of floats have the same levels.
    """
    wholes = {str(value): whole_number(str(value)) for value in column.dropna().unique()}
    changed = {value: whole for value, whole in wholes.items() if value != whole}
    return column.replace(changed) if changed else column


def spelling_key(text: str) -> str:
    """Return a key that is equal for all spellings of a value.

    Spellings may differ in case, in the format of a number, in the separator of words (blank,
    hyphen, underscore), in width, and in letters of other alphabets that look the same.

    Examples
    --------
    >>> spelling_key("Male") == spelling_key("MALE"), spelling_key("0") == spelling_key("0.0")
    (True, True)
    >>> spelling_key("African-American") == spelling_key("african american")
    True
    >>> spelling_key("20-39") == spelling_key("2039"), spelling_key("A+") == spelling_key("A-")
    (False, False)
    """
    text = unicodedata.normalize("NFKC", clean(text)).casefold().translate(_LOOKALIKES)
    for sign, written in _SIGNS.items():
        text = text.replace(sign, written)
    if _NUMBER.fullmatch(text):
        number = Decimal(text.replace(",", "."))
        return f"{number.normalize():f}" if number else "0"
    return _BETWEEN.sub(" ", text).rstrip(".,;:") or text


def spellings(counts: Mapping[str, int]) -> list[tuple[str, ...]]:
    """Return groups of values that differ only in their spelling, the most frequent value first.

    Examples
    --------
    >>> spellings({"Male": 9, "male": 3, "female": 8})
    [('Male', 'male')]
    """
    by_key: dict[str, list[str]] = {}
    for value in sorted(counts, key=lambda value: (-counts[value], value)):
        by_key.setdefault(spelling_key(value), []).append(value)
    pairs = [tuple(values) for values in by_key.values() if len(values) > 1]
    return pairs + [
        pair for pair in _words_and_initials(counts) if {*map(spelling_key, pair)} in _SEXES
    ]


def abbreviations(counts: Mapping[str, int]) -> list[tuple[str, ...]]:
    """Return pairs of a word and its first letter, if both are values.

    Examples
    --------
    >>> abbreviations({"White": 9, "W": 3, "I": 5, "III": 5})
    [('White', 'W')]
    """
    return [
        pair for pair in _words_and_initials(counts) if {*map(spelling_key, pair)} not in _SEXES
    ]


def _words_and_initials(counts: Mapping[str, int]) -> list[tuple[str, ...]]:
    letters = [value for value in counts if len(value) == 1 and value.isalpha()]
    return [
        (word, letter)
        for word in counts
        for letter in letters
        if len(word) >= _WORD
        and word.isalpha()
        and word.casefold().startswith(letter.casefold())
        and not _ROMAN.fullmatch(word.casefold())
    ]


def merge_line(name: str, pairs: Iterable[tuple[str, ...]]) -> str:
    """Return the flags that merge values, ready to paste into a shell; linked pairs share a flag.

    Examples
    --------
    >>> merge_line("sex", [("Male", "male"), ("Female", "F"), ("Male", "M"), ("male", "M")])
    '--merge sex=Female,F --merge sex=Male,male,M'
    """
    return " ".join(
        flag_text("merge", f"{name}={join_values(values)}") for values in _linked(pairs)
    )


def _linked(pairs: Iterable[tuple[str, ...]]) -> list[list[str]]:
    """Return spellings of the same value, from pairs that may share a spelling."""
    spellings: list[list[str]] = []
    for pair in pairs:
        linked = [values for values in spellings if {*values} & {*pair}]
        spellings = [values for values in spellings if values not in linked]
        spellings.append(list(dict.fromkeys((*chain.from_iterable(linked), *pair))))
    return spellings


def join_values(values: Iterable[str]) -> str:
    """Return values joined by commas; values with a comma are quoted, as in a CSV."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()


def refuse_spellings(name: str, values: pd.Series, source: Path) -> None:
    """Refuse a column with several spellings of the same value.

    Raises
    ------
    EvenhandError
        If there are such values; the message ends in the flags that merge them.
    """
    counts = count_values(values)
    if pairs := spellings(counts):
        flags = merge_line(name, pairs)
        raise EvenhandError(f"{source}: {name!r} seems to have {_problem(pairs, counts)} {flags}")


def refuse_group_spellings(name: str, counts: Mapping[str, int]) -> None:
    """Refuse groups with several spellings of the same value, in the arrays of a Python caller.

    Parameters
    ----------
    name
        The name of the groups, for the message.
    counts
        Group → number of its rows; 0 for a group of earlier rows, whose spelling is kept.

    Raises
    ------
    EvenhandError
        If there are such groups; the message ends in the call of pandas that merges them.
    """
    if pairs := spellings(counts):
        linked = [sorted(values, key=lambda value: counts[value] > 0) for values in _linked(pairs)]
        merged = {other: target for target, *rest in linked for other in rest}
        call = f"pandas.Series(groups).replace({merged})"
        raise EvenhandError(f"{name} seem to have {_problem(pairs, counts)} {call}")


@contextmanager
def refuse_no_text(name: str) -> Iterator[None]:
    """Refuse text that is no valid Unicode, which libraries do in the block.

    Raises
    ------
    EvenhandError
        If the block raises UnicodeEncodeError.
    """
    try:
        yield
    except UnicodeEncodeError as error:
        raise EvenhandError(
            f"{name}: {str(error.object)[:40]!a} is no valid text, because it has one half of a "
            "character. Read it from its file again, in the file's encoding."
        ) from error


def check_names(names: Iterable[object], what: str) -> None:
    """Refuse names that are blank, occur twice, or are no valid text.

    Raises
    ------
    EvenhandError
        If there are such names; the message calls them ``what``.
    """
    texts = [str(name) for name in names]
    with refuse_no_text(what):
        "".join(texts).encode()
    if blank := [text for text in texts if not text.strip()]:
        raise EvenhandError(f"{what}: {blank[0]!r} is no name. Give a name that is not blank.")
    if doubled := [text for text, count in Counter(texts).items() if count > 1]:
        raise EvenhandError(
            f"{what}: {first_few(map(repr, doubled))} occurs twice. Rename one of them."
        )


def count_values(values: pd.Series) -> dict[str, int]:
    """Return the number of rows of each value that is not missing."""
    return {str(value): int(count) for value, count in values.value_counts().items()}


def _problem(pairs: Iterable[tuple[str, ...]], counts: Mapping[str, int]) -> str:
    shown = first_few(" and ".join(f"{value!r} ({counts[value]})" for value in p) for p in pairs)
    return (
        f"one value in several spellings: {shown}. If they mean different things, give them other "
        "names. If they mean the same, merge them:"
    )
