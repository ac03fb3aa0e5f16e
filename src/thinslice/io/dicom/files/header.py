"""One DICOM header, read with bounds: a file with hostile lengths, nesting or deflate streams is skipped."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from pydicom import config
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from thinslice.io.dicom.files.archives import NOT_DICOM
from thinslice.io.dicom.files.bounds import MAX_HEADER_BYTES, HeaderError
from thinslice.io.dicom.files.elements import read_elements
from thinslice.io.dicom.files.file_form import (
    KNOWN_VRS,
    MAX_INFLATED_BYTES,
    NATIVE_SYNTAXES,
    FileForm,
    Layout,
    file_form,
    inflate,
    layout_of,
    looks_like_dicom,
)
from thinslice.io.dicom.files.input_files import UNPACK_ERRORS, InputFile, SkippedFile
from thinslice.io.dicom.files.pixel_element import (
    FIRST_PIXEL_TAGS,
    ITEM_TAGS,
    behind_pixels,
    found_syntax,
    pixel_element,
)
from thinslice.io.dicom.files.unpack import PackedError
from thinslice.io.dicom.files.values import decimals, integer, number, numbers, text

MAX_NESTING = 32
"""Sequences inside sequences; real CT headers have five at most."""

GE_SWAPPED_PIXELS = "1.2.840.113619.5.2"
"""GE's private transfer syntax: a dataset in implicit VR little endian, its pixels big endian."""

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
"""SOP class of single-frame CT."""

MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
"""SOP class of DICOMDIR, an index that is ignored."""

SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", ".ds_store", "autorun.inf", ".directory"})
"""Files that Windows, macOS and Linux write into folders; macOS also writes `._NAME` beside NAME."""


@dataclass(frozen=True)
class SliceHeader:
    """A parsed file: its header, and where its pixels lie.

    Attributes:
        file: where it was read from.
        dataset: everything before the pixels, with `file_meta`; no preamble, no reference to the file.
        transfer_syntax: how the dataset is encoded.
        pixel_start: offset of the pixel value, in the inflated stream for a deflated dataset; None without pixels.
        pixel_length: declared bytes, `UNDEFINED_LENGTH` when encapsulated.
        pixel_bytes: bytes from `pixel_start` to the end of the stream, or of the frame.
        notes: sentences on what was taken otherwise than written.
        pixels_swapped: whether the pixels are declared to be in the other byte order than the dataset.
    """

    file: InputFile
    dataset: FileDataset
    transfer_syntax: UID
    pixel_start: int | None
    pixel_length: int
    pixel_bytes: int
    notes: tuple[str, ...] = ()
    pixels_swapped: bool = False


@contextlib.contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Suppress pydicom's warnings and log: its messages quote values, which may identify a patient."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            logger.setLevel(level)


def read_header(file: InputFile, *, keep: frozenset[int] | None = None) -> SliceHeader | SkippedFile | None:
    """Parse everything before the pixels.

    Args:
        file: the file.
        keep: tags of the attributes that are wanted; None for all.

    Returns:
        The header; a `SkippedFile` for a file that is not DICOM, damaged or hostile; None for a DICOMDIR, and for what
        operating systems leave in folders.
    """
    try:
        with file.open() as stream:
            size = stream.seek(0, io.SEEK_END)
            stream.seek(0)
            header = _parse(file, stream, size, keep)
    except (HeaderError, PackedError) as error:
        return None if _is_of_the_system(file, str(error)) else SkippedFile(file.name, str(error))
    except UNPACK_ERRORS as error:
        # RecursionError is a RuntimeError: a dataset nested beyond Python's limit.
        if isinstance(error, RecursionError):
            return SkippedFile(file.name, f"sequences nested deeper than {MAX_NESTING}")
        return SkippedFile(file.name, "cannot be opened or parsed")
    except MemoryError:
        return SkippedFile(file.name, "asks for more memory than there is")
    except Exception:  # a parser fed with hostile bytes raises anything; the reason must not quote them
        return SkippedFile(file.name, "damaged DICOM")
    meta_class = text(header.dataset.file_meta, "MediaStorageSOPClassUID")
    return None if meta_class == MEDIA_STORAGE_DIRECTORY else header


