"""Every training method runs in the training loop, on a cohort whose label goes with the group."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from evenhand.cohort.phantoms.images import PhantomSettings, make_phantoms
from evenhand.cohort.splits import Splits, split_patients
from evenhand.cohort.store.samples import store_samples
from evenhand.errors import EvenhandError
from evenhand.masks.masks import constant, full_mask
from evenhand.methods.base import TrainingMethod
from evenhand.methods.in_training.domain_independent import DomainIndependent
from evenhand.methods.in_training.swad import Swad
from evenhand.methods.registry import methods, training_method
from evenhand.networks.model import Model, build_model
from evenhand.training.loop import Epoch, fit
from evenhand.training.settings import FitSettings

SETTINGS = FitSettings(epochs=2, batch_size=16, lr=1e-3, device="cpu")


@pytest.fixture(scope="module")
def splits(tmp_path_factory) -> Splits:
    cohort = make_phantoms(PhantomSettings(patients=120, size=32, tilt=0.5, tilt_test=0.0))
    cohort = store_samples(cohort, 32, tmp_path_factory.mktemp("cache"))
    return split_patients(cohort, ["group"], (0.6, 0.2, 0.2), np.random.default_rng(0))


def trained(
    splits: Splits,
    method: TrainingMethod | None,
    *,
    backbone: str = "test_resnet",
    epochs: list[Epoch] | None = None,
    head: str = "linear",
) -> Model:
    model = build_model(backbone, "none", 32, splits.train.classes, 0, head)
    text = [] if epochs is None else epochs
    return fit(
        model,
        splits,
        constant(full_mask(model.backbone)),
        SETTINGS,
        on_epoch=lambda epoch: text.append(epoch) or 0.0,
        method=method,
        groups=splits.train.table["attr_group"].astype("str").to_numpy(),
    )


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", sorted(set(methods("training")) - {"erm", "jtt"}))
def test_a_method_trains_another_model_than_plain_training(splits, name):
    model = trained(splits, training_method(name))
    assert not same(model, trained(splits, None))
    assert model.head.out_features == 2
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


@pytest.mark.parametrize("name", ["coral", "cdann", "soft-eodds"])
def test_no_strength_is_plain_training_bit_for_bit(splits, name):
    assert same(trained(splits, training_method(name, strength=0.0)), trained(splits, None))


def test_what_a_method_logs_is_in_each_epoch(splits):
    epochs: list[Epoch] = []
    trained(splits, training_method("group-dro"), epochs=epochs)
    assert [len(epoch.logged) for epoch in epochs] == [4, 4]
    assert sum(epochs[-1].logged.values()) == pytest.approx(1)


@pytest.mark.parametrize("head", ["linear", "hidden"])
def test_heads_by_group_are_joined_into_one_that_scores_alike(splits, head):
    epochs: list[Epoch] = []
    model = trained(splits, DomainIndependent(), epochs=epochs, head=head)
    last = model.head if head == "linear" else model.head[-1]
    assert isinstance(last, nn.Linear)
    images = [splits.val.read(name) for name in splits.val.table["sample_id"]]
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        scores = model(batch).softmax(dim=1).numpy()
    np.testing.assert_allclose(scores, epochs[-1].scores, atol=1e-5)


def test_averaged_weights_have_statistics_of_their_own(splits):
    class Last(Swad):
        """Takes the last weights for the average."""

        def after_step(self, module):
            self.last = {n: p.detach().clone() for n, p in module.named_parameters()}

        def final_weights(self):
            return self.last

    model, plain = trained(splits, Last()), trained(splits, None)
    for name, parameter in plain.named_parameters():
        assert torch.equal(dict(model.named_parameters())[name], parameter)
    buffers = dict(plain.named_buffers())
    moved = [n for n, b in model.named_buffers() if n.endswith("running_mean")]
    assert any(not torch.equal(dict(model.named_buffers())[n], buffers[n]) for n in moved)
    for name in moved:  # of the same weights, on the same rows: near to the running ones
        assert torch.isfinite(dict(model.named_buffers())[name]).all()


def test_swad_of_a_short_training_keeps_finite_weights(splits):
    model = trained(splits, Swad(start=1, end=1))
    assert not same(model, trained(splits, None))


def test_methods_with_groups_need_them(splits):
    model = build_model("test_resnet", "none", 32, splits.train.classes, 0)
    with pytest.raises(EvenhandError, match="one level per training row"):
        fit(
            model,
            splits,
            constant(full_mask(model.backbone)),
            SETTINGS,
            on_epoch=lambda epoch: 0.0,
            method=training_method("group-dro"),
        )


def test_the_users_model_is_not_the_methods(splits):
    """The same starting weights serve every method: a fit works on what it is given."""
    model = build_model("test_resnet", "none", 32, splits.train.classes, 0)
    before = deepcopy(model)
    trained(splits, training_method("coral"))
    assert same(model, before)
