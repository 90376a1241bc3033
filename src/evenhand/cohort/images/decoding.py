"""Read images by sample id, from files or from an array."""

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
"""A picture, or an array ``(H, W, C)`` of uint8 with any number of channels."""

Open = Callable[[Path, Images | None], Picture]
"""Opens a file as a picture of at least a size (None: the original size), or raises ValueError."""

MODES = {1: "L", 3: "RGB"}
"""Number of channels → Pillow's name of the mode."""

_TIFF = (b"II*\0", b"MM\0*")
_SAMPLES_PER_PIXEL = 277  # a tag of TIFF
_MOST_IN_A_PAGE = 4

NO_ROW = 0  # the row of an image that is in no table (rows of tables start at 1, the header)
IMAGE_SIZE = 224  # pixels; the default size

# Pillow's errors for damaged files of all formats.
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
"""Position, bytes at this position, and name of other kinds of file."""


def open_picture(
    path: Path, size: Images | None, *, bit_depth: int | None = None, page: int | None = None
) -> PIL.Image.Image:
    """Open an image file, rotated as its EXIF says, with transparent parts over white.

    Parameters
    ----------
    path
        The file.
    size
        A JPEG is decoded at the smallest scale that is not smaller than this size; None decodes it
        at full size.
    bit_depth
        The bits that images of 16 bits per channel use, if the file does not declare them.
    page
        The number of the page, from 1; None refuses files with several pages.

    Raises
    ------
    ValueError
        If the file is too large (see `admit`), has several pages, or has more bits per channel than
        its declared range.
    """
    with without_pillow_limit(), _open_image(path) as image:
        _seek_page(image, page)
        if is_deep(image):
            admit(*image.size, memory_pixels=2 * image.width * image.height)
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


def _open_image(path: Path) -> PIL.Image.Image:
    """Open an image file; refuse another file with the name of its kind."""
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
    """Refuse a TIFF file with more channels in a page than Pillow reads."""
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
            f"one grey page for each channel, and give --channels {channels}"
        )


def any_deep(paths: Iterable[str]) -> bool:
    """Return whether any of the image files has more than 8 bits per channel."""
    with without_pillow_limit():
        return any(map(_is_deep_file, paths))


def _is_deep_file(path: str) -> bool:
    try:
        with PIL.Image.open(path) as image:
            return is_deep(image)
    except _DAMAGED:
        return False


def _seek_page(image: PIL.Image.Image, page: int | None) -> None:
    """Go to the user's page; previews in a camera's file (MPO) do not count as pages."""
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
    """Open a file whose grey pages are the channels of one picture, ``(H, W, C)``.

    Raises
    ------
    ValueError
        If the file has another number of pages, or the pages have colours or differ in size.
    """
    with without_pillow_limit(), _open_image(path) as image:
        pages = getattr(image, "n_frames", 1)
    if pages != form.channels:
        raise ValueError(
            f"it is a picture of {pages} page{'s' * (pages != 1)}, but --channels {form.channels} "
            f"needs arrays with {form.channels} channels, or files with {form.channels} grey pages"
        )
    planes = [
        np.asarray(open_picture(path, form, bit_depth=bit_depth, page=page))
        for page in range(1, pages + 1)
    ]
    if any(plane.shape != planes[0].shape or np.ptp(plane, axis=2).any() for plane in planes):
        raise ValueError(
            "its pages have colours or differ in size, so they cannot be channels of one picture"
        )
    return np.stack([plane[..., 0] for plane in planes], axis=2)


def _admit(image: PIL.Image.Image, size: Images | None) -> None:
    """Wait for room to decode an image; a JPEG needs less if ``size`` allows a smaller scale."""
    width, height = image.size
    if size is not None:
        form = ImageForm.of(size)
        image.draft("RGB", (form.width, form.height))
    whole = bool(image.info.get("progressive"))  # decoding holds a progressive JPEG at full size
    admit(width, height, memory_pixels=width * height if whole else image.width * image.height)


