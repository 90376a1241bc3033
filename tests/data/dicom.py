"""DICOM files of CT slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def ct_slice(number: int, side: int = 40) -> NDArray[np.float64]:
    """Return a CT slice between -1000 and 400 HU, ``(side, side)``."""
    rng = np.random.default_rng(number)
    units = np.linspace(-1000, 400, side * side).reshape(side, side)
    return np.asarray(units + rng.normal(0, 40, (side, 1)))


def write_dicom(path: Path, number: int, side: int = 40, **header: object) -> None:
    """Write a CT slice, stored with the usual intercept of -1024; ``header`` is what else it says.

    A part of the header that is None is there, and empty.
    """
    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID = CTImageStorage
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID = generate_uid()
    found.Modality, found.PhotometricInterpretation = "CT", "MONOCHROME2"
    found.Rows = found.Columns = side
    found.SamplesPerPixel, found.PixelRepresentation = 1, 0
    found.BitsAllocated = found.BitsStored = 16
    found.HighBit = 15
    found.RescaleSlope, found.RescaleIntercept = 1, -1024
    found.PixelData = (ct_slice(number, side) + 1024).round().clip(0).astype(np.uint16).tobytes()
    for name, value in header.items():
        setattr(found, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    found.save_as(path, enforce_file_format=True)
