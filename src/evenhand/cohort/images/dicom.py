"""Read DICOM files: one picture, a frame of several, or a folder of slices."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
from numpy.typing import NDArray
from scipy.special import expit

from evenhand.cohort.images.bounds import DECODING_COPIES, admit
from evenhand.cohort.images.planes import (
    WHOLE,
    PlaneChoice,
    Range,
    as_value_error,
    grey_plane,
    in_8_bits,
)
from evenhand.errors import first_few, import_extra
from evenhand.networks.inputs import Images

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
_DECODERS = {
    "JPEG-LS": "pyjpegls",
    "JPEG": "pylibjpeg[all]",
    "High-Throughput": "pylibjpeg[openjpeg]",
}
"""First word of a compression's name → the package that decodes it."""


def open_dicom(
    path: Path, size: Images | None, window: Range | None = None, frame: PlaneChoice = WHOLE
) -> PIL.Image.Image:
    """Open a picture of a DICOM file: grey values through an intensity window, colours unchanged.

    Parameters
    ----------
    path
        The file.
    size
        Not used; pictures are opened at full size.
    window
        Centre and width of the window, in rescaled units. None: the file's own window (the first of
        several) and its function, else the whole range of its stored bits.
    frame
        The frame, if there are several.

    Raises
    ------
    ValueError
        If the file has no pixels, several frames of which none is named, a compression for which no
        decoder is installed, or an unknown window function, or is damaged.

    Notes
    -----
    The functions are those of DICOM PS3.3, C.11.2.1.2 (linear) and C.11.2.1.3 (exact, sigmoid).
    """
    with _dicom() as pydicom:
        header = pydicom.dcmread(path)
        pixels = _pixels(pydicom, header, frame)
        kind = str(header.get("PhotometricInterpretation"))
        if pixels.ndim == 3 or kind.startswith("PALETTE"):
            return _colour_picture(pydicom, header, pixels)
        span = _grey_range(header, window)
        if span is None:  # the file has a VOI LUT but no window
            return _apply_own_table(pydicom, header, pixels)
        pixels = pixels.astype(np.float32)
        pixels *= _number(header, "RescaleSlope", 1)
        pixels += _number(header, "RescaleIntercept", 0)
        if window is None and _window_function(header) == "SIGMOID":
            pixels, span = _apply_sigmoid(pixels, *span), (0.0, 1.0)
    if kind == "MONOCHROME1":
        return grey_plane(np.negative(pixels, out=pixels), -span[1], -span[0])
    return grey_plane(pixels, *span)


def _pixels(pydicom: Any, header: Any, frame: PlaneChoice) -> NDArray[Any]:
    """Decode a frame, ``(H, W)`` or ``(H, W, 3)``."""
    if not any(name in header for name in _PIXELS):
        what = pydicom.uid.UID(str(header.get("SOPClassUID") or "")).name
        raise ValueError(
            f"it is a DICOM file without pixels{f' ({what})' if what else ''}; name an image"
        )
    frames = int(header.get("NumberOfFrames") or 1)
    index = frame.number(frames, "frame")
    if index is None and frames > 1:
        raise ValueError(
            f"it has {frames} frames, and a sample is one picture. Write FILE#1 for the first, or "
            "give --page to read the same frame of every file"
        )
    width, height = int(header.get("Columns") or 0), int(header.get("Rows") or 0)
    admit(width, height, memory_pixels=DECODING_COPIES * width * height)
    _require_decoder(pydicom, header)
    pixels: NDArray[Any] = pydicom.pixels.pixel_array(header, index=index or 0)
    return pixels


def _require_decoder(pydicom: Any, header: Any) -> None:
    """Refuse a compression without an installed decoder; the message says how to install one."""
    syntax = header.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        return
    try:
        decoder = pydicom.pixels.get_decoder(syntax)
    except NotImplementedError:
        raise ValueError(f"it is compressed as {syntax.name}; convert it to JPEG 2000") from None
    if not decoder.is_available:
        packages = _DECODERS.get(syntax.name.partition(" ")[0], "pylibjpeg[all]")
        raise ValueError(
            f"it is compressed as {syntax.name}, and no decoder of that is installed: "
            f"pip install '{packages}'"
        )


def _grey_range(header: Any, window: Range | None) -> Range | None:
    """Return the values of black and white in rescaled units; None if only a VOI LUT is given."""
    own = _own_window(header)
    if window is None and own is None and header.get("VOILUTSequence"):
        return None
    if window is None and own is None:
        if "BitsStored" not in header:
            raise ValueError("its pixels are floats, and it names no window; give --window")
        bits, signed = int(header.BitsStored), int(header.get("PixelRepresentation") or 0)
        lowest = -(2 ** (bits - 1)) if signed else 0
        slope = _number(header, "RescaleSlope", 1)
        start = _number(header, "RescaleIntercept", 0)
        ends = [slope * value + start for value in (lowest, lowest + 2**bits - 1)]
        return min(ends), max(ends)
    centre, width = window or own or (0.0, 1.0)
    steps = window is None and width >= 1 and _window_function(header) == "LINEAR"
    return centre - width / 2, centre + width / 2 - steps