def _over_white(colours: PIL.Image.Image, alpha: NDArray[np.uint8] | None) -> PIL.Image.Image:
    """Return a picture over a white background, which is visible where alpha is below 255."""
    if alpha is None:
        return colours
    background = PIL.Image.new("RGB", colours.size, "white")
    background.paste(colours, mask=PIL.Image.fromarray(alpha))
    return background


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Reads images in files.

    Parameters
    ----------
    files
        Sample id → path.
    rows
        Sample id → row of ``table``, for messages; ``NO_ROW`` for samples in no row.
    table
        The table that names the files.
    size
        The size to which images are resized; None keeps their size, with three channels.
    open
        Opens a file as a picture.
    max_pixels
        The largest number of pixels of one image, and of all images decoded at once.
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
                return fit_picture(self._picture(sample_id), self.size)
        except _DAMAGED as error:
            row = self.rows[sample_id]
            where = "" if row == NO_ROW else f" ({self.table}, row {row})"
            raise UnreadableError(f"{path}{where} cannot be read: {error}") from error

    def remark(self, sample_id: str) -> str:
        """Return a sentence for the run's notes on how a sample was read, or ""."""
        return ""

    def _picture(self, sample_id: str) -> Picture:
        return self.open(Path(self.files[sample_id]), self.size)

    def resized(self, images: Images | None) -> ImageFiles:
        """Return a reader of the same files as ``(height, width, channels)``."""
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
        """Return one image, ``(H, W, C)``."""
        image: Image = self.images[self.row[sample_id]]
        return image if self.size is None else fit_picture(PIL.Image.fromarray(image), self.size)

    def resized(self, images: Images | None) -> ImageArray:
        """Return a reader of the same images as ``(height, width, channels)``."""
        return replace(self, size=images or IMAGE_SIZE)


def image_files(
    paths: pd.Series, sample_ids: pd.Series, table: Path, open: Open = open_picture
) -> ImageFiles:
    """Return a reader of the images that a table names.

    Parameters
    ----------
    paths, sample_ids
        The path and the id of each sample; the index is the row as ``read_table`` counts it.
    table
        The path of the table.
    open
        Opens a file as a picture.
    """
    ids = sample_ids.to_numpy(object)
    files, rows = zip(ids, paths, strict=True), zip(ids, paths.index.tolist(), strict=True)
    return ImageFiles(dict(files), dict(rows), table, open=open)


def fit_picture(picture: Picture, images: Images | None) -> Image:
    """Return a picture with the wanted size and channels; its proportions may change.

    For three channels, grey is tripled. For one channel, colours become their luminance (ITU-R
    601).
    Resizing uses Pillow's bicubic filter with antialiasing.

    Parameters
    ----------
    picture
        A picture, or an array ``(H, W, C)``.
    images
        The wanted size and channels; None keeps the size, with three channels.

    Raises
    ------
    ValueError
        If the picture has another number of channels.
    """
    channels = 3 if images is None else ImageForm.of(images).channels
    if isinstance(picture, np.ndarray) and picture.shape[2] in MODES and channels in MODES:
        picture = PIL.Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
    if isinstance(picture, PIL.Image.Image) and channels in MODES:
        picture = _resize(picture.convert(MODES[channels]), images)
        rows = np.asarray(picture)
        return rows if rows.ndim == 3 else rows[..., None]
    has = picture.shape[2] if isinstance(picture, np.ndarray) else len(picture.getbands())
    if isinstance(picture, PIL.Image.Image) or has != channels:
        raise ValueError(
            f"it has {has} channel{'s' * (has != 1)}, not {channels}. Give --channels {has} if all "
            "of the images have as many"
        )
    planes = [np.ascontiguousarray(picture[..., channel]) for channel in range(channels)]
    resized = [np.asarray(_resize(PIL.Image.fromarray(plane), images)) for plane in planes]
    return np.stack(resized, axis=2)


def _resize(picture: PIL.Image.Image, images: Images | None) -> PIL.Image.Image:
    if images is None:
        return picture
    form = ImageForm.of(images)
    return picture.resize((form.width, form.height), PIL.Image.Resampling.BICUBIC)
