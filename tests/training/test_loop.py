"""The training loop."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from tests.training.conftest import small_model

from evenhand.cohort.store.batches import BatchSource
from evenhand.errors import EvenhandError
from evenhand.masks.masks import Schedule, constant, full_mask
from evenhand.networks.model import load_model, save_model
from evenhand.training.loop import DivergedError, _batches
from evenhand.training.predict import class_probabilities
from evenhand.training.settings import FitSettings
from evenhand.training.steps import _optimizer, make_loss, warmup_cosine


def same(first, second) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def base(train):
    return train()


def test_the_same_seed_gives_the_same_weights(train, base):
    assert same(train(), base)
    assert not same(train(seed=1), base)


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 2e-3},
        {"epochs": 3},
        {"batch_size": 8},
        {"weight_decay": 0.5},
        {"warmup": 0.5},
        {"layer_decay": 0.5},
        {"label_smoothing": 0.2},
        {"class_weights": "balanced"},
        {"augment": "none"},
        {"augment": "free"},
        {"precision": "bf16"},
    ],
    ids=str,
)
def test_every_setting_matters(train, base, change):
    assert not same(train(**change), base)


def test_convolutions_train_with_channels_last_and_end_with_channels_first(train):
    layouts: list[bool] = []

    def on_epoch(epoch):
        layouts.append(first.weight.is_contiguous(memory_format=torch.channels_last))
        return 0.0

    real, first = small_model, None

    def watched(name):
        nonlocal first
        model = real(name)
        first = next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d))
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.training.conftest.small_model", watched)
        model = train("test_resnet", on_epoch=on_epoch)
    assert layouts == [True] * len(layouts) != []
    assert all(weights.is_contiguous() for weights in model.state_dict().values())


def test_the_global_state_is_left_alone(train):
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    train()
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002


def test_the_global_state_has_no_influence(train, base):
    with torch.random.fork_rng():
        torch.manual_seed(123)
        assert same(train(), base)


def test_a_model_learns(train, splits):
    losses = []

    def on_epoch(epoch):
        losses.append(epoch.loss)
        assert epoch.scores.shape == (len(splits.val), 2)
        assert np.allclose(epoch.scores.sum(axis=1), 1)
        return 0.0

    model = train(on_epoch=on_epoch, epochs=6, augment="none", lr=3e-3)
    assert losses[-1] < losses[0] - 0.05
    assert not model.training
    assert next(model.parameters()).device.type == "cpu"


@pytest.mark.parametrize(
    ("count", "size", "shares"),
    [
        (33, 16, [[16, 17]]),
        (34, 16, [[16, 16, 2]]),
        (32, 16, [[16, 16]]),
        (3, 16, [[3]]),
        (3, 1, [[1, 1, 1]]),
        (35, 16, [[8, 10], [8, 9]]),
        (36, 16, [[8, 8, 2], [8, 8, 2]]),
    ],
)
def test_a_short_last_batch_joins_the_one_before(count, size, shares):
    processes = [SimpleNamespace(num_processes=len(shares), process_index=k) for k in range(2)]
    result = [
        list(_batches(np.random.default_rng(0).permutation(count), size, process))
        for process in processes[: len(shares)]
    ]
    assert [[len(batch) for batch in item] for item in result] == shares
    assert sorted(np.concatenate([*map(np.concatenate, result)])) == list(range(count))


def test_batch_normalisation_never_meets_one_sample_alone(train, splits):
    text: list[float] = []
    train(
        "test_resnet",
        on_epoch=lambda epoch: text.append(epoch.loss) or 0.0,
        **{"epochs": 1, "batch_size": len(splits.train) - 1},
    )
    assert math.isfinite(text[0])


def test_the_learning_rate_rises_and_falls():
    factor = warmup_cosine(0.3, 10)
    rising = [1 / 4, 2 / 4, 3 / 4]
    falling = [(1 + math.cos(math.pi * k / 7)) / 2 for k in range(8)]
    assert [factor(step) for step in range(11)] == pytest.approx(rising + falling)
    assert factor(3) == 1
    assert factor(10) == pytest.approx(0)


def test_without_warm_up_it_begins_at_its_highest():
    assert warmup_cosine(0, 4)(0) == 1


def record(values, states, stop_at=None):
    """Return an ``on_epoch`` that gives fixed scores and counts the epochs."""

    def on_epoch(epoch):
        states.append(epoch.scores)
        if epoch.number == stop_at:
            raise KeyboardInterrupt
        return values[epoch.number]

    return on_epoch


def test_patience_keeps_the_best_epoch(train, splits):

    seen: list[np.ndarray] = []
    model = train(on_epoch=record([0.1, 0.5, 0.4, 0.5, 0.9], seen), epochs=5, patience=2)
    assert len(seen) == 4  # epochs 2 and 3 were no better than epoch 1
    source = BatchSource(splits.val, torch.device("cpu"))
    assert np.array_equal(class_probabilities(model, source, Accelerator(cpu=True)), seen[1])
    assert not np.array_equal(seen[1], seen[3])


def test_without_patience_the_last_epoch_stays(train):
    seen: list[np.ndarray] = []
    model = train(on_epoch=record([0.9, 0.1, 0.0], seen), epochs=3)
    assert len(seen) == 3
    assert same(model, train(epochs=3))


def test_the_loss_of_an_epoch_is_the_mean_over_its_samples(train, splits):
    """Of batches of 32 and 16, by a model that stands almost still."""
    text: list[float] = []
    model = train(
        on_epoch=lambda epoch: text.append(epoch.loss) or 0.0,
        **{"epochs": 1, "batch_size": 32, "lr": 1e-12, "augment": "none"},
    )
    result = class_probabilities(
        model, BatchSource(splits.train, torch.device("cpu")), Accelerator(cpu=True)
    )
    own = result[np.arange(len(result)), splits.train.labels]
    assert len(own) == 48
    assert text == [pytest.approx(-np.log(own).mean(), rel=1e-5)]


def test_what_on_epoch_raises_ends_the_fit(train):
    seen: list[np.ndarray] = []
    before = torch.random.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        train(on_epoch=record([0.1] * 3, seen, stop_at=1), epochs=3)
    assert len(seen) == 2
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_absurd_learning_rate(train):
    with pytest.raises(DivergedError, match=r"epoch \d+; give a lower --lr than 1e\+30"):
        train(lr=1e30, epochs=5)


def test_scores_that_the_last_step_ruined(train, splits):
    text: list[float] = []
    with pytest.raises(DivergedError, match="mean score is nan in epoch 1; give a lower --lr"):
        train(
            on_epoch=lambda epoch: text.append(epoch.loss) or 0.0,
            **{"epochs": 1, "batch_size": len(splits.train), "lr": 1e30, "warmup": 0.0},
        )
    assert text == []


def test_half_precision_gives_a_model_in_full_precision(train, tmp_path):
    seen: list[np.ndarray] = []
    model = train(on_epoch=record([0.1, 0.2], seen), precision="bf16")
    assert all(np.isfinite(result).all() for result in seen)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    save_model(tmp_path, model)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(load_model(tmp_path)(images), model(images))


def test_no_cuda(train, monkeypatch):
    monkeypatch.setattr("evenhand.training.device.is_available", lambda: False)
    with pytest.raises(EvenhandError, match="--device cuda: torch sees no CUDA device"):
        train(device="cuda")


def test_a_fit_on_the_cpu_leaves_cuda_alone(train, monkeypatch):
    monkeypatch.setattr("evenhand.training.device.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.manual_seed_all", lambda seed: pytest.fail("it was seeded"))
    train(epochs=1)  # to ask for its state, without a GPU, would raise


def test_class_weights_by_hand():
    labels = np.array([0, 0, 0, 1])
    loss = make_loss(FitSettings(class_weights="balanced"), labels, 3)
    assert loss.weight.tolist() == pytest.approx([4 / 9, 4 / 3, 0])
    assert make_loss(FitSettings(), labels, 3).weight is None


def test_label_smoothing_by_hand():
    loss = make_loss(FitSettings(label_smoothing=0.2), np.array([0, 1]), 2)
    logits = torch.tensor([[2.0, 0.0]])
    log_p = logits.log_softmax(dim=1)[0]
    wanted = -(0.9 * log_p[0] + 0.1 * log_p[1])
    assert loss(logits, torch.tensor([0])).item() == pytest.approx(wanted.item())


def test_weight_decay_spares_vectors(train):
    free, decayed = (train(weight_decay=decay, epochs=1, lr=1e-2) for decay in (0.0, 1.0))
    matrix = "backbone.blocks.0.mlp.fc1.weight"
    assert decayed.get_parameter(matrix).norm() < free.get_parameter(matrix).norm()

    schedule = constant(full_mask(free.backbone))
    groups = _optimizer(free, schedule, FitSettings(weight_decay=0.3)).param_groups
    assert {p.ndim > 1 for p in groups[0]["params"]} == {True}
    assert {p.ndim > 1 for p in groups[1]["params"]} == {False}
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    assert sum(len(group["params"]) for group in groups) == len(list(free.parameters()))


def test_each_depth_learns_at_its_share_of_the_rate():
    model = small_model()
    schedule = Schedule(lambda epoch: full_mask(model.backbone), decay=0.5)
    settings = FitSettings(lr=1.0)
    rates = {id(p): g["lr"] for g in _optimizer(model, schedule, settings).param_groups
             for p in g["params"]}  # fmt: skip
    assert {rates[id(p)] for p in model.head.parameters()} == {1.0}
    assert rates[id(model.backbone.norm.weight)] == 0.5
    assert rates[id(model.backbone.blocks[5].mlp.fc1.weight)] == 0.25
    assert rates[id(model.backbone.patch_embed.proj.bias)] == 0.5**8
    even = _optimizer(model, schedule, settings.model_copy(update={"layer_decay": 1.0}))
    assert {group["lr"] for group in even.param_groups} == {1.0}
