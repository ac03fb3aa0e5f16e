"""Real CT from several makers: HU and world coordinates agree with pydicom and with SimpleITK's GDCM reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from support.dicom_factory import assert_no_canary
from thinslice.errors import GeometryError, SeriesChoiceError, UnreadableError
from thinslice.io.dicom.read import read_dicom, scan
from thinslice.volume import Volume

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

Unpack = Callable[[str], Path]


def by_instance(folder: Path) -> dict[str, Path]:
    """Files by the SOP instance of their file meta (one archive has none in the dataset)."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(pydicom.dcmread(path, stop_before_pixels=True).file_meta.MediaStorageSOPInstanceUID): path for path in files
    }


def assert_agrees(volume: Volume, folder: Path, *, itk_positions: bool = True) -> None:
    """Each slice equals pydicom's raw * slope + intercept and SimpleITK's image, at the position both tell."""
    itk = pytest.importorskip("SimpleITK")
    itk.ProcessObject.GlobalWarningDisplayOff()
    files = by_instance(folder)
    assert len(volume.provenance.headers) == volume.hu.shape[0]
    for k, header in enumerate(volume.provenance.headers):
        path = files[str(header.file_meta.MediaStorageSOPInstanceUID)]
        dataset = pydicom.dcmread(path)
        expected = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        np.testing.assert_array_equal(volume.hu[k], expected.astype(volume.hu.dtype))
        where = [float(v) for v in dataset.ImagePositionPatient]
        np.testing.assert_allclose(volume.geometry.position_mm((k, 0, 0)), where, atol=1e-3)
        reader = itk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(path))
        image = reader.Execute()
        np.testing.assert_array_equal(volume.hu[k], itk.GetArrayFromImage(image)[0].astype(volume.hu.dtype))
        if itk_positions:
            height, width = volume.hu.shape[1] - 1, volume.hu.shape[2] - 1
            for row, column in ((0, 0), (height, width), (height, 0)):
                world = image.TransformIndexToPhysicalPoint((column, row, 0))
                np.testing.assert_allclose(volume.geometry.position_mm((k, row, column)), world, atol=1e-3)


READABLE = {
    "lung_dx_A0001_5mm": ((64, 512, 512), 5.0, 5.0, None),
    "ge_ct3slice_1.25_at_1.0": ((3, 512, 512), 1.0, 1.25, -3024.0),
    "ge_jpeg_lossless_1.25mm": ((20, 512, 512), 1.25, 1.25, -3024.0),
    "siemens_j2k_3mm_at_2mm": ((20, 512, 512), 2.0, 3.0, None),
}


@pytest.mark.parametrize("name", sorted(READABLE))
def test_real_series_agree_with_two_other_readers(shared_dicom: Unpack, name: str) -> None:
    folder = shared_dicom(name)
    shape, spacing_mm, thickness_mm, padding = READABLE[name]
    volume = read_dicom(folder)
    assert volume.hu.shape == shape
    assert volume.hu.dtype == np.int16
    assert volume.geometry.spacing_mm[0] == pytest.approx(spacing_mm, abs=1e-6)
    assert volume.geometry.thickness_mm == thickness_mm
    assert volume.provenance.padding_hu == padding
    assert_agrees(volume, folder)


def test_real_series_as_a_whole_lies_where_simpleitk_puts_it(shared_dicom: Unpack) -> None:
    itk = pytest.importorskip("SimpleITK")
    folder = shared_dicom("lung_dx_A0001_5mm")
    volume = read_dicom(folder)
    names = itk.ImageSeriesReader.GetGDCMSeriesFileNames(str(next(folder.iterdir())))
    image = itk.ReadImage(names)
    np.testing.assert_array_equal(volume.hu, itk.GetArrayFromImage(image))
    np.testing.assert_allclose(
        volume.geometry.position_mm((63, 511, 511)),
        image.TransformIndexToPhysicalPoint((511, 511, 63)),
        atol=1e-3,
    )


