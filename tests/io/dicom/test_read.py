"""Reading sound series: exact HU and world coordinates in every encoding and orientation."""

from __future__ import annotations

import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest

from support.dicom_factory import ORIENTATIONS, TRANSFER_SYNTAXES, assert_no_canary, write_series
from thinslice.errors import GeometryError, MissingExtraError, SeriesChoiceError
from thinslice.io.dicom.read import read_dicom, scan


def assert_same_world(volume, made) -> None:
    for k in range(volume.hu.shape[0]):
        found = volume.geometry.position_mm((k, 0, 0))
        np.testing.assert_allclose(found, made.positions_mm[k], atol=1e-3)


@pytest.mark.parametrize("encoding", sorted(TRANSFER_SYNTAXES))
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits_stored", [12, 16])
def test_hu_are_exact_in_every_encoding(tmp_path: Path, encoding: str, signed: bool, bits_stored: int) -> None:
    made = write_series(
        tmp_path,
        shape=(3, 34, 37),
        transfer_syntax=encoding,
        signed=signed,
        bits_stored=bits_stored,
        intercept=0.0 if signed else -1024.0,
    )
    volume = read_dicom(tmp_path)
    assert volume.hu.dtype == np.int16
    np.testing.assert_array_equal(volume.hu, made.hu)
    assert volume.provenance.warnings == ()


@pytest.mark.parametrize("orientation", sorted(ORIENTATIONS))
@pytest.mark.parametrize("file_order", ["ascending", "descending", "shuffled"])
@pytest.mark.parametrize("instance_order", ["ascending", "descending"])
def test_world_coordinates_are_exact(tmp_path: Path, orientation: str, file_order: str, instance_order: str) -> None:
    made = write_series(
        tmp_path,
        shape=(5, 9, 8),
        orientation=orientation,
        file_order=file_order,
        instance_order=instance_order,
        spacing_mm=(2.5, 0.7, 0.6),
    )
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.hu, made.hu)
    assert_same_world(volume, made)
    row, column = np.array(made.cosines[:3]), np.array(made.cosines[3:])
    corner = made.positions_mm[4] + 8 * 0.7 * column + 7 * 0.6 * row
    np.testing.assert_allclose(volume.geometry.position_mm((4, 8, 7)), corner, atol=1e-3)
    np.testing.assert_allclose(volume.geometry.normal, np.cross(row, column), atol=1e-6)
    numbers = [header.InstanceNumber for header in volume.provenance.headers]
    assert numbers == ([1, 2, 3, 4, 5] if instance_order == "ascending" else [5, 4, 3, 2, 1])


def test_jitter_of_a_tenth_of_a_micrometre_is_accepted_in_silence(tmp_path: Path) -> None:
    made = write_series(tmp_path, shape=(12, 4, 4), jitter_mm=1e-4)
    volume = read_dicom(tmp_path)
    assert volume.provenance.warnings == ()
    assert_same_world(volume, made)


def test_rounded_positions_are_accepted_with_a_warning(tmp_path: Path) -> None:
    def round_position(dataset, k: int) -> None:
        dataset.ImagePositionPatient = [round(float(v), 2) for v in dataset.ImagePositionPatient]

    write_series(tmp_path, shape=(9, 4, 4), spacing_mm=(0.625, 1.0, 1.0), edit=round_position)
    volume = read_dicom(tmp_path)
    assert any("rounded in the source" in warning for warning in volume.provenance.warnings)
    assert volume.geometry.spacing_mm[0] == pytest.approx(0.625, abs=2e-3)


def test_spacing_comes_from_positions_not_thickness(tmp_path: Path) -> None:
    write_series(tmp_path, spacing_mm=(2.5, 0.7, 0.8), thickness_mm=5.0)
    volume = read_dicom(tmp_path)
    assert volume.geometry.spacing_mm == (2.5, 0.7, 0.8)
    assert volume.geometry.thickness_mm == 5.0


def test_slope_and_intercept_of_each_slice(tmp_path: Path) -> None:
    made = write_series(tmp_path, shape=(3, 8, 8), slope=[1, 2, 1], intercept=[-1024, -1000, 0])
    volume = read_dicom(tmp_path)
    assert volume.hu.dtype == np.int16
    np.testing.assert_array_equal(volume.hu, made.hu)


def test_fractional_hu_become_float32_from_the_slice_on_where_they_occur(tmp_path: Path) -> None:
    made = write_series(tmp_path, shape=(4, 8, 8), slope=[1, 1, 0.37, 1], intercept=-1024)
    volume = read_dicom(tmp_path)
    assert volume.hu.dtype == np.float32
    np.testing.assert_array_equal(volume.hu, made.hu)


def test_fractional_slope_with_whole_results_stays_int16(tmp_path: Path) -> None:
    hu = np.arange(3 * 8 * 8).reshape(3, 8, 8) * 3 - 1024
    made = write_series(tmp_path, shape=(3, 8, 8), hu=hu, slope=0.5)
    volume = read_dicom(tmp_path)
    assert volume.hu.dtype == np.int16
    np.testing.assert_array_equal(volume.hu, made.hu)


