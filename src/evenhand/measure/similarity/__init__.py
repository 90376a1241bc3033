"""Similarity of two models' representations: arrays in, numbers out."""

from evenhand.measure.similarity.cka import batches, cka
from evenhand.measure.similarity.hsic import FEWEST, hsic, row_terms
from evenhand.measure.similarity.jackknife import Jackknifed, Size, mean_size, size_ratio
from evenhand.measure.similarity.layers import Layer, rbf_layer
from evenhand.measure.similarity.permutation import GroupTest, group_test

__all__ = [
    "FEWEST",
    "GroupTest",
    "Jackknifed",
    "Layer",
    "Size",
    "batches",
    "cka",
    "group_test",
    "hsic",
    "mean_size",
    "rbf_layer",
    "row_terms",
    "size_ratio",
]
