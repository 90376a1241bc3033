from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.command import changed, evenhand, training
from torch import Tensor, nn

from evenhand.cohort.phantoms.images import PhantomSettings, make_phantoms
from evenhand.cohort.store.samples import store_samples
from evenhand.experiments.runs import open_run
from evenhand.jobs.similarity.layers import make_layers
from evenhand.jobs.similarity.settings import SimilaritySettings
from evenhand.metrics import groups_of
from evenhand.networks.model import build_model
from evenhand.representation.by_group import PatientLayers, measure_similarity
from evenhand.training.device import make_accelerator
from evenhand.training.frozen_prefix import activations
from evenhand.training.settings import LoopSettings

DATA = "phantom:patients=260,size=32,seed=1"
DARK = 0.52  # brightness between the two kinds of skin


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Two runs on the same patients, and one on others."""
    root = tmp_path_factory.mktemp("runs")
    for name, words in (
        ("one", ("--strategy", "full")),
        ("two", ("--strategy", "head")),
        ("other", ("--strategy", "head", "--seed", 5)),
    ):
        flags = training(root / "cache", "--epochs", 1, "--attribute", "sex", *words)
        assert evenhand("finetune", DATA, *flags, "--out", root / name).status == 0
    return root


def compared(root: Path, *words: object, runs: tuple[str, str] = ("one", "two"), out: str = "sim"):
    flags = ("--cache", root / "cache", "--device", "cpu", "--permutations", 99, "--minimum", 10)
    folders = [root / run for run in runs]
    return evenhand("similarity", *folders, *changed(flags, *words), "--out", root / out)


@pytest.fixture(scope="module")
def result(trained) -> dict:
    ended = compared(trained)
    assert ended.status == 0, ended.err
    return json.loads((trained / "sim" / "similarity.json").read_text())


def test_every_group_and_layer_is_there(result):
    assert result["models"] == ["one/full", "two/head"]
    assert result["patients"] == 52  # of 260 a fifth
    assert result["split"] == "val"
    assert set(result["attributes"]) == {"group", "sex"}
    shape = tuple(map(len, result["layers"]))
    assert shape == (6, 6)
    for record in (result["everybody"], *result["attributes"]["sex"]["groups"]):
        low, value, high = (np.array(record[end]) for end in ("low", "value", "high"))
        assert value.shape == shape
        assert (low <= value).all()
        assert (value <= high).all()


def test_the_difference_is_that_of_the_best_and_the_worst_served(result):
    record = result["attributes"]["group"]
    groups = {row["group"]: row for row in record["groups"]}
    best, worst = groups[record["best"]], groups[record["worst"]]
    assert best["auc"] > worst["auc"]
    expected = np.array(best["value"]) - np.array(worst["value"])
    np.testing.assert_allclose(record["difference"]["value"], expected)
    assert record["size"]["value"] == pytest.approx(np.abs(expected).mean())
    assert record["batch"] == min(row["patients"] for row in record["groups"])


def test_the_page_says_what_the_numbers_do(trained, result):
    page = (trained / "sim" / "report.html").read_text()
    assert page.count('class="heat"') == 7  # two groups and their difference, twice; everybody
    assert open_run(trained / "sim").finished
    (trained / "sim" / "report.html").unlink()
    assert evenhand("report", trained / "sim").status == 0
    assert (trained / "sim" / "report.html").read_text() == page


def test_a_small_group_is_shown_and_makes_no_claim(trained):
    assert compared(trained, "--minimum", 25, out="small").status == 0
    record = json.loads((trained / "small" / "similarity.json").read_text())["attributes"]["group"]
    small = next(row for row in record["groups"] if row["group"] == "minority")
    assert "value" not in small
    assert "25 are needed" in small["undefined"]
    assert "difference" not in record
    page = (trained / "small" / "report.html").read_text()
    assert f"minority: {small['patients']} patients; 25 are needed for a claim." in page


def test_two_models_of_one_run_and_some_layers(trained):
    words = ("--layer", "blocks.0", "--layer", "blocks.5", "--kernel", "rbf", "--split", "test")
    assert compared(trained, *words, out="some").status == 0
    content = json.loads((trained / "some" / "similarity.json").read_text())
    assert content["layers"] == [["blocks.0", "blocks.5"]] * 2
    assert content["kernel"] == "rbf"


@pytest.mark.parametrize(
    ("runs", "words", "message"),
    [
        (("one", "other"), (), "are not of the same cohort"),
        (("one", "one"), (), "are named twice"),
        (("one", "sim"), (), "holds no model"),
        (("one", "two"), ("--layer", "blocks.9"), "no layer 'blocks.9'; there are: blocks.0"),
        (("one", "two"), ("--attribute", "skin"), "no attribute 'skin'"),
        (("one", "two"), ("--model", "full"), "given 1 time(s)"),
        (("one", "two"), ("--minimum", 60), "has 52 patients, fewer than --minimum 60"),
        (("one", "two"), ("--data", "phantom:patients=30,size=32"), "lacks"),
    ],
)
def test_mistakes(trained, result, runs, words, message):
    ended = compared(trained, *words, runs=runs, out="mistake")
    assert ended.status == 2
    assert message in ended.err
    assert not (trained / "mistake").exists()


def planted(rng: np.random.Generator, share: float) -> PatientLayers:
    """Two models of three layers; in the minority their last layers share less than elsewhere."""
    n = 300
    minority, sex = np.arange(n) % 3 == 0, rng.integers(2, size=n)
    labels = rng.integers(2, size=n)
    seen = rng.standard_normal((n, 6)) + labels[:, None]
    settings = SimilaritySettings(runs=("a", "b"))

    def model() -> list[np.ndarray]:
        own = rng.standard_normal((n, 6))
        scale = np.where(minority, 1 - share, 1.0)[:, None]
        last = np.sqrt(scale) * seen + np.sqrt(1 - scale) * own
        noise = 0.5 * rng.standard_normal((3, n, 6))
        return [
            (layer @ rng.standard_normal((6, 10))).astype("f4")
            for layer in (seen + noise[0], seen + noise[1], last + noise[2])
        ]

    sides = tuple(make_layers(model(), settings) for _ in range(2))
    groups = {
        "group": groups_of(np.where(minority, "minority", "majority").tolist()),
        "sex": groups_of(np.where(sex, "female", "male").tolist()),
    }
    served = {
        "group": {"minority": 0.7, "majority": 0.9},
        "sex": {"female": 0.8, "male": 0.81},
    }
    return PatientLayers(sides, labels, groups, served)


def test_it_finds_in_which_layer_a_group_is_represented_otherwise():
    patients = planted(np.random.default_rng(1), 0.9)
    settings = SimilaritySettings(runs=("a", "b"), permutations=199)
    similarity = measure_similarity(patients, settings)
    contrast = similarity.attributes["group"].contrast
    assert (contrast.best, contrast.worst) == ("majority", "minority")
    low = np.array(contrast.difference.low)
    assert low[2, 2] > 0.2
    assert np.abs(np.array(contrast.difference.value)[:2, :2]).max() < 0.1
    minority = {g.group: g for g in similarity.attributes["group"].groups}["minority"]
    assert minority.p_adjusted < 0.05
    assert minority.p_layers[2][2] < 0.05 < minority.p_layers[0][0]
    assert contrast.size.low > 0
    sex = similarity.attributes["sex"]
    assert all(group.p_adjusted > 0.05 for group in sex.groups)
    assert sex.size.low == 0
    (ratio,) = similarity.ratios
    assert (ratio.attribute, ratio.over) == ("group", "sex")
    assert "contains 0" in ratio.undefined


def test_a_group_without_an_auc_is_not_ranked():
    patients = planted(np.random.default_rng(0), 0.5)
    served = {**patients.performance, "group": {"minority": np.nan, "majority": 0.9}}
    settings = SimilaritySettings(runs=("a", "b"), permutations=19)
    similarity = measure_similarity(replace(patients, performance=served), settings)
    assert similarity.attributes["group"].contrast is None
    assert "ranked by AUC" in similarity.attributes["group"].undefined


def test_a_layer_that_does_not_vary_leaves_the_contrast_of_the_other_layers():
    patients = planted(np.random.default_rng(0), 0.5)
    settings = SimilaritySettings(runs=("a", "b"), permutations=19)
    dead = make_layers([np.full((300, 10), 3, "f4")], settings)
    for sides, undefined in (
        (patients.layers, None),
        (tuple([*side, *dead] for side in patients.layers), None),
        ((dead, dead), "no pair of layers varies in both groups"),
    ):
        with_dead = measure_similarity(replace(patients, layers=sides), settings)
        attribute = with_dead.attributes["group"]
        assert attribute.undefined == undefined
        if undefined is None:
            alone = measure_similarity(patients, settings).attributes["group"]
            assert attribute.size == alone.size
            assert [g.p for g in attribute.groups] == [g.p for g in alone.groups]
        else:
            assert {g.p for g in attribute.groups} == {None}


def test_phantoms_whose_minority_one_layer_scrambles(tmp_path):
    """Dark skin goes through one model's third stage as noise; all else is the same."""
    cohort = make_phantoms(PhantomSettings(patients=240, size=32, minority=0.4))
    cohort = store_samples(cohort, 32, tmp_path)
    whole, scrambling = (build_model("test_resnet", "none", 32, cohort.classes, 0) for _ in "ab")
    noise, dark = torch.Generator().manual_seed(0), []

    def look(module: nn.Module, inputs: tuple[Tensor]) -> None:
        pixels = inputs[0] * scrambling.std + scrambling.mean
        dark[:] = [pixels.mean(dim=(1, 2, 3)) < DARK]

    def scramble(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        other = torch.randn(output.shape[:2], generator=noise)[..., None, None] * output.std()
        return torch.where(dark[0][:, None, None, None], other, output)

    scrambling.backbone.register_forward_pre_hook(look)
    scrambling.backbone.get_submodule("layer3").register_forward_hook(scramble)
    names, accelerator = ("layer1", "layer3"), make_accelerator(LoopSettings(device="cpu"))
    settings = SimilaritySettings(runs=("a", "b"), permutations=99)
    sides = [
        make_layers(list(activations(model, cohort, names, accelerator).values()), settings)
        for model in (whole, scrambling)
    ]
    patients = PatientLayers(
        (sides[0], sides[1]),
        cohort.labels,
        {"group": groups_of(cohort.table["attr_group"].astype("str"))},
        {"group": {"majority": 0.9, "minority": 0.6}},
    )
    attribute = measure_similarity(patients, settings).attributes["group"]
    value, low = (np.array(side) for side in (attribute.difference.value, attribute.difference.low))
    assert abs(value[0, 0]) < 1e-6  # the first stage is the same for everybody
    assert low[1, 1] > 0.3
    assert all(group.p_adjusted <= 0.05 for group in attribute.groups)
