"""Contracts of metrics, methods, strategies, readers, SSL objectives, estimators and backbones."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student
from torch import nn

from evenhand.cohort.readers import read_cohort
from evenhand.cohort.registry import READERS
from evenhand.cohort.settings import DataSettings
from evenhand.masks.masks import find_units
from evenhand.masks.strategies import find_strategy
from evenhand.masks.units import parts
from evenhand.methods.base import TrainingMethod
from evenhand.methods.registry import find_method, training_method
from evenhand.metrics.estimate import point, why_undefined
from evenhand.metrics.registry import Metric, find_metric
from evenhand.metrics.scored import Scored, as_scored
from evenhand.networks.inputs import SeriesInputs
from evenhand.networks.model import Model, build_model
from evenhand.pretraining.learners import Encoder, Learner, LearnerBatch
from evenhand.pretraining.registry import SSL_OBJECTIVES, SSLObjective
from evenhand.pruning.curvature import GroupBatch
from evenhand.pruning.registry import find_estimator
from evenhand.tables.attributes import UNKNOWN
from evenhand.testing import worlds

CLASSES = ("no", "yes")
GROUPS = ["a"] * 20 + ["b"] * 20
PERMUTED, TOLERATED = 6, 0.01
"""Number of trainings with permuted groups, and the largest tolerated change of the gap."""
SHORT: Mapping[str, Any] = {"epochs": 15, "batch": 250, "lr": 0.05}
"""Settings of the training in these tests."""
COUNT = 16  # samples in the tests of an SSL objective


class MetricContract:
    """A metric of one group; set ``name``."""

    name: str

    def rows(self, seed: int = 0, n: int = 60) -> Scored:
        """Return rows with both classes, on which the metric is defined."""
        rng = np.random.default_rng(seed)
        labels = np.arange(n) % 2
        scores = np.clip((labels + rng.normal(0, 1, n) + 2) / 5, 0.01, 0.99)
        return as_scored(labels, scores, patients=np.arange(n))

    def _metric(self) -> Metric:
        return find_metric(self.name)

    def test_it_says_what_it_is(self) -> None:
        """It has a title, a source, and an ideal value if its direction is ``ideal``."""
        metric = self._metric()
        assert metric.title
        assert metric.source
        assert metric.direction != "ideal" or metric.ideal is not None

    def test_it_is_defined_where_what_it_requires_is_there(self) -> None:
        """It has a finite value on rows of both classes."""
        rows, metric = self.rows(), self._metric()
        assert why_undefined(rows, metric, (1,)) is None
        assert np.isfinite(point(rows, metric, (1,)))

    def test_without_rows_it_is_undefined(self) -> None:
        """Without rows it is NaN, with a reason."""
        empty, metric = self.rows().take(np.arange(0)), self._metric()
        assert np.isnan(point(empty, metric, (1,)))
        assert why_undefined(empty, metric, (1,)) == "no samples"

    def test_the_order_of_rows_changes_nothing(self) -> None:
        """Rows in another order give the same value."""
        rows, metric = self.rows(), self._metric()
        order = np.random.default_rng(1).permutation(len(rows))
        assert np.isclose(point(rows.take(order), metric, (1,)), point(rows, metric, (1,)))

    def test_a_patient_that_is_drawn_twice_counts_twice(self) -> None:
        """A resample by counts has the same value as a table with repeated rows."""
        rows, metric = self.rows(), self._metric()
        drawn = np.random.default_rng(2).integers(0, 3, len(rows))
        with np.errstate(divide="ignore", invalid="ignore"):
            resampled = float(metric.value(metric.form(rows)(drawn[None].astype(np.uint8)))[0])
        repeated = np.repeat(np.arange(len(rows)), drawn)
        copies = as_scored(
            rows.labels[repeated], rows.scores[repeated], patients=rows.patients[repeated]
        )
        assert np.isclose(resampled, point(copies, metric, (1,)), equal_nan=True)


def _plain_gap(data: worlds.World, test: worlds.World) -> float:
    """Return the equalised-odds difference of plain training."""
    method = TrainingMethod()
    return max(map(abs, worlds.gaps(method, worlds.train(method, data, **SHORT), test)))


class MethodContract:
    """A mitigation method of training; set ``name``, and ``settings`` if it needs any."""

    name: str
    settings: dict[str, object] = {}  # noqa: RUF012  (a subclass replaces it)

    def make(self) -> TrainingMethod:
        """Return the method after its ``sampler`` got 40 training rows of two groups."""
        method: TrainingMethod = training_method(self.name, **self.settings)
        labels = np.arange(40) % 2
        method.sampler(labels, GROUPS, classes=2)
        return method

    def _loss(self, method: TrainingMethod, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        drawn = torch.Generator().manual_seed(seed)
        features = torch.randn(12, 4, generator=drawn)
        logits = torch.randn(12, method.head_outputs(2), generator=drawn).requires_grad_()
        labels, groups = torch.arange(12) % 2, torch.arange(12) // 2 % 2
        return method.loss(logits, features, labels, groups), logits

    def test_it_has_a_title(self) -> None:
        """It is listed with one line."""
        assert find_method(self.name).title

    def test_its_loss_can_be_minimised(self) -> None:
        """Its loss is one finite number with a finite gradient."""
        loss, logits = self._loss(self.make())
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.ndim == 0
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()

    def test_an_epoch_holds_rows_of_the_training_data(self) -> None:
        """The order of an epoch names training rows."""
        method = training_method(self.name, **self.settings)
        order = list(method.sampler(np.arange(40) % 2, GROUPS, classes=2))
        assert order
        assert set(order) <= set(range(40))

    def test_scores_have_a_column_for_each_class(self) -> None:
        """Outputs of the head become logits of the classes."""
        method = self.make()
        assert method.scored(torch.zeros(3, method.head_outputs(2))).shape == (3, 2)

    def test_groups_dealt_at_random_change_no_gap(self) -> None:
        """With permuted groups, training does not change the gap of plain training."""
        method = self.make()
        if not method.needs_attribute:
            return
        test, changes = worlds.world(20_000, 0.0, 99), []
        for seed in range(PERMUTED):
            data = worlds.world(2000, 0.6, seed)
            method = training_method(self.name, **self.settings)
            model = worlds.train(method, worlds.with_permuted_groups(data, seed), **SHORT)
            after = max(map(abs, worlds.gaps(method, model, test)))
            changes.append(after - _plain_gap(data, test))
        mean, error = np.mean(changes), np.std(changes, ddof=1) / np.sqrt(PERMUTED)
        assert abs(mean) <= student.isf(0.005, PERMUTED - 1) * error + TOLERATED

    def test_a_resumed_training_goes_on_where_it_was(self) -> None:
        """A method with the restored state has the same loss."""
        first, again = self.make(), self.make()
        self._loss(first)
        first.after_epoch()
        again.load_state_dict(deepcopy(first.state_dict()))
        assert torch.allclose(self._loss(first, 1)[0], self._loss(again, 1)[0])


class StrategyContract:
    """A strategy; set ``name`` as in ``--strategy``, and the ``backbone`` of the tests."""

    name: str
    backbone = "test_vit"

    def model(self) -> Model:
        """Return a small model to fine-tune."""
        return build_model(self.backbone, "none", 32, CLASSES, seed=0)

    def test_it_tunes_units_of_the_network(self) -> None:
        """In every epoch, its mask names units of the backbone."""
        model, schedule = find_strategy(self.name)(self.model(), 0)
        for epoch in range(3):
            find_units(model.backbone, schedule(epoch))

    def test_a_seed_gives_the_same_again(self) -> None:
        """The same model and seed give the same weights and masks."""
        (first_model, first), (second_model, second) = (
            find_strategy(self.name)(self.model(), 3) for _ in "ab"
        )
        assert first(0) == second(0)
        for name, value in first_model.state_dict().items():
            assert torch.equal(value, second_model.state_dict()[name])

    def test_the_model_still_tells_the_classes_apart(self) -> None:
        """The returned model gives a logit for each class."""
        model, _ = find_strategy(self.name)(self.model(), 0)
        assert model.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, len(CLASSES))


class ReaderContract:
    """A reader; override ``settings``, which writes tiny data in its layout."""

    def settings(self, folder: Path) -> DataSettings:
        """Write tiny data below a folder, and return the settings that name them."""
        raise NotImplementedError("return DataSettings(data='NAME:PATH', …) of tiny data")

    def test_it_says_what_it_reads(self, tmp_path: Path) -> None:
        """It has a title, task, modality, licence and access."""
        about = READERS[self.settings(tmp_path).data.partition(":")[0]].about
        assert all((about.title, about.task, about.modality, about.licence, about.access))

    def test_ids_are_text_and_samples_differ(self, tmp_path: Path) -> None:
        """Every sample has a unique id, and a patient."""
        table = read_cohort(self.settings(tmp_path)).table
        assert table["sample_id"].is_unique
        for column in ("sample_id", "patient_id"):
            assert all(isinstance(name, str) and name for name in table[column])

    def test_labels_count_the_classes(self, tmp_path: Path) -> None:
        """Labels are indices into the list of classes."""
        cohort = read_cohort(self.settings(tmp_path))
        assert set(cohort.labels) <= set(range(len(cohort.classes)))

    def test_unknown_is_a_level_of_every_attribute(self, tmp_path: Path) -> None:
        """Levels are declared, and ``unknown`` comes last."""
        cohort = read_cohort(self.settings(tmp_path))
        for name, attribute in cohort.attributes.items():
            levels = cohort.table[f"attr_{name}"].cat.categories.tolist()
            assert levels == [*attribute.levels, UNKNOWN]

    def test_opening_again_gives_the_same(self, tmp_path: Path) -> None:
        """Reading the data twice gives the same table."""
        settings = self.settings(tmp_path)
        assert read_cohort(settings).table.equals(read_cohort(settings).table)


class ObjectiveContract:
    """An SSL objective; set ``name``, and the ``backbone`` of the tests.

    Set ``symmetric`` to False if the two views have different roles, as in `moco`.
    """

    name: str
    backbone = ""  # by default test_vit for an objective of images, else conv1d
    symmetric = True

    @property
    def objective(self) -> SSLObjective:
        """The registered objective."""
        return SSL_OBJECTIVES[self.name]

    def learner(self, seed: int = 0) -> Learner:
        """Return the objective on a small network with random weights."""
        images = self.objective.modality == "images"
        series = SeriesInputs(steps=24, channels=("a", "b"), mean=(0.0, 0.0), std=(1.0, 1.0))
        backbone = self.backbone or ("test_vit" if images else "conv1d")
        model = build_model(backbone, "none", 32 if images else series, CLASSES, seed)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self.objective.make(Encoder.of_model(model, samples=COUNT)).eval()

    def batch(self, learner: Learner, seed: int = 0) -> LearnerBatch:
        """Return the inputs of a training step, from a few different samples."""
        drawn = torch.Generator().manual_seed(seed)
        if self.objective.modality == "images":
            level = torch.rand(COUNT, 3, 1, 1, generator=drawn)
            samples = (level + 0.3 * torch.rand(COUNT, 3, 32, 32, generator=drawn)).clamp(0, 1)
        else:
            level = 2 * torch.randn(COUNT, 2, 1, generator=drawn)
            samples = level + torch.randn(COUNT, 2, 24, generator=drawn)
        return learner.draw(samples, drawn)

    def _reorder(self, batch: LearnerBatch, *orders: torch.Tensor) -> LearnerBatch:
        """Return the batch with the samples of each view in a given order."""
        rows = torch.cat([COUNT * view + order for view, order in enumerate(orders)])
        return tuple(part[rows] for part in batch)

    def _train(self, steps: int = 40) -> Learner:
        """Return the learner after some steps on one batch."""
        learner = self.learner()
        batch = self.batch(learner)
        weights = [parameter for parameter in learner.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=3e-3)
        for step in range(steps):
            learner.train()(*batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            learner.after_step((step + 1) / steps)
        return learner.eval()

    def test_it_has_a_title_and_says_what_it_needs(self) -> None:
        """It has a title, one or two views, and a momentum if it has a teacher."""
        assert SSL_OBJECTIVES.titles()[self.name]
        assert self.objective.views in (1, 2)
        assert ("teacher" in self.objective.needs) == (self.objective.momentum is not None)

    def test_its_loss_teaches_the_encoder(self) -> None:
        """The loss is one finite number, with a finite gradient by every weight of the encoder."""
        learner = self.learner()
        loss = learner(*self.batch(learner))
        loss.backward()
        assert loss.ndim == 0
        for weights in learner.encoder.parameters():
            assert weights.grad is not None
            assert torch.isfinite(weights.grad).all()
        assert any(weights.grad.abs().sum() > 0 for weights in learner.encoder.parameters())  # type: ignore[union-attr]

    def test_what_stands_still_is_no_part_of_the_encoder(self) -> None:
        """A frozen part, such as a teacher, has no weight of the encoder and gets no gradient."""
        learner = self.learner()
        learner(*self.batch(learner)).backward()
        encoder_weights = {id(weights) for weights in learner.encoder.parameters()}
        for weights in learner.parameters():
            assert weights.requires_grad or id(weights) not in encoder_weights
            assert weights.requires_grad or weights.grad is None

    def test_the_order_of_samples_changes_nothing(self) -> None:
        """Samples in another order give the same loss."""
        learner = self.learner()
        batch, drawn = self.batch(learner), torch.Generator().manual_seed(1)
        order = torch.randperm(COUNT, generator=drawn)
        other = self._reorder(batch, *[order] * self.objective.views)
        assert torch.allclose(learner(*batch), learner(*other), rtol=1e-4)

    def test_views_that_change_places_change_nothing(self) -> None:
        """Exchanging first and second views does not change the loss of a symmetric objective."""
        learner = self.learner()
        batch = self.batch(learner)
        if self.objective.views == 2 and self.symmetric:
            other = tuple(part.roll(COUNT, 0) for part in batch)
            assert torch.allclose(learner(*batch), learner(*other), rtol=1e-4)

    def test_views_of_one_sample_are_better_than_views_of_two(self) -> None:
        """After some steps, the loss is lower for views of the same sample than of two samples."""
        learner = self._train()
        batch, order = self.batch(learner), torch.arange(COUNT)
        if self.objective.views == 2:
            mismatched = self._reorder(batch, order, order.roll(1))
            assert learner(*batch) < learner(*mismatched)

    def test_a_resumed_training_goes_on_where_it_was(self) -> None:
        """A learner with the restored state has the same loss."""
        first, again = self._train(3), self.learner(1)
        again.load_state_dict(deepcopy(first.state_dict()))
        batch = self.batch(first)
        assert torch.equal(first(*batch), again(*batch))

    def test_what_is_looked_at_for_collapse_has_a_row_for_each_sample(self) -> None:
        """There is one finite embedding for each sample."""
        learner = self.learner()
        shape = (COUNT, 3, 32, 32) if self.objective.modality == "images" else (COUNT, 2, 24)
        embedded = learner.embed(learner.read(torch.rand(shape)))
        assert embedded.shape[0] == COUNT
        assert embedded.ndim == 2
        assert torch.isfinite(embedded).all()


class EstimatorContract:
    """An estimator of curvature; set ``name``."""

    name: str
    parameters = ("0.weight", "2.weight")

    def network(self) -> nn.Module:
        """Return a small network of layers that any estimator handles."""
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))

    def _batch(self) -> GroupBatch:
        drawn = torch.Generator().manual_seed(0)
        inputs = torch.randn(12, 5, generator=drawn)
        return GroupBatch(inputs, torch.arange(12) % 3, {"a": slice(0, 6), "b": slice(6, 12)})

    def _curvature(self, network: nn.Module) -> dict[str, dict[str, torch.Tensor]]:
        run = find_estimator(self.name)(2, torch.Generator().manual_seed(0))
        return run(network, [self._batch()], self.parameters)

    def test_it_gives_a_number_for_each_weight_of_each_group(self) -> None:
        """For each group, h is finite and has the shapes of the parameters."""
        network = self.network()
        h = self._curvature(network)
        assert h.keys() == {"a", "b"}
        for group_h in h.values():
            assert group_h.keys() == set(self.parameters)
            for name, values in group_h.items():
                assert values.shape == network.get_parameter(name).shape
                assert torch.isfinite(values).all()

    def test_it_leaves_the_network_as_it_was(self) -> None:
        """Weights and ``requires_grad`` do not change, and no gradient remains."""
        network = self.network()
        network[0].weight.requires_grad_(False)  # type: ignore[index]
        before = deepcopy(network.state_dict())
        self._curvature(network)
        assert [p.requires_grad for p in network.parameters()] == [False, True, True, True]
        assert all(p.grad is None for p in network.parameters())
        assert all(torch.equal(value, before[n]) for n, value in network.state_dict().items())

    def test_a_generator_gives_the_same_again(self) -> None:
        """The same generator draws the same numbers."""
        first, second = (self._curvature(self.network()) for _ in "ab")
        for group, group_h in first.items():
            assert all(torch.equal(h, second[group][name]) for name, h in group_h.items())


class BackboneContract:
    """A network for images; set ``name``, and the ``size`` of its images."""

    name: str
    size = 32

    def model(self, seed: int = 0) -> Model:
        """Return the network with random weights and a head for two classes."""
        return build_model(self.name, "none", self.size, CLASSES, seed)

    def _images(self) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.rand(3, 3, self.size, self.size, generator=generator)

    def test_it_gives_features_and_logits(self) -> None:
        """Each image gives a row of features, and logits of the classes."""
        model = self.model().eval()
        assert model.features(self._images()).ndim == 2
        assert model(self._images()).shape == (3, len(CLASSES))

    def test_a_sample_does_not_depend_on_its_batch(self) -> None:
        """In evaluation mode, an image has the same logits alone and in a batch."""
        model, images = self.model().eval(), self._images()
        assert torch.allclose(model(images)[:1], model(images[:1]), atol=1e-5)

    def test_every_weight_is_in_one_unit(self) -> None:
        """The units cover the network, each weight once."""
        backbone = self.model().backbone
        in_units = [id(p) for unit in parts(backbone) for p in unit.parameters]
        assert sorted(in_units) == sorted(id(p) for p in backbone.parameters())

    def test_a_seed_gives_the_same_weights(self) -> None:
        """The same seed gives the same network; a state can be loaded into another."""
        first, same, other = self.model(1), self.model(1), self.model(2)
        other.load_state_dict(first.state_dict())
        for name, value in first.state_dict().items():
            assert torch.equal(value, same.state_dict()[name])
            assert torch.equal(value, other.state_dict()[name])
