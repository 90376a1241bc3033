"""Our own metrics, methods, strategies, … keep the contracts that plug-ins have to keep."""

from __future__ import annotations

import numpy as np
import pytest
from tests.data import tiny

from evenhand import testing
from evenhand.masks.registry import STRATEGIES
from evenhand.methods.registry import methods
from evenhand.metrics import METRICS
from evenhand.pretraining.registry import SSL_OBJECTIVES
from evenhand.pruning.registry import ESTIMATORS

BUILT_IN = [name for name, item in METRICS.items() if item.view is None]
EXAMPLES = {"last": "last-2", "random": "random:3", "lora": "lora:0"}
OF_STAGES = ("stages", "conv", "norm", "conv-norm")


class TestMetrics(testing.MetricContract):
    @pytest.fixture(autouse=True, params=BUILT_IN)
    def named(self, request):
        self.name = request.param


class TestMethods(testing.MethodContract):
    @pytest.fixture(autouse=True, params=sorted({*methods("training")} - {"jtt"}))
    def named(self, request):
        self.name = request.param


class TestJustTrainTwice(testing.MethodContract):
    name = "jtt"
    settings = {"wrong": np.arange(40) % 3 == 0}  # noqa: RUF012


class TestStrategies(testing.StrategyContract):
    @pytest.fixture(autouse=True, params=sorted({*STRATEGIES} - {"parts"}))
    def named(self, request):
        self.name = EXAMPLES.get(request.param, request.param)
        if request.param in OF_STAGES:
            self.backbone = "test_resnet"


class TestReaders(testing.ReaderContract):
    @pytest.fixture(autouse=True, params=["ham10000", "phantom", "table"])
    def named(self, request):
        self.reader = request.param

    def settings(self, folder):
        return tiny(self.reader, folder / "data")


class TestObjectives(testing.ObjectiveContract):
    @pytest.fixture(autouse=True, params=[*SSL_OBJECTIVES])
    def named(self, request):
        self.name = request.param
        self.symmetric = self.name != "moco"


class TestEstimators(testing.EstimatorContract):
    @pytest.fixture(autouse=True, params=[*ESTIMATORS])
    def named(self, request):
        self.name = request.param


class TestBackbones(testing.BackboneContract):
    @pytest.fixture(autouse=True, params=["test_vit", "test_resnet"])
    def named(self, request):
        self.name = request.param
