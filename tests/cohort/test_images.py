"""Image files: what they hold is read as it is meant, or refused by name."""

from __future__ import annotations

import os
import socket
import threading
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
import pytest
from tests.command import evenhand
from tests.data.deep_pictures import ramp, write_png16, write_tiff16
from tests.data.table import make_table, write_frame

from evenhand.cohort.cohort import UnreadableError
from evenhand.cohort.images import bounds as module
from evenhand.cohort.images.bounds import admit, decoding_room, without_pillow_limit
from evenhand.cohort.images.decoding import ImageFiles, open_picture
from evenhand.cohort.readers import open_cohort
from evenhand.cohort.settings import DataSettings
from evenhand.cohort.store.samples import store_samples
from evenhand.errors import EvenhandError

COLUMNS = {"image_column": "photo", "label": "finding", "patient": "person"}
WRITERS = [(write_png16, channels) for channels in (1, 2, 3, 4)]
WRITERS += [(write_tiff16, channels) for channels in (1, 3)]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return make_table(tmp_path, patients=4)


def opened(path: Path, **more):
    return open_cohort(DataSettings(**{"data": str(path), **COLUMNS, **more}))


def pixels(path: Path, **more) -> np.ndarray:
    return np.asarray(open_picture(path, None, **more), int)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x1f\x8b\x08rest", "gzip"),
        (bytes(344) + b"n+1\0", "a NIfTI volume"),
        (bytes(128) + b"DICM", "a DICOM file"),
        (b"\x93NUMPY\x01", "an array of numpy"),
        (b"\0\0\0\x18ftypheic", "an HEIC image"),
        (b"<svg/>", "an SVG drawing"),
        (b"version https://git-lfs.github.com", "git lfs pull"),
        (b"hello", "no image of a format"),
        (b"", "it is empty"),
    ],
)
def test_what_is_no_image_is_named(tmp_path, content, kind):
    (tmp_path / "i.png").write_bytes(content)
    with pytest.raises(ValueError, match=kind):
        open_picture(tmp_path / "i.png", None)


class TestDepth:
    """Images of 16 bits per channel."""

    def test_a_depth_for_images_of_8_bits_alone_is_refused(self, table):
        with pytest.raises(EvenhandError, match="none of the images has 16 bits"):
            opened(table, bit_depth=12)

    @pytest.mark.parametrize(("write", "channels"), WRITERS)
    @pytest.mark.parametrize("bits", [10, 12, 16])
    def test_a_declared_depth_makes_the_whole_range_of_greys(self, tmp_path, write, channels, bits):
        values = ramp(channels, 2**bits - 1)
        result = pixels(write(tmp_path / "image", values), bit_depth=bits)
        wanted = np.round(values[..., :1] / (2**bits - 1) * 255)
        assert np.array_equal(result, np.repeat(wanted, 3, axis=2))

    @pytest.mark.parametrize(("write", "channels"), WRITERS)
    def test_an_unknown_depth_is_refused_whatever_the_channels(self, tmp_path, write, channels):
        path = write(tmp_path / "image", ramp(channels, 4095))
        with pytest.raises(ValueError, match=r"go up to 4095. Give --bit-depth, as in --bit-depth"):
            open_picture(path, None)

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_a_png_says_how_many_bits_it_uses(self, tmp_path, channels):
        low, full = ramp(channels, 4095), ramp(channels, 65535)
        chunk = {"sBIT": bytes([12] * channels)}
        for values in (low, full):  # as some programs write, and as the format has it
            result = pixels(write_png16(tmp_path / "image.png", values, **chunk))
            assert (result.min(), result.max(), len(np.unique(result))) == (0, 255, 256)
        doubtful = (ramp(channels, 255) * 16).astype(np.uint16)
        with pytest.raises(ValueError, match=r"lower or the upper ones. Give --bit-depth 12"):
            pixels(write_png16(tmp_path / "image.png", doubtful, **chunk))

    @pytest.mark.parametrize(("order", "channels"), [("<", 1), (">", 1), ("<", 3), (">", 3)])
    def test_a_tiff_says_its_highest_value(self, tmp_path, order, channels):
        values = ramp(channels, 4095)
        result = pixels(write_tiff16(tmp_path / "image.tif", values, order, highest=4095))
        assert (result.min(), result.max(), len(np.unique(result))) == (0, 255, 256)
        for highest in (4094, 255):  # the largest value that occurs, and no range
            path = write_tiff16(tmp_path / "image.tif", values, order, highest=highest)
            with pytest.raises(ValueError, match="Give --bit-depth"):
                open_picture(path, None)

    def test_a_depth_that_the_values_contradict(self, tmp_path):
        path = write_png16(tmp_path / "image.png", ramp(3, 4095))
        with pytest.raises(ValueError, match=r"to 4095, more than --bit-depth 10 .* \(1023\)"):
            open_picture(path, None, bit_depth=10)

    def test_transparency_of_16_bits_lies_over_white(self, tmp_path):
        values = ramp(4, 4095)
        values[..., 3] = np.where(np.arange(16)[:, None] < 8, 0, 4095)
        result = pixels(write_png16(tmp_path / "image.png", values), bit_depth=12)
        assert (result[:8] == 255).all()
        assert result[8:].min() < 140

    @pytest.mark.parametrize("channels", [1, 3])
    def test_one_transparent_colour_of_16_bits(self, tmp_path, channels):
        chunk = {"tRNS": bytes(2 * channels)}
        result = pixels(
            write_png16(tmp_path / "i.png", ramp(channels, 4095), **chunk), bit_depth=12
        )
        assert result[0, 0].tolist() == [255, 255, 255]
        assert result[0, 1].tolist() == [1, 1, 1]

    def test_the_flag_makes_other_samples_of_the_same_files(self, tmp_path, table):
        for n, photo in enumerate((tmp_path / "images").iterdir()):
            write_png16(photo, ramp(3, 4000 + n))
        with pytest.raises(UnreadableError, match=r"8 of 8 samples .*\n.*row .*--bit-depth 12"):
            store_samples(opened(table), 8, tmp_path / "cache")
        twelve, sixteen = (opened(table, bit_depth=bits) for bits in (12, 16))
        assert twelve.source.fingerprint != sixteen.source.fingerprint
        bright, dark = (store_samples(each, 8, tmp_path / "cache") for each in (twelve, sixteen))
        assert bright.read.samples.max() > 230
        assert dark.read.samples.max() < 20