def test_hu_beyond_int16_become_float32(tmp_path: Path) -> None:
    hu = np.full((2, 6, 6), 50_000)
    hu[0] = -500
    write_series(tmp_path, shape=(2, 6, 6), hu=hu)
    volume = read_dicom(tmp_path)
    assert volume.hu.dtype == np.float32
    np.testing.assert_array_equal(volume.hu, hu)


@pytest.mark.parametrize(("tag", "expected"), [(None, -3024.0), (63536, -3024.0)])
def test_padding_is_exact_and_known_however_its_sign_is_written(tmp_path: Path, tag, expected) -> None:
    made = write_series(tmp_path, signed=True, padding_raw=-2000, padding_tag=tag)
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.hu, made.hu)
    assert volume.hu[0, 0, 0] == expected
    assert volume.provenance.padding_hu == expected


def test_padding_inside_the_window_cannot_be_distinguished_from_tissue(tmp_path: Path) -> None:
    write_series(tmp_path, padding_raw=0)
    volume = read_dicom(tmp_path)
    assert volume.hu[0, 0, 0] == -1024
    assert volume.provenance.padding_hu is None


def test_undeclared_padding_below_all_hu_is_found(tmp_path: Path) -> None:
    def forget(dataset, k: int) -> None:
        del dataset.PixelPaddingValue

    write_series(tmp_path, signed=True, padding_raw=-2000, edit=forget)
    volume = read_dicom(tmp_path)
    assert volume.provenance.padding_hu == -3024
    assert any("not declared" in warning for warning in volume.provenance.warnings)


def test_a_single_low_voxel_is_no_padding(tmp_path: Path) -> None:
    hu = np.zeros((3, 16, 16))
    hu[1, 2, 3] = -1030
    write_series(tmp_path, shape=(3, 16, 16), hu=hu, signed=True)
    assert read_dicom(tmp_path).provenance.padding_hu is None


def test_scattered_low_values_are_no_padding(tmp_path: Path) -> None:
    hu = np.linspace(-1400, 500, 3 * 8 * 8).reshape(3, 8, 8).round()
    write_series(tmp_path, shape=(3, 8, 8), hu=hu, signed=True)
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.hu, hu)
    assert volume.provenance.padding_hu is None


def test_bits_above_bits_stored_are_ignored(tmp_path: Path) -> None:
    def add_overlay_bits(dataset, k: int) -> None:
        raw = np.frombuffer(dataset.PixelData, "<u2") | 0x8000
        dataset.PixelData = raw.astype("<u2").tobytes()

    made = write_series(tmp_path, bits_stored=12, edit=add_overlay_bits)
    np.testing.assert_array_equal(read_dicom(tmp_path).hu, made.hu)


def test_provenance_keeps_headers_without_pixels_or_preamble(tmp_path: Path) -> None:
    made = write_series(tmp_path, preamble=b"MZ" + b"\x90" * 126)
    volume = read_dicom(tmp_path)
    assert volume.provenance.format == "dicom"
    assert volume.provenance.file_axes == (2, 1, 0)
    assert len(volume.provenance.headers) == 6
    for header in volume.provenance.headers:
        assert "PixelData" not in header
        assert header.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
        assert header.preamble is None
        assert header.PatientName == "Kanarienvogel^Gelb"
        assert str(tmp_path) not in str(vars(header).values())
    details = volume.provenance.details
    assert details["series_uid"] == made.uid
    assert details["slices"] == 6
    assert details["kernel"] == "B30f"
    assert details["transfer_syntaxes"] == ["Explicit VR Little Endian"]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_few_slices(tmp_path: Path, depth: int) -> None:
    made = write_series(tmp_path, shape=(depth, 7, 5))
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.hu, made.hu)
    assert volume.geometry.spacing_mm[0] == 5.0
    assert any("single slice" in warning for warning in volume.provenance.warnings) == (depth == 1)


def test_a_single_slice_without_any_depth_is_refused(tmp_path: Path) -> None:
    def forget(dataset, k: int) -> None:
        del dataset.SliceThickness

    write_series(tmp_path, shape=(1, 4, 4), edit=forget)
    with pytest.raises(GeometryError, match="single slice"):
        read_dicom(tmp_path)