def _own_window(header: Any) -> Range | None:
    """Return the first window of a header; None without one."""
    values = [header.get(name) for name in ("WindowCenter", "WindowWidth")]
    first = [value[0] if isinstance(value, Sequence) and value else value for value in values]
    if any(value in (None, "") or isinstance(value, Sequence) for value in first):
        return None
    centre, width = map(float, first)
    return (centre, width) if width > 0 else None


def _window_function(header: Any) -> str:
    """Return the function of a file's own window (default ``LINEAR``); "" without a window.

    ``LINEAR`` is defined for whole numbers, and needs a width of at least 1.
    """
    if _own_window(header) is None:
        return ""
    name = str(header.get("VOILUTFunction") or "LINEAR").strip().upper()
    if name not in _FUNCTIONS:
        raise ValueError(
            f"its VOILUTFunction is {name!r}, but the standard has {', '.join(_FUNCTIONS)}; give "
            "--window"
        )
    return name


def _apply_sigmoid(pixels: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """Return values as shares of white, on the sigmoid with the window ``low`` … ``high``."""
    pixels -= (low + high) / 2
    pixels *= 4 / (high - low)
    shares: NDArray[np.float32] = expit(pixels, out=pixels)
    return shares


def _apply_own_table(pydicom: Any, header: Any, pixels: NDArray[Any]) -> PIL.Image.Image:
    """Return the picture of values through the file's own table (VOI LUT)."""
    units = pydicom.pixels.apply_modality_lut(pixels, header)
    bits = int(header.VOILUTSequence[0].LUTDescriptor[2])
    shown = pydicom.pixels.apply_voi_lut(units.astype(pixels.dtype), header)
    picture = grey_plane(shown, 0, 2**bits - 1)
    negative = header.PhotometricInterpretation == "MONOCHROME1"
    return PIL.ImageOps.invert(picture) if negative else picture


def _colour_picture(pydicom: Any, header: Any, pixels: NDArray[Any]) -> PIL.Image.Image:
    """Return a colour picture in 8 bits, also from a palette of 16 bits."""
    if pixels.ndim == 2:
        pixels = pydicom.pixels.apply_color_lut(pixels, header)
        bits = int(header.RedPaletteColorLookupTableDescriptor[2])
    else:
        bits = int(header.BitsStored)
    pixels = in_8_bits(pixels, 0, 2**bits - 1)
    return PIL.Image.fromarray(pixels[..., :3])


def window_remark(path: Path) -> str:
    """Return a sentence on the intensity range of a DICOM file without ``--window``."""
    tags = ["WindowCenter", "WindowWidth", "VOILUTSequence", "SamplesPerPixel"]
    with _dicom() as pydicom:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
    if int(header.get("SamplesPerPixel") or 1) > 1:
        return ""
    if _own_window(header) is not None or header.get("VOILUTSequence"):
        return (
            "Each DICOM file is shown through the window that it names; --window gives all files "
            "the same one."
        )
    return (
        "DICOM files that name no window are shown over the whole range of their stored bits; "
        "--window gives all files the same window."
    )


def cut_dicom_series(path: Path, place: float, window: Range) -> PIL.Image.Image:
    """Read a slice, by its position from 0 to 1, of a folder of DICOM files."""
    return open_dicom_series(path, PlaneChoice(place=place), window)


def open_dicom_series(path: Path, part: PlaneChoice, window: Range | None) -> PIL.Image.Image:
    """Read a slice, by its number or position, of a folder of DICOM files."""
    files = slices_in(path)
    return open_dicom(files[part.slice(len(files))], None, window)


def slices_in(folder: Path) -> tuple[Path, ...]:
    """Return the slices of a folder of DICOM files, in the order of their headers.

    Raises
    ------
    ValueError
        If there is no slice, or slices are of several series or shapes.
    """
    return _series_in(folder, folder.stat().st_mtime_ns).slices


@contextmanager
def _dicom() -> Iterator[Any]:
    """Yield pydicom, and turn its errors and its decoders' for a damaged file into ValueError."""
    pydicom = import_extra("pydicom", "readers")
    with as_value_error(
        *(pydicom.errors.InvalidDicomError, pydicom.errors.BytesLengthException, struct.error),
        *(AttributeError, IndexError, KeyError, RuntimeError, TypeError),
    ):
        yield pydicom


@dataclass(frozen=True)
class _Header:
    """The position, series and shape of a DICOM slice, from its header."""

    file: Path
    places: tuple[float | None, ...]  # position along the stack, SliceLocation, InstanceNumber
    series: str
    shape: str
    localizer: bool


@dataclass(frozen=True)
class _DicomSeries:
    """The slices of a folder in order, and its localizers."""

    slices: tuple[Path, ...]
    localizers: tuple[Path, ...]


def localizer_remark(folder: Path) -> str:
    """Return a sentence on the localizers of a DICOM folder, or "" without any."""
    localizers = _series_in(folder, folder.stat().st_mtime_ns).localizers
    if not localizers:
        return ""
    names = first_few(path.name for path in localizers)
    return f"{folder}: localizer images are no slices of the volume and were left out ({names})."


@lru_cache(maxsize=64)
def _series_in(folder: Path, changed: int) -> _DicomSeries:
    """Return the slices of a folder in order; ``changed`` is the folder's time of change.

    Slices are ordered by the first kind of position that all headers have, else by file name.

    Raises
    ------
    ValueError
        If there is no slice, slices are of several series or shapes, or two slices have the same
        position.
    """
    paths = (path for path in folder.iterdir() if path.suffix.lower() == ".dcm")
    headers = [_header_of(path) for path in sorted(paths, key=_number_key)]
    if not headers:
        raise ValueError("it holds no .dcm file")
    localizers = tuple(header.file for header in headers if header.localizer)
    headers = [header for header in headers if not header.localizer]
    if not headers:
        raise ValueError("all of its .dcm files are localizers")
    _refuse_several("series (SeriesInstanceUID)", {h.file: h.series for h in headers})
    _refuse_several("shapes", {h.file: h.shape for h in headers})
    for places in zip(*(header.places for header in headers), strict=True):
        if None not in places:
            _refuse_same_place({h.file: str(x) for h, x in zip(headers, places, strict=True)})
            order = np.argsort(places, kind="stable")
            return _DicomSeries(tuple(headers[position].file for position in order), localizers)
    return _DicomSeries(tuple(header.file for header in headers), localizers)


def _refuse_same_place(places: Mapping[Path, str]) -> None:
    """Refuse two slices with the same position: the folder holds several volumes."""
    first: dict[str, str] = {}
    for path, place in places.items():
        other = first.setdefault(place, path.name)
        if other != path.name:
            raise ValueError(
                f"{other} and {path.name} have the same position ({place}), so the folder holds "
                "more than one volume (echoes, time points?) or a slice twice. Keep one volume in "
                "each folder"
            )


def _refuse_several(what: str, value: Mapping[Path, str]) -> None:
    """Refuse slices that do not belong together, with the first file of each kind."""
    first: dict[str, str] = {}
    for path, kind in value.items():
        first.setdefault(kind, path.name)
    if len(first) > 1:
        raise ValueError(
            f"its slices are of {len(first)} {what}: "
            f"{first_few(f'{name} ({kind})' for kind, name in first.items())}. Keep one "
            "volume in each folder"
        )


def _header_of(file: Path) -> _Header:
    """Return the header of a slice; a position that it lacks is None.

    Only the header is read, which takes a fraction of the time of the pixels.
    """
    names = ["SliceLocation", "ImagePositionPatient", "ImageOrientationPatient", "InstanceNumber"]
    series = ["SeriesInstanceUID", "Rows", "Columns", "ImageType"]
    try:
        with _dicom() as pydicom:
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=names + series)
            places = (
                _along_the_stack(header),
                header.get("SliceLocation"),
                header.get("InstanceNumber"),
            )
            kinds = header.get("ImageType") or ()
            kinds = [kinds] if isinstance(kinds, str) else kinds
            return _Header(
                file,
                tuple(None if place is None else float(place) for place in places),
                str(header.get("SeriesInstanceUID") or "none"),
                f"{header.get('Columns')} x {header.get('Rows')}",
                any(str(kind).strip().upper() == "LOCALIZER" for kind in kinds),
            )
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from error


def _along_the_stack(header: Any) -> float | None:
    """Return the position of a slice along the normal of its plane, in mm; None if unknown.

    It increases to the left, the back or the head of the patient (DICOM PS3.3, C.7.6.2.1.1). A
    slice without orientation counts as axial.
    """
    position = header.get("ImagePositionPatient")
    if not position:
        return None
    plane = np.asarray(header.get("ImageOrientationPatient") or (1, 0, 0, 0, 1, 0), float)
    normal = np.cross(plane[:3], plane[3:])
    if not normal.any():
        return None
    normal *= np.sign(normal[np.abs(normal).argmax()])
    return round(float(normal @ np.asarray(position, float)), 4)


def _number(header: Any, name: str, absent: float) -> float:
    """Return a number from a DICOM header, or ``absent`` if the header lacks it."""
    value = header.get(name, absent)
    if value is None:
        raise ValueError(f"its {name} is empty")
    return float(value)


def _number_key(path: Path) -> tuple[int, str]:
    """Return a sort key that puts IM2 before IM10."""
    numbers = re.findall(r"\d+", path.stem)
    return (int(numbers[-1]) if numbers else 0, path.name)
