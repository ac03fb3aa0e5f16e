"""Dispatch: what is read goes by content, what is written by name."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

import thinslice
from support.dicom_factory import write_series
from thinslice.errors import GeometryError, InputError, OutputExistsError, UnreadableError, UsageError
from thinslice.geometry import Geometry
from thinslice.io.files import output_format, read, sniff, write
from thinslice.options import options_as_flags
from thinslice.volume import Volume


@pytest.fixture
def volume() -> Volume:
    hu = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    return Volume(hu, Geometry((4, 5, 6), (5.0, 0.7, 0.7)))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".NII.GZ"])
def test_a_volume_comes_back_through_the_public_names(volume, suffix, tmp_path):
    if suffix in (".nrrd", ".mha", ".mhd"):
        pytest.importorskip("SimpleITK")
    thinslice.write(volume, tmp_path / f"case{suffix}")
    again = thinslice.read(str(tmp_path / f"case{suffix}"))
    np.testing.assert_array_equal(again.hu, volume.hu)
    assert again.geometry.spacing_mm == pytest.approx(volume.geometry.spacing_mm)
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        thinslice.write(volume, tmp_path / f"case{suffix}")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_wrong_name_does_not_matter(volume, suffix, tmp_path):
    if suffix in (".nrrd", ".mha"):
        pytest.importorskip("SimpleITK")
    write(volume, tmp_path / f"case{suffix}")
    expected = {".nii": "nifti", ".nii.gz": "nifti", ".nrrd": "nrrd", ".mha": "metaimage"}[suffix]
    renamed = tmp_path / "renamed.dcm"
    shutil.copy(tmp_path / f"case{suffix}", renamed)
    assert sniff(renamed) == expected
    if expected == "nifti":
        np.testing.assert_array_equal(read(renamed).hu, volume.hu)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"Dear colleague,\nplease find the scan attached.\n", "not a format"),
        (b"\x89PNG\r\n\x1a\n" + bytes(500), "not a format"),
        (gzip.compress(b"just text" * 100, mtime=0), "not NIfTI"),
        (gzip.compress(b"", mtime=0), "not NIfTI"),
        (b"\x1f\x8b", "cut short"),
        (b"\x1f\x8b\x08\x00" + b"\xff" * 60, "damaged|cut short|not NIfTI"),
        (b"\x5c\x01\x00\x00" + bytes(400), "not a format"),  # ANALYZE has NIfTI's size but no magic
    ],
)
def test_what_is_no_volume_is_refused_with_what_is_accepted(content, words, tmp_path):
    path = tmp_path / "case.nii.gz"
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match=words) as refused:
        read(path)
    assert "case.nii.gz" in str(refused.value)
    assert str(tmp_path) not in str(refused.value)
    assert refused.value.exit_code == 3


def test_a_missing_path_is_refused(tmp_path):
    for absent in (tmp_path / "absent.nii.gz", tmp_path / "absent", [tmp_path / "absent.dcm"], []):
        with pytest.raises(UnreadableError):
            read(absent)


def test_a_device_or_pipe_is_not_read():
    if not Path("/dev/zero").exists():
        pytest.skip("no /dev/zero")
    with pytest.raises(UnreadableError, match="regular file"):
        read("/dev/zero")


def test_every_output_name_has_one_format():
    assert output_format("a.nii") == output_format("a.NII.gz") == "nifti"
    assert output_format("a.nrrd") == "nrrd"
    assert output_format("a.mha") == output_format("a.mhd") == "metaimage"
    for folder in ("out", "out/thin", "chest_1.0mm", "v1.2", "study.20240101", "."):
        assert output_format(folder) == "dicom"
    assert output_format("series.thin/") == "dicom"
    assert output_format("series.thin", "dicom") == "dicom"
    assert output_format("a.nii.gz", "nifti") == "nifti"


@pytest.mark.parametrize("name", ["a.dcm", "a.npy", "a.gz", "a.img", "a.zip", "a.nii.bz2", "a.thin"])
def test_an_unknown_suffix_is_refused_with_the_known_ones(name, volume, tmp_path):
    with pytest.raises(UsageError, match=r"\.nii\.gz.*\.nrrd.*\.mha"):
        output_format(name)
    with pytest.raises(UsageError):
        write(volume, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "declared"),
    [("a.nii.gz", "dicom"), ("folder", "nifti"), ("a.nrrd", "nifti"), ("a.nii", "tiff"), ("a.mha", "nrrd")],
)
def test_a_format_that_contradicts_the_name_is_refused(name, declared):
    with pytest.raises(UsageError) as refused:
        output_format(name, declared)
    assert refused.value.exit_code == 2


def test_nifti_cannot_become_dicom(volume, tmp_path):
    write(volume, tmp_path / "case.nii")
    with pytest.raises(UsageError, match="no patient"):
        write(read(tmp_path / "case.nii"), tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["case.nii"]


def test_the_input_is_untouched(volume, tmp_path):
    write(volume, tmp_path / "case.nii.gz")
    before = (tmp_path / "case.nii.gz").read_bytes(), (tmp_path / "case.nii.gz").stat().st_mtime_ns
    read(tmp_path / "case.nii.gz")
    assert before == ((tmp_path / "case.nii.gz").read_bytes(), (tmp_path / "case.nii.gz").stat().st_mtime_ns)


def test_overwriting_the_input_with_what_was_read_from_it_is_safe(volume, tmp_path):
    write(volume, tmp_path / "case.nii.gz")
    write(read(tmp_path / "case.nii.gz"), tmp_path / "case.nii.gz", overwrite=True)
    np.testing.assert_array_equal(read(tmp_path / "case.nii.gz").hu, volume.hu)


def test_reading_nifti_loads_neither_torch_nor_simpleitk_nor_highdicom(volume, tmp_path):
    write(volume, tmp_path / "case.nii.gz")
    code = (
        "import sys, thinslice; thinslice.read(sys.argv[1]);"
        "print([m for m in ('torch', 'SimpleITK', 'highdicom') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "case.nii.gz")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# DICOM, as far as dispatch goes


def test_folder_files_and_zip_of_one_series_are_one_volume(shared_dicom: Callable[[str], Path], tmp_path: Path):
    folder = shared_dicom("ge_ct3slice_1.25_at_1.0")
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    archive = tmp_path / "series.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for number, file in enumerate(files):
            packed.write(file, f"{number}.dcm")
    whole = read(folder)
    assert whole.provenance.format == "dicom"
    for other in (files, archive):
        again = read(other)
        np.testing.assert_array_equal(again.hu, whole.hu)
        assert again.geometry == whole.geometry


def test_one_slice_of_a_series_says_that_the_folder_is_the_whole(shared_dicom: Callable[[str], Path]):
    folder = shared_dicom("ge_ct3slice_1.25_at_1.0")
    one = next(p for p in sorted(folder.rglob("*")) if p.is_file() and sniff(p) == "dicom")
    try:
        message = " ".join(read(one).provenance.warnings)
    except InputError as refused:
        message = str(refused)
    assert "folder" in message


def test_a_dicom_volume_can_be_written_as_nifti(shared_dicom: Callable[[str], Path], tmp_path: Path):
    volume = read(shared_dicom("ge_ct3slice_1.25_at_1.0"))
    write(volume, tmp_path / "case.nii.gz")
    affine = nibabel.load(tmp_path / "case.nii.gz").affine
    depth, height, width = volume.geometry.shape
    corner = affine @ np.array([width - 1, height - 1, depth - 1, 1.0])
    want = np.array(volume.geometry.position_mm((depth - 1, height - 1, width - 1))) * [-1, -1, 1]
    np.testing.assert_allclose(corner[:3], want, atol=1e-3)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha"])
def test_an_unknown_spacing_is_never_written_as_one_millimetre(name, tmp_path):
    write_series(tmp_path / "thick", shape=(3, 16, 16), edit=lambda dataset, k: delattr(dataset, "PixelSpacing"))
    thin = thinslice.upscale(thinslice.read(tmp_path / "thick"), model="linear", factor=5)
    with pytest.raises(GeometryError, match="PixelSpacing"):
        thinslice.write(thin, tmp_path / name)
    assert not (tmp_path / name).exists()
    thinslice.write(thin, tmp_path / "series")
    assert thinslice.read(tmp_path / "series").geometry.spacing_mm == (1.0, None, None)


def test_a_refused_format_names_the_argument_that_write_takes(volume: Volume, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"state format='dicom-enhanced' for one \.dcm file"):
        thinslice.write(volume, tmp_path / "thin.dcm")
    with options_as_flags(), pytest.raises(UsageError, match=r"state --format dicom-enhanced for one \.dcm file"):
        thinslice.write(volume, tmp_path / "thin.dcm")


@pytest.mark.parametrize("blank", ["", " "])
def test_a_blank_series_does_not_mean_any_series(blank: str, tmp_path: Path) -> None:
    folder = write_series(tmp_path / "thick", shape=(4, 16, 16))
    with pytest.raises(UsageError, match="series= is blank"):
        thinslice.read(folder, series=blank)
    with pytest.raises(UsageError, match="series= is blank"):
        thinslice.read(folder, series_uid=blank)


def test_write_refuses_what_is_no_volume_and_arguments_in_the_wrong_order(volume: Volume, tmp_path: Path) -> None:
    target = tmp_path / "thin.nii"
    with pytest.raises(UsageError, match="numpy.ndarray; make one with thinslice.Volume.from_array"):
        thinslice.write(volume.hu, target)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="takes a volume first and then a path; swap the two"):
        thinslice.write(str(target), volume)  # type: ignore[arg-type]
    assert not target.exists()


@pytest.mark.parametrize(
    ("suffix", "options", "words"),
    [
        ("", {"axis": 0}, "DICOM states the plane of every slice"),
        (".nii.gz", {"on_spacing": "resample"}, "one distance for all its slices"),
        (".nii.gz", {"series": "2"}, "no series to choose"),
    ],
)
def test_an_option_that_the_format_gives_no_meaning_is_refused(suffix, options, words, tmp_path: Path) -> None:
    folder = write_series(tmp_path / "thick", shape=(4, 16, 16)).files[0].parent
    source = folder if not suffix else tmp_path / f"thick{suffix}"
    if suffix:
        write(read(folder), source)
    with pytest.raises(UsageError, match=words):
        read(source, **options)
    assert read(source, on_tilt="resample").shape == (4, 16, 16)