def is_text(head: bytes) -> bool:
    """Whether a file begins with printed text.

    >>> is_text("Müller, links".encode()), is_text(bytes(60)), is_text(b"")
    (True, False, False)
    """
    try:
        letters = head.decode("utf-8-sig")
    except UnicodeDecodeError:
        letters = head.decode("latin-1")
        if any("\x7f" <= letter < "\xa0" for letter in letters):
            return False
    return bool(letters.strip()) and all(letter.isprintable() or letter in "\t\r\n\f\xa0" for letter in letters)


def _is_of_the_system(file: InputFile, reason: str) -> bool:
    """Whether a file that is not DICOM is one that an operating system leaves in every folder of a disk."""
    name = file.name.lower()
    return "not DICOM" in reason and (name in SYSTEM_FILES or name.startswith("._"))


def open_dataset(header: SliceHeader, stream: BinaryIO) -> BinaryIO:
    """The stream to which `pixel_start` refers: the file itself, or its inflated dataset."""
    if header.transfer_syntax != DeflatedExplicitVRLittleEndian:
        return stream
    return _dataset_stream(file_form(stream, stream.seek(0, io.SEEK_END)), stream)


def _parse(file: InputFile, stream: BinaryIO, size: int, keep: frozenset[int] | None) -> SliceHeader:
    head = stream.read(140)
    if not head:
        raise HeaderError("empty file")
    if not looks_like_dicom(head):
        # The start of a preamble is no text: it holds zeros, or the first bytes of a TIFF file.
        is_other = len(head) > 132 or is_text(head)
        raise HeaderError(NOT_DICOM if is_other else "cut short, or not DICOM")
    form = file_form(stream, size)
    body = _dataset_stream(form, stream)
    start, body_size = body.tell(), size
    if body is not stream:
        body_size = body.seek(0, io.SEEK_END)
        body.seek(start)
    first = body.read(8)
    body.seek(start)
    if len(first) < 8:
        raise HeaderError("truncated or empty DICOM")
    layout = layout_of(first)
    elements = read_elements(
        body,
        body_size,
        implicit=layout.implicit,
        little=layout.little,
        stop=FIRST_PIXEL_TAGS.__contains__,
        limit=MAX_HEADER_BYTES,
        keep=keep,
    )
    # An executable may hide in the preamble, and the file must not stay open or its folder be remembered.
    dataset = FileDataset("", elements, None, form.meta, layout.implicit, layout.little)
    dataset.set_original_encoding(layout.implicit, layout.little, elements._character_set)
    dataset.filename = dataset.buffer = dataset.timestamp = None
    if "SOPClassUID" not in dataset and "MediaStorageSOPClassUID" not in form.meta:
        raise HeaderError(NOT_DICOM if form.start < 132 else "truncated or empty DICOM")
    syntax = _declared_syntax(form, layout, inflated=body is not stream)
    notes = mend(dataset)
    pixels, length = pixel_element(body, layout)
    if pixels is None and CT_IMAGE in (text(dataset, "SOPClassUID"), text(form.meta, "MediaStorageSOPClassUID")):
        raise HeaderError("no pixel data, or cut short before them")
    _check_nesting(dataset)
    if pixels is None:
        return SliceHeader(file, dataset, syntax, None, 0, 0, notes)
    syntax, length = found_syntax(syntax, layout, dataset, length, body, pixels)
    notes += behind_pixels(body, layout, pixels, length, body_size)
    swapped = form.declared == GE_SWAPPED_PIXELS
    return SliceHeader(file, dataset, syntax, pixels, length, body_size - pixels, notes, swapped)


def _dataset_stream(form: FileForm, stream: BinaryIO) -> BinaryIO:
    """The stream of the dataset, at its start: the file, or what a deflated dataset inflates to."""
    stream.seek(form.start)
    if form.declared != DeflatedExplicitVRLittleEndian:
        return stream
    first = stream.read(6)
    stream.seek(form.start)
    if first[:2] == b"\x08\x00" and first[4:6].decode("latin-1") in KNOWN_VRS:
        return stream  # said to be deflated, and is not
    return io.BytesIO(inflate(stream.read(MAX_INFLATED_BYTES), lambda: stream.read(1)))


