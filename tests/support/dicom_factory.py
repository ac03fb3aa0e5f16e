"""Small CT series made on the spot, with the faults and encodings that DICOM input and output must survive.

`from dicom_factory import write_series`; every file carries the canary values of `CANARY` in its identifying
attributes, so any test may look for a leak with `assert_no_canary`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

CANARY: dict[str, str] = {
    "PatientName": "Kanarienvogel^Gelb",
    "PatientID": "CANARY-ID-471147",
    "PatientBirthDate": "19170307",
    "OtherPatientIDs": "CANARY-OTHER-ID",
    "PatientAddress": "Canary Lane 12",
    "PatientComments": "canary comment",
    "AccessionNumber": "CANARY-ACC",
    "StudyID": "CANARY-STUDY",
    "StudyDate": "19991231",
    "SeriesDate": "19991231",
    "AcquisitionDate": "19991231",
    "ContentDate": "19991231",
    "StudyTime": "235958",
    "StudyDescription": "canary study of Kanarienvogel",
    "SeriesDescription": "canary series of Kanarienvogel",
    "ProtocolName": "canary protocol",
    "InstitutionName": "Canary Hospital",
    "InstitutionAddress": "Canary Street 1",
    "ReferringPhysicianName": "Canarydoc^Vera",
    "PerformingPhysicianName": "Canarydoc^Otto",
    "OperatorsName": "Canarydoc^Ida",
    "StationName": "CANARYCT1",
    "DeviceSerialNumber": "CANARY-SN-9",
    "ImageComments": "canary image comment",
}
"""An unmistakable value for every attribute that could identify a patient, a person or a place."""

ORIENTATIONS: dict[str, tuple[float, ...]] = {
    "axial": (1, 0, 0, 0, 1, 0),
    "feet_first": (-1, 0, 0, 0, 1, 0),
    "prone": (-1, 0, 0, 0, -1, 0),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "coronal": (1, 0, 0, 0, 0, -1),
    "oblique": (
        math.cos(0.3),
        math.sin(0.3),
        0.0,
        -math.sin(0.3) * math.cos(0.2),
        math.cos(0.3) * math.cos(0.2),
        math.sin(0.2),
    ),
}
"""ImageOrientationPatient by name: where columns grow to, then where rows grow to."""

TRANSFER_SYNTAXES: dict[str, UID] = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "big_endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg_ls": JPEGLSLossless,
    "jpeg_2000": JPEG2000Lossless,
}
"""The encodings that can be made here without outside tools."""


def assert_no_canary(text: object) -> None:
    """Fail when a canary value, or a telling part of one, occurs in `str(text)`."""
    lowered = str(text).lower()
    for word in (
        *(value.lower() for value in CANARY.values()),
        "kanarienvogel",
        "canary",
        "471147",
        "19170307",
        "19991231",
    ):
        assert word not in lowered, f"canary {word!r} leaked into: {str(text)[:500]}"


def write_series(
    folder: Path,
    *,
    shape: tuple[int, int, int] = (6, 32, 32),
    spacing_mm: tuple[float, float, float] = (5.0, 0.7, 0.7),
    thickness_mm: float | None = None,
    origin_mm: tuple[float, float, float] = (-112.3, -98.7, 41.25),
    orientation: str | Sequence[float] = "axial",
    hu: npt.ArrayLike | None = None,
    seed: int = 0,
    slope: float | Sequence[float] = 1.0,
    intercept: float | Sequence[float] = -1024.0,
    signed: bool = False,
    bits_stored: int = 16,
    padding_raw: int | None = None,
    padding_tag: int | None = None,
    transfer_syntax: str | UID = "explicit",
    tilt_degrees: float = 0.0,
    jitter_mm: float = 0.0,
    missing: Sequence[int] = (),
    duplicates: Sequence[int] = (),
    duplicate_pixels: str = "same",
    instance_order: str = "ascending",
    file_order: str = "ascending",
    first_instance: int = 1,
    uid: str | None = None,
    study_uid: str | None = None,
    prefix: str = "slice",
    suffix: str = ".dcm",
    preamble: bytes = b"\0" * 128,
    edit: Callable[[FileDataset, int], None] | None = None,
) -> SimpleNamespace:
    """Write a CT series of single-frame files and say exactly what a reader must find.

    Args:
        folder: made if absent.
        shape: (depth, height, width) before `missing` slices are left out.
        spacing_mm: (depth, height, width); depth along the normal, also with a tilt.
        thickness_mm: SliceThickness; the depth spacing when None.
        origin_mm: LPS of the first voxel.
        orientation: a name of `ORIENTATIONS`, or six cosines.
        hu: (depth, height, width) HU to write; smooth random tissue with noise when None.
        seed: of the voxels and of the UIDs.
        slope, intercept: one value, or one per slice.
        signed, bits_stored: how pixels are stored; BitsAllocated is 16.
        padding_raw: raw value written outside the inscribed circle; PixelPaddingValue says so.
        padding_tag: PixelPaddingValue to write instead of `padding_raw`, such as 63536 for -2000.
        transfer_syntax: a name of `TRANSFER_SYNTAXES` or a UID.
        tilt_degrees: gantry tilt: the planes are turned about the row axis, the table moves straight on.
        jitter_mm: uniform noise of this size on each position component.
        missing: depth indices that are not written.
        duplicates: depth indices written twice; `duplicate_pixels` is "same" or "other".
        instance_order: "ascending" or "descending" InstanceNumber along the normal.
        file_order: "ascending", "descending" or "shuffled" names along the normal.
        first_instance: InstanceNumber of the first slice.
        uid, study_uid: SeriesInstanceUID and StudyInstanceUID; made from `seed` when None.
        prefix, suffix: of the file names.
        preamble: the 128 bytes before DICM.
        edit: called as edit(dataset, depth_index) just before encoding and writing.

    Returns:
        hu: what a reader must return, int16 where exact, else float32, without the missing slices.
        files: paths in depth order (duplicates after all others).
        uid, study_uid: of the series.
        positions_mm: (slices, 3) LPS of the first voxel of each slice in `hu`.
        cosines: the six cosines.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    depth, height, width = shape
    cosines = np.array(ORIENTATIONS[orientation] if isinstance(orientation, str) else orientation, float)
    row, column = cosines[:3].copy(), cosines[3:].copy()
    travel = np.cross(row, column)
    if tilt_degrees:
        angle = math.radians(tilt_degrees)
        column = math.cos(angle) * column - math.sin(angle) * travel
        cosines = np.concatenate([row, column])
        step_mm = spacing_mm[0] / math.cos(angle)
    else:
        step_mm = spacing_mm[0]
    slopes = np.broadcast_to(np.asarray(slope, float), (depth,))
    intercepts = np.broadcast_to(np.asarray(intercept, float), (depth,))
    low, high = (-(1 << (bits_stored - 1)), (1 << (bits_stored - 1)) - 1) if signed else (0, (1 << bits_stored) - 1)
    wanted = _tissue(shape, random) if hu is None else np.asarray(hu, float)
    raw = np.rint((wanted - intercepts[:, None, None]) / slopes[:, None, None])
    raw = np.clip(raw, low, high).astype(np.int64)
    if padding_raw is not None:
        y, x = np.mgrid[:height, :width]
        outside = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2) > min(height, width) / 2
        raw[:, outside] = padding_raw
    exact = raw * slopes[:, None, None] + intercepts[:, None, None]
    positions = np.asarray(origin_mm) + np.arange(depth)[:, None] * step_mm * travel
    positions = positions + random.uniform(-jitter_mm, jitter_mm, positions.shape) * bool(jitter_mm)
    uid = uid or generate_uid(entropy_srcs=["thinslice test series", str(seed), str(folder.name)])
    study_uid = study_uid or generate_uid(entropy_srcs=["thinslice test study", str(seed)])
    kept = [k for k in range(depth) if k not in set(missing)]
    names = {"ascending": kept, "descending": kept[::-1], "shuffled": list(random.permutation(kept))}[file_order]
    files = []
    for copy_number, k in [(0, k) for k in kept] + [(1, k) for k in duplicates]:
        pixels = raw[k]
        if copy_number and duplicate_pixels == "other":
            pixels = np.clip(pixels + 7, low, high)
        dataset = _slice_dataset(uid, study_uid, f"{seed} {uid} {k} {copy_number}", CTImageStorage)
        dataset.InstanceNumber = first_instance + (depth - 1 - k if instance_order == "descending" else k)
        dataset.ImagePositionPatient = [f"{v:.7f}"[:16] for v in positions[k]]
        dataset.ImageOrientationPatient = [f"{v:.10f}"[:16] for v in cosines]
        dataset.SliceLocation = f"{float(positions[k] @ travel):.4f}"
        dataset.PixelSpacing = [spacing_mm[1], spacing_mm[2]]
        dataset.SliceThickness = spacing_mm[0] if thickness_mm is None else thickness_mm
        dataset.GantryDetectorTilt = tilt_degrees
        dataset.RescaleSlope, dataset.RescaleIntercept = float(slopes[k]), float(intercepts[k])
        dataset.RescaleType = "HU"
        _set_pixels(dataset, pixels, signed=signed, bits_stored=bits_stored)
        tag = padding_raw if padding_tag is None else padding_tag
        if tag is not None:
            vr = "SS" if signed and tag <= 32767 else "US"
            dataset.add_new("PixelPaddingValue", vr, tag)
        if edit is not None:
            edit(dataset, k)
        name = f"{prefix}{names.index(k):04d}{'_copy' if copy_number else ''}{suffix}"
        files.append(save(dataset, folder / name, transfer_syntax, preamble=preamble))
    return SimpleNamespace(
        hu=_as_stored(exact[kept]),
        files=files,
        uid=str(uid),
        study_uid=str(study_uid),
        positions_mm=positions[kept],
        cosines=tuple(float(v) for v in cosines),
    )


