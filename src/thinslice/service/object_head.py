"""The UIDs at the start of a DICOM object: enough to know what it belongs to, within narrow bounds."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, cast

from pydicom.filereader import read_dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from thinslice.errors import InputError
from thinslice.io.dicom.files.bounds import BoundedReader, HeaderError
from thinslice.io.dicom.files.file_form import file_form, layout_of
from thinslice.io.dicom.files.header import quiet_pydicom
from thinslice.io.dicom.files.values import text

MOST_HEAD_BYTES = 2**20
"""Bytes in which the UIDs must stand; in real objects they stand in the first few KiB."""

SERIES_INSTANCE_UID = 0x0020000E

_DIGITS = 32
"""Hexadecimal digits of a name: 128 bits."""


class DamagedObjectError(InputError):
    """The bytes do not begin as a DICOM object with its UIDs does."""


@dataclass(frozen=True)
class ObjectHead:
    """What an object belongs to.

    Attributes:
        patient_id: PatientID; "" where it has none.
        study_uid, series_uid, instance_uid, class_uid: its UIDs; only `class_uid` may be "".
    """

    patient_id: str
    study_uid: str
    series_uid: str
    instance_uid: str
    class_uid: str


def digest_name(*parts: str) -> str:
    """A name for a folder or file: a digest of texts.

    >>> digest_name("1.2.3") == digest_name("1.2.3"), len(digest_name("../../etc/passwd"))
    (True, 32)
    """
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:_DIGITS]


def read_object_head(stream: BinaryIO, size: int) -> ObjectHead:
    """Read the elements up to the series' UID; nothing else is parsed.

    Args:
        stream: the file, with or without preamble and file meta information.
        size: its length in bytes.

    Raises:
        DamagedObjectError: the UIDs of study, series and object are not among the first `MOST_HEAD_BYTES`.
    """
    try:
        with quiet_pydicom():
            form = file_form(stream, size)
            stream.seek(form.start)
            body: BinaryIO = stream
            if form.declared == DeflatedExplicitVRLittleEndian:
                head = stream.read(MOST_HEAD_BYTES)
                body = BytesIO(zlib.decompressobj(-zlib.MAX_WBITS).decompress(head, MOST_HEAD_BYTES))
                size = body.seek(0, os.SEEK_END)
                body.seek(0)
            start = body.tell()
            layout = layout_of(body.read(8))
            body.seek(start)
            elements = read_dataset(
                cast(BinaryIO, BoundedReader(body, size, MOST_HEAD_BYTES)),
                layout.implicit,
                layout.little,
                stop_when=lambda tag, vr, length: tag > SERIES_INSTANCE_UID,
            )
            found = ObjectHead(
                text(elements, "PatientID"),
                text(elements, "StudyInstanceUID"),
                text(elements, "SeriesInstanceUID"),
                text(elements, "SOPInstanceUID"),
                text(elements, "SOPClassUID"),
            )
    except HeaderError as error:
        raise DamagedObjectError("The object has a header that is damaged or too large.") from error
    except Exception as error:  # a parser fed with hostile bytes raises anything
        raise DamagedObjectError("The object is damaged, or no DICOM object.") from error
    if not (found.study_uid and found.series_uid and found.instance_uid):
        raise DamagedObjectError("The object lacks the UID of its study, of its series or of itself.")
    return found


def object_head(path: Path) -> ObjectHead:
    """The UIDs of the object in a file, as `read_object_head`.

    Raises:
        DamagedObjectError: it is no DICOM object, or damaged.
    """
    try:
        with path.open("rb") as stream:
            return read_object_head(stream, path.stat().st_size)
    except OSError as error:
        raise DamagedObjectError("The file cannot be read; check its permissions.") from error
