"""Files that break part 10 of DICOM or pad their numbers: HU and geometry of the plain series, or a reason."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
)

from support.dicom_factory import write_enhanced, write_series
from thinslice.errors import InputError, UnreadableError
from thinslice.io.dicom.read import read_dicom, scan

SHAPE = (3, 32, 32)
PIXELS = b"\xe0\x7f\x10\x00OW"


def dataset_of(data: bytes) -> bytes:
    """The dataset of an explicit file that the factory wrote."""
    return data[144 + int.from_bytes(data[140:144], "little") :]


def implicit(file: Path) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = True, True
    write_dataset(buffer, dcmread(file))
    return buffer.getvalue()


def meta(syntax: str, *, is_implicit: bool = False, little: bool = True) -> bytes:
    elements = FileMetaDataset()
    elements.MediaStorageSOPClassUID, elements.MediaStorageSOPInstanceUID = CTImageStorage, "1.2.3"
    elements.TransferSyntaxUID = syntax
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = is_implicit, little
    if is_implicit or not little:
        write_dataset(buffer, elements)
    else:
        write_file_meta_info(buffer, elements)
    return bytes(128) + b"DICM" + buffer.getvalue()


FORMS: dict[str, Callable[[Path, bytes], bytes]] = {
    "explicit meta, implicit data": lambda file, data: meta(ExplicitVRLittleEndian) + implicit(file),
    "big endian said, explicit little": lambda file, data: meta(ExplicitVRBigEndian) + dataset_of(data),
    "implicit said, explicit little": lambda file, data: meta(ImplicitVRLittleEndian) + dataset_of(data),
    "deflated said, explicit little": lambda file, data: meta(DeflatedExplicitVRLittleEndian) + dataset_of(data),
    "big endian meta": lambda file, data: meta(ExplicitVRLittleEndian, little=False) + dataset_of(data),
    "implicit meta": lambda file, data: meta(ImplicitVRLittleEndian, is_implicit=True) + implicit(file),
    "no meta, implicit": lambda file, data: bytes(128) + b"DICM" + implicit(file),
    "no preamble": lambda file, data: data[132:],
    "nothing before DICM": lambda file, data: data[128:],
    "deflated as zlib does": lambda file, data: meta(DeflatedExplicitVRLittleEndian) + zlib.compress(dataset_of(data)),
    "uncompressed under JPEG": lambda file, data: meta(JPEGLosslessSV1) + dataset_of(data),
    "undefined length without items": lambda file, data: data[: -32 * 32 * 2 - 4] + b"\xff" * 4 + data[-2048:],
    "pixels as UN": lambda file, data: data.replace(PIXELS, PIXELS[:4] + b"UN"),
    "bytes after the pixels": lambda file, data: data + b"\x01\x02\x03 no element",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_file_is_read_as_it_is_encoded_not_as_it_says(tmp_path: Path, form: str) -> None:
    made = write_series(tmp_path, shape=SHAPE)
    for file in made.files:
        file.write_bytes(FORMS[form](file, file.read_bytes()))
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.hu, made.hu)
    np.testing.assert_allclose(volume.geometry.origin_mm, made.positions_mm[0], atol=1e-6)


@pytest.mark.parametrize("encoding", ["jpeg_ls", "jpeg_2000", "rle"])
@pytest.mark.parametrize("end", [b"", b"\xfe\xff", b"\x00" * 20])
def test_a_missing_sequence_delimiter_costs_nothing(tmp_path: Path, encoding: str, end: bytes) -> None:
    made = write_series(tmp_path, shape=SHAPE, transfer_syntax=encoding)
    for file in made.files:
        data = file.read_bytes()
        file.write_bytes(data[: data.rindex(b"\xfe\xff\xdd\xe0")] + end)
    np.testing.assert_array_equal(read_dicom(tmp_path).hu, made.hu)


def test_a_stream_cut_short_is_never_whole(tmp_path: Path) -> None:
    made = write_series(tmp_path, shape=SHAPE, transfer_syntax="jpeg_ls")
    last = dcmread(made.files[-1])
    frame = last.PixelData[16 + 8 :]
    last.PixelData = encapsulate([frame[: len(frame) // 4 * 2]])
    last.save_as(made.files[-1])
    data = made.files[-1].read_bytes()
    made.files[-1].write_bytes(data[: data.rindex(b"\xfe\xff\xdd\xe0")])
    np.testing.assert_array_equal(read_dicom(tmp_path).hu, made.hu[:-1])


def test_an_image_in_place_of_the_offset_table_is_read(tmp_path: Path) -> None:
    made = write_series(tmp_path, shape=SHAPE, transfer_syntax="jpeg_2000")
    for file in made.files:
        data = file.read_bytes()
        table = data.index(b"\xfe\xff\x00\xe0")
        file.write_bytes(data[:table] + data[data.index(b"\xfe\xff\x00\xe0", table + 4) :])
    np.testing.assert_array_equal(read_dicom(tmp_path).hu, made.hu)


def patched(data: bytes, tag: int, change: Callable[[bytes], bytes], vr: bytes = b"") -> bytes:
    """One short explicit element changed."""
    at = data.index(struct.pack("<HH", tag >> 16, tag & 0xFFFF) + b"DS")
    size = int.from_bytes(data[at + 6 : at + 8], "little")
    value = change(data[at + 8 : at + 8 + size])
    return data[: at + 4] + (vr or b"DS") + struct.pack("<H", len(value)) + value + data[at + 8 + size :]


@pytest.mark.parametrize("tag", [0x00180050, 0x00200032, 0x00200037, 0x00280030, 0x00281052, 0x00281053])
@pytest.mark.parametrize("pad", [b"\0", b"\0\0", b" \0", b"\\", b"\\ \0"])
def test_padded_numbers_are_numbers(tmp_path: Path, tag: int, pad: bytes) -> None:
    made = write_series(tmp_path, shape=SHAPE, spacing_mm=(5.0, 0.841796875, 0.841796875))
    plain = read_dicom(tmp_path).geometry
    for file in made.files:
        file.write_bytes(patched(file.read_bytes(), tag, lambda value: value.rstrip(b" ") + pad))
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.hu, made.hu)
    assert volume.geometry == plain
    assert volume.provenance.warnings == ()
    assert str(volume.provenance.headers[0].PixelSpacing[0]) == "0.841796875"


def test_one_pixel_spacing_is_square_and_said(tmp_path: Path) -> None:
    made = write_series(tmp_path, shape=SHAPE, spacing_mm=(5.0, 0.841796875, 0.841796875))
    for file in made.files:
        file.write_bytes(patched(file.read_bytes(), 0x00280030, lambda value: b"0.841796875 "))
    volume = read_dicom(tmp_path)
    assert volume.geometry.spacing_mm == (5.0, 0.841796875, 0.841796875)
    assert any("one value" in warning for warning in volume.provenance.warnings)


@pytest.mark.parametrize("written", [b"0.8-0.8 ", b"0,8,1\\0,8 ", b"0_8\\0_8 ", b"nan\\nan "])
def test_what_is_no_number_is_no_spacing(tmp_path: Path, written: bytes) -> None:
    made = write_series(tmp_path, shape=SHAPE)
    for file in made.files:
        file.write_bytes(patched(file.read_bytes(), 0x00280030, lambda value: written))
    assert scan(tmp_path)[0].spacing_mm == (5.0, None, None)


@pytest.mark.parametrize("vr", [b"D\xff", b"LS", b"DA"])
@pytest.mark.parametrize("tag", [0x00180050, 0x00200032, 0x00281052])
def test_a_damaged_value_representation_changes_nothing(tmp_path: Path, tag: int, vr: bytes) -> None:
    made = write_series(tmp_path, shape=SHAPE)
    plain = read_dicom(tmp_path).geometry
    made.files[1].write_bytes(patched(made.files[1].read_bytes(), tag, lambda value: value, vr))
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.hu, made.hu)
    assert volume.geometry == plain


def test_an_empty_element_with_a_damaged_value_representation_is_no_crash(tmp_path: Path) -> None:
    made = write_series(tmp_path, shape=SHAPE, edit=lambda dataset, k: setattr(dataset, "AcquisitionNumber", None))
    data = made.files[1].read_bytes()
    at = data.index(b"\x20\x00\x12\x00IS")
    made.files[1].write_bytes(data[: at + 5] + b"\xff" + data[at + 6 :])
    np.testing.assert_array_equal(read_dicom(tmp_path).hu, made.hu)


def test_rescale_slope_missing_or_zero_is_one_and_said(tmp_path: Path) -> None:
    for name, slope in (("absent", None), ("zero", 0)):
        made = write_series(
            tmp_path / name, shape=SHAPE, edit=lambda dataset, k, slope=slope: setattr(dataset, "RescaleSlope", slope)
        )
        volume = read_dicom(tmp_path / name)
        np.testing.assert_array_equal(volume.hu, made.hu)
        assert any("RescaleSlope" in warning for warning in volume.provenance.warnings)


def test_twelve_bit_jpeg_names_a_way_without_other_licences(tmp_path: Path) -> None:
    def jpeg(dataset, k: int) -> None:
        dataset.PixelData = encapsulate([b"\xff\xd8\xff\xd9" * 20])

    made = write_series(tmp_path, shape=SHAPE, edit=jpeg)
    for file in made.files:
        data = file.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.4.51")
        at = data.index(b"1.2.840.10008.1.2.4.51")
        data = data[: at - 2] + b"\x16\0" + data[at:]
        at = data.index(PIXELS)
        file.write_bytes(data[: at + 8] + b"\xff" * 4 + data[at + 12 :])
    with pytest.raises(UnreadableError, match="dcmdjpeg") as caught:
        read_dicom(tmp_path)
    assert "pylibjpeg" not in str(caught.value)


@pytest.mark.parametrize(
    ("behind", "warned"),
    [
        (b"", False),
        (bytes(100), False),
        (b"\xfc\xff\xfc\xffOB\0\0\x08\0\0\0" + b"padding ", False),
        (b"\xe1\x7f\x10\0LO\x08\0PRIVATE ", False),
        (b"\x10\0\x10\0PN\x04\0A^B ", True),
        (b"\x05\x02\x07\x03\x05\x02", True),
        (bytes(range(1, 200)), True),
    ],
)
def test_bytes_behind_the_pixels_that_are_no_elements_are_said(tmp_path: Path, behind: bytes, warned: bool) -> None:
    made = write_series(tmp_path, shape=SHAPE)
    made.files[1].write_bytes(made.files[1].read_bytes() + behind)
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.hu, made.hu)
    assert any("follow the pixels" in text for text in volume.provenance.warnings) == warned


def swapped(data: bytes, *, really: bool) -> bytes:
    """An explicit file of the factory with GE's private syntax, whose pixels are big endian, or are only said to be."""
    start = data.index(PIXELS) + 12
    pixels = np.frombuffer(data[start:], "<u2")
    return data[:start] + (pixels.byteswap() if really else pixels).tobytes()


