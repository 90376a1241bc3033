"""Images by sample id: from files, or from an array."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
import PIL.ImageOps
from numpy.typing import NDArray
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from evenhand.cohort.cohort import Image, UnreadableError
from evenhand.cohort.images.bounds import admit, decoding_room, without_pillow_limit
from evenhand.cohort.images.deep import is_deep, read_deep
from evenhand.cohort.settings import MAX_PIXELS
from evenhand.networks.inputs import ImageForm, Images

Picture = PIL.Image.Image | Image
"""A picture, or an array ``(H, W, C)`` of uint8 of any number of channels."""

Open = Callable[[Path, Images | None], Picture]
"""Opens a file as a picture, no smaller than is asked (None: as it is); ValueError if it cannot."""

MODES = {1: "L", 3: "RGB"}
"""What Pillow calls pictures of so many channels."""

_TIFF = (b"II*\0", b"MM\0*")
_SAMPLES_PER_PIXEL = 277  # a tag of TIFF
_MOST_IN_A_PAGE = 4

NO_ROW = 0  # the row of an image that a table does not name: a header is row 1
IMAGE_SIZE = 224  # pixels, where no size is asked for

# What Pillow raises for a damaged file, whatever its format.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, TypeError, RuntimeError)


_OTHER_FILES = (
    (0, b"\x1f\x8b", "packed by gzip (a NIfTI volume?)"),
    (344, b"n+1\0", "a NIfTI volume"),
    (128, b"DICM", "a DICOM file"),
    (0, b"\x93NUMPY", "an array of numpy"),
    (0, b"PK\x03\x04", "a zip archive or arrays of numpy"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"%PDF-", "a PDF"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the image (download it: git lfs pull)"),
    (4, b"ftyphei", "an HEIC image"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"<?xml", "XML or an SVG drawing"),
    (0, b"<!DOCTYPE html", "a web page"),
    (0, b"<html", "a web page"),
)
"""What other files hold: place, bytes there, and what it is."""


def open_picture(
    path: Path, size: Images | None, *, bit_depth: int | None = None, page: int | None = None
) -> PIL.Image.Image:
    """Open a file of pixels the way up that its EXIF says, over white where it is transparent.

    Parameters
    ----------
    path
        The file.
    size
        A JPEG is opened at the smallest scale that is no smaller; None opens it as it is.
    bit_depth
        Bits that images of 16 bits per channel use, where the file does not say.
    page
        Which page of a file of several to open, from 1; None refuses such files.

    Raises
    ------
    ValueError
        If the file is too large (see `admit`), has several pages, or has more bits per channel than
        its declared range.
    """
    with without_pillow_limit(), _opened(path) as image:
        _turn_to(image, page)
        if is_deep(image):
            admit(*image.size, held=2 * image.width * image.height)
            pixels, alpha = read_deep(image, path, bit_depth)
            return _over_white(PIL.Image.fromarray(pixels).convert("RGB"), alpha)
        if image.mode.startswith(("I", "F")):
            raise ValueError(
                f"it has more than 16 bits per channel ({image.mode}); convert it to 8 or 16 bits"
            )
        _admit(image, size)
        PIL.ImageOps.exif_transpose(image, in_place=True)
        if not image.has_transparency_data:
            return image.convert("RGB")
        colours = image.convert("RGBA")
        return _over_white(colours.convert("RGB"), np.asarray(colours.getchannel("A")))


def _opened(path: Path) -> PIL.Image.Image:
    """Open an image file; of another one say what it is."""
    _refuse_channels_in_a_page(path)
    try:
        return PIL.Image.open(path)
    except PIL.UnidentifiedImageError:
        with path.open("rb") as file:
            start = file.read(512)
        kinds = (kind for place, mark, kind in _OTHER_FILES if start[place:].startswith(mark))
        what = next(kinds, "no image of a format that Pillow reads" if start else "empty")
        advice = " Convert it to PNG, one picture a file." if start else ""
        raise ValueError(f"it is {what}.{advice}") from None


def _refuse_channels_in_a_page(path: Path) -> None:
    """Refuse a TIFF file of more channels than Pillow knows, which it drops or fails on."""
    channels = 1
    with path.open("rb") as file, suppress(*_DAMAGED, struct.error, KeyError):
        if (head := file.read(8))[:4] in _TIFF:
            directory = ImageFileDirectory_v2(head)
            file.seek(directory.next)
            directory.load(file)
            channels = directory.get(_SAMPLES_PER_PIXEL, 1)
    if channels > _MOST_IN_A_PAGE:
        raise ValueError(
            f"it is a TIFF file with {channels} channels in a page, of which Pillow reads at most "
            f"{_MOST_IN_A_PAGE}. Save it as an array (np.save(FILE, tifffile.imread(FILE))) or as "
            f"one grey page a channel, and give --channels {channels}"
        )


def any_deep(paths: Iterable[str]) -> bool:
    """Say whether any of the image files has more than 8 bits per channel; stop at the first."""
    with without_pillow_limit():
        return any(map(_is_deep_file, paths))


def _is_deep_file(path: str) -> bool:
    try:
        with PIL.Image.open(path) as image:
            return is_deep(image)
    except _DAMAGED:
        return False


def _turn_to(image: PIL.Image.Image, page: int | None) -> None:
    """Go to the page that the user names; a camera's previews (MPO) do not count as pages."""
    pages = getattr(image, "n_frames", 1)
    if page is not None and page > pages:
        raise ValueError(f"it has {pages} page{'s' * (pages > 1)}, and --page {page} is given")
    if page is not None:
        image.seek(page - 1)
    elif pages > 1 and image.format != "MPO":
        raise ValueError(
            f"it has {pages} pages, and a sample is one picture. Give --page (1 is the first), or "
            "save the pages as files"
        )


