"""Training on kept activations is training."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.training.conftest import SETTINGS, small_model
from torch import nn

from evenhand.errors import EvenhandError
from evenhand.masks.masks import constant
from evenhand.masks.strategies import find_strategy
from evenhand.training.frozen_prefix import ActivationCache, ActivationFiles, ActivationRows
from evenhand.training.loop import fit

GENEROUS = 10**9


@pytest.fixture
def cache(tmp_path) -> ActivationFiles:
    return ActivationFiles(GENEROUS, tmp_path / "activations", GENEROUS)


@pytest.fixture(params=["files", "memory"])
def either(request, cache) -> ActivationCache:
    """Where activations are kept for the CPU, and for a GPU."""
    return cache if request.param == "files" else ActivationCache(GENEROUS)


def close(first, second, atol=2e-5) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.allclose(a, b, atol=atol) for a, b in pairs)


def apart(first, second) -> float:
    """Return the root mean square of the differences of all weights."""
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    squares = torch.cat([(a - b).double().square().flatten() for a, b in pairs])
    return float(squares.mean().sqrt())


def files(cache) -> set[str]:
    return {path.name for path in cache.folder.iterdir()}


def blocks_run(train, **changes) -> list[int]:
    """Count the samples that pass through each block of the network in a fit, from below."""
    counts = [0] * 6
    real = nn.Module.__call__

    def counting(module, *arguments, **named):
        place = getattr(module, "place", None)
        if place is not None:
            counts[place] += len(arguments[0])
        return real(module, *arguments, **named)

    def mark(name):
        model = small_model(name)
        for place, block in enumerate(model.backbone.blocks):
            block.place = place
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Module, "__call__", counting)
        patch.setattr("tests.training.conftest.small_model", mark)
        train(**changes)
    return counts


@pytest.mark.parametrize(
    ("backbone", "strategy"),
    [
        ("test_vit", "head"),
        ("test_vit", "last-1"),
        ("test_vit", "blocks.2.attn,blocks.4.mlp"),
        ("test_vit", "gradual:2"),
        ("test_vit", "full"),
        ("test_resnet", "last-2"),
        ("test_resnet", "norm"),
        ("test_resnet", "head"),
    ],
)
def test_cached_training_is_training_with_the_same_views(train, either, backbone, strategy):
    schedule = find_strategy(strategy)(small_model(backbone), 0)[1]
    scores = {"cached": [], "anew": []}

    def fitted(name, store):
        def on_epoch(epoch):
            scores[name].append(epoch.scores)
            return 0.0

        return train(backbone, schedule, on_epoch, cache=store, epochs=3, views=2)

    uncached, cached, again = (
        fitted("anew", None),
        fitted("cached", either),
        fitted("cached", either),
    )
    assert close(uncached, cached)
    assert close(uncached, again)
    for score, other in zip(scores["anew"] * 2, scores["cached"], strict=True):
        assert np.allclose(score, other, atol=1e-5)


def test_frozen_layers_run_once_for_each_view_and_never_again(train, either, splits):
    schedule = constant(frozenset({"blocks.3"}))
    n, val = len(splits.train), len(splits.val)
    result = [
        blocks_run(train, schedule=schedule, cache=either, epochs=4, views=2) for _ in range(2)
    ]
    extra = 2 * 3  # the sample that a cut is tried on: the whole, the part below, their size
    first, second = result
    assert first[0] <= 2 * n + val + extra
    assert second[0] <= extra
    assert first[3] >= 4 * (n + val)


@pytest.mark.parametrize("higher", [3, 4])
def test_a_lower_cut_feeds_a_higher_one(train, either, splits, higher):
    train(schedule=constant(frozenset({"blocks.2"})), cache=either, epochs=1)
    mask = frozenset({f"blocks.{higher}"})
    counts = blocks_run(train, schedule=constant(mask), cache=either, epochs=1)
    n = len(splits.train) + len(splits.val)
    assert max(counts[:2]) <= 6
    assert min(counts[2:higher]) >= n


@pytest.mark.parametrize(
    ("change", "new"),
    [
        ({}, 0),
        ({"lr": 1e-2}, 0),
        ({"epochs": 1}, 0),
        ({"seed": 1}, 2),
        ({"augment": "free"}, 2),
        ({"views": 1, "seed": 1}, 1),
        ({"batch_size": 8}, 3),
        ({"schedule": constant(frozenset({"blocks.5.attn"}))}, 0),
        ({"schedule": constant(frozenset({"blocks.4"}))}, 3),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else str(value),
)
def test_what_is_shared_and_what_is_not(train, cache, change, new):
    common = {"schedule": constant(frozenset({"blocks.5"})), "cache": cache}
    train(**common)
    before = files(cache)
    assert len(before) == 3  # two views and the validation rows
    train(**{**common, **change})
    assert len(files(cache) - before) == new


def test_other_weights_below_the_cut_are_other_activations(train, cache, monkeypatch):
    train(schedule=constant(frozenset({"blocks.5"})), cache=cache)
    before = files(cache)

    def other(name):
        model = small_model(name)
        model.backbone.blocks[5].mlp.fc1.weight.data += 1  # above the cut
        return model

    monkeypatch.setattr("tests.training.conftest.small_model", other)
    train(schedule=constant(frozenset({"blocks.5"})), cache=cache)
    assert files(cache) == before
    monkeypatch.setattr(
        "tests.training.conftest.small_model", lambda name: small_model(name, seed=1)
    )
    train(schedule=constant(frozenset({"blocks.5"})), cache=cache)
    assert len(files(cache) - before) == 3


def test_samples_that_are_decoded_otherwise_have_other_activations(train, cache, monkeypatch):
    train(schedule=constant(frozenset({"blocks.5"})), cache=cache)
    before = files(cache)
    monkeypatch.setattr("evenhand.training.feed.FORMAT", 0)
    train(schedule=constant(frozenset({"blocks.5"})), cache=cache)
    assert len(files(cache) - before) == 3


def test_without_augmentation_one_view_serves_all_epochs(train, cache):
    train(schedule=constant(frozenset()), cache=cache, augment="none", epochs=3)
    assert len(files(cache)) == 2


def test_one_view_in_every_epoch(train):
    assert not close(train(views=1), train(), atol=1e-4)
    assert close(train(views=2), train(), atol=0)  # as many as epochs


def test_a_budget_too_small_for_one_batch(train, tmp_path):
    small = ActivationFiles(1000, tmp_path, GENEROUS)
    with pytest.raises(EvenhandError, match=r"--prefix-memory 0: one batch of 16 takes 0\.0 MB"):
        train(schedule=constant(frozenset({"blocks.5"})), cache=small)


def array(cache, name, value, rows=10):
    cache.make(name, rows, lambda: iter([torch.full((rows, 25), float(value))]))


def test_memory_is_bounded_and_the_rest_is_read_from_disk(tmp_path):
    cache = ActivationFiles(2500, tmp_path, GENEROUS)  # arrays of 1000 bytes
    for value in range(4):
        array(cache, str(value), value)
    for value in (0, 1, 2, 3, 2, 0):
        result = cache.find(str(value)).take(np.array([3, 3, 9]))
        assert torch.equal(result, torch.full((3, 25), float(value)))
    assert list(cache._recent) == ["2", "0"]
    array(cache, "large", 7, rows=30)
    large = cache.find("large")
    assert isinstance(large.values, np.memmap)
    assert torch.equal(large.take(np.array([29])), torch.full((1, 25), 7.0))


def test_what_is_in_use_counts(tmp_path):
    cache = ActivationFiles(2500, tmp_path, GENEROUS)
    for value in range(4):
        array(cache, str(value), value)
    used = [cache.find(str(value)) for value in range(3)]
    assert [isinstance(rows.values, torch.Tensor) for rows in used] == [True, True, False]
    assert cache.find("0").values is used[0].values
    del used[0]
    assert isinstance(cache.find("3").values, torch.Tensor)


def test_a_fit_stays_within_its_memory_and_lets_go_of_what_it_has_read(
    train, tmp_path, monkeypatch
):
    """Of two views and the validation rows, one view and no more fits; each is held in turn."""
    cache = ActivationFiles(GENEROUS, tmp_path, GENEROUS)
    schedule = constant(frozenset({"blocks.5"}))
    expected = train(schedule=schedule, cache=cache)
    largest = max(path.stat().st_size for path in tmp_path.iterdir())
    cache, find, taken = ActivationFiles(largest, tmp_path, GENEROUS), ActivationFiles.find, []

    def watched(self, name):
        result = find(self, name)
        taken.append((type(result.values), sum(item.nbytes for item in self._alive.values())))
        return result

    monkeypatch.setattr(ActivationFiles, "find", watched)
    assert close(train(schedule=schedule, cache=cache), expected, atol=0)
    assert len(taken) == 4  # a view and the validation rows in each epoch
    assert all(kind is torch.Tensor and 0 < size <= largest for kind, size in taken)


@pytest.mark.parametrize("views", [1.5, 2.5])
def test_in_memory_alone_no_more_is_kept_than_may_be(train, splits, views, monkeypatch):
    """Of four views, one or two find room; the rest are computed in every step."""
    common = {"epochs": 4, "views": 4}
    deeper = {"schedule": constant(frozenset({"blocks.5"})), **common}
    expected = train(**deeper)
    row = ActivationCache(GENEROUS)
    train(cache=row, **deeper)
    size = next(tensor[0].nbytes for tensor in row._recent.values())
    budget = int(size * (len(splits.val) + views * len(splits.train)))
    cache, make_room, result = ActivationCache(budget), ActivationCache._make_room, []
    monkeypatch.setattr(
        ActivationCache, "_make_room", lambda *arguments: result.append(make_room(*arguments))
    )
    train(schedule=constant(frozenset({"blocks.2"})), cache=cache, **common)
    assert close(train(cache=cache, **deeper), expected)
    assert len(result) >= 2 * (1 + int(views))
    assert all(result)
    assert len(cache._recent) >= 1 + int(views)
    counts = blocks_run(train, cache=cache, **deeper)
    assert counts[0] <= (4 - int(views)) * len(splits.train) + 6


def test_the_disk_is_bounded(tmp_path):
    cache = ActivationFiles(0, tmp_path, 3500)
    for value in range(3):
        array(cache, str(value), value)
    cache.find("0")  # now 1 is the one not used for longest
    array(cache, "3", 3)
    there = [cache.find(str(value)) is not None for value in range(4)]
    assert there == [True, False, True, True]
    array(cache, "large", 7, rows=20)  # two of the three have to go
    assert cache.find("large") is not None
    assert len(list(tmp_path.glob("*.npy"))) == 2


def test_what_a_killed_writer_left_makes_room(tmp_path):
    cache = ActivationFiles(0, tmp_path, 4500)
    left, fresh = tmp_path / ".killed.npy.1.part", tmp_path / ".writing.npy.2.part"
    left.write_bytes(bytes(3000))
    fresh.write_bytes(bytes(1500))
    os.utime(left, (0, 0))
    array(cache, "0", 0)
    assert not left.exists()
    array(cache, "1", 1)
    assert fresh.exists()  # its writer may be at work
    assert cache.find("0") is not None
    array(cache, "2", 2)
    assert cache.find("1") is None  # 0 was looked at later


def test_activations_that_others_removed_are_made_again(train, cache, monkeypatch):
    schedule = constant(frozenset({"blocks.5"}))
    expected = train(schedule=schedule)
    make, removed = cache.make, []

    def made_and_gone(name, count, chunks):
        make(name, count, chunks)
        if not removed:
            removed.append(cache._path(name))
            removed[0].unlink()

    monkeypatch.setattr(cache, "make", made_and_gone)
    assert close(train(schedule=schedule, cache=cache), expected)
    assert removed[0].exists()


def test_more_than_the_disk_may_hold_is_not_kept(train, tmp_path, splits):
    schedule = constant(frozenset({"blocks.5"}))
    large = ActivationFiles(GENEROUS, tmp_path / "kept", GENEROUS)
    expected = train(schedule=schedule, cache=large)
    needed = sum(sorted(path.stat().st_size for path in large.folder.iterdir())[:2])
    small = ActivationFiles(GENEROUS, tmp_path / "small", needed // 2)
    assert close(train(schedule=schedule, cache=small), expected)
    assert not small.folder.exists()


def test_views_that_find_no_room_are_computed_and_not_written(train, tmp_path, monkeypatch):
    common = {"schedule": constant(frozenset({"blocks.5"})), "epochs": 4}
    generous = ActivationFiles(GENEROUS, tmp_path / "generous", GENEROUS)
    expected = train(cache=generous, **common)
    val, view = sorted({path.stat().st_size for path in generous.folder.iterdir()})
    small = ActivationFiles(GENEROUS, tmp_path / "small", val + 2 * view + view // 2)
    assert close(train(cache=small, **common), expected)
    assert len(files(small)) == 3
    monkeypatch.setattr(small, "make", lambda *_: pytest.fail("the views that are kept stay"))
    assert close(train(cache=small, **common), expected)


def test_half_precision_survives_the_disk(tmp_path):
    cache = ActivationFiles(0, tmp_path, GENEROUS)
    values = torch.randn(6, 3).bfloat16()
    cache.make("half", 6, lambda: iter(values.split(4)))
    result = cache.find("half")
    assert isinstance(result, ActivationRows)
    assert torch.equal(result.read_all(), values)


def test_half_precision_trains_alike(train, cache):
    schedule = constant(frozenset({"blocks.4"}))
    exact = train(schedule=schedule)
    uncached = train(schedule=schedule, precision="bf16")
    cached = train(schedule=schedule, precision="bf16", cache=cache)
    rounding = apart(uncached, exact)  # what this processor makes of bf16
    assert apart(cached, exact) <= 2 * rounding
    assert apart(train(schedule=schedule, lr=2e-3), exact) > 10 * rounding  # it would show


def test_parts_of_one_pool_share_what_frozen_layers_make_of_it(splits, cache):
    """Whatever part is trained on, the pool and the validation rows are all that is computed."""
    settings = SETTINGS.model_copy(update={"augment": "none"})
    ran = []

    def fitted(part, cache):
        model = small_model()
        model.backbone.blocks[0].register_forward_hook(
            lambda block, inputs, out: ran.append(len(out))
        )
        schedule = constant(frozenset())
        return fit(model, part, schedule, settings, on_epoch=lambda epoch: 0.0, cache=cache)

    rows = [
        np.arange(0, len(splits.train), 2)[::-1],
        np.arange(5, 25),
        np.arange(len(splits.train)),
    ]
    for chosen in rows:
        part = replace(splits, train=splits.train.select(chosen), pool=splits.train)
        uncached = fitted(part, None)
        ran.clear()
        assert close(uncached, fitted(part, cache))
        assert sum(ran) <= (len(splits.train) + len(splits.val) + 6 if chosen is rows[0] else 6)
    assert len(files(cache)) == 2