def write_enhanced(
    path: Path,
    *,
    shape: tuple[int, int, int] = (4, 16, 16),
    spacing_mm: tuple[float, float, float] = (5.0, 0.7, 0.7),
    origin_mm: tuple[float, float, float] = (-10.0, -20.0, 30.0),
    temporal: int = 1,
    seed: int = 0,
) -> SimpleNamespace:
    """Write an enhanced multi-frame CT; `temporal` > 1 repeats every position, as a 4D acquisition does."""
    random = np.random.default_rng(seed)
    frames = shape[0] * temporal
    raw = _tissue((frames, *shape[1:]), random).astype(np.int64) + 1024
    uid = generate_uid(entropy_srcs=["thinslice test enhanced", str(seed), path.name])
    dataset = _slice_dataset(uid, generate_uid(entropy_srcs=["study", str(seed)]), uid, EnhancedCTImageStorage)
    dataset.InstanceNumber = 1
    _set_pixels(dataset, raw, signed=False, bits_stored=16)
    dataset.NumberOfFrames = frames
    dataset.VolumetricProperties = "VOLUME"
    measures, orientation, transform, kind = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [spacing_mm[1], spacing_mm[2]], spacing_mm[0]
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    transform.RescaleSlope, transform.RescaleIntercept, transform.RescaleType = 1, -1024, "HU"
    kind.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    common = Dataset()
    common.PixelMeasuresSequence, common.PlaneOrientationSequence = [measures], [orientation]
    common.PixelValueTransformationSequence, common.CTImageFrameTypeSequence = [transform], [kind]
    dataset.SharedFunctionalGroupsSequence = [common]
    per_frame = []
    for frame in range(frames):
        k, time = frame % shape[0], frame // shape[0]
        position, content, item = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [origin_mm[0], origin_mm[1], origin_mm[2] + k * spacing_mm[0]]
        content.StackID, content.InStackPositionNumber, content.TemporalPositionIndex = "1", k + 1, time + 1
        content.DimensionIndexValues = [1, k + 1, time + 1]
        item.PlanePositionSequence, item.FrameContentSequence = [position], [content]
        per_frame.append(item)
    dataset.PerFrameFunctionalGroupsSequence = per_frame
    path.parent.mkdir(parents=True, exist_ok=True)
    save(dataset, path, "explicit")
    return SimpleNamespace(hu=(raw - 1024).astype(np.int16), files=[path], uid=str(uid))


