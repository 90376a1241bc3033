"""What a model costs: its zeros, its bytes plain and compressed, its time."""

from __future__ import annotations

import zlib
from itertools import count

import pytest
import torch

from evenhand import build_model, save_model
from evenhand.pruning.cost import measure_cost


def cost(folder, share, monkeypatch):
    """Return the cost of a network with so many of its convolutions' numbers zeroed."""
    clock = count()
    monkeypatch.setattr("time.perf_counter", lambda: next(clock) / 250)
    model = build_model("test_resnet", "none", 32, ("benign", "malignant"), seed=0)
    kernels = [p for p in model.parameters() if p.ndim == 4]
    with torch.no_grad():
        for p in model.parameters():
            p.normal_()
        for p in kernels:
            p.view(-1)[: round(share * p.numel())] = 0
    save_model(folder, model)
    zeros = sum(round(share * p.numel()) for p in kernels)
    weights = folder / "model.safetensors"
    return measure_cost(model, weights, torch.zeros(1, 3, 32, 32)), model, zeros, weights


def test_numbers_zeros_bytes_and_time(tmp_path, monkeypatch):
    whole, model, none, _ = cost(tmp_path / "whole", 0.0, monkeypatch)
    half, _, zeros, weights = cost(tmp_path / "half", 0.5, monkeypatch)
    assert whole.parameters == half.parameters == sum(p.numel() for p in model.parameters())
    assert (whole.zeros, half.zeros) == (none, zeros) == (0, half.zeros)
    assert whole.size == half.size == weights.stat().st_size > 4 * half.parameters
    assert half.compressed == len(zlib.compress(weights.read_bytes()))
    assert half.compressed < 0.7 * whole.compressed
    assert half.milliseconds == pytest.approx(4)
    assert half.device == f"cpu, threads: {torch.get_num_threads()}"
