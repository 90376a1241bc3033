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
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.Modality, dataset.PhotometricInterpretation = "CT", "MONOCHROME2"
    dataset.Rows = dataset.Columns = side
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.PixelData = (ct_slice(number, side) + 1024).round().clip(0).astype(np.uint16).tobytes()
    for name, value in header.items():
        setattr(dataset, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