def open_pages(path: Path, form: ImageForm, bit_depth: int | None) -> Image:
    """Open a file whose pages of grey are the channels of one picture, ``(H, W, C)``.

    Raises
    ------
    ValueError
        If the file has another number of pages, or the pages have colours or differ in size.
    """
    with without_pillow_limit(), _opened(path) as image:
        pages = getattr(image, "n_frames", 1)
    if pages != form.channels:
        raise ValueError(
            f"it is a picture of {pages} page{'s' * (pages != 1)}, and --channels {form.channels} "
            f"asks for arrays of so many channels, or as many pages of grey"
        )
    planes = [
        np.asarray(open_picture(path, form, bit_depth=bit_depth, page=page))
        for page in range(1, pages + 1)
    ]
    if any(plane.shape != planes[0].shape or np.ptp(plane, axis=2).any() for plane in planes):
        raise ValueError("its pages have colours or differ in size, so they are no channels of one")
    return np.stack([plane[..., 0] for plane in planes], axis=2)


def _admit(image: PIL.Image.Image, size: Images | None) -> None:
    """Ask for room to decode an image, a JPEG at a smaller scale if ``size`` allows it."""
    width, height = image.size
    if size is not None:
        form = ImageForm.of(size)
        image.draft("RGB", (form.width, form.height))
    whole = bool(image.info.get("progressive"))  # such a JPEG is held as a whole all the same
    admit(width, height, held=width * height if whole else image.width * image.height)


