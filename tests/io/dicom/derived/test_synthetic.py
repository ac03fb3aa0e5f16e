"""The phantom's source series reads back exactly, is the same every time, and validates without errors."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest

from thinslice.errors import InputError, OutputExistsError
from thinslice.geometry import Geometry
from thinslice.io.dicom.derived.synthetic import write_dicom_source
from thinslice.io.dicom.read import read_dicom
from thinslice.volume import Derivation, Provenance, Volume


@pytest.fixture
def thick() -> Volume:
    hu = np.random.default_rng(0).integers(-1024, 3072, (4, 24, 20)).astype(np.int16)
    hu[0, 0, :2] = -1024, 3071
    return Volume(
        hu, Geometry(hu.shape, (5.0, 0.703125, 0.703125), origin_mm=(-170.3, -150.2, -55.5), thickness_mm=5.0)
    )


def test_reads_back_exactly(thick: Volume, tmp_path: Path) -> None:
    write_dicom_source(thick, tmp_path / "series")
    again = read_dicom([tmp_path / "series"])
    np.testing.assert_array_equal(again.hu, thick.hu)
    np.testing.assert_allclose(again.geometry.affine_lps, thick.geometry.affine_lps, atol=1e-6)
    assert again.geometry.thickness_mm == 5.0 and again.provenance.warnings == ()


def test_says_it_is_an_original_phantom(thick: Volume, tmp_path: Path) -> None:
    write_dicom_source(thick, tmp_path / "series", seed=3)
    headers = [pydicom.dcmread(path) for path in sorted((tmp_path / "series").iterdir())]
    assert len(headers) == 4
    for number, header in enumerate(headers, start=1):
        assert list(header.ImageType) == ["ORIGINAL", "PRIMARY", "AXIAL"]
        assert header.PatientName == "Phantom^Thorax" and header.QualityControlImage == "YES"
        assert header.KVP == 120 and header.SliceThickness == 5 and header.ConvolutionKernel == "STANDARD"
        assert header.InstanceNumber == number
        assert header.file_meta.MediaStorageSOPInstanceUID == header.SOPInstanceUID
    assert len({header.SOPInstanceUID for header in headers}) == 4
    assert len({header.SeriesInstanceUID for header in headers}) == 1


def test_the_same_again_and_others_differ(thick: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_dicom_source(thick, tmp_path / name, seed=seed)
    files = {name: [path.read_bytes() for path in sorted((tmp_path / name).iterdir())] for name in "abc"}
    assert files["a"] == files["b"]
    uids = {name: pydicom.dcmread(tmp_path / name / "IM0001.dcm").StudyInstanceUID for name in "ac"}
    assert uids["a"] != uids["c"]


def test_an_existing_folder_is_kept(thick: Volume, tmp_path: Path) -> None:
    write_dicom_source(thick, tmp_path / "series")
    with pytest.raises(OutputExistsError):
        write_dicom_source(thick, tmp_path / "series")
    write_dicom_source(thick, tmp_path / "series", overwrite=True)


def test_what_such_a_series_cannot_say_is_refused(thick: Volume, tmp_path: Path) -> None:
    derived = Provenance(derivation=Derivation("net", "1", None, 5))
    unknown = Geometry(thick.hu.shape, (5.0, None, None))
    for wrong, words in (
        (Volume((thick.hu.astype(np.float32) * 2), thick.geometry), "clip"),
        (Volume(np.full(thick.hu.shape, np.nan, np.float32), thick.geometry), "clip"),
        (Volume(thick.hu, unknown), "spacing"),
        (Volume(thick.hu, thick.geometry, derived), "derived"),
    ):
        with pytest.raises(InputError, match=words):
            write_dicom_source(wrong, tmp_path / "series")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
def test_dciodvfy_finds_no_error(thick: Volume, tmp_path: Path) -> None:
    write_dicom_source(thick, tmp_path / "series")
    for path in (tmp_path / "series").iterdir():
        report = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        assert "CTImage" in report.stderr + report.stdout
        assert [line for line in (report.stderr + report.stdout).splitlines() if line.startswith("Error")] == []
