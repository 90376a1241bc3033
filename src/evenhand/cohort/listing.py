"""Describe the data sets, and check a copy of one (`evenhand datasets`)."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pandas as pd

from evenhand.cohort.cohort import Cohort, check_usable, count_groups
from evenhand.cohort.images.decoding import ImageFiles
from evenhand.cohort.layouts import entry_paths, files_below, walk
from evenhand.cohort.readers import read_cohort, reader_of
from evenhand.cohort.registry import READERS, DataSet, Reader
from evenhand.cohort.settings import DataSettings
from evenhand.errors import count_text, first_few
from evenhand.tables.attributes import Attribute


def data_set_listing() -> str:
    """Return a description of each reader: task, labels, layout, licence, access and more."""
    return "\n\n".join(_description(reader) for _, reader in sorted(READERS.items()))


def verify(data: str) -> str:
    """Check that DATA has the layout and content that its reader needs, and return a summary.

    Raises
    ------
    EvenhandError
        If something is missing or wrong; the message names it.
    """
    reader, path = reader_of(data)
    cohort = read_cohort(DataSettings(data=data))
    if cohort.classes_ordered:
        check_usable(cohort, ())
    lines = [f"{path or reader.name} is {reader.about.title}."]
    for entry in reader.about.layout:
        paths = [place.relative_to(path) for place in entry_paths(Path(path), entry)]
        status = f"found: {first_few(paths)}" if paths else f"not there: {entry}"
        lines.append(f"  {status} ({entry.what})")
    lines += ["", *_count_lines(cohort)]
    if not cohort.classes_ordered:
        lines.append("it is not obvious which class is the positive one: name it with --positive")
    if left_out := cohort.source.left_out:
        lines.append(f"left out: {count_text(len(left_out), 'sample')}: {first_few(left_out)}")
    unused = _unused_files(Path(path), cohort)
    if unused:
        lines += ["", f"{count_text(len(unused), 'file')} that no sample uses: {first_few(unused)}"]
    elif cohort.source.notes:
        lines += ["", *cohort.source.notes]
    return "\n".join(lines)


def data_set_facts(about: DataSet) -> dict[str, str]:
    """Return heading → text of the description of a data set; a text may have several lines."""
    attributes = [*map(_attribute_text, about.attributes), *about.open_attributes]
    facts = {
        "task": about.task,
        "modality": about.modality,
        "patients": "" if about.unit == "patient" else f"unknown: each {about.unit} counts as one",
        "labels": _label_text(about),
        "attributes": ", ".join(attributes),
        "layout": "\n".join(
            f"{entry}: {entry.what}{'' if entry.required else ' (optional)'}"
            for entry in about.layout
        ),
        "licence": about.licence,
        "access": about.access,
        "misleads": about.caution.removeprefix("Misleads "),
        **about.yours,
    }
    return {name: text for name, text in facts.items() if text}


def _description(reader: Reader) -> str:
    about = reader.about
    indented = "\n" + " " * 15
    lines = [
        "  {:<12} {}".format(f"{name}:", text.replace("\n", indented))
        for name, text in data_set_facts(about).items()
    ]
    return "\n".join([f"{reader.name}:PATH  {about.title}", *lines])


def _label_text(about: DataSet) -> str:
    """List the labels (FINDING or FINDING:POLICY); findings with equal policies form one item."""
    policies_of: dict[str, tuple[str, ...]] = {}
    for name in about.labels:
        finding, _, policy = name.partition(":")
        policies_of[finding] = (*policies_of.get(finding, ()), *([policy] if policy else []))
    without_policy = ", ".join(finding for finding, policies in policies_of.items() if not policies)
    findings_of: dict[tuple[str, ...], list[str]] = {}
    for finding, policies in policies_of.items():
        if policies:
            findings_of.setdefault(policies, []).append(finding)
    items = [
        f"{', '.join(findings)} (each :{', :'.join(policies)})"
        for policies, findings in findings_of.items()
    ]
    return "; ".join(filter(None, [without_policy, *items])) or about.yours.get("labels", "given")


def _attribute_text(rule: Attribute) -> str:
    return f"{rule.name} ({', '.join(rule.levels)}{'; --bins' if rule.numeric else ''})"


def _count_lines(cohort: Cohort) -> list[str]:
    """Return the numbers of samples, patients, classes and groups."""
    source = cohort.source
    patients = cohort.table["patient_id"].nunique()
    classes = Counter(cohort.classes[label] for label in cohort.labels)
    lines = [
        f"{count_text(len(cohort), 'sample')} of {count_text(patients, source.unit)}",
        f"label {source.label}",
        "classes: " + ", ".join(f"{name} {classes[name]}" for name in cohort.classes),
    ]
    if "split" in cohort.table:
        splits = Counter(cohort.table["split"])
        lines.append("splits: " + ", ".join(f"{name} {n}" for name, n in sorted(splits.items())))
    for name in cohort.attributes:
        groups = count_groups(cohort, name)
        numbers = zip(groups["group"], groups["n"], strict=True)
        lines.append(f"{name}: " + ", ".join(f"{group} {n}" for group, n in numbers))
    return lines


def _unused_files(root: Path, cohort: Cohort) -> list[str]:
    """Return the files that look like samples but are in no table."""
    if not (root.is_dir() and isinstance(cohort.read, ImageFiles)):
        return []
    used = set(files_below(pd.Series(cohort.read.files)))
    suffixes = {os.path.splitext(path)[1] for path in used}  # noqa: PTH122
    return [
        path
        for path in walk(root, root)
        if os.path.splitext(path)[1] in suffixes and path not in used  # noqa: PTH122
    ]
