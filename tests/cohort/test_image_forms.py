"""Images of one channel, of many, and that are no squares: from the file to the exported model."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import onnxruntime
import PIL.Image
import pytest
import timm
import torch
from tests.cohort.test_own_files import FLAGS, PLANE, RNG, problem, read, table_of, write_table
from tests.command import PHANTOMS, evenhand, training
from tests.data.table import make_table

from evenhand.cohort.images.decoding import fit_picture
from evenhand.cohort.phantoms.images import PhantomSettings, make_phantoms
from evenhand.cohort.store.samples import store_samples
from evenhand.errors import EvenhandError
from evenhand.networks.augment import crop_images, jitter
from evenhand.networks.export import check_answers, to_onnx
from evenhand.networks.inputs import ImageForm
from evenhand.networks.model import Model, build_model, load_model, random_model
from evenhand.networks.registry import BACKBONES, register_backbone
from evenhand.networks.settings import read_size
from evenhand.training.inputs import input_notes, model_inputs

CLASSES = ("a", "b")
GREY, FIVE, WIDE = ImageForm(32, 32, 1), ImageForm(32, 32, 5), ImageForm(32, 64)


def write_tiff(path: Path, channels: int, *, colours: bool) -> None:
    """Write a TIFF of 9 x 9 black pixels with so many channels in its one page."""
    extra = channels - (3 if colours else 1)
    places = 8 + 2 + 11 * 12 + 4  # of what follows the directory: bits, kinds of channels, pixels
    shorts, longs = {258: (channels, places), 338: (extra, places + 2 * channels)}, {256: 9, 257: 9}
    longs |= {259: 1, 262: 2 if colours else 1, 273: places + 2 * (channels + extra), 277: channels}
    longs |= {278: 9, 279: 81 * channels, 284: 1}
    entries = {tag: (3, *value) for tag, value in shorts.items()}
    entries |= {tag: (4, 1, value) for tag, value in longs.items()}
    directory = b"".join(struct.pack("<HHII", tag, *entries[tag]) for tag in sorted(entries))
    values = struct.pack(f"<{channels + extra}H", *[8] * channels, *[0] * extra)
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    path.write_bytes(head + directory + bytes(4) + values + bytes(81 * channels))


def model_of(form, backbone="test_resnet", weights="none", seed=0) -> Model:
    return build_model(backbone, weights, form, CLASSES, seed).eval()


class TestSize:
    """What ``--image-size`` takes."""

    @pytest.mark.parametrize(
        ("text", "size"),
        [("384", 384), (384, 384), ("512x384", (512, 384)), ("64X64", 64), ([64, 32], (64, 32))],
    )
    def test_height_comes_first(self, text, size):
        assert read_size(text) == size

    @pytest.mark.parametrize(
        "text", ["", "x", "0", "32x", "1x2x3", "-4", "9.5", 5000, "8x5000", True, float("inf"), {}]
    )
    def test_anything_else_is_refused(self, text):
        with pytest.raises(ValueError, match=r"height x width, as in 512x384; from 1 to 4096"):
            read_size(text)

    def test_the_command_line_says_what_is_wrong(self, tmp_path):
        words = ("--attribute", "group", "--out", tmp_path / "out")
        refused = evenhand("finetune", PHANTOMS, "--image-size", "64x", *words)
        assert refused.status == 2
        assert "--image-size: give the side in pixels" in refused.err


class TestReading:
    """Channels and proportions as they come out of a store."""

    def test_grey_of_three_channels_and_of_one_is_the_same(self, tmp_path):
        phantoms = make_phantoms(PhantomSettings(patients=10, size=20))
        three = store_samples(phantoms, 16, tmp_path)
        item = store_samples(phantoms, ImageForm(16, 16, 1), tmp_path)
        assert item.source.stored.shape == (16, 16, 1)
        assert three.source.stored.shape == (16, 16, 3)
        first = phantoms.table["sample_id"].iloc[0]
        picture = PIL.Image.fromarray(phantoms.read(first))
        assert np.array_equal(
            item.read(first), fit_picture(picture.convert("L"), ImageForm(16, 16, 1))
        )

    def test_a_grey_picture_is_not_tripled(self, tmp_path):
        table = table_of(tmp_path)
        three, item = read(table), read(table, size=ImageForm(12, 12, 1))
        for name, sample in three.items():
            assert item[name].shape == (12, 12, 1)
            assert np.array_equal(np.dstack([item[name][..., 0]] * 3), sample)

    def test_a_wide_form_is_height_by_width(self, tmp_path):
        halves = np.zeros((20, 40), np.uint8)
        halves[:, 20:] = 255
        PIL.Image.fromarray(halves).save(tmp_path / "a.png")
        result = read(table_of(tmp_path, "a.png"), size=ImageForm(10, 30))["a.png"]
        assert result.shape == (10, 30, 3)
        assert result[:, 20:].mean() > 250
        assert result[:, :10].mean() < 5

    def test_each_channel_of_an_array_is_its_own(self, tmp_path):
        array = RNG.integers(0, 256, (5, 12, 12)).astype(np.uint8)
        np.save(tmp_path / "first.npy", array)
        np.save(tmp_path / "last.npy", array.transpose(1, 2, 0))
        pages = [PIL.Image.fromarray(plane) for plane in array]
        pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
        names = ["first.npy", "last.npy", "pages.tif"] * 3
        for copy in range(3):
            for name in names[:3]:
                (tmp_path / f"{copy}{name}").write_bytes((tmp_path / name).read_bytes())
        table = write_table(tmp_path, [f"{k // 3}{name}" for k, name in enumerate(names)])
        content = read(table, size=ImageForm(12, 12, 5))
        assert all(np.array_equal(item, array.transpose(1, 2, 0)) for item in content.values())
        small = read(table, size=ImageForm(6, 4, 5))["0first.npy"]
        for channel, plane in enumerate(pages):
            wanted = np.asarray(plane.resize((4, 6), PIL.Image.Resampling.BICUBIC))
            assert np.array_equal(small[..., channel], wanted)

    @pytest.mark.parametrize(
        ("write", "form", "message"),
        [
            (lambda p: np.save(p, np.zeros((9, 9, 4), np.uint8)), 9, "Give --channels 4 if all"),
            (lambda p: np.save(p, np.zeros((9, 9), np.uint8)), FIVE, "it has 1 channel, not 5"),
            (lambda p: np.save(p, np.zeros((4, 9, 9), np.uint8)), FIVE, "the shape (4, 9, 9)"),
            (lambda p: PIL.Image.fromarray(PLANE).save(p, "PNG"), FIVE, "a picture of 1 page, but"),
            (lambda p: write_tiff(p, channels=6, colours=False), FIVE, "6 channels in a page"),
            (lambda p: write_tiff(p, channels=6, colours=True), 9, "6 channels in a page"),
            (lambda p: write_tiff(p, channels=8, colours=False), FIVE, "give --channels 8"),
        ],
    )
    def test_other_channels_are_refused_with_file_and_row(self, tmp_path, write, form, message):
        write(tmp_path / "a.npy")
        text = problem(table_of(tmp_path, "a.npy"), size=form)
        assert "row 2) cannot be read: " in text
        assert message in text

    def test_stores_of_other_forms_are_others(self, tmp_path):
        phantoms = make_phantoms(PhantomSettings(patients=10, size=20))
        for form in (16, ImageForm(16, 16, 1), ImageForm(16, 8), ImageForm(8, 16)):
            shape = store_samples(phantoms, form, tmp_path).source.stored.shape
            wanted = ImageForm.of(form)
            assert shape == (wanted.height, wanted.width, wanted.channels)
        assert len(list((tmp_path / "samples").iterdir())) == 4


class TestNetworks:
    """Networks that are made for such images."""

    @pytest.mark.parametrize("backbone", ["test_resnet", "test_vit", "test_efficientnet"])
    @pytest.mark.parametrize("form", [GREY, FIVE, WIDE, ImageForm(64, 32, 1)])
    def test_a_network_takes_them_and_is_built_again(self, backbone, form):
        model = model_of(form, backbone)
        images = torch.rand(2, form.channels, form.height, form.width)
        assert model(images).shape == (2, 2)
        again = random_model(type(model.spec).model_validate_json(model.spec.model_dump_json()), 1)
        again.load_state_dict(model.state_dict())
        assert torch.equal(again.eval()(images), model(images))
        assert model.spec.images == form.plain

    def test_a_grey_network_filled_from_colours_answers_as_on_tripled_grey(self, tmp_path):
        """Up to the scale, which is one number for all channels here."""
        three = timm.create_model("test_resnet", num_classes=0)
        file = tmp_path / "three.pth"
        torch.save(three.state_dict(), file)
        grey = model_of(GREY, weights=str(file)).backbone
        images = torch.randn(3, 1, 32, 32)
        with torch.no_grad():
            wanted = three.eval()(images.expand(-1, 3, -1, -1))
            assert torch.allclose(grey(images), wanted, atol=1e-5)

    def test_more_channels_repeat_the_weights_as_timm_does(self, tmp_path):
        three = timm.create_model("test_vit", num_classes=0, img_size=32)
        torch.save(three.state_dict(), tmp_path / "three.pth")
        five = model_of(FIVE, "test_vit", str(tmp_path / "three.pth")).backbone
        wanted = timm.models.adapt_input_conv(5, three.patch_embed.proj.weight)
        assert torch.equal(five.patch_embed.proj.weight, wanted)

    def test_weights_of_other_channels_are_refused(self, tmp_path):
        four = timm.create_model("test_resnet", num_classes=0, in_chans=4)
        torch.save(four.state_dict(), tmp_path / "four.pth")
        with pytest.raises(EvenhandError, match=r"does not fit test_resnet"):
            model_of(GREY, weights=str(tmp_path / "four.pth"))

    def test_the_run_says_that_weights_were_adapted(self):
        (note,) = input_notes(GREY, "pretrained")
        assert note.startswith("The images have 1 channel, and the network's first layer was")
        assert not list(input_notes(GREY, "none"))
        assert not list(input_notes(WIDE, "pretrained"))

    def test_a_rectangle_that_patches_do_not_divide_is_refused(self):
        with pytest.raises(EvenhandError, match=r"48x70 pixels: .* Give --image-size 48x64, or"):
            model_of(ImageForm(48, 70), "test_vit")

    def test_position_embeddings_follow_the_proportions(self, tmp_path):
        square = timm.create_model("test_vit", num_classes=0, img_size=64)
        torch.save(square.state_dict(), tmp_path / "square.pth")
        wide = model_of(ImageForm(64, 32), "test_vit", str(tmp_path / "square.pth")).backbone
        assert wide.patch_embed.grid_size == (4, 2)
        assert wide.pos_embed.shape[1] == square.pos_embed.shape[1] - 8

    def test_a_network_of_ones_own_is_told_both(self):
        sizes = {}

        def make(size, channels) -> torch.nn.Module:
            sizes.update(size=size, channels=channels)
            first = torch.nn.Conv2d(channels, 4, 3)
            return torch.nn.Sequential(first, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())

        register_backbone("told-both", make, mean=(0.5,), std=(0.25,))
        try:
            model = model_of(ImageForm(16, 8, 1), "told-both")
        finally:
            BACKBONES.remove("told-both")
        assert sizes == {"size": (16, 8), "channels": 1}
        assert model.mean.flatten().tolist() == [0.5]

    @pytest.mark.parametrize("form", [GREY, WIDE])
    def test_an_exported_graph_says_the_same(self, tmp_path, form):
        model = model_of(form, "test_vit")
        answer = to_onnx(model, tmp_path / "model.onnx")
        assert check_answers(model, answer) < 1e-4
        session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
        assert session.get_inputs()[0].shape[1:] == [form.channels, form.height, form.width]


class TestAugmentation:
    """What is drawn for images that are no squares or have other channels."""

    def test_a_wide_image_is_turned_by_halves_only(self):
        images = torch.zeros(64, 1, 8, 16)
        images[..., 8:] = 1  # bright at the right: it stays at one of the ends
        turned = crop_images(images, torch.Generator().manual_seed(0), turns=True, smallest=1.0)
        ends = turned[..., :4].mean(dim=(1, 2, 3)), turned[..., -4:].mean(dim=(1, 2, 3))
        assert torch.allclose((ends[0] - ends[1]).abs(), torch.ones(64), atol=0.05)
        assert 10 < int((ends[0] > 0.5).sum()) < 54

    def test_channels_that_are_no_colours_do_not_mix(self):
        images = torch.rand(8, 5, 6, 6)
        images[:, 2] = 0
        changed = jitter(images, torch.Generator().manual_seed(0))
        assert not changed[:, 2].any()
        assert not torch.equal(changed[:, 0], images[:, 0])


@pytest.mark.parametrize(
    ("flags", "shape"),
    [
        (("--channels", 1), [32, 32, 1]),
        (("--image-size", "32x64"), [32, 64, 3]),
        (("--image-size", "64x32", "--channels", 1, "--augment", "free"), [64, 32, 1]),
    ],
)
def test_the_command_line_trains_predicts_prunes_and_exports(tmp_path, flags, shape):
    cache = ("--cache", tmp_path / "cache")
    run = tmp_path / "run"
    words = training(tmp_path / "cache", "--epochs", 1, *flags)
    done = evenhand("finetune", PHANTOMS, *words, "--out", run)
    assert done.status == 0, done.err
    record = json.loads((run / "run.json").read_text())
    assert record["source"]["stored"] == {"dtype": "uint8", "shape": shape}
    folder = next((run / "models").iterdir())
    assert list(load_model(folder).spec.inputs.shape) == [shape[2], *shape[:2]]
    done = evenhand("predict", run, PHANTOMS, *cache, "--out", tmp_path / "predicted")
    assert done.status == 0, done.err
    done = evenhand("export", run, "--format", "onnx", "--out", tmp_path / "model.onnx")
    assert done.status == 0, done.err
    words = ("--attribute", "group", "--budget", 100, "--limit", 10, "--device", "cpu", *cache)
    done = evenhand("prune", run, *words, "--out", tmp_path / "pruned")
    assert done.status == 0, done.err


def test_the_check_says_what_is_stored(tmp_path):
    words = ("--image-column", "photo", "--label", "finding", "--patient", "person")
    table = make_table(tmp_path, patients=30)
    more = ("--attribute", "skin", "--channels", 1, "--cache", tmp_path / "cache")
    done = evenhand("check", table, *words, *more)
    assert "read as uint8, 64 x 64 x 1" in done.out


def test_series_have_channels_of_their_own(tmp_path):
    words = ("--attribute", "group", "--cache", tmp_path / "cache", "--channels", 1)
    for command in ("check", "pretrain"):
        refused = evenhand(command, "series_phantom:patients=40", *words, "--out", tmp_path / "o")
        assert refused.status == 2
        assert (
            "--channels 1: the samples are series, which have channels of their own" in refused.err
        )


def test_arrays_of_many_channels_are_learnt_from(tmp_path: Path):
    for number in range(24):
        array = RNG.integers(0, 256, (6, 16, 16)).astype(np.uint8)
        array[4] = 255 * (number // 2 % 2)  # the label is in one channel
        np.save(tmp_path / f"{number}.npy", array)
    table = write_table(tmp_path, [f"{n}.npy" for n in range(24)])
    words = training(tmp_path / "cache", "--attribute", "sex", "--channels", 6, "--epochs", 1)
    words = tuple(word for word in words if word != "group")
    done = evenhand("finetune", table, *words[:words.index("--attribute")], *FLAGS,
                    "--channels", 6, "--epochs", 1, "--cache", tmp_path / "cache",
                    "--out", tmp_path / "run")  # fmt: skip
    assert done.status == 0, done.err
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["source"]["stored"]["shape"] == [32, 32, 6]


def test_model_inputs_are_what_is_stored(tmp_path):
    phantoms = make_phantoms(PhantomSettings(patients=10, size=20))
    for form in (16, ImageForm(16, 16, 1), ImageForm(16, 8)):
        assert model_inputs(store_samples(phantoms, form, tmp_path)) == form