class TestAlpha:
    """What is transparent is white."""

    @pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
    def test_a_transparent_ground(self, tmp_path, mode):
        image = PIL.Image.new("RGBA", (8, 8), (0, 0, 0, 0))
        image.paste((10, 10, 10, 255), (2, 2, 6, 6))
        image.convert(mode).save(tmp_path / "image.png")
        result = pixels(tmp_path / "image.png")
        assert result[0, 0].tolist() == [255, 255, 255]
        assert result[4, 4].max() <= 12

    def test_half_transparent_is_half_white(self, tmp_path):
        PIL.Image.new("RGBA", (4, 4), (0, 100, 200, 128)).save(
            tmp_path / "image.webp", lossless=True
        )
        assert np.abs(pixels(tmp_path / "image.webp")[0, 0] - [127, 177, 227]).max() <= 1


class TestPages:
    """Files of several pages."""

    @pytest.fixture(params=["tif", "gif", "webp", "png"])
    def path(self, request, tmp_path) -> Path:
        pages = [PIL.Image.new("L", (8, 8), grey) for grey in (0, 100, 200)]
        path = tmp_path / f"image.{request.param}"
        options = {"lossless": True} if request.param == "webp" else {}
        pages[0].save(path, save_all=True, append_images=pages[1:], **options)
        return path

    def test_they_are_refused_unless_one_is_named(self, path):
        with pytest.raises(ValueError, match=r"it has 3 pages.*Give --page"):
            open_picture(path, None)
        assert [pixels(path, page=page).mean() for page in (1, 2, 3)] == [0, 100, 200]
        with pytest.raises(ValueError, match="it has 3 pages, and --page 4 is given"):
            open_picture(path, None, page=4)

    def test_what_a_camera_puts_behind_a_photograph_is_no_page(self, tmp_path):
        photo, depth = (PIL.Image.new("RGB", (8, 8), colour) for colour in ("white", "black"))
        photo.save(tmp_path / "image.jpg", format="MPO", save_all=True, append_images=[depth])
        assert pixels(tmp_path / "image.jpg").min() == 255


