"""torchvision beside a torch build that its operators do not fit."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

import evenhand  # noqa: F401
from evenhand.networks.torchvision_guard import TorchvisionGuard

SPAWNED = """
from torch.utils.data import DataLoader, Dataset


class Makes(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, position):
        from evenhand.networks.backbones import create_by_name

        return sum(p.numel() for p in create_by_name("test_vit").parameters())


if __name__ == "__main__":
    for batch in DataLoader(Makes(), num_workers=1, multiprocessing_context="spawn"):
        print(int(batch))
"""
BROKEN = """
import sys
sys.modules.setdefault("broken_tries", []).append(1)
if len(sys.modules["broken_tries"]) == 1:
    raise RuntimeError({message!r})
"""
ORDERS = {
    "torchvision at once": "import evenhand, torchvision",
    "torch first": "import torch, evenhand, torchvision.transforms.v2",
    "evenhand's parts first": "from evenhand import units_of; import torchvision",
    "after a failed try": """
try:
    import torchvision
except RuntimeError:
    pass
import evenhand, torchvision
torchvision.models.resnet18()
""",
    "timm": "import evenhand, timm; timm.create_model('test_vit')",
    "peft": "import evenhand, peft",
    "image processors": """
import evenhand, transformers
transformers.ViTImageProcessor()
from transformers import AutoImageProcessor
""",
    "fast image processors": """
import evenhand
from transformers.models.vit import image_processing_vit
import torch
found = image_processing_vit.ViTImageProcessor()(torch.zeros(3, 40, 40), return_tensors="pt")
assert found["pixel_values"].shape == (1, 3, 224, 224)
""",
    "lightning": "import evenhand, lightning",
}
NEEDS = {"peft": "peft", "image": "transformers", "fast": "transformers", "lightning": "lightning"}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


QUICK = ("torchvision at once", "after a failed try", "timm")


@pytest.mark.parametrize(
    "order",
    [pytest.param(order, marks=[] if order in QUICK else [pytest.mark.slow]) for order in ORDERS],
)
def test_everything_that_imports_torchvision_works_after_evenhand(order):
    if (needed := NEEDS.get(order.split()[0])) and find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    done = run("-c", ORDERS[order])
    assert done.returncode == 0, done.stderr


def test_the_guard_loads_nothing():
    code = "import sys, evenhand; print({'torch', 'torchvision', 'timm'} & set(sys.modules))"
    assert run("-c", code).stdout.strip() == "set()"


def test_a_spawned_worker_makes_a_network(tmp_path):
    script = tmp_path / "spawned.py"
    script.write_text(SPAWNED)
    done = run(str(script))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1000


@pytest.mark.parametrize(
    ("message", "loads"),
    [("operator torchvision::nms does not exist", True), ("out of luck", False)],
)
def test_that_error_alone_is_mended(tmp_path, message, loads):
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(BROKEN.format(message=message))
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import evenhand, torchvision"
    done = run("-c", code)
    assert (done.returncode == 0) == loads
    assert loads or "RuntimeError: out of luck" in done.stderr


def test_the_guard_is_there_once():
    assert sum(isinstance(finder, TorchvisionGuard) for finder in sys.meta_path) == 1
