"""The quick reader of elements: what it reads is what pydicom reads, of sound files and of damaged ones."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.sequence import Sequence

from support.dicom_factory import TRANSFER_SYNTAXES, write_series
from thinslice.io.dicom.files.bounds import MAX_HEADER_BYTES, BoundedReader, HeaderError
from thinslice.io.dicom.files.elements import read_elements
from thinslice.io.dicom.files.header import quiet_pydicom
from thinslice.io.dicom.files.input_files import InputFile, SkippedFile
from thinslice.io.dicom.files.multiframe import read_headers
from thinslice.io.dicom.files.pixel_element import FIRST_PIXEL_TAGS
from thinslice.io.dicom.series.report import report_of
from thinslice.io.dicom.series.stacks import stacks_of
from thinslice.io.dicom.series.wanted import WANTED_TAGS, read_wanted

FORMS = {"explicit": (False, True), "implicit": (True, True), "big_endian": (False, False)}
"""Transfer syntaxes by name: implicit VR, little endian."""


def header_bytes(folder: Path, syntax: str) -> bytes:
    """The dataset of a file with sequences of both kinds, from behind its file meta information."""

    def edit(dataset: Any, _: int) -> None:
        item = Dataset()
        item.ReferencedSOPInstanceUID, item.CodeMeaning = "1.2.3", "inner"
        nested = Dataset()
        nested.PurposeOfReferenceCodeSequence = Sequence([item])
        dataset.SourceImageSequence = Sequence([nested, item])
        dataset["SourceImageSequence"].is_undefined_length = True
        dataset.ReferencedImageSequence = Sequence([item])
        dataset.add_new(0x00091001, "UN", b"private" * 3)
        dataset.add_new(0x00431029, "OB", bytes(range(256)) * 80)  # longer than a block
        dataset.SpecificCharacterSet = "ISO_IR 192"

    made = write_series(folder, shape=(1, 8, 8), transfer_syntax=syntax, edit=edit)
    data = Path(made.files[0]).read_bytes()
    length = int.from_bytes(data[140:144], "little")
    return data[144 + length :]


def both(data: bytes, implicit: bool, little: bool, keep: frozenset[int] | None = None) -> tuple[Any, Any]:
    """Elements and the place behind them, by the quick reader and by pydicom; or the kind of error."""

    def quick(stream: Any) -> Dataset:
        return read_elements(
            stream,
            len(data),
            implicit=implicit,
            little=little,
            stop=FIRST_PIXEL_TAGS.__contains__,
            limit=MAX_HEADER_BYTES,
            keep=keep,
        )

    def plain(stream: Any) -> Dataset:
        reader: Any = BoundedReader(stream, len(data))
        return read_dataset(reader, implicit, little, stop_when=lambda tag, vr, length: tag in FIRST_PIXEL_TAGS)

    found = []
    for read in (quick, plain):
        stream = io.BytesIO(data)
        try:
            with quiet_pydicom():
                dataset = read(stream)
        except HeaderError:
            raise
        except Exception:
            found.append(("refused", None, None))
            continue
        elements = {
            int(tag): (element.VR, str(element.value))
            for tag, element in dataset._dict.items()
            if keep is None or int(tag) in keep
        }
        found.append((elements, stream.tell(), dataset._character_set))
    return found[0], found[1]


@pytest.mark.parametrize("syntax", FORMS)
def test_elements_are_those_of_pydicom(tmp_path: Path, syntax: str) -> None:
    implicit, little = FORMS[syntax]
    quick, plain = both(header_bytes(tmp_path, syntax), implicit, little)
    assert quick == plain and len(quick[0]) > 40


@pytest.mark.parametrize("syntax", FORMS)
def test_wanted_elements_are_the_same_and_the_pixels_lie_at_the_same_place(tmp_path: Path, syntax: str) -> None:
    implicit, little = FORMS[syntax]
    quick, plain = both(header_bytes(tmp_path, syntax), implicit, little, WANTED_TAGS)
    assert quick == plain


@pytest.mark.parametrize("syntax", FORMS)
def test_a_file_that_is_cut_anywhere_is_read_alike(tmp_path: Path, syntax: str) -> None:
    implicit, little = FORMS[syntax]
    data = header_bytes(tmp_path, syntax)
    for length in [*range(8, 700, 7), *range(700, len(data), 611)]:
        quick, plain = both(data[:length], implicit, little)
        assert quick == plain, length


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(8, 1200), value=st.integers(0, 255))
def test_a_file_with_any_byte_changed_is_read_alike(tmp_path: Path, place: int, value: int) -> None:
    data = bytearray(header_bytes(tmp_path, "explicit"))
    data[place] = value
    quick, plain = both(bytes(data), False, True)
    assert quick == plain


@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES)
def test_a_series_is_judged_alike_by_wanted_attributes_and_by_all(tmp_path: Path, syntax: str) -> None:
    made = write_series(tmp_path, shape=(5, 32, 32), transfer_syntax=syntax, missing=(2,), seed=3)
    files = [InputFile(Path(path), Path(path).name) for path in made.files]
    reports = []
    for read in (read_headers, read_wanted):
        headers = []
        with quiet_pydicom():
            for file in files:
                found = read(file)
                assert not isinstance(found, SkippedFile)
                headers += found
            reports.append([str(report_of(stack, 1, [])) for stack in stacks_of(headers, [])])
    assert reports[0] == reports[1] and "missing" in reports[0][0]
