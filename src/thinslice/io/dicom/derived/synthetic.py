"""A CT series as a scanner would have written it, made from a volume that has no DICOM origin.

For the demo and for tests, which start from an ordinary source series without a patient. Not for upscaled volumes,
which are derived series (`thinslice.io.dicom.derived.single_frame`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thinslice.about import __version__
from thinslice.errors import InputError
from thinslice.geometry import Geometry
from thinslice.volume import Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

RESCALE_INTERCEPT_HU = -1024
"""HU of stored value 0: scanners store unsigned values."""

STORED_BITS = 12
"""Bits of a stored value, as on most scanners: [-1024, 3071] HU."""


def write_dicom_source(
    volume: Volume, folder: Path, *, seed: int = 0, kernel: str = "STANDARD", overwrite: bool = False
) -> None:
    """Write a volume as an original axial CT series, one file per slice, whose patient is named Phantom^Thorax.

    The same volume grid, seed and kernel give the same UIDs; dates and times follow SOURCE_DATE_EPOCH.

    Args:
        volume: HU within [-1024, 3071], rounded to whole ones; every spacing known.
        folder: made as a whole or not at all.
        seed: distinguishes phantoms of the same grid; part of the UIDs and of the patient's ID.
        kernel: value of ConvolutionKernel.
        overwrite: whether an existing folder may be replaced.

    Raises:
        InputError: HU that 12 bits cannot hold, a volume derived by a network, or an unknown in-plane spacing; clip
            the volume, or choose another.
        OutputExistsError: the folder exists and `overwrite` is false; overwrite it, or choose another.
        OutputError: it cannot be written; choose another place.
    """
    from pydicom import dcmwrite

    from thinslice.system.atomic import atomic_directory, place_named

    highest = RESCALE_INTERCEPT_HU + 2**STORED_BITS - 1
    if volume.provenance.derivation is not None:
        raise InputError("A derived volume is no original series; write it with thinslice.write.")
    if None in volume.geometry.spacing_mm:
        raise InputError("A DICOM series needs an in-plane spacing, and that of this volume is unknown; set it first.")
    if not np.isfinite(volume.hu).all() or volume.hu.min() < RESCALE_INTERCEPT_HU or volume.hu.max() > highest:
        raise InputError(f"A 12-bit CT series holds {RESCALE_INTERCEPT_HU} to {highest} HU; clip the volume first.")
    with atomic_directory(Path(folder), overwrite=overwrite) as unfinished:
        for index, plane in enumerate(volume.hu):
            header = _header(volume.geometry, index, seed, kernel)
            stored = np.rint(plane).astype(np.int32) - RESCALE_INTERCEPT_HU
            header.PixelData = stored.astype("<u2").tobytes()
            path = unfinished / f"IM{index + 1:04d}.dcm"
            with place_named(path):
                dcmwrite(path, header, enforce_file_format=True)


def _header(geometry: Geometry, index: int, seed: int, kernel: str) -> Dataset:
    """All attributes of one slice but its pixels."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    from thinslice.io.dicom.attributes import decimal_text
    from thinslice.io.dicom.derived.derivation import derivation_time, derived_uid

    what = ("source", seed, kernel, geometry.shape, geometry.spacing_mm, geometry.origin_mm, geometry.direction)
    now = derivation_time()
    position = geometry.position_mm((index, 0, 0))
    direction = np.asarray(geometry.direction)
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SpecificCharacterSet = "ISO_IR 100"
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.SOPClassUID = CTImageStorage
    header.SOPInstanceUID = derived_uid(*what, "instance", index)
    header.StudyInstanceUID = derived_uid("source", seed, "study")
    header.SeriesInstanceUID = derived_uid(*what, "series")
    header.FrameOfReferenceUID = derived_uid("source", seed, "frame of reference")
    header.PositionReferenceIndicator = ""
    for moment in ("Study", "Series", "Acquisition", "Content"):
        setattr(header, f"{moment}Date", f"{now:%Y%m%d}")
        setattr(header, f"{moment}Time", f"{now:%H%M%S}")
    header.AccessionNumber = header.ReferringPhysicianName = ""
    header.StudyID = "1"
    header.Modality = "CT"
    header.Manufacturer, header.ManufacturerModelName = "thinslice", "thorax phantom"
    header.DeviceSerialNumber, header.SoftwareVersions = str(seed), __version__
    header.StudyDescription = "Synthetic thorax phantom, no patient"
    header.SeriesDescription = f"Phantom {geometry.spacing_mm[0]:.4g} mm {kernel}"[:64]
    header.PatientName, header.PatientID = "Phantom^Thorax", f"PHANTOM{seed}"
    header.PatientBirthDate, header.PatientSex = "", "O"
    header.PatientPosition = "HFS"
    header.BodyPartExamined = "CHEST"
    # The image shows no patient.
    header.QualityControlImage = "YES"
    header.KVP = "120"
    header.ConvolutionKernel = kernel
    header.SeriesNumber, header.AcquisitionNumber, header.InstanceNumber = 1, 1, index + 1
    header.ImagePositionPatient = [decimal_text(value, 6) for value in position]
    header.ImageOrientationPatient = [decimal_text(value, 8) for value in (*direction[:, 2], *direction[:, 1])]
    header.SliceLocation = decimal_text(float(np.dot(position, geometry.normal)), 6)
    header.SliceThickness = decimal_text(geometry.thickness_mm or geometry.spacing_mm[0], 6)
    header.PixelSpacing = [decimal_text(step, 8) for step in geometry.spacing_mm[1:] if step is not None]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    _, header.Rows, header.Columns = geometry.shape
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, STORED_BITS, STORED_BITS - 1
    header.PixelRepresentation = 0
    header.RescaleIntercept, header.RescaleSlope, header.RescaleType = str(RESCALE_INTERCEPT_HU), "1", "HU"
    header.WindowCenter, header.WindowWidth = ["40", "-600"], ["400", "1500"]
    header.WindowCenterWidthExplanation = ["SOFT TISSUE", "LUNG"]
    return header
