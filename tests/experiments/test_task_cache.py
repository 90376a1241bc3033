"""What all fits of a run share: held as long as they need it, and the same on all nodes."""

from __future__ import annotations

import gc
from weakref import ref

import pytest
import torch

from evenhand import EvenhandError, FinetuneSettings
from evenhand.experiments import task as training
from evenhand.experiments.runs import Run, begin_run
from evenhand.experiments.task_cache import FitContext, cached_task, fresh_task_cache
from evenhand.runs import run_scope


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return FinetuneSettings(
        data="phantom:patients=60,size=32,seed=1",
        backbone="test_vit",
        weights="none",
        image_size=32,
        device="cpu",
        prefix_memory=100,
        cache=tmp_path_factory.mktemp("cache"),
    )


def test_a_block_prepares_once_and_nothing_stays_behind_it(settings):
    with fresh_task_cache():
        task = cached_task(settings)
        assert cached_task(settings) is task
        held = ref(task.activations)
        with fresh_task_cache():  # the data may have changed
            assert cached_task(settings) is not task
    del task
    gc.collect()
    assert held() is None


def test_a_task_builds_the_model_of_a_seed_once_and_hands_out_copies(settings, monkeypatch):
    built, build = [], training.build_model
    monkeypatch.setattr(
        training, "build_model", lambda *arguments: built.append(1) or build(*arguments)
    )
    with fresh_task_cache():
        task = cached_task(settings)
        built.clear()
        first, other = task.model(), task.model(seed=1)
        drawn = other.head.weight.detach().clone()
        other.head.weight.data.zero_()
        again = task.model(seed=1)
    assert len(built) <= 2
    assert torch.equal(again.head.weight, drawn)
    assert not torch.equal(first.head.weight, drawn)


def test_no_more_labels_are_trained_on_than_the_settings_say(settings):
    with fresh_task_cache():
        few, every = (
            len(cached_task(settings.model_copy(update={"label_share": share})).splits.train)
            for share in (0.5, 1.0)
        )
    assert few == pytest.approx(every / 2, abs=1)


def test_a_node_without_the_data_or_the_run_directory_is_refused(settings, tmp_path):
    with fresh_task_cache(), run_scope():
        own = cached_task(settings).fingerprint
        run = begin_run(tmp_path / "run", "finetune", settings, fingerprint=own)
        assert FitContext(settings, own, run).task() is cached_task(settings)
        with pytest.raises(EvenhandError, match="holds other data than where the command was"):
            FitContext(settings, "another", run).task()
        with pytest.raises(EvenhandError, match=r"absent.*Give --out a folder that all nodes"):
            FitContext(settings, own, Run(tmp_path / "absent")).task()