def test_files_lists_zips_and_names_without_suffix(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "er"
    made = write_series(folder, suffix="", prefix="IM.weird.txt.")
    (folder / "DICOMDIR.txt").write_text("not a slice")
    with zipfile.ZipFile(tmp_path / "study.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, file in enumerate(made.files):
            archive.write(file, f"../../../etc/{number}")
    for paths in (
        tmp_path / "deep",
        str(folder),
        list(reversed(made.files)),
        [folder, made.files[0]],
        tmp_path / "study.bin",
    ):
        np.testing.assert_array_equal(read_dicom(paths).hu, made.hu)
    assert not (tmp_path.parent / "etc").exists()


@pytest.mark.parametrize("encoding", ["implicit", "explicit", "big_endian"])
def test_files_without_preamble_or_meta_are_read(tmp_path: Path, encoding: str) -> None:
    made = write_series(tmp_path, transfer_syntax=encoding)
    for file in made.files:
        data = file.read_bytes()
        length = int.from_bytes(data[140:144], "little")
        file.write_bytes(data[144 + length :])
    np.testing.assert_array_equal(read_dicom(tmp_path).hu, made.hu)


def test_missing_decoder_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path, transfer_syntax="jpeg_ls")
    for plugin in ("gdcm", "pyjpegls", "pylibjpeg"):
        module = __import__(f"pydicom.pixels.decoders.{plugin}", fromlist=["x"])
        monkeypatch.setattr(module, "is_available", lambda uid: False)
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import JPEGLSLossless

    decoder = get_decoder(JPEGLSLossless)
    monkeypatch.setattr(decoder, "_available", {})
    with pytest.raises(MissingExtraError, match="pyjpegls"):
        read_dicom(tmp_path)


def test_one_of_several_series_must_be_named(tmp_path: Path) -> None:
    one = write_series(tmp_path / "a", seed=1)
    two = write_series(tmp_path / "b", seed=2, spacing_mm=(2.5, 0.7, 0.7))
    with pytest.raises(SeriesChoiceError) as caught:
        read_dicom(tmp_path)
    message = str(caught.value)
    assert "series=" in message
    assert one.uid in message
    assert two.uid in message
    assert "6 slices, 2.5 mm apart" in message
    for made in (one, two):
        np.testing.assert_array_equal(read_dicom(tmp_path, series_uid=made.uid).hu, made.hu)
    with pytest.raises(SeriesChoiceError, match="choose one"):
        read_dicom(tmp_path, series_uid="1.2.3")


def test_strays_are_left_out_and_named(tmp_path: Path) -> None:
    def localizer(dataset, k: int) -> None:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    def capture(dataset, k: int) -> None:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"

    made = write_series(tmp_path / "ct", shape=(12, 16, 16))
    write_series(tmp_path / "loc", shape=(1, 8, 8), uid=made.uid, prefix="loc", edit=localizer)
    write_series(tmp_path / "sc", seed=4, shape=(2, 8, 8), edit=capture)
    write_series(tmp_path / "odd", shape=(1, 8, 16), uid=made.uid, prefix="odd", orientation="coronal")
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.hu, made.hu)
    text = " ".join(volume.provenance.warnings)
    assert "1 CT localizer" in text
    assert "2 secondary capture" in text
    found = {report.kind: report for report in scan(tmp_path)}
    assert set(found) == {"CT", "CT localizer", "secondary capture"}
    assert found["CT localizer"].reasons
    reports = scan(tmp_path)
    assert [report.slices for report in reports if not report.reasons] == [12, 1]


def test_a_series_of_two_matrices_is_divided(tmp_path: Path) -> None:
    one = write_series(tmp_path / "a", seed=1)
    two = write_series(tmp_path / "b", seed=2, shape=(5, 16, 16), uid=one.uid, study_uid=one.study_uid)
    with pytest.raises(SeriesChoiceError, match="#2"):
        read_dicom(tmp_path)
    np.testing.assert_array_equal(read_dicom(tmp_path, series_uid=one.uid + "#1").hu, one.hu)
    np.testing.assert_array_equal(read_dicom(tmp_path, series_uid=one.uid + "#2").hu, two.hu)


def test_scan_agrees_with_read_and_reads_no_pixels(tmp_path: Path) -> None:
    made = write_series(tmp_path, thickness_mm=6.0)
    (report,) = scan(tmp_path)
    volume = read_dicom(tmp_path)
    assert report.geometry == volume.geometry
    assert (report.series_uid, report.kind, report.slices) == (made.uid, "CT", 6)
    assert report.spacing_mm == (5.0, 0.7, 0.7)
    assert report.thickness_mm == 6.0
    assert report.reasons == report.warnings == report.skipped == ()
    assert_no_canary(report)


def test_the_same_input_twice_reads_the_same(tmp_path: Path) -> None:
    write_series(tmp_path, file_order="shuffled")
    one, two = read_dicom(tmp_path), read_dicom(tmp_path)
    np.testing.assert_array_equal(one.hu, two.hu)
    assert one.geometry == two.geometry
    assert one.provenance.details == two.provenance.details


def test_input_files_are_untouched(tmp_path: Path) -> None:
    made = write_series(tmp_path)
    before = [file.read_bytes() for file in made.files]
    read_dicom(tmp_path)
    scan(tmp_path)
    assert [file.read_bytes() for file in made.files] == before
    assert len(list(tmp_path.iterdir())) == 6


def test_importing_the_reader_loads_nothing_heavy() -> None:
    code = (
        "import sys, thinslice.io.dicom.read;"
        "print([m for m in ('torch','highdicom','SimpleITK','nibabel','scipy','matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.heavy
def test_reading_takes_little_longer_than_bare_pydicom(shared_dicom) -> None:
    folder = shared_dicom("lung_dx_A0001_5mm")
    files = sorted(folder.rglob("*.dcm"))

    def bare() -> None:
        for file in files:
            _ = pydicom.dcmread(file).pixel_array

    def best(work) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return min(times)

    assert best(lambda: read_dicom(folder)) < 2.0 * best(bare)