@pytest.mark.parametrize("really", [True, False])
def test_swapped_pixels_of_ge_are_read_as_they_are(tmp_path: Path, really: bool) -> None:
    made = write_series(tmp_path, shape=(4, 32, 32))
    for file in made.files:
        file.write_bytes(swapped(file.read_bytes(), really=really))
        data = implicit(file)
        file.write_bytes(meta("1.2.840.113619.5.2") + data)
    np.testing.assert_array_equal(read_dicom(tmp_path).hu, made.hu)


def test_swapped_pixels_are_read_as_simpleitk_reads_them(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    made = write_series(tmp_path, shape=(4, 32, 32))
    for file in made.files:
        file.write_bytes(swapped(file.read_bytes(), really=True))
        data = implicit(file)
        file.write_bytes(meta("1.2.840.113619.5.2") + data)
    theirs = sitk.GetArrayFromImage(sitk.ReadImage([str(file) for file in made.files]))
    np.testing.assert_array_equal(read_dicom(tmp_path).hu, theirs)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("width", [32, 31])
def test_pixels_packed_to_twelve_bits_are_read(tmp_path: Path, signed: bool, width: int) -> None:
    made = write_series(
        tmp_path, shape=(4, 31, width), bits_stored=12, signed=signed, intercept=0.0 if signed else -1024.0
    )
    for file in made.files:
        dataset = dcmread(file)
        values = np.frombuffer(dataset.PixelData, "<u2")[: 31 * width].astype(np.uint32) & 0xFFF
        values = np.append(values, np.zeros(values.size % 2, np.uint32)).reshape(-1, 2)
        packed = np.stack(
            [values[:, 0] & 0xFF, values[:, 0] >> 8 | (values[:, 1] & 0xF) << 4, values[:, 1] >> 4], axis=1
        ).astype(np.uint8).tobytes()[: -(-31 * width * 12 // 8)]  # fmt: skip
        dataset.BitsAllocated, dataset.PixelData = 12, packed + bytes(len(packed) % 2)
        dataset.save_as(file)
    np.testing.assert_array_equal(read_dicom(tmp_path).hu, made.hu)
    if not signed and width == 32:
        sitk = pytest.importorskip("SimpleITK")
        theirs = sitk.GetArrayFromImage(sitk.ReadImage([str(file) for file in made.files]))
        np.testing.assert_array_equal(theirs, made.hu)


@pytest.mark.parametrize("vr", [b"DS", b"PN", b"IS", b"UN", b"OB"])
def test_pixels_under_another_value_representation_lie_where_they_lie(tmp_path: Path, vr: bytes) -> None:
    made = write_series(tmp_path, shape=SHAPE)
    for file in made.files:
        file.write_bytes(file.read_bytes().replace(PIXELS, PIXELS[:4] + vr))
    np.testing.assert_array_equal(read_dicom(tmp_path).hu, made.hu)


@pytest.mark.parametrize("keyword", ["Rows", "Columns"])
@pytest.mark.parametrize("enhanced", [False, True])
def test_a_matrix_far_smaller_than_the_pixels_is_refused(tmp_path: Path, keyword: str, enhanced: bool) -> None:
    def shrink(dataset, k: int = 0) -> None:
        setattr(dataset, keyword, 3)

    if enhanced:
        write_enhanced(tmp_path / "enhanced.dcm")
        dataset = dcmread(tmp_path / "enhanced.dcm")
        shrink(dataset)
        dataset.save_as(tmp_path / "enhanced.dcm")
    else:
        write_series(tmp_path, shape=SHAPE, edit=shrink)
    with pytest.raises(InputError, match="do not fit Rows"):
        read_dicom(tmp_path)


def test_decimal_commas_are_points_and_said(tmp_path: Path) -> None:
    made = write_series(tmp_path, shape=(4, 32, 32))
    for file in made.files:
        data = file.read_bytes()
        for tag in (b"\x18\0\x50\0DS", b"\x20\0\x32\0DS", b"\x28\0\x30\0DS"):
            start = data.index(tag) + 8
            end = start + int.from_bytes(data[start - 2 : start], "little")
            data = data[:start] + data[start:end].replace(b".", b",") + data[end:]
        file.write_bytes(data)
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.hu, made.hu)
    assert volume.geometry.spacing_mm == pytest.approx((5, 0.7, 0.7))
    np.testing.assert_allclose(volume.geometry.origin_mm, made.positions_mm[0])
    assert any("decimal comma" in text for text in volume.provenance.warnings)


def test_a_table_beside_slope_and_intercept_is_left_aside_and_said(tmp_path: Path) -> None:
    def with_table(dataset, k: int) -> None:
        table = Dataset()
        table.LUTDescriptor, table.ModalityLUTType = [4, 0, 16], "HU"
        table.add_new(0x00283006, "US", [0, 1, 2, 3])
        dataset.ModalityLUTSequence = [table]

    made = write_series(tmp_path, shape=SHAPE, edit=with_table)
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.hu, made.hu)
    assert any("Modality LUT" in text for text in volume.provenance.warnings)
