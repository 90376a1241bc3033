"""Similarity of two models' representations: arrays in, numbers out."""

from evenhand.representation.cka import FEWEST, Layer, batches, cka, hsic, rbf_layer, row_terms
from evenhand.representation.jackknife import (
    IntervalEstimate,
    JackknifeEstimate,
    mean_absolute_interval,
    size_ratio,
)
from evenhand.representation.permutation import GroupSamples, GroupTest, group_test

__all__ = [
    "FEWEST",
    "GroupSamples",
    "GroupTest",
    "IntervalEstimate",
    "JackknifeEstimate",
    "Layer",
    "batches",
    "cka",
    "group_test",
    "hsic",
    "mean_absolute_interval",
    "rbf_layer",
    "row_terms",
    "size_ratio",
]
