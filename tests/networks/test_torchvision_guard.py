"""torchvision beside a torch build that its operators do not fit."""

from __future__ import annotations

import subprocess
import sys

import pytest

from evenhand.networks import torchvision_guard

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


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_torchvision_and_timm_can_be_imported_after_it():
    code = "import evenhand.networks.torchvision_guard, torchvision, timm; print(timm.__version__)"
    assert run("-c", code).strip()


def test_a_spawned_worker_makes_a_network(tmp_path):
    script = tmp_path / "spawned.py"
    script.write_text(SPAWNED)
    assert int(run(str(script))) > 1000


@pytest.mark.parametrize("error", [RuntimeError("out of luck"), ImportError("no torchvision")])
def test_other_errors_pass(monkeypatch, error):
    def fails(name: str) -> None:
        raise error

    monkeypatch.setattr(torchvision_guard.importlib, "import_module", fails)
    with pytest.raises(type(error), match=str(error)):
        torchvision_guard.ensure_torchvision()