def save(
    dataset: FileDataset,
    path: Path,
    transfer_syntax: str | UID = "explicit",
    *,
    preamble: bytes = b"\0" * 128,
) -> Path:
    """Encode a dataset made by this module as the transfer syntax says and write it."""
    syntax = TRANSFER_SYNTAXES[transfer_syntax] if isinstance(transfer_syntax, str) else UID(transfer_syntax)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian:
        dataset.compress(syntax, generate_instance_uid=False)
    else:
        dataset.file_meta.TransferSyntaxUID = syntax
        if not syntax.is_little_endian and dataset.get("BitsAllocated") == 16:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset.preamble = preamble
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


def _tissue(shape: tuple[int, ...], random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Whole HU between -1000 and 1500: waves that every axis can be told apart by, and noise."""
    d, h, w = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    waves = 400 * np.sin(d * 0.7 + h * 0.11) + 300 * np.cos(w * 0.23) + 2.0 * h + 3.0 * w + 10.0 * d
    return np.rint(np.clip(waves + random.normal(0, 20, shape), -1000, 1500))


def _as_stored(exact: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    whole = np.array_equal(exact, np.rint(exact)) and exact.min() >= -32768 and exact.max() <= 32767
    return exact.astype(np.int16 if whole else np.float32)


def _slice_dataset(uid: str, study_uid: str, identity: str, sop_class: UID) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["thinslice test instance", identity])
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = "ISO_IR 100"
    for keyword, value in CANARY.items():
        setattr(dataset, keyword, value)
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid, uid
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=["thinslice test frame", study_uid])
    dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Manufacturer, dataset.ConvolutionKernel = "Thinslice Tests", "B30f"
    dataset.PatientPosition, dataset.PatientSex = "HFS", "O"
    dataset.SeriesNumber, dataset.AcquisitionNumber, dataset.KVP = 2, 1, 120
    dataset.PositionReferenceIndicator = ""
    return dataset


def _set_pixels(dataset: Dataset, pixels: npt.NDArray[np.int64], *, signed: bool, bits_stored: int) -> None:
    """Store integer pixels; (H, W), or (frames, H, W) for multi-frame."""
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits_stored, bits_stored - 1
    dataset.PixelRepresentation = int(signed)
    # Signed pixels of fewer bits are stored in two's complement of those bits, the rest cleared.
    stored = (pixels & ((1 << bits_stored) - 1)).astype("<u2")
    dataset.add_new("PixelData", "OW", stored.tobytes())
