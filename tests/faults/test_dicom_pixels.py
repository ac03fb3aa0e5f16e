"""Rows 9 to 13: how voxels are stored, what is no CT, and volumes of every size."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.uid import UID

from support.command_line import Outcome, Run
from support.dicom_factory import write_enhanced, write_series
from support.fault_checks import refuse_upscale, untouched, upscale

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("ignore::UserWarning:pydicom")]

JPEG_LOSSLESS = UID("1.2.840.10008.1.2.4.70")


def read_back(path: Path) -> np.ndarray:
    """(depth, height, width) values of a NIfTI, by nibabel."""
    return np.asarray(nibabel.load(path).dataobj).transpose(2, 1, 0)


STORED = {
    "unsigned 16": {},
    "signed 16": {"signed": True, "intercept": 0.0},
    "unsigned 12": {"bits_stored": 12},
    "signed 12": {"signed": True, "bits_stored": 12, "intercept": 0.0},
    "slope 2 for each slice": {"slope": [1.0, 2.0, 1.5, 0.5], "intercept": [-1024.0, -1000.0, -1024.0, -1050.0]},
    "intercept for each slice": {"intercept": [-1024.0, -1000.0, -1050.0, -1024.0]},
    "half a unit": {"slope": 0.5},
    "implicit": {"transfer_syntax": "implicit", "signed": True, "intercept": -3.0},
}


@pytest.mark.parametrize("stored", STORED)
def test_row_09_hu_are_exact(stored: str, tmp_path: Path, run: Run) -> None:
    made = write_series(tmp_path / "in", shape=(4, 20, 20), **STORED[stored])
    upscale(run, tmp_path / "in", tmp_path / "out" / "thin.nii")
    np.testing.assert_array_equal(read_back(tmp_path / "out" / "thin.nii")[::5], made.hu)


@pytest.mark.parametrize(
    ("padding", "tag", "signed"), [(-2000, -2000, True), (-2000, 63536, True), (63536, 63536, False)]
)
def test_row_09_padding_is_kept_and_restored_in_the_output(
    padding: int, tag: int, signed: bool, tmp_path: Path, run: Run
) -> None:
    made = write_series(
        tmp_path / "in",
        shape=(4, 24, 24),
        signed=signed,
        intercept=0.0 if signed else -1024.0,
        padding_raw=padding,
        padding_tag=tag,
    )
    outside = made.hu[0] == (padding if signed else padding - 1024)
    assert 50 < outside.sum() < 300
    upscale(run, tmp_path / "in", tmp_path / "out" / "thin")
    slices = sorted(map(pydicom.dcmread, (tmp_path / "out" / "thin").iterdir()), key=lambda each: each.InstanceNumber)
    assert len(slices) == 16
    for k, each in enumerate(slices):
        raw = each.pixel_array.astype(np.int64)
        declared = int(each.PixelPaddingValue)
        if each.PixelRepresentation == 1 and declared > 32767:
            declared -= 65536
        assert (raw == declared)[outside].all(), "every pixel outside the circle is padding again"
        hu = raw * float(each.RescaleSlope) + float(each.RescaleIntercept)
        if k % 5 == 0:
            np.testing.assert_array_equal(hu[~outside], made.hu[k // 5][~outside])
        assert hu[~outside].min() >= -1024


def packed_by_gdcm(path: Path) -> None:
    """Encode a file as JPEG lossless with GDCM, in a process of its own."""
    script = (
        "import gdcm, sys; r = gdcm.ImageReader(); r.SetFileName(sys.argv[1]); assert r.Read();"
        "c = gdcm.ImageChangeTransferSyntax(); t = gdcm.TransferSyntax.JPEGLosslessProcess14_1;"
        "c.SetTransferSyntax(gdcm.TransferSyntax(t)); c.SetInput(r.GetImage()); assert c.Change();"
        "w = gdcm.ImageWriter(); w.SetFileName(sys.argv[1]); w.SetFile(r.GetFile()); w.SetImage(c.GetOutput());"
        "assert w.Write()"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == JPEG_LOSSLESS


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    "encoding", ["jpeg_lossless", "jpeg_ls", "jpeg_2000", "rle", "deflated", "big_endian", "implicit"]
)
def test_row_10_every_encoding_is_decoded_to_the_bit(encoding: str, signed: bool, tmp_path: Path, run: Run) -> None:
    made = write_series(
        tmp_path / "in",
        shape=(3, 40, 40),
        signed=signed,
        bits_stored=16 if signed else 12,
        intercept=0.0 if signed else -1024.0,
        transfer_syntax="explicit" if encoding == "jpeg_lossless" else encoding,
    )
    if encoding == "jpeg_lossless":
        for file in made.files:
            packed_by_gdcm(file)
    upscale(run, tmp_path / "in", tmp_path / "out" / "thin.nii")
    np.testing.assert_array_equal(read_back(tmp_path / "out" / "thin.nii")[::5], made.hu)


def test_row_10_signed_12_bits_keep_their_sign_in_jpeg_ls_and_jpeg_2000(tmp_path: Path, run: Run) -> None:
    for encoding in ("jpeg_ls", "jpeg_2000"):
        made = write_series(
            tmp_path / encoding, shape=(3, 40, 40), signed=True, bits_stored=12, intercept=0.0, transfer_syntax=encoding
        )
        output = tmp_path / "out" / f"{encoding}.nii"
        upscale(run, tmp_path / encoding, output)
        np.testing.assert_array_equal(read_back(output)[::5], made.hu)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: address space is limited there")
def test_row_10_a_deflate_bomb_is_refused_within_little_memory(tmp_path: Path, limited: Callable[..., Outcome]) -> None:
    made = write_series(tmp_path / "in", shape=(1, 16, 16), transfer_syntax="deflated")
    data = made.files[0].read_bytes()
    end = 144 + int.from_bytes(data[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    size = 0xF0000000
    packed = packer.compress(zlib.decompress(data[end:], -zlib.MAX_WBITS))
    packed += packer.compress(struct.pack("<HH2sHL", 0x7FE1, 0x1010, b"OB", 0, size)) + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush no block refers to the one before: the same bytes again are the same zeros again.
    zeros = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    made.files[0].write_bytes(data[:end] + packed + zeros * (size >> 24) + packer.flush())
    assert made.files[0].stat().st_size < 8 << 20
    with untouched(tmp_path / "in"):
        # 1.5 GiB of address space do not hold 3.75 GiB.
        outcome = limited(1536, "upscale", made.files[0], tmp_path / "thin.nii", "--model", "linear")
    assert outcome.code == 3 and "bomb" in outcome.err, outcome.err
    assert not (tmp_path / "thin.nii").exists()


NOT_CT = {
    "MONOCHROME1": ({"PhotometricInterpretation": "MONOCHROME1"}, "MONOCHROME1"),
    "RGB": ({"PhotometricInterpretation": "RGB"}, "colour"),
    "MR": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4", "Modality": "MR"}, "MR"),
    "PET": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.128", "Modality": "PT"}, "PET"),
    "SEG": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4", "Modality": "SEG"}, "segmentation"),
}


@pytest.mark.parametrize("kind", NOT_CT)
def test_row_11_what_is_no_ct_in_hu_is_refused(kind: str, tmp_path: Path, run: Run) -> None:
    values, word = NOT_CT[kind]

    def alter(dataset, k: int) -> None:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID

    write_series(tmp_path / "in", shape=(4, 16, 16), edit=alter)
    refuse_upscale(run, tmp_path / "in", words=(word,))


def test_row_12_enhanced_multi_frame_is_read(tmp_path: Path, run: Run) -> None:
    made = write_enhanced(tmp_path / "in" / "enhanced.dcm", shape=(4, 16, 18))
    upscale(run, tmp_path / "in", tmp_path / "out" / "thin.nii")
    np.testing.assert_array_equal(read_back(tmp_path / "out" / "thin.nii")[::5], made.hu)


def test_row_12_four_dimensions_are_refused(tmp_path: Path, run: Run) -> None:
    write_enhanced(tmp_path / "in" / "enhanced.dcm", temporal=3)
    refuse_upscale(run, tmp_path / "in", words=("TemporalPositionIdentifier", "--series"))


def test_row_13_one_slice_is_refused_with_what_to_give(tmp_path: Path, run: Run) -> None:
    write_series(tmp_path / "in", shape=(1, 20, 20))
    refuse_upscale(run, tmp_path / "in", words=("slice", "series"))
    listed = run("inspect", tmp_path / "in", "--json")
    assert '"eligible": false' in listed.out


@pytest.mark.parametrize("shape", [(2, 20, 20), (3, 20, 20), (4, 5, 3), (3, 7, 513), (5, 33, 9)])
@pytest.mark.parametrize("kind", ["dicom", "nifti"])
@pytest.mark.parametrize("model", ["linear", "default"])
def test_row_13_few_slices_and_odd_sizes_work(
    shape: tuple[int, int, int], kind: str, model: str, tmp_path: Path, run: Run
) -> None:
    made = write_series(tmp_path / "in", shape=shape)
    output = tmp_path / "out" / ("thin" if kind == "dicom" else "thin.nii")
    options = ("--model", model, "--device", "cpu", "--backend", "torch", "--threads", "1")
    upscale(run, tmp_path / "in", output, *options)
    if kind == "dicom":
        thin = sorted(map(pydicom.dcmread, output.iterdir()), key=lambda each: float(each.ImagePositionPatient[2]))
        found = np.stack([d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in thin])
    else:
        found = read_back(output)
    assert found.shape == (5 * (shape[0] - 1) + 1, *shape[1:])
    if model == "linear":
        np.testing.assert_array_equal(found[::5], made.hu)


@pytest.mark.heavy
@pytest.mark.parametrize("shape", [(2000, 64, 64), (40, 768, 768), (24, 1024, 1024)])
def test_row_13_large_volumes_work_within_the_memory_stated(
    shape: tuple[int, int, int], tmp_path: Path, run: Run
) -> None:
    write_series(tmp_path / "in", shape=shape, spacing_mm=(2.0, 0.5, 0.5))
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "thinslice", "upscale", str(tmp_path / "in"), str(tmp_path / "thin.nii.gz")]
    command += ["--model", "linear", "--report", str(report), "--spacing", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(report.read_text())
    assert figures["output"]["slices"] == 2 * (shape[0] - 1) + 1
    assert figures["peak_memory_mib"] <= 1.25 * figures["expected_memory_mib"], figures
