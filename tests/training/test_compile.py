"""Training a compiled network."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch._dynamo.utils import counters

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),  # of torch itself
    pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler"),
]


def test_a_compiled_network_learns_the_same_and_leaves_a_plain_one(train):
    plain = train(epochs=1)
    counters.clear()
    compiled = train(epochs=1, compile=True)
    assert counters["stats"]["unique_graphs"] > 0
    assert compiled._compiled_call_impl is None
    for name, weight in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], weight, rtol=1e-3, atol=1e-4)
