"""A planted collapse is noticed while training and said; a healthy run is not called collapsed."""

from __future__ import annotations

import numpy as np
import pytest
from tests.command import evenhand
from torch.nn import functional as F  # noqa: N812

from evenhand.files import read_json
from evenhand.jobs.pretrain import training
from evenhand.jobs.pretrain.curve import LossCurve
from evenhand.pretraining.objectives import simsiam, vicreg

SERIES = "series_phantom:patients=200,steps=24,seed=1"


def following(predicted, projected):
    """SimSiam's loss without its stopped gradient."""
    return -sum(
        F.cosine_similarity(item, two, dim=1).mean() / 2
        for item, two in zip(predicted, reversed(projected), strict=True)
    )


PLANTS = {
    "simsiam": (simsiam, "simsiam_loss", following),
    "vicreg": (vicreg, "VARIANCE", 0.0),
}


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Runs the command; returns what it says at the end, its record and its lines of progress."""

    def run(ssl, epochs=40):
        lines = []

        class Watched(LossCurve):
            @property
            def text(self):
                lines.append(super().text)
                return lines[-1]

        monkeypatch.setattr(training, "LossCurve", Watched)
        words = ("--ssl", ssl, "--epochs", epochs, "--batch-size", 32, "--patience", 0)
        more = ("--device", "cpu", "--cache", tmp_path / "cache", "--out", tmp_path / "out")
        ended = evenhand("pretrain", SERIES, *words, *more)
        assert ended.status == 0, ended.err
        about = read_json(tmp_path / "out" / "models" / "encoder" / "model.json")["embeddings"]
        return ended.out, read_json(tmp_path / "out" / "run.json")["notes"], lines, about

    return run


@pytest.mark.parametrize(
    ("ssl", "epochs"), [("vicreg", 15), pytest.param("simsiam", 40, marks=pytest.mark.slow)]
)
def test_a_planted_collapse_is_said(train, monkeypatch, ssl, epochs):
    monkeypatch.setattr(*PLANTS[ssl])
    out, notes, lines, about = train(ssl, epochs)
    assert "The encoder has collapsed" in out
    assert any(f"The encoder ({ssl}) has collapsed" in note for note in notes)
    assert np.mean(["(collapsed)" in line for line in lines[-5:]]) >= 0.4
    assert about["spread"] < 0.05 or about["rank"] < 0.1 * about["untrained_rank"]


@pytest.mark.parametrize(
    ("ssl", "epochs"),
    [
        ("simclr", 8),
        *(
            pytest.param(ssl, 40, marks=pytest.mark.slow)
            for ssl in ("simsiam", "vicreg", "simclr", "barlow", "byol", "moco", "masked")
        ),
    ],
)
def test_a_healthy_run_is_not_called_collapsed(train, ssl, epochs):
    out, notes, lines, _ = train(ssl, epochs)
    assert "collapsed" not in " ".join([out, *notes, *lines])
    assert all("spread" in line and "effective rank" in line for line in lines)