def test_sagittal_reformat_leaves_its_odd_slice_out(shared_dicom: Unpack) -> None:
    folder = shared_dicom("sagittal_reformat_plus_odd")
    volume = read_dicom(folder)
    assert volume.hu.shape[0] == 19
    assert volume.geometry.spacing_mm[0] == pytest.approx(3.0)
    assert any("left out" in warning for warning in volume.provenance.warnings)
    assert_agrees(volume, folder)


@pytest.mark.parametrize("name", ["ge_bigendian", "pydicom_single"])
def test_single_files_of_several_series_are_chosen_by_uid(shared_dicom: Unpack, name: str) -> None:
    folder = shared_dicom(name)
    with pytest.raises(SeriesChoiceError, match="series="):
        read_dicom(folder)
    for report in scan(folder):
        volume = read_dicom(folder, series_uid=report.series_uid)
        assert volume.hu.shape[0] == 1
        assert_agrees(volume, folder)


def test_tilt_and_change_of_thickness_are_refused(shared_dicom: Unpack) -> None:
    with pytest.raises(GeometryError) as caught:
        read_dicom(shared_dicom("ge_tilt18.5_nonuniform_4-7mm"))
    message = str(caught.value)
    assert "18.5 degrees" in message
    assert "from 4 to 7 mm" in message
    assert "(instance 15)" in message


def test_tilt_among_localizer_and_captures_is_refused(shared_dicom: Unpack) -> None:
    folder = shared_dicom("philips_tilt-18.5_with_localizer_and_sc")
    with pytest.raises(GeometryError, match=r"18\.5 degrees .*gantry tilt"):
        read_dicom(folder)
    kinds = {report.kind: report.slices for report in scan(folder)}
    assert kinds == {"CT": 54, "CT localizer": 1, "secondary capture": 5}


def test_missing_slices_are_refused(shared_dicom: Unpack) -> None:
    folder = shared_dicom("lidc0001_10_noncontiguous_pad63536")
    with pytest.raises(GeometryError, match=r"gap of 50\.00 mm where 2\.50 mm is usual"):
        read_dicom(folder)
    (report,) = scan(folder)
    assert report.spacing_mm == pytest.approx((2.5, 0.703125, 0.703125))
    assert_no_canary(report)


def test_padding_that_is_not_the_declared_one_is_exact_and_found(shared_dicom: Unpack) -> None:
    # PixelPaddingValue 63536 means -2000 on signed pixels (-3024 HU); the pixels hold -2048 HU there instead.
    folder = shared_dicom("lidc0001_10_noncontiguous_pad63536")
    path = min(path for path in folder.rglob("*") if path.is_file())
    volume = read_dicom(path)
    assert volume.hu[0, 0, 0] == -2048
    assert volume.provenance.padding_hu == -2048
    assert any("declared as -3024 HU" in warning for warning in volume.provenance.warnings)
    assert_agrees(volume, folder)


def test_every_second_file_of_a_real_series_is_refused(shared_dicom: Unpack) -> None:
    files = sorted(shared_dicom("lung_dx_A0001_5mm").rglob("*.dcm"))
    with pytest.raises(GeometryError, match="steps of 2"):
        read_dicom(files[::2])
    with pytest.raises(GeometryError, match=r"gap of 15\.00 mm"):
        read_dicom(files[:20] + files[22:])


def test_damaged_jpeg_headers_end_a_slice_not_the_process(shared_dicom: Unpack, tmp_path: Path) -> None:
    # gdcm calls abort() on several of these; a crash of the test run is this test's failure.
    path = min(path for path in shared_dicom("ge_jpeg_lossless_1.25mm").rglob("*.dcm"))
    data = path.read_bytes()
    start = data.index(b"\xff\xd8\xff", data.rindex(b"\xe0\x7f\x10\x00"))
    stop = data.index(b"\xff\xda", start) + 10
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(80):
        spoiled = bytearray(data)
        for at in random.integers(start, stop, 3):
            spoiled[at] ^= 1 << int(random.integers(8))
        (tmp_path / "slice").write_bytes(spoiled)
        try:
            read_dicom(tmp_path)
        except UnreadableError:
            refused += 1
    assert refused > 40
