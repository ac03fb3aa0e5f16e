"""The header of a derived thin slice, from the headers of its thick ones: no files, no voxels.

A correct derived series has a new identity, positions on the source's own line, a description of its derivation, and
the statement that it is not for diagnosis; patient, study and scanner are the source's.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from thinslice.about import __version__
from thinslice.errors import OutputError
from thinslice.geometry import Geometry
from thinslice.io.dicom.attributes import (
    as_encoded,
    bytes_of,
    decimal_text,
    is_valid_uid,
    kept_attributes,
    lost_keywords,
    raw_text,
    safe_uid,
    source_decimals,
    value_of,
)
from thinslice.io.dicom.derived.derivation import (
    derivation_time,
    derived_uid,
    describe_derivation,
    instance_of,
    lossy_compression,
    source_reference,
)
from thinslice.io.dicom.derived.description import derived_series_number, describe_series
from thinslice.io.dicom.derived.encoding import PixelEncoding
from thinslice.io.dicom.derived.positions import SourceLine
from thinslice.io.dicom.files.header import quiet_pydicom
from thinslice.volume import Derivation, Provenance

COPIED_COSINE_TOLERANCE = 1e-4
"""Direction cosines that agree this closely are copied as the source wrote them."""

OWN_KEYWORDS = (
    "SOPInstanceUID",
    "SourceImageSequence",
    "InstanceNumber",
    "ImagePositionPatient",
    "SliceLocation",
)
"""Attributes in which every thin slice differs from its neighbours, by tag."""

COPIED_SPACING_TOLERANCE_MM = 1e-5
"""Pixel spacings that agree this closely are copied as the source wrote them."""


class DerivedSeries:
    """The headers of a derived thin series.

    Args:
        geometry: the thin grid, (depth, height, width).
        provenance: with the headers of the thick source in depth order and the derivation.
        encoding: of HU as pixels; None stores HU as they are, without padding.
        now: time of the derivation; None takes `derivation_time` in the source's time zone.

    Attributes:
        geometry, encoding: see the arguments.
        line: positions of the thin slices between the thick ones.
        series_uid: the new SeriesInstanceUID.
        warnings: sentences about the identity of the source that the series cannot carry on.

    Raises:
        OutputError: there are no headers (a source that was not DICOM) or no derivation; write .nii.gz instead.
        UsageError: SOURCE_DATE_EPOCH is not a number of seconds; set it so, or unset it.
    """

    geometry: Geometry
    encoding: PixelEncoding
    line: SourceLine
    series_uid: UID
    warnings: tuple[str, ...]

    def __init__(
        self,
        geometry: Geometry,
        provenance: Provenance,
        encoding: PixelEncoding | None = None,
        now: datetime | None = None,
    ) -> None:
        if not provenance.headers:
            raise OutputError(
                "A DICOM series needs the patient and study of a DICOM source, and this source has none; "
                "write to a file ending in .nii.gz instead."
            )
        if provenance.derivation is None:
            raise OutputError(
                "Only upscaled volumes are written as DICOM, and this one has no record of its derivation; "
                "write to a file ending in .nii.gz instead."
            )
        self.geometry = geometry
        self.encoding = PixelEncoding() if encoding is None else encoding
        self._headers: tuple[Dataset, ...] = provenance.headers
        self._derivation: Derivation = provenance.derivation
        self._part = int(provenance.details.get("part", 1))
        with quiet_pydicom():
            self._instances = [instance_of(header) for header in self._headers]
            self._resampled = tuple(str(note) for note in provenance.details.get("resampled", ()))
            self.line = SourceLine(geometry, self._headers, self._derivation.factor, resampled=bool(self._resampled))
            self._source_identity = self._identify_source()
            self.series_uid = derived_uid("series", self._identify_series())
            zone = value_of(self._headers[0], "TimezoneOffsetFromUTC")
            self._shared = self._shared_attributes(now or derivation_time(zone))
            self.warnings = self._identity_warnings()

    def __len__(self) -> int:
        """The number of thin slices."""
        return self.geometry.shape[0]

    def header(self, slice_index: int) -> Dataset:
        """The whole header of one thin slice, file meta included, without PixelData.

        Args:
            slice_index: in depth order, from 0.

        Returns:
            A new dataset for Explicit VR Little Endian. Slices share elements: replace one, never change it.

        Raises:
            OutputError: there is no such slice, a fault of the caller; report it.
        """
        if not 0 <= slice_index < len(self):
            raise OutputError(f"Thin slice {slice_index} is outside the series of {len(self)}; report this.")
        header = Dataset()
        with quiet_pydicom():
            header.update(self.common(self.line.sources(slice_index).nearest))
            header.update(self.own(slice_index))
            header.file_meta = self.file_meta(slice_index)
            return as_encoded(header)

    def file_meta(self, slice_index: int) -> FileMetaDataset:
        """The file meta information of one thin slice."""
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = self._instance_uid(slice_index)
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        return meta

    def own(self, slice_index: int) -> Dataset:
        """The attributes of `OWN_KEYWORDS`: those in which every thin slice differs from its neighbours."""
        own = Dataset()
        own.SOPInstanceUID = self._instance_uid(slice_index)
        own.InstanceNumber = self.line.instance_number(slice_index)
        own.ImagePositionPatient = list(self.line.position(slice_index))
        own.SliceLocation = self.line.location(slice_index)
        pair = self.line.sources(slice_index)
        # Frames of one multi-frame source share their UID.
        frames: dict[tuple[str, str | None], list[int]] = {}
        for index in sorted({pair.lower, pair.upper}):
            number = value_of(self._headers[index], "ReferencedFrameNumber")
            frames.setdefault(self._instances[index], []).extend([] if number is None else [int(number)])
        references = [source_reference(kind, uid, numbers) for (kind, uid), numbers in frames.items() if uid]
        if references:
            own.SourceImageSequence = Sequence(references)
        return own

    def common(self, thick_index: int) -> Dataset:
        """The header that the thin slices nearest to one thick slice share: all but `OWN_KEYWORDS` and pixels."""
        with quiet_pydicom():
            source = self._headers[thick_index]
            common = kept_attributes(source)
            earlier = list(value_of(common, "ContributingEquipmentSequence", ()))
            common.update(self._shared)
            # A new element: setting the attribute would change the one that all slices share.
            equipment = [*earlier, *self._shared.ContributingEquipmentSequence]
            common.add_new("ContributingEquipmentSequence", "SQ", equipment)
            common.ImageOrientationPatient = self._orientation(source)
            spacing = self._pixel_spacing(source)
            if spacing is not None:
                common.PixelSpacing = spacing
            if not self.line.followed and "GantryDetectorTilt" in common:
                del common.GantryDetectorTilt  # reading may have sheared the slices upright
        return as_encoded(common)

    def _instance_uid(self, slice_index: int) -> UID:
        return derived_uid("image", slice_index, str(self.series_uid))

    def _orientation(self, source: Dataset) -> list[str]:
        """ImageOrientationPatient: as written, unless reading turned the grid."""
        direction = np.asarray(self.geometry.direction)
        cosines = np.concatenate([direction[:, 2], direction[:, 1]])
        texts = source_decimals(source, "ImageOrientationPatient", 6)
        if texts and np.allclose([float(text) for text in texts], cosines, rtol=0, atol=COPIED_COSINE_TOLERANCE):
            return list(texts)
        return [decimal_text(float(cosine), 8) for cosine in cosines]

    def _pixel_spacing(self, source: Dataset) -> list[str] | None:
        """PixelSpacing (between rows, between columns): as written, unless reading changed it."""
        texts = source_decimals(source, "PixelSpacing", 2)
        _, rows, columns = self.geometry.spacing_mm
        if rows is None or columns is None:
            return list(texts) if texts else None
        written = [float(text) for text in texts or ()]
        if texts and np.allclose(written, [rows, columns], rtol=0, atol=COPIED_SPACING_TOLERANCE_MM):
            return list(texts)
        return [decimal_text(rows), decimal_text(columns)]

    def _shared_attributes(self, now: datetime) -> Dataset:
        """The attributes that are the same in every slice of the series."""
        shared = Dataset()
        first = self._headers[0]
        # A source from which dates were removed gets none of ours, which would be close to its own.
        dated = value_of(first, "LongitudinalTemporalInformationModified") != "REMOVED"
        for event in ("InstanceCreation", "Series", "Content") if dated else ():
            setattr(shared, f"{event}Date", f"{now:%Y%m%d}")
            setattr(shared, f"{event}Time", f"{now:%H%M%S}")
        shared.SOPClassUID = CTImageStorage
        # Values from the fourth on are the scanner's: energy, phase or reconstruction.
        image_type = str(value_of(first, "ImageType", "")) if isinstance(value_of(first, "ImageType"), str) else None
        terms = [image_type] if image_type is not None else list(value_of(first, "ImageType", ()))
        shared.ImageType = ["DERIVED", "SECONDARY", "AXIAL", *map(str, terms[3:])]
        shared.Modality = "CT"
        shared.SeriesInstanceUID = self.series_uid
        for level, source in (("StudyInstance", self._source_identity), ("FrameOfReference", self._source_identity)):
            kept = safe_uid(value_of(first, f"{level}UID"))
            setattr(shared, f"{level}UID", kept or derived_uid(level, source))
        shared.SeriesNumber = derived_series_number(
            value_of(first, "SeriesNumber"), round(self._derivation.factor), self._part
        )
        shared["SeriesDescription"] = raw_text("SeriesDescription", "LO", self._series_description())
        comments = {bytes_of(header, "ImageComments") for header in self._headers}
        if len(comments) == 1 and any(comments):
            shared["ImageComments"] = raw_text("ImageComments", "LT", comments.pop())
        spacing_mm = self.geometry.spacing_mm[0]
        shared.SliceThickness = decimal_text(self.geometry.thickness_mm or spacing_mm, 6)
        shared.SpacingBetweenSlices = decimal_text(spacing_mm, 6)
        shared.update(describe_derivation(self._derivation, self.geometry, now if dated else None, self._resampled))
        shared.update(lossy_compression(self._headers))
        _, shared.Rows, shared.Columns = self.geometry.shape
        shared.SamplesPerPixel = 1
        shared.PhotometricInterpretation = "MONOCHROME2"
        shared.BitsAllocated = shared.BitsStored = 16
        shared.HighBit = 15
        shared.PixelRepresentation = 1
        shared.RescaleSlope = str(self.encoding.slope)
        shared.RescaleIntercept = str(self.encoding.intercept)
        shared.RescaleType = "HU"
        if self.encoding.padding is not None:
            shared.add_new("PixelPaddingValue", "SS", self.encoding.padding)
        return shared

    def _series_description(self) -> bytes:
        """The source's description with ours: what it is, and that it is not for diagnosis."""
        first, spacing_mm = self._headers[0], decimal_text(self.geometry.spacing_mm[0], 3)
        made = "AI" if self._derivation.weights_sha256 else "interpolated"
        made += "+synthetic noise" if "texture" in self._derivation.settings else ""
        theirs = bytes_of(first, "SeriesDescription")
        phase = str(value_of(first, "NominalPercentageOfCardiacPhase", "")).removesuffix(".0")
        named = f"{phase}% " if phase.isdigit() and f"{phase}%".encode() not in theirs else ""
        part = f"part {self._part} " if self._part > 1 and not named else ""
        endings = [f"{named}{part}{own}{spacing_mm}mm {made}, not for diagnosis" for own in ("thinslice ", "")]
        return describe_series(theirs, value_of(first, "SpecificCharacterSet", ""), endings)

    def _identity_warnings(self) -> tuple[str, ...]:
        """What the series cannot carry on of the source's identity, or carries on though it breaks the standard."""
        found: list[str] = []
        first = self._headers[0]
        study, frame = (value_of(first, keyword) for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"))
        if not safe_uid(study):
            found.append(
                "The source has no usable StudyInstanceUID, so the DICOM output has one of its own: an archive files "
                "it as another study."
            )
        if not safe_uid(frame):
            found.append(
                "The source has no usable FrameOfReferenceUID, so the DICOM output has one of its own: a viewer does "
                "not link its position to the source."
            )
        if not all(uid for _, uid in self._instances):
            found.append("Source images have no usable SOPInstanceUID, so the DICOM output does not refer to them.")
        kept = [safe_uid(value) for value in (study, frame)] + [uid for _, uid in self._instances]
        if not all(is_valid_uid(uid) for uid in kept if uid):
            found.append(
                "UIDs of the source break the rules of DICOM (letters, or more than 64 characters); they are copied as "
                "they are, and an archive may refuse them in both series."
            )
        removed = value_of(first, "PatientIdentityRemoved") == "YES"
        if removed and "YES" in {value_of(header, "BurnedInAnnotation") for header in self._headers}:
            found.append(
                "BurnedInAnnotation is YES: the pixels may show the patient's name, and they are written as they are."
            )
        lost = lost_keywords(first, kept_attributes(first))
        if lost:
            found.append(f"The DICOM output lacks {', '.join(lost)}, which cannot be read in the source.")
        return tuple(found)

    def _identify_source(self) -> list[object]:
        """Identity of the source: its UIDs; where these are missing, other attributes that differ between sources."""
        identity: list[object] = []
        for header, (_, uid), position in zip(self._headers, self._instances, self.line.positions, strict=True):
            parents = [str(value_of(header, f"{level}InstanceUID")) for level in ("Study", "Series")]
            traits = ("PatientID", "StudyDate", "StudyTime", "SeriesNumber", "AcquisitionTime", "InstanceNumber")
            named = uid or [str(value_of(header, keyword)) for keyword in traits]
            identity.append([parents, named, position])
        return identity

    def _identify_series(self) -> list[object]:
        """Everything that decides the pixels: another value of any part must give other UIDs."""
        derivation, depth = self._derivation, len(self)
        return [
            self._source_identity,
            __version__,
            [derivation.model, derivation.model_version, derivation.weights_sha256, derivation.factor],
            derivation.settings,
            *([self._resampled] if self._resampled else ()),
            [self.geometry.shape, self.line.position(0), self.line.position(depth - 1)],
        ]
