"""The phantom as a scanner would send it: a CT series of single slices, so that the demo starts where patients do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thinslice import __version__
from thinslice.errors import InputError
from thinslice.geometry import Geometry
from thinslice.volume import Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

RAW_OFFSET_HU = -1024
"""RescaleIntercept of the slices: scanners store unsigned values."""


def write_phantom_series(volume: Volume, folder: Path, *, seed: int = 0) -> None:
    """Write a painted volume as an original CT series that says it shows a phantom.

    The same volume and seed give the same UIDs; dates and times follow SOURCE_DATE_EPOCH.

    Args:
        volume: int16 HU within [-1024, 31743], in-plane spacing known.
        folder: to be made, atomically.
        seed: of the phantom; part of the UIDs.

    Raises:
        InputError: HU that such a series cannot hold.
        OutputExistsError: the folder exists.
        OutputError: it cannot be written.
    """
    from pydicom import dcmwrite

    from thinslice.io.atomic import atomic_directory

    if volume.hu.dtype != np.int16 or volume.hu.min() < RAW_OFFSET_HU or volume.hu.max() >= (1 << 15) + RAW_OFFSET_HU:
        raise InputError("A phantom series holds whole HU from -1024 to 31743; clip the volume first.")
    with atomic_directory(folder) as partial:
        for index in range(volume.geometry.shape[0]):
            dataset = _slice(volume.geometry, index, seed)
            raw = volume.hu[index].astype(np.int32) - RAW_OFFSET_HU
            dataset.PixelData = raw.astype("<u2").tobytes()
            dcmwrite(partial / f"thick_{index + 1:04d}.dcm", dataset, enforce_file_format=True)


def _slice(geometry: Geometry, index: int, seed: int) -> Dataset:
    """Everything but the pixels of one slice, as a pydicom dataset."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    from thinslice.io.dicom_origin import derivation_time, derived_uid

    identity = ("phantom", seed, geometry.shape, geometry.spacing_mm, geometry.origin_mm)
    now = derivation_time()
    direction = np.asarray(geometry.direction)
    position = geometry.position_mm((index, 0, 0))
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = derived_uid(*identity, "instance", index)
    dataset.StudyInstanceUID = derived_uid(*identity, "study")
    dataset.SeriesInstanceUID = derived_uid(*identity, "series")
    dataset.FrameOfReferenceUID = derived_uid(*identity, "frame of reference")
    dataset.PatientName, dataset.PatientID = "PHANTOM^THORAX", f"PHANTOM-{seed}"
    dataset.PatientBirthDate, dataset.PatientSex, dataset.PatientPosition = "", "O", "HFS"
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = f"{now:%Y%m%d}"
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = f"{now:%H%M%S}"
    dataset.AccessionNumber = dataset.StudyID = dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "Synthetic thorax phantom"
    dataset.SeriesDescription = f"Phantom {geometry.spacing_mm[0]:.4g} mm"
    dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    # Says that what is shown is no patient.
    dataset.QualityControlImage = "YES"
    dataset.Manufacturer, dataset.ManufacturerModelName = "thinslice", "phantom"
    dataset.SoftwareVersions = __version__
    dataset.BodyPartExamined, dataset.KVP = "CHEST", None
    dataset.SeriesNumber, dataset.AcquisitionNumber, dataset.InstanceNumber = 1, 1, index + 1
    dataset.ImagePositionPatient = [f"{value:.6f}"[:16] for value in position]
    dataset.ImageOrientationPatient = [f"{value:.6f}" for value in (*direction[:, 2], *direction[:, 1])]
    dataset.SliceLocation = f"{float(np.dot(position, geometry.normal)):.6f}"[:16]
    dataset.SliceThickness = geometry.thickness_mm
    dataset.PixelSpacing = list(geometry.spacing_mm[1:])
    dataset.PositionReferenceIndicator = ""
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    _, dataset.Rows, dataset.Columns = geometry.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, RAW_OFFSET_HU, "HU"
    dataset.WindowCenter, dataset.WindowWidth = [40, -600], [400, 1500]
    return dataset