class TestSize:
    """Pixels of one image, and of all that are decoded at once."""

    def test_too_many_are_refused_with_the_file_and_the_flag(self, tmp_path, table):
        bomb = tmp_path / "images" / "003.png"
        PIL.Image.new("1", (13_300, 13_300)).save(bomb)
        with pytest.raises(UnreadableError) as error:
            store_samples(opened(table), 8, tmp_path / "cache")
        text = str(error.value)
        assert f"{bomb} ({table}, row 5) cannot be read: it has 13,300 x 13,300" in text
        assert "80,000,000 that --max-pixels allows" in text
        few = opened(table, max_pixels=1000, skip_unreadable=True)
        with pytest.raises(EvenhandError, match=r"60 x 45 = 2,700 pixels, more than the 1,000"):
            few.read(few.table["sample_id"][0])

    def test_a_raised_bound_lets_them_in_without_a_word_of_pillow(
        self, tmp_path, table, monkeypatch, recwarn
    ):
        monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
        stored = store_samples(opened(table, max_pixels=2700), 8, tmp_path / "cache")
        assert len(stored) == 8
        assert not recwarn.list
        assert PIL.Image.MAX_IMAGE_PIXELS == 100

    def test_pillows_bound_comes_back_when_the_last_thread_is_done(self, monkeypatch):
        monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
        with without_pillow_limit():
            with without_pillow_limit():
                assert PIL.Image.MAX_IMAGE_PIXELS is None
            assert PIL.Image.MAX_IMAGE_PIXELS is None
        assert PIL.Image.MAX_IMAGE_PIXELS == 100

    def test_threads_together_hold_no_more_than_the_bound(self):
        """Each of 8 threads asks for 40 of 100 pixels: no more than two are in at once."""
        inside, most, lock = 0, 0, threading.Lock()
        gate = threading.Barrier(8)

        def decode() -> None:
            nonlocal inside, most
            gate.wait()
            for _ in range(20):
                with decoding_room(100):
                    admit(8, 5)
                    with lock:
                        inside += 1
                        most = max(most, inside)
                    with lock:
                        inside -= 1

        threads = [threading.Thread(target=decode) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most <= 2
        assert module._reserved_pixels == 0

    def test_an_image_that_fails_gives_its_room_back(self, tmp_path, table):
        cohort = opened(table)
        (tmp_path / "images" / "000.png").write_bytes(b"no picture")
        with pytest.raises(UnreadableError):
            cohort.read("images/000.png")
        assert module._reserved_pixels == 0


@pytest.mark.parametrize("flag", [{"bit_depth": 12}, {"page": 1}])
def test_flags_of_image_files_are_refused_elsewhere(flag):
    with pytest.raises(EvenhandError, match=r"--(bit-depth|page): phantom reads no image"):
        open_cohort(DataSettings(data="phantom:patients=20,size=16", **flag))


class TestNames:
    """Files that a table spells in another way than the disk does."""

    def test_letters_that_the_disk_has_decomposed(self, tmp_path):
        frame = pd.read_csv(make_table(tmp_path, patients=4), dtype="str")
        (tmp_path / "images").rename(tmp_path / unicodedata.normalize("NFD", "Aufnahmen-ü"))
        folder = tmp_path / unicodedata.normalize("NFD", "Aufnahmen-ü")
        frame["photo"] = [f"Aufnahmen-ü/é{n:03d}.png" for n in range(8)]
        for n in range(8):
            (folder / f"{n:03d}.png").rename(folder / unicodedata.normalize("NFD", f"é{n:03d}.png"))
        cohort = opened(write_frame(tmp_path / "table.csv", frame))
        assert cohort.table["sample_id"].tolist() == frame["photo"].tolist()
        assert len(store_samples(cohort, 8, tmp_path / "cache")) == 8

    def test_backslashes_of_another_system(self, tmp_path):
        frame = pd.read_csv(make_table(tmp_path, patients=4), dtype="str")
        frame["photo"] = frame["photo"].str.replace("/", "\\")
        assert opened(write_frame(tmp_path / "table.csv", frame)).read("images\\000.png").any()

    def test_a_file_that_is_not_there_is_still_absent(self, tmp_path, table):
        (tmp_path / "images" / "000.png").unlink()
        with pytest.raises(EvenhandError, match="row 2: 1 of 8 files is absent"):
            opened(table)


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_file_is_refused_before_anybody_waits_for_it(tmp_path, table, kind):
    image = tmp_path / "images" / "002.png"
    image.unlink()
    if kind == "pipe":
        os.mkfifo(image)
    elif kind == "device":
        image.symlink_to("/dev/zero")
    else:
        folder = os.open(image.parent, os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{folder}/002.png")  # the path of a socket must be short
        os.close(folder)
    flags = ("--image-column", "photo", "--label", "finding", "--patient", "person")
    outcome = evenhand("check", table, *flags, "--attribute", "skin")
    assert outcome.status == 2
    assert "row 4: a pipe, a socket or a device" in outcome.err


@pytest.mark.parametrize(
    ("size", "text"), [(33, "patches are 16 pixels wide. Give --image-size 32"), (10**6, "4096")]
)
def test_sizes_out_of_any_sense(tmp_path, size, text):
    flags = ("--backbone", "test_vit", "--weights", "none", "--image-size", size)
    words = ("phantom:patients=40,size=16", "--attribute", "group", "--out", tmp_path / "run")
    outcome = evenhand("finetune", *words, *flags, "--cache", tmp_path / "cache")
    assert outcome.status == 2
    assert text in outcome.err
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore")  # Pillow's, of what it makes of the rest
@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "gif", "webp", "bmp"])
def test_damage_anywhere_is_a_text(tmp_path, kind):
    """Whatever is wrong in a file, the reader says so and no other exception comes through."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (12, 12, 3)).astype(np.uint8)
    path = tmp_path / f"image.{kind}"
    PIL.Image.fromarray(picture).save(path)
    whole = path.read_bytes()
    read = ImageFiles({"x": str(path)}, {"x": 2}, tmp_path / "table.csv")
    failures = 0
    for _ in range(300):
        content = bytearray(whole)
        for place in rng.integers(0, min(len(whole), 200), rng.integers(1, 6)):
            content[place] = rng.integers(0, 256)
        path.write_bytes(content)
        try:
            read("x")
        except UnreadableError:
            failures += 1
    assert failures > 20
