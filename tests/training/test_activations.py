from __future__ import annotations

import numpy as np
import pytest
import torch

from evenhand.cohort.phantoms.images import PhantomSettings, make_phantoms
from evenhand.cohort.readers import open_cohort
from evenhand.cohort.settings import DataSettings
from evenhand.cohort.store.samples import store_samples
from evenhand.errors import EvenhandError
from evenhand.networks.layers import find_layers, layer_names, record_activations
from evenhand.networks.model import Model, build_model
from evenhand.training.device import make_accelerator
from evenhand.training.frozen_prefix import activations
from evenhand.training.inputs import model_inputs
from evenhand.training.settings import LoopSettings

CPU = LoopSettings(device="cpu")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    cohort = make_phantoms(PhantomSettings(patients=20, size=32))
    return store_samples(cohort, 32, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    cohort = open_cohort(DataSettings(data="series_phantom:patients=20"))
    return store_samples(cohort, None, tmp_path_factory.mktemp("cache"))


def network(backbone: str) -> Model:
    return build_model(backbone, "none", 32, ("a", "b"), 0)


@pytest.mark.parametrize(
    ("backbone", "count"), [("test_vit", 6), ("test_resnet", 5), ("test_convnext", 4)]
)
def test_a_layer_is_a_row_of_means_over_its_places(images, backbone, count):
    model = network(backbone)
    names = layer_names(model.backbone)
    assert len(names) == count
    result = activations(model, images, names, make_accelerator(CPU))
    for name, rows in result.items():
        seen = []
        hook = model.backbone.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, seen=seen: seen.append(output)
        )
        pixels = np.stack([images.read(item) for item in images.table["sample_id"]])
        model.features(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255)
        hook.remove()
        (output,) = seen
        mean = output.mean(dim=1) if output.ndim == 3 else output.mean(dim=(2, 3))
        np.testing.assert_allclose(rows, mean.detach().numpy(), atol=1e-5)


def test_flat_keeps_every_number(images):
    model = network("test_vit")
    mean, flat = (
        activations(model, images, ["blocks.1"], make_accelerator(CPU), pool)["blocks.1"]
        for pool in ("mean", "flat")
    )
    np.testing.assert_allclose(flat.reshape(20, -1, mean.shape[1]).mean(axis=1), mean, atol=1e-5)


def test_series_are_flat_and_without_dropout(series):
    model = build_model("conv1d", "none", model_inputs(series), series.classes, 0).train()
    names = layer_names(model.backbone)
    assert names == ("conv1", "conv2", "conv3")
    first, two = (activations(model, series, names, make_accelerator(CPU)) for _ in range(2))
    steps = len(series.read(series.table["sample_id"][0]))
    assert [rows.shape[1] for rows in first.values()] == [steps * width for width in (32, 64, 96)]
    assert all((first[name] == two[name]).all() for name in names)


def test_convolutions_of_series_are_read_after_their_relu(series):
    model = build_model("conv1d", "none", model_inputs(series), series.classes, 0).eval()
    result = activations(model, series, ("conv3",), make_accelerator(CPU))["conv3"]
    assert result.min() == 0
    raw = np.stack([series.read(item) for item in series.table["sample_id"]])
    with torch.inference_mode():
        features = model.features(torch.from_numpy(raw).transpose(1, 2))
    largest = result.reshape(len(result), 96, -1).max(axis=2)
    np.testing.assert_allclose(largest, features.numpy(), atol=1e-5)


def test_nothing_is_left_on_the_model(images):
    model = network("test_resnet")
    activations(model, images, ["layer1"], make_accelerator(CPU))
    assert not any(module._forward_hooks for module in model.modules())


def test_of_a_layer_that_returns_a_tuple_the_first_is_read():
    recurrent = torch.nn.GRU(3, 4, batch_first=True)
    inputs = torch.rand(2, 5, 3)
    with torch.no_grad(), record_activations(torch.nn.Sequential(recurrent), ["0"], "flat") as rows:
        expected = recurrent(inputs)[0]
    assert torch.equal(rows["0"], expected.flatten(1))


def test_a_layer_that_does_not_run_is_named(images):
    model = network("test_resnet")
    model.backbone.unused = torch.nn.Linear(2, 2)
    with pytest.raises(EvenhandError, match=r"unused of test_resnet did not run on a batch"):
        activations(model, images, ["layer1", "unused"], make_accelerator(CPU))


def test_layers_by_name():
    model = network("test_resnet")
    assert find_layers(model, ("layer3", "layer1")) == ("layer1", "layer3")
    with pytest.raises(EvenhandError, match=r"no layer 'layer9'; there are: act1, layer1"):
        find_layers(model, ("layer9",))
