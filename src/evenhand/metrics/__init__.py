"""Metrics by group with their intervals and tests, and thresholds; computed from arrays."""

import evenhand.metrics.definitions  # noqa: F401 (registers them)
from evenhand.metrics.aggregates import CONTRASTS, DETECTABLE, SUMMARIES
from evenhand.metrics.claims import BESIDE, CHANCE, CLAIM, headline_order, leading_metric
from evenhand.metrics.decision_curve import decision_curve
from evenhand.metrics.fairness import FAIRNESS, Fairness, fairness, register_fairness
from evenhand.metrics.groups import (
    Excluded,
    Groups,
    attribute_groups,
    excluded_groups,
    groups_of,
    named_groups,
    occurring,
    within,
)
from evenhand.metrics.guide import Advice, guide_errors, guide_representation
from evenhand.metrics.listing import list_metrics, metric_listing
from evenhand.metrics.measured import Measured, judge
from evenhand.metrics.pareto import costs, find_rule, front, rank_points
from evenhand.metrics.permutation import Test, holm, permutation_test
from evenhand.metrics.plan import Plan, check_plan, compared_levels
from evenhand.metrics.power import auc_error, design_effect, detectable_gap
from evenhand.metrics.registry import (
    METRICS,
    Metric,
    find_metric,
    is_metric,
    metric,
    register_metric,
)
from evenhand.metrics.resample import Bootstrap
from evenhand.metrics.rows import COLUMNS, EVERYBODY, MetricRow, as_records, as_table
from evenhand.metrics.scored import Scored, as_scored
from evenhand.metrics.table import Progress, RowNames, measure, measure_part
from evenhand.metrics.target_names import find_target
from evenhand.metrics.targets import Target
from evenhand.metrics.thresholds import Policy, policy, thresholds_by_group, youden
from evenhand.tables.attributes import UNKNOWN

__all__ = [
    "BESIDE",
    "CHANCE",
    "CLAIM",
    "COLUMNS",
    "CONTRASTS",
    "DETECTABLE",
    "EVERYBODY",
    "FAIRNESS",
    "METRICS",
    "SUMMARIES",
    "UNKNOWN",
    "Advice",
    "Bootstrap",
    "Excluded",
    "Fairness",
    "Groups",
    "Measured",
    "Metric",
    "MetricRow",
    "Plan",
    "Policy",
    "Progress",
    "RowNames",
    "Scored",
    "Target",
    "Test",
    "as_records",
    "as_scored",
    "as_table",
    "attribute_groups",
    "auc_error",
    "check_plan",
    "compared_levels",
    "costs",
    "decision_curve",
    "design_effect",
    "detectable_gap",
    "excluded_groups",
    "fairness",
    "find_metric",
    "find_rule",
    "find_target",
    "front",
    "groups_of",
    "guide_errors",
    "guide_representation",
    "headline_order",
    "holm",
    "is_metric",
    "judge",
    "leading_metric",
    "list_metrics",
    "measure",
    "measure_part",
    "metric",
    "metric_listing",
    "named_groups",
    "occurring",
    "permutation_test",
    "policy",
    "rank_points",
    "register_fairness",
    "register_metric",
    "thresholds_by_group",
    "within",
    "youden",
]
