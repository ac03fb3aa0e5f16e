"""Bits above BitsStored, and signs that the header has wrong: HU of the sound series, or a refusal; never a guess."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from support.dicom_factory import write_series
from thinslice.data.phantoms.painting import render
from thinslice.data.phantoms.thorax import phantom_grid, thorax
from thinslice.io.dicom.files.bits import settle_bits
from thinslice.io.dicom.files.header import SliceHeader
from thinslice.io.dicom.files.pixel_format import PixelError, PixelFormat, pixel_format
from thinslice.io.dicom.files.pixels import HuStack
from thinslice.io.dicom.read import read_dicom


@pytest.fixture(scope="module")
def hu() -> np.ndarray:
    return render(thorax(0), phantom_grid((1, 120, 120), (5.0, 3.0, 3.0))).hu[0].astype(np.int32)


def header(**elements: int) -> SliceHeader:
    dataset = Dataset()
    for tag, value in elements.items():
        dataset.add_new(int(tag.removeprefix("tag_"), 16), "US", value)
    return SliceHeader(None, dataset, ExplicitVRLittleEndian, 0, 0, 0)  # type: ignore[arg-type]


def form(stored: int, *, signed: bool, intercept: float = 0.0) -> PixelFormat:
    return PixelFormat(120, 120, 16, stored, signed, 1.0, intercept)


def settled(raw: np.ndarray, how: PixelFormat, where: SliceHeader | None = None) -> np.ndarray:
    return settle_bits(raw, where or header(), how).astype(np.int64) + int(how.intercept)


def test_sound_pixels_are_left_as_they_are(hu: np.ndarray) -> None:
    raw = hu.astype(np.int16)
    assert settle_bits(raw, header(), form(16, signed=True)) is raw


@pytest.mark.parametrize("bit", [12, 13, 15])
@pytest.mark.parametrize("declared", [True, False])
def test_an_overlay_above_the_stored_bits_is_masked(hu: np.ndarray, bit: int, declared: bool) -> None:
    raw = (hu + 1024).clip(0, 4095).astype(np.uint16)
    raw[20:40, 30:70:3] |= np.uint16(1 << bit)
    where = header(tag_60000102=bit) if declared else header()
    np.testing.assert_array_equal(settled(raw, form(12, signed=False, intercept=-1024), where), hu.clip(-1024, 3071))


def test_values_that_need_more_bits_than_stated_are_kept(hu: np.ndarray) -> None:
    metal = hu.copy()
    y, x = np.mgrid[:120, :120]
    metal += np.where((y - 60) ** 2 + (x - 60) ** 2 < 100, 6000 - 50 * ((y - 60) ** 2 + (x - 60) ** 2), 0)
    raw = (metal + 1024).clip(0, 32767).astype(np.uint16)
    assert raw.max() > 4095
    np.testing.assert_array_equal(settled(raw, form(12, signed=False, intercept=-1024)), raw.astype(int) - 1024)


def test_a_sign_that_the_header_lost_is_found(hu: np.ndarray) -> None:
    np.testing.assert_array_equal(settled(hu.astype(np.int16).view(np.uint16), form(16, signed=False)), hu)


def test_a_sign_without_its_high_bits_is_extended(hu: np.ndarray) -> None:
    raw = (hu.clip(-2048, 2047) & 0xFFF).astype(np.int16)
    np.testing.assert_array_equal(settled(raw, form(12, signed=True)), hu.clip(-2048, 2047))


def test_large_unsigned_values_that_are_smooth_are_kept() -> None:
    raw = np.add.outer(np.arange(120) * 30, np.arange(120) * 30).astype(np.uint16) + np.uint16(30_000)
    np.testing.assert_array_equal(settled(raw, form(16, signed=False)), raw.astype(int))


def test_noise_over_all_bits_is_refused() -> None:
    raw = np.random.default_rng(0).integers(0, 65536, (120, 120)).astype(np.uint16)
    with pytest.raises(PixelError, match="HU are unknown"):
        settled(raw, form(12, signed=False))


def test_byte_order_is_kept(hu: np.ndarray) -> None:
    raw = (hu + 1024).clip(0, 4095).astype(">u2")
    raw[5, 5:9] |= 1 << 15
    swapped = dataclasses.replace(header(tag_60000102=15))
    np.testing.assert_array_equal(settled(raw, form(12, signed=False, intercept=-1024), swapped), hu.clip(-1024, 3071))


def pixel_module(**changes: object) -> Dataset:
    dataset = Dataset()
    dataset.Rows = dataset.Columns = 120
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    for keyword, value in changes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    "changes",
    [
        {"HighBit": 15},
        {"HighBit": 12},
        {"HighBit": 255},
        {"HighBit": None},
        {"BitsStored": 16},
        {"BitsStored": 15, "HighBit": 15},
        {"BitsStored": 17, "HighBit": 16},
        {"BitsStored": 32, "HighBit": 31},
        {"BitsStored": 0},
        {"BitsStored": 14608, "HighBit": None},
        {"BitsStored": 7},
        {"BitsStored": 16, "HighBit": 3},
        {"BitsStored": 16, "HighBit": 7},
        {"BitsStored": None},
        {"PixelRepresentation": None},
    ],
)
def test_stated_bits_that_contradict_one_another_do_not_matter(hu: np.ndarray, changes: dict[str, object]) -> None:
    """As SimpleITK and dcm2niix read them: the value is in the lowest bits."""
    raw = (hu + 1024).clip(0, 4095).astype(np.uint16)
    np.testing.assert_array_equal(settled(raw, pixel_format(pixel_module(**changes))), hu.clip(-1024, 3071))


def test_a_high_bit_below_the_stored_ones_bounds_an_overlay(hu: np.ndarray) -> None:
    raw = (hu + 1024).clip(0, 4095).astype(np.uint16)
    raw[20:40, 30:70:3] |= 1 << 12
    how = pixel_format(pixel_module(BitsStored=16))
    np.testing.assert_array_equal(settled(raw, how), hu.clip(-1024, 3071))


def test_values_that_end_at_the_high_bit_are_shifted_down(hu: np.ndarray) -> None:
    raw = ((hu + 1024).clip(0, 4095) << 4).astype(np.uint16)
    np.testing.assert_array_equal(settled(raw, pixel_format(pixel_module(HighBit=15))), hu.clip(-1024, 3071))


def test_values_that_fit_both_high_bits_are_refused() -> None:
    raw = np.full((120, 120), 1024, np.uint16)
    with pytest.raises(PixelError, match="HighBit"):
        settled(raw, pixel_format(pixel_module(HighBit=15)))


def test_the_sign_is_not_guessed_where_the_intercept_does_not_show_it() -> None:
    with pytest.raises(PixelError, match="PixelRepresentation"):
        pixel_format(pixel_module(PixelRepresentation=None, RescaleIntercept=0))


def metal(hu: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[:120, :120]
    peak = 3050 - 40 * ((y - 60) ** 2 + (x - 60) ** 2)
    return np.maximum(hu, peak)


@pytest.mark.parametrize("padded", [False, True])
def test_bone_that_wrapped_round_is_put_back_and_padding_is_not(hu: np.ndarray, padded: bool) -> None:
    true = metal(hu.clip(-1024, 2047))
    assert true.max() > 2047
    if padded:
        y, x = np.mgrid[:120, :120]
        true[(y - 60) ** 2 + (x - 60) ** 2 > 58**2] = -2000
    wrapped = (true + 2048) % 4096 - 2048
    assert (wrapped != true).any()
    np.testing.assert_array_equal(settled(wrapped.astype(np.int16), form(12, signed=True)), true)


def test_a_stack_holds_values_beyond_the_stored_bits() -> None:
    stack = HuStack(1, 1, 2)
    raw = np.array([[0, 40_000]], np.uint16)
    stack.put(0, raw, PixelFormat(1, 2, 16, 12, False, 1.0, -1024.0))
    np.testing.assert_array_equal(stack.hu[0], [[-1024, 38_976]])


def decoded(tmp_path: Path, raw: np.ndarray, frame: bytes, syntax: str, **changes: int) -> np.ndarray:
    """HU of one compressed slice as `read_dicom` reads it."""

    def compress(dataset: Dataset, k: int) -> None:
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 1
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
        dataset.RescaleIntercept = 0
        dataset.PixelData = raw.tobytes()

    made = write_series(tmp_path, shape=(1, *raw.shape), edit=compress)
    dataset = dcmread(made.files[0])
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(made.files[0])
    return read_dicom(made.files[0]).hu[0]


@pytest.mark.parametrize("precision", [12, 16])
@pytest.mark.parametrize("codec", ["JPEG-LS", "JPEG 2000", "JPEG 2000, signed stream", "RLE"])
@pytest.mark.parametrize("extended", [False, True])
def test_signed_pixels_of_twelve_bits_keep_their_sign_in_every_codec(
    tmp_path: Path, hu: np.ndarray, codec: str, precision: int, extended: bool
) -> None:
    """Streams of 12 or 16 bits, with the sign in the high bits or zeros there: gdcm, dcmtk and others write all."""
    true = hu.clip(-2048, 2047)
    raw = true.astype(np.int16) if extended else (true & 0xFFF).astype(np.int16)
    if extended and precision == 12 and "signed" not in codec:
        raw = (true & 0xFFF).astype(np.int16)  # 12 bits hold no extension
    if codec == "JPEG-LS":
        jpeg_ls = pytest.importorskip("jpeg_ls")
        samples = raw.view(np.uint16).copy()
        samples[0, 0] |= 0x800  # a stream is as wide as its largest value
        true = true.copy()
        true[0, 0] = (int(samples[0, 0]) + 2048) % 4096 - 2048
        frame, syntax = bytes(jpeg_ls.encode_array(samples, lossy_error=0)), JPEGLSLossless
    elif codec == "RLE":
        frame, syntax = rle_encoded(raw), RLELossless
    else:
        openjpeg = pytest.importorskip("openjpeg")
        signed = int("signed" in codec)
        source = true.astype(np.int16) if signed else raw
        frame = bytes(
            openjpeg.encode_pixel_data(
                source.tobytes(),
                rows=120,
                columns=120,
                samples_per_pixel=1,
                bits_allocated=16,
                bits_stored=precision,
                pixel_representation=signed,
                photometric_interpretation="MONOCHROME2",
                use_mct=False,
            )
        )
        syntax = JPEG2000Lossless
    np.testing.assert_array_equal(decoded(tmp_path, raw, frame, syntax), true)


def rle_encoded(raw: np.ndarray) -> bytes:
    """One RLE frame, as pydicom encodes it."""
    rows, columns = raw.shape
    return get_encoder(RLELossless).encode(
        raw,
        rows=rows,
        columns=columns,
        samples_per_pixel=1,
        bits_allocated=16,
        bits_stored=16,
        pixel_representation=1,
        photometric_interpretation="MONOCHROME2",
        number_of_frames=1,
    )
