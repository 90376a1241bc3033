"""Who is unprivileged, and how β is shared, for three groups and for an intersection."""

from __future__ import annotations

import math

import pytest

from evenhand.errors import EvenhandError
from evenhand.jobs.prune.roles import find_roles
from evenhand.jobs.prune.settings import PruneSettings

VALUES = {"young": 0.9, "middle": 0.8, "old": 0.6}
SIZES = {"young": 300, "middle": 100, "old": 50}


def roles(values=VALUES, sizes=SIZES, **changes):
    settings = PruneSettings(**{"run": "run", "attribute": ("age",), "beta": 0.4} | changes)
    return find_roles(settings, values, sizes)


def test_the_others_share_beta_by_size():
    result = roles()
    assert result.groups == ("old", "young", "middle")
    assert result.betas == pytest.approx({"young": 0.3, "middle": 0.1})
    assert "auc is worst for old (0.600) and best for young (0.900)" in result.explanation


def test_groups_with_one_value_have_no_worst_and_no_best():
    result = roles(dict.fromkeys(VALUES, 1.0))
    assert "auc is 1.000 in every group" in result.explanation
    assert "best" not in result.explanation
    assert "--unprivileged names another group" in result.explanation


def test_a_group_with_its_own_beta_leaves_the_others_their_share():
    assert roles(group_beta=("middle=1.5",)).betas == pytest.approx({"young": 0.3, "middle": 1.5})


def test_worst_is_the_highest_of_a_metric_where_less_is_better():
    result = roles(rank_by="log_loss")
    assert result.unprivileged == "young"
    assert result.betas == pytest.approx({"middle": 0.4 * 2 / 3, "old": 0.4 / 3})
    assert "log_loss is worst for young (0.900) and best for old (0.600)" in result.explanation


def test_named_groups_alone_share_beta():
    result = roles(privileged=("middle",))
    assert (result.unprivileged, result.betas) == ("old", {"middle": 0.4})
    result = roles(unprivileged="young")
    assert (result.unprivileged, list(result.betas)) == ("young", ["middle", "old"])
    assert roles(privileged=("old",)).unprivileged == "middle"  # the worst of those that are left


def test_an_undefined_value_is_refused_where_it_could_be_the_worst():
    values = VALUES | {"middle": math.nan}
    with pytest.raises(
        EvenhandError,
        match=r"by which a step is chosen, for 'middle'.*age=middle",
    ):
        roles(values)
    assert roles(values, privileged=("middle",)).unprivileged == "old"
    assert roles(values, unprivileged="middle").unprivileged == "middle"


def test_a_group_without_training_samples_is_refused():
    with pytest.raises(EvenhandError, match="no training patient is of 'young', but"):
        roles(sizes={"middle": 100, "old": 50})


def test_the_groups_of_an_intersection():
    values = {"female*old": 0.7, "female*young": 0.8, "male*old": 0.75, "male*young": 0.9}
    sizes = dict.fromkeys(values, 10) | {"male*young": 30}
    result = roles(values, sizes, attribute=("sex*age",), group_beta=("male*old=0",))
    assert result.unprivileged == "female*old"
    assert result.betas == pytest.approx({"female*young": 0.08, "male*old": 0, "male*young": 0.24})
