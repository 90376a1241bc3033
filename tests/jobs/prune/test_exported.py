"""A sparse and a narrower model in files for other programs: they say the same as the model."""

from __future__ import annotations

import pytest
import torch

from evenhand import build_model
from evenhand.networks.export import check_answers, from_safetensors, to_onnx, to_safetensors
from evenhand.pruning.channels import remover
from evenhand.pruning.loop import IN_CHANNELS, PruningState, count_kept, keep_all, prunable


@pytest.fixture(params=["weight", "channel"])
def model(request):
    """A network that has lost a quarter of its numbers."""
    whole = build_model("test_resnet", "none", 32, ("benign", "malignant"), seed=0).eval()
    narrow = request.param == "channel"
    names = prunable(whole, IN_CHANNELS if narrow else ("conv", "linear"))
    mask = {} if narrow else keep_all(whole, names)
    total = sum(p.numel() for p in whole.parameters()) if narrow else count_kept(mask)
    rng = torch.Generator().manual_seed(0)
    scores = {n: torch.rand(whole.get_parameter(n).shape, generator=rng) for n in names}
    after = remover(request.param)(
        PruningState(whole, mask, total, total), scores, total // 4
    ).model
    left, before = (sum(int((p != 0).sum()) for p in m.parameters()) for m in (after, whole))
    assert left < 0.85 * before
    assert bool(after.spec.widths) is narrow
    return after


def test_safetensors(model, tmp_path):
    off = check_answers(model, to_safetensors(model, tmp_path / "model.safetensors"))
    again = from_safetensors(tmp_path / "model.safetensors")
    assert (off, again.spec) == (0, model.spec)
    ours, theirs = model.state_dict(), again.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)  # zeros are zeros


@pytest.mark.slow
def test_onnx(model, tmp_path):
    pytest.importorskip("onnxruntime")
    assert check_answers(model, to_onnx(model, tmp_path / "model.onnx")) < 1e-4