def _over_white(colours: PIL.Image.Image, alpha: NDArray[np.uint8] | None) -> PIL.Image.Image:
    """Lay a picture over a white ground, which is seen where alpha is below 255."""
    if alpha is None:
        return colours
    ground = PIL.Image.new("RGB", colours.size, "white")
    ground.paste(colours, mask=PIL.Image.fromarray(alpha))
    return ground


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images in files.

    Parameters
    ----------
    files
        The path of each sample.
    rows
        The row of ``table`` that names each sample, for messages; ``NO_ROW`` where none does.
    table
        The table that names the files.
    size
        What each image is squashed to; None leaves it as it is, of three channels.
    open
        The way to open a file as a picture.
    max_pixels
        Pixels that one image may have, and that all threads together may decode at once.
    """

    files: Mapping[str, str]
    rows: Mapping[str, int]
    table: Path
    size: Images | None = None
    open: Open = open_picture
    max_pixels: int = MAX_PIXELS

    @property
    def ids(self) -> Sequence[str]:
        """Every sample, in the order of the table."""
        return tuple(self.files)

    def __call__(self, sample_id: str) -> Image:
        """Decode one image, ``(H, W, C)``."""
        path = self.files[sample_id]
        try:
            with decoding_room(self.max_pixels):
                return fitted(self._picture(sample_id), self.size)
        except _DAMAGED as error:
            row = self.rows[sample_id]
            where = "" if row == NO_ROW else f" ({self.table}, row {row})"
            raise UnreadableError(f"{path}{where} cannot be read: {error}") from error

    def remark(self, sample_id: str) -> str:
        """Return a sentence for the run's notes on how a sample was read; empty if none."""
        return ""

    def _picture(self, sample_id: str) -> Picture:
        return self.open(Path(self.files[sample_id]), self.size)

    def resized(self, images: Images | None) -> ImageFiles:
        """Return the way to read the same files as ``(height, width, channels)``."""
        return replace(self, size=images or IMAGE_SIZE)


@dataclass(frozen=True, eq=False)
class ImageArray:
    """Images in memory: ``images[row[sample_id]]``, with ``images`` ``(n, H, W, 3)`` uint8."""

    images: Image
    row: Mapping[str, int]
    size: Images | None = None

    @property
    def ids(self) -> Sequence[str]:
        """Every sample, in the order of the array."""
        return tuple(self.row)

    def __call__(self, sample_id: str) -> Image:
        """Look one image up, ``(H, W, C)``."""
        image: Image = self.images[self.row[sample_id]]
        return image if self.size is None else fitted(PIL.Image.fromarray(image), self.size)

    def resized(self, images: Images | None) -> ImageArray:
        """Return the way to read the same images as ``(height, width, channels)``."""
        return replace(self, size=images or IMAGE_SIZE)


def image_files(
    paths: pd.Series, sample_ids: pd.Series, table: Path, open: Open = open_picture
) -> ImageFiles:
    """Return the way to read the images that a table names.

    Parameters
    ----------
    paths, sample_ids
        The path and the id of each sample, indexed by row as ``read_table`` counts it.
    table
        The table.
    open
        The way to open a file as a picture.
    """
    ids = sample_ids.to_numpy(object)
    files, rows = zip(ids, paths, strict=True), zip(ids, paths.index.tolist(), strict=True)
    return ImageFiles(dict(files), dict(rows), table, open=open)


def fitted(picture: Picture, images: Images | None) -> Image:
    """Return a picture in the channels and size that are asked for, whatever its shape.

    Grey is tripled where three channels are asked for, and colours become their luminance
    (ITU-R 601) where one is. Pillow's bicubic filter does not alias.

    Parameters
    ----------
    picture
        A picture, or an array ``(H, W, C)``.
    images
        What it becomes; None: its own size, in three channels.

    Raises
    ------
    ValueError
        If the picture has another number of channels.
    """
    channels = 3 if images is None else ImageForm.of(images).channels
    if isinstance(picture, np.ndarray) and picture.shape[2] in MODES and channels in MODES:
        picture = PIL.Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
    if isinstance(picture, PIL.Image.Image) and channels in MODES:
        picture = _resized(picture.convert(MODES[channels]), images)
        rows = np.asarray(picture)
        return rows if rows.ndim == 3 else rows[..., None]
    has = picture.shape[2] if isinstance(picture, np.ndarray) else len(picture.getbands())
    if isinstance(picture, PIL.Image.Image) or has != channels:
        raise ValueError(
            f"it has {has} channel{'s' * (has != 1)}, not {channels}. Give --channels {has} if all "
            "of the images have as many"
        )
    planes = [np.ascontiguousarray(picture[..., channel]) for channel in range(channels)]
    resized = [np.asarray(_resized(PIL.Image.fromarray(plane), images)) for plane in planes]
    return np.stack(resized, axis=2)


def _resized(picture: PIL.Image.Image, images: Images | None) -> PIL.Image.Image:
    if images is None:
        return picture
    form = ImageForm.of(images)
    return picture.resize((form.width, form.height), PIL.Image.Resampling.BICUBIC)