def _declared_syntax(form: FileForm, layout: Layout, *, inflated: bool) -> UID:
    """The declared transfer syntax; for uncompressed pixels the one that the dataset was found to have."""
    if inflated:
        return DeflatedExplicitVRLittleEndian
    if form.declared and form.declared not in (*NATIVE_SYNTAXES, GE_SWAPPED_PIXELS):
        syntax = UID(form.declared)
        if not syntax.is_transfer_syntax:
            raise HeaderError("unknown transfer syntax")
        return syntax
    if layout.implicit and not layout.little:
        raise HeaderError("unknown transfer syntax")
    return layout.syntax


def mend(dataset: Dataset) -> tuple[str, ...]:
    """Take padding off numbers and damage off value representations, and complete values as other readers do.

    Returns:
        Sentences on what was assumed.
    """
    commas = False
    for element in list(dataset.values()):
        if not isinstance(element, RawDataElement):
            continue
        mended = element
        if element.VR is not None and element.VR not in KNOWN_VRS:
            mended = mended._replace(VR=None)  # pydicom then takes the one of its dictionary
        value = element.value
        if isinstance(value, bytes) and value[-1:] in (b"\0", b"\\") and _is_decimal(mended):
            with contextlib.suppress(ValueError):
                cleaned = b"\\".join(decimals(value))
                mended = mended._replace(value=cleaned, length=len(cleaned))
        if isinstance(value, bytes) and b"," in value and _is_decimal(mended):
            with contextlib.suppress(ValueError):
                pointed = b"\\".join(decimals(value.replace(b",", b".")))
                mended = mended._replace(value=pointed, length=len(pointed))
                commas = True
        if mended is not element:
            dataset[element.tag] = mended
    # What follows is read as SimpleITK and dcm2niix read it.
    notes = ["Numbers are written with a decimal comma, which is taken as a point."] if commas else []
    spacing = numbers(dataset, "PixelSpacing", 1)
    if spacing is not None:
        dataset.PixelSpacing = [spacing[0], spacing[0]]
        notes.append("PixelSpacing holds one value; pixels are taken as square.")
    if not number(dataset, "RescaleSlope") and number(dataset, "RescaleIntercept") is not None:
        dataset.RescaleSlope = 1
        notes.append("RescaleSlope is missing or 0; it is taken as 1.")
    one_sample = integer(dataset, "SamplesPerPixel") == 1
    if one_sample and "Rows" in dataset and not text(dataset, "PhotometricInterpretation"):
        dataset.PhotometricInterpretation = "MONOCHROME2"
        notes.append("PhotometricInterpretation is missing; larger values are taken as denser.")
    return tuple(notes)


def _is_decimal(element: RawDataElement) -> bool:
    if element.VR is not None:
        return element.VR in ("DS", "IS")
    return dictionary_has_tag(element.tag) and dictionary_VR(element.tag) in ("DS", "IS")


def _check_nesting(dataset: Dataset) -> None:
    """Refuse a dataset that nests too deeply; pydicom parses sequences of defined length only on access."""
    level: list[Dataset] = [dataset]
    for _ in range(MAX_NESTING):
        deeper: list[Dataset] = []
        for item in level:
            for element in list(item.values()):
                if isinstance(element, RawDataElement) and not _may_nest(element):
                    continue
                value = item[element.tag].value
                if isinstance(value, Sequence):
                    deeper.extend(value)
        if not deeper:
            return
        level = deeper
    raise HeaderError(f"sequences nested deeper than {MAX_NESTING}")


def _may_nest(element: RawDataElement) -> bool:
    """Whether an unparsed element may hold sequences deeper than allowed; every level begins with an item tag."""
    # Implicit VR holds no types, and UN may hide a sequence.
    if element.VR not in ("SQ", "UN", None) or not isinstance(element.value, bytes):
        return False
    return element.value[:4] in ITEM_TAGS and sum(map(element.value.count, ITEM_TAGS)) >= MAX_NESTING // 2
