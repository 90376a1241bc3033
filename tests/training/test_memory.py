"""The reuse of freed memory, and the forecast of what a step on large images holds."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys

import numpy as np
import pytest
import torch
from tests.command import evenhand, training

from evenhand.networks.inputs import ImageForm
from evenhand.networks.model import build_model
from evenhand.training import device as module
from evenhand.training.device import activation_bytes, memory_warning

CPU = torch.device("cpu")


def model_of(form, backbone="test_resnet"):
    return build_model(backbone, "none", form, ("a", "b"), 0)


def kept_by_hand(model, batch: int) -> int:
    """Return what the graph of a pass of random images holds, each storage once."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen = {}
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda t: seen.setdefault(t.untyped_storage().data_ptr(), t) is None or t, lambda t: t
    )
    with hooks:
        model.eval()(torch.rand(batch, *model.spec.inputs.shape))
    return sum(t.untyped_storage().nbytes() for key, t in seen.items() if key not in weights)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_a_batch_holds_as_much_as_is_foretold(backbone):
    model = model_of(ImageForm(64, 96), backbone)
    foretold = 6 * activation_bytes(model)
    assert foretold == pytest.approx(kept_by_hand(model, 6), rel=0.05)


def test_a_convolution_counts_its_input_and_weights_do_not():
    first, four = (activation_bytes(model_of(side)) for side in (64, 128))
    assert np.isclose(four / first, 4, rtol=0.02)


def test_it_leaves_the_model_as_it_was():
    model = model_of(64).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    activation_bytes(model)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_it_warns_where_memory_is_short_and_images_are_large(monkeypatch):
    model = model_of(512)
    each = activation_bytes(model)
    monkeypatch.setattr(module, "free_bytes", lambda device: 8 * each)
    assert memory_warning(model, 8, CPU) is None
    text = memory_warning(model, 9, CPU)
    assert text is not None
    assert text.startswith("A step on 9 images of 512 x 512 pixels holds about")
    assert "Give --batch-size 4, a" in text
    assert memory_warning(model_of(64), 10**9, CPU) is None


def test_the_command_line_says_it(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(module, "free_bytes", lambda device: 1000)
    monkeypatch.setattr(module, "LARGE", 32 * 32)
    more = ("--batch-size", 8, "--strategy", "head", "--epochs", 1)
    words = training(tmp_path / "cache", "--backbone", "test_resnet", *more)
    done = evenhand("finetune", "phantom:patients=40,size=16", *words, "--out", tmp_path / "run")
    assert done.status == 0, done.err
    assert "A step on 8 images of 32 x 32 pixels holds about" in caplog.text + done.err


FAULTS = """
import resource, torch
from evenhand.training.device import make_accelerator
from evenhand.training.settings import LoopSettings

if {starts}:
    make_accelerator(LoopSettings(device="cpu"))
size = 16 * 2**20
for _ in range(4):
    last = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(size, dtype=torch.uint8) for _ in range(12)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - last)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc of glibc only")
def test_training_on_the_cpu_gets_no_new_pages_for_blocks_that_it_freed() -> None:
    pages = 12 * 16 * 2**20 // resource.getpagesize()
    plain, reusing = (new_pages(starts) for starts in (False, True))

    assert reusing < pages / 10
    assert plain > reusing * 10  # else the test would not notice a missing call


def new_pages(starts: bool) -> int:
    """Return the pages that a process gets for blocks as large as blocks that it freed before."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}  # where malloc starts from
    command = [sys.executable, "-c", FAULTS.format(starts=starts)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(ended.stdout)
