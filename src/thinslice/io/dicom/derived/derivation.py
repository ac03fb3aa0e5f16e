"""Origin of a derived series: identity, software, time, source images, and earlier lossy compression."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, CTImageStorage, generate_uid

from thinslice.about import NOTICE, __version__
from thinslice.errors import UsageError
from thinslice.geometry import Geometry
from thinslice.io.dicom.attributes import decimal_text, safe_uid, value_of
from thinslice.volume import Derivation

LOSSY_METHODS = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
    "1.2.840.10008.1.2.4.91": "ISO_15444_1",
    "1.2.840.10008.1.2.4.93": "ISO_15444_2",
    "1.2.840.10008.1.2.4.203": "ISO_15444_15",
}
"""Transfer syntaxes that may lose information, with the term of LossyImageCompressionMethod."""

SYNTHETIC_NOISE = "Synthetic noise was added at random: never read small structures in these slices."
"""Sentence about a volume with texture."""

_ALWAYS_LOSSY = frozenset({"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"})


def describe_derivation(
    derivation: Derivation, geometry: Geometry, now: datetime | None, resampled: Sequence[str] = ()
) -> Dataset:
    """DerivationDescription, DerivationCodeSequence and ContributingEquipmentSequence of a derived series.

    Args:
        derivation: how the thin volume was made.
        geometry: its grid.
        now: time of the derivation, with its time zone; None leaves it out.
        resampled: sentences about what reading resampled before.
    """
    model = _plain(f"{derivation.model} {derivation.model_version}", 64)
    weights = f"weights SHA-256 {derivation.weights_sha256}" if derivation.weights_sha256 else "no trained weights"
    thin_mm = geometry.spacing_mm[0]
    noise = f"{SYNTHETIC_NOISE} " if "texture" in derivation.settings else ""
    settings = json.dumps(derivation.settings, sort_keys=True, default=str)
    description = (
        f"Through-plane resampling from {decimal_text(thin_mm * derivation.factor, 3)} mm to "
        f"{decimal_text(thin_mm, 3)} mm, factor {derivation.factor:.4g}, by thinslice {__version__}, model {model}, "
        f"{weights}. {noise}{NOTICE} {''.join(f'{note} ' for note in resampled)}Settings: {settings}"
    )
    equipment = Dataset()
    equipment.Manufacturer = "thinslice"
    equipment.ManufacturerModelName = "thinslice"
    # A SHA-256 in hexadecimal is exactly as long as one value of this attribute may be.
    equipment.SoftwareVersions = [
        text for text in (__version__, model, _plain(derivation.weights_sha256 or "", 64)) if text
    ]
    if now is not None:
        equipment.ContributionDateTime = f"{now.astimezone(UTC):%Y%m%d%H%M%S}+0000"
    equipment.ContributionDescription = _plain(f"Synthesised thin slices between thick ones. {noise}{NOTICE}", 1024)
    equipment.PurposeOfReferenceCodeSequence = Items([_code("109102", "Processing Equipment")])
    result = Dataset()
    result.DerivationDescription = _plain(description, 1024)
    result.DerivationCodeSequence = Items([_code("113085", "Spatial resampling")])
    result.ContributingEquipmentSequence = Items([equipment])
    return result


def derived_uid(*parts: object) -> UID:
    """A UID that depends on `parts` (JSON values) alone: the same on every machine and in every run.

    >>> derived_uid("series", ["1.2.3", 5]) == derived_uid("series", ["1.2.3", 5])
    True
    >>> derived_uid("series", ["1.2.3", 5]) == derived_uid("series", ["1.2.3", 4])
    False
    """
    return generate_uid(entropy_srcs=[json.dumps(parts, sort_keys=True, default=str)])


def derivation_time(offset: object = None) -> datetime:
    """Now, or the moment that SOURCE_DATE_EPOCH sets (seconds since 1970), in the time zone of a DICOM header.

    Args:
        offset: TimezoneOffsetFromUTC such as "+0100"; without it UTC for a set moment, local time for now.

    Raises:
        UsageError: SOURCE_DATE_EPOCH is not a number of seconds; set it so, or unset it.
    """
    match = re.fullmatch(r"([+-])(\d\d)([0-5]\d)", str(offset or "").strip())
    zone: timezone | None = None
    if match and int(match[2]) <= 14:
        delta = timedelta(hours=int(match[2]), minutes=int(match[3]))
        zone = timezone(-delta if match[1] == "-" else delta)
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if not epoch:
        return datetime.now(UTC).astimezone(zone)
    try:
        return datetime.fromtimestamp(int(epoch), zone or UTC)
    except (ValueError, OverflowError, OSError):
        raise UsageError("SOURCE_DATE_EPOCH must be whole seconds since 1970; set it so, or unset it.") from None


def _plain(text: str, limit: int) -> str:
    """Text that is legal in any character set and value representation, cut to `limit` characters."""
    ascii_text = text.encode("ascii", "replace").decode("ascii")
    return re.sub(r"[\x00-\x1f\\]", " ", ascii_text)[:limit].strip()


def _code(value: str, meaning: str) -> Dataset:
    """A coded concept of DICOM's own dictionary (PS3.16, table D-1)."""
    code = Dataset()
    code.CodeValue = value
    code.CodingSchemeDesignator = "DCM"
    code.CodeMeaning = meaning
    return code


def source_reference(class_uid: str, instance_uid: str, frames: Sequence[int] = ()) -> Dataset:
    """An item of SourceImageSequence; `frames`, from 1, of a multi-frame source."""
    item = Dataset()
    item.ReferencedSOPClassUID = class_uid
    item.ReferencedSOPInstanceUID = instance_uid
    if frames:
        item.ReferencedFrameNumber = list(frames)
    item.PurposeOfReferenceCodeSequence = Items([_code("121322", "Source image for image processing operation")])
    return item


def instance_of(header: Dataset) -> tuple[str, str | None]:
    """SOP class and instance UID of a source slice; some archives leave them to the file meta."""
    meta = getattr(header, "file_meta", None) or Dataset()
    class_uid = safe_uid(value_of(header, "SOPClassUID")) or safe_uid(value_of(meta, "MediaStorageSOPClassUID"))
    instance_uid = safe_uid(value_of(header, "SOPInstanceUID")) or safe_uid(
        value_of(meta, "MediaStorageSOPInstanceUID")
    )
    return class_uid or CTImageStorage, instance_uid


def lossy_compression(headers: tuple[Dataset, ...]) -> Dataset:
    """LossyImageCompression, its ratio and method, as in the source: once lossy, always lossy.

    One lossy slice makes the series lossy, since a network combines several slices.
    """
    result = Dataset()
    flags = [str(value_of(header, "LossyImageCompression", "")) for header in headers]
    for header, flag in zip(headers, flags, strict=True):
        syntax = str(value_of(getattr(header, "file_meta", None) or Dataset(), "TransferSyntaxUID", ""))
        by_syntax = syntax in _ALWAYS_LOSSY or (syntax in LOSSY_METHODS and flag != "00")
        if flag != "01" and not by_syntax:
            continue
        result.LossyImageCompression = "01"
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if value_of(header, keyword) is not None:
                result[keyword] = header[keyword]
        if "LossyImageCompressionMethod" not in result and by_syntax:
            result.LossyImageCompressionMethod = LOSSY_METHODS[syntax]
        return result
    if "00" in flags:
        result.LossyImageCompression = "00"
    return result
