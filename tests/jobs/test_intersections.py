"""`--intersections`: all combinations of attributes, through the command line."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.command import evenhand

from evenhand.files import read_json
from evenhand.tables.attributes import with_intersections


def predictions(people: int = 1200) -> pd.DataFrame:
    """Return a model that fails women of A and men of B, and nobody else: by sex, or by site, not.

    Three patients are of a rare site.
    """
    rng = np.random.default_rng(0)
    sex = np.where(rng.random(people) < 0.5, "female", "male")
    site = np.where(rng.random(people) < 0.5, "A", "B")
    failed = (sex == "female") == (site == "A")
    site[:3] = "rare"
    label = rng.integers(0, 2, people)
    logit = rng.normal(0, 1, people) + np.where(failed, 0.3, 3) * (label - 0.5)
    return pd.DataFrame(
        {
            "sample_id": [f"S{k}" for k in range(people)],
            "patient_id": [f"P{k}" for k in range(people)],
            "label": label,
            "score": 1 / (1 + np.exp(-logit)),
            "attr_sex": sex,
            "attr_site": site,
            "attr_hand": np.where(rng.random(people) < 0.5, "left", "right"),
        }
    )


@pytest.fixture(scope="module")
def audits(tmp_path_factory):
    root = tmp_path_factory.mktemp("crossed")
    predictions().to_csv(root / "mine.csv", index=False)
    for name, more in (("plain", ()), ("crossed", ("--intersections", 3))):
        words = ("--metric", "auc", "--replicates", 300, *more, "--out", root / name)
        ended = evenhand("audit", root / "mine.csv", *words)
        assert ended.status == 0, ended.err
    return root


def rows_of(run):
    return pd.DataFrame(read_json(run / "metrics.json")["rows"])


def test_every_intersection_up_to_the_depth_is_measured(audits):
    assert set(rows_of(audits / "crossed")["attribute"]) == {
        *("*", "sex", "site", "hand", "sex*site", "sex*hand", "site*hand", "sex*site*hand")
    }
    assert set(rows_of(audits / "plain")["attribute"]) == {"*", "sex", "site", "hand"}


def test_a_wrong_that_only_an_intersection_shows_is_claimed(audits):
    verdicts = pd.DataFrame(read_json(audits / "crossed" / "verdicts.json")["verdicts"])
    claims = verdicts.groupby("attribute")["claim"].any()
    assert claims["sex*site"]
    assert not claims[["sex", "site", "hand"]].any()


def test_what_is_looked_at_is_one_family(audits):
    """Looking at more makes no difference clearer."""
    keys = ["attribute", "group", "base", "aggregate", "reference"]
    luck = 0.02  # p rests on 300 resamples
    plain, crossed = (
        rows_of(audits / name).dropna(subset="p_adjusted").set_index(keys)["p_adjusted"]
        for name in ("plain", "crossed")
    )
    both = pd.concat([plain, crossed], axis=1, keys=["plain", "crossed"]).dropna()
    assert len(both) >= 3
    assert (both["crossed"] >= both["plain"] - luck).all()
    assert (both["crossed"] > both["plain"] + luck).any()


def test_groups_that_are_too_small_are_listed_by_name_and_count(audits):
    page = (audits / "crossed" / "report.html").read_text()
    section = re.search(r'<section id="intersections".*?</section>', page, re.DOTALL)
    table = predictions()
    rare = table[table["attr_site"] == "rare"]
    text = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", section.group()))
    for name in ("female", "male"):
        own = rare[rare["attr_sex"] == name]
        if len(own):
            counts = f"{len(own)} {len(own)} {own['label'].sum()}"
            assert re.search(rf"{name}.{{1,4}}rare .{{1,12}}site {counts} \S", text), text
    assert 'id="intersections"' not in (audits / "plain" / "report.html").read_text()


def test_one_attribute_alone_cannot_be_crossed(audits, tmp_path):
    words = ("--attribute", "sex", "--intersections", 2, "--out", tmp_path / "a")
    ended = evenhand("audit", audits / "mine.csv", *words)
    assert ended.status == 2
    assert "--intersections 2 needs two attributes or more, and there is only sex" in ended.err
    assert not (tmp_path / "a").exists()


@given(st.integers(2, 5), st.integers(2, 3))
def test_no_intersection_is_missing_or_comes_twice(count, depth):
    names = [f"a{k}" for k in range(count)]
    crossed = with_intersections([*names, "a1*a0", "a0|site"], depth)
    sets = [frozenset(name.split("*")) for name in crossed if "|" not in name]
    assert len(sets) == len(set(sets))
    wanted = count + count * (count - 1) // 2
    if depth == 3:
        wanted += count * (count - 1) * (count - 2) // 6
    assert len(sets) == wanted
    assert crossed[: count + 2] == (*names, "a1*a0", "a0|site")
