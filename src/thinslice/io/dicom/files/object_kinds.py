"""Kind of a DICOM object, name of its series, and warnings about oddities, from its header alone."""

from __future__ import annotations

import hashlib
import re

from pydicom.dataset import Dataset

from thinslice.io.dicom.files.header import CT_IMAGE
from thinslice.io.dicom.files.values import number, text

KINDS = {
    CT_IMAGE: "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "enhanced CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "legacy converted enhanced CT",
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",
    "1.2.840.10008.5.1.4.1.1.4.4": "MR",
    "1.2.840.10008.5.1.4.1.1.7": "secondary capture",
    "1.2.840.10008.5.1.4.1.1.7.1": "secondary capture",
    "1.2.840.10008.5.1.4.1.1.7.2": "secondary capture",
    "1.2.840.10008.5.1.4.1.1.7.3": "secondary capture",
    "1.2.840.10008.5.1.4.1.1.7.4": "secondary capture",
    "1.2.840.10008.5.1.4.1.1.20": "nuclear medicine image",
    "1.2.840.10008.5.1.4.1.1.128": "PET",
    "1.2.840.10008.5.1.4.1.1.128.1": "PET",
    "1.2.840.10008.5.1.4.1.1.130": "PET",
    "1.2.840.10008.5.1.4.1.1.66.4": "segmentation",
    "1.2.840.10008.5.1.4.1.1.66.5": "surface segmentation",
    "1.2.840.10008.5.1.4.1.1.481.2": "RT dose",
    "1.2.840.10008.5.1.4.1.1.481.3": "RT structure set",
    "1.2.840.10008.5.1.4.1.1.481.5": "RT plan",
    "1.2.840.10008.5.1.4.1.1.104.1": "encapsulated PDF",
    "1.2.840.10008.5.1.4.1.1.1": "radiograph",
    "1.2.840.10008.5.1.4.1.1.1.1": "radiograph",
    "1.2.840.10008.5.1.4.1.1.6.1": "ultrasound image",
}
"""Name of an object's kind, by SOP class."""

ENHANCED_KINDS = ("enhanced CT", "legacy converted enhanced CT")

HU_TYPES = ("", "HU", "HOUNSFIELD", "HOUNSFIELD UNIT", "HOUNSFIELD UNITS", "HOUNDSFIELD UNIT", "US", "HU_MOD")
"""RescaleType values under which pixels are taken as HU (some real files misspell HU); the last two with a warning."""

UID_PATTERN = re.compile(r"[0-9]+(\.[0-9]+)*")


def series_label(dataset: Dataset) -> str:
    """SeriesInstanceUID, or a name made from a digest where it is missing or not a UID."""
    uid = text(dataset, "SeriesInstanceUID")
    if len(uid) <= 64 and UID_PATTERN.fullmatch(uid):
        return uid
    if uid:
        return "malformed-uid-" + hashlib.sha256(uid.encode("utf-8", "replace")).hexdigest()[:8]
    study = text(dataset, "StudyInstanceUID") + "/" + text(dataset, "SeriesNumber")
    return "no-uid-" + hashlib.sha256(study.encode("utf-8", "replace")).hexdigest()[:8]


def kind_of(dataset: Dataset) -> str:
    """Kind of an object, by its SOP class and, for a CT image, its ImageType."""
    sop_class = text(dataset, "SOPClassUID") or text(dataset.file_meta, "MediaStorageSOPClassUID")
    if sop_class.startswith("1.2.840.10008.5.1.4.1.1.88."):
        return "structured report"
    if sop_class.startswith("1.2.840.10008.5.1.4.1.1.11."):
        return "presentation state"
    kind = KINDS.get(sop_class, "object of another kind")
    if kind in ENHANCED_KINDS and "ReferencedFrameNumber" in dataset:
        kind = "CT"  # a frame that stands for a slice: see thinslice.io.dicom.files.multiframe
    if kind == "CT" and "LOCALIZER" in image_type(dataset):
        return "CT localizer"
    return kind


def not_ct(kind: str) -> str:
    """The sentence that refuses an object of this kind."""
    if kind == "CT localizer":
        return "This is a localizer (scout view), not a stack of slices; give the axial series."
    return f"This is not a CT image ({kind}); give the original CT series."


def image_type(dataset: Dataset) -> list[str]:
    """The values of ImageType, in capitals."""
    return re.split(r"[^A-Z0-9_ ]+", text(dataset, "ImageType").upper())


def oddities(first: Dataset) -> list[str]:
    """Warnings about unusual headers that can be read."""
    warnings = []
    if text(first, "LossyImageCompression") == "01":
        warnings.append("The source was compressed with loss, so its HU are not those of the scanner.")
    if text(first, "RescaleType").upper() in ("US", "HU_MOD"):
        warnings.append("RescaleType is not plain HU; pixel values are taken as HU.")
    slope = number(first, "RescaleSlope")
    if slope is not None and slope < 0:
        warnings.append("RescaleSlope is negative, so that air would be denser than bone; compare the HU.")
    if "ModalityLUTSequence" in first:
        warnings.append("A table of values (Modality LUT) stands beside slope and intercept; these were taken.")
    if {"MIP", "MINIP", "PROJECTION IMAGE"} & set(image_type(first)):
        warnings.append("ImageType marks the slices as projections (MIP), not slices of HU.")
    if series_label(first).startswith("no-uid-"):
        warnings.append("The files carry no SeriesInstanceUID; those of one study and series number are one series.")
    return warnings
