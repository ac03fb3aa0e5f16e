"""The phantom as a CT series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

import thinslice
from thinslice.data.phantom_dicom import write_phantom_series
from thinslice.errors import InputError
from thinslice.geometry import Geometry
from thinslice.volume import Volume

GRID = Geometry((3, 6, 8), (5.0, 1.4, 1.2), origin_mm=(-4.2, 3.5, -58.0), thickness_mm=5.0)


def _volume(lowest: int = -1024, highest: int = 3071) -> Volume:
    hu = np.linspace(lowest, highest, num=3 * 6 * 8).round().astype(np.int16).reshape(GRID.shape)
    return Volume(hu, GRID)


def test_the_series_reads_back_exactly(tmp_path: Path) -> None:
    write_phantom_series(_volume(), tmp_path / "thick")
    back = thinslice.read(tmp_path / "thick")
    np.testing.assert_array_equal(back.hu, _volume().hu)
    np.testing.assert_allclose(back.geometry.affine_lps, GRID.affine_lps, atol=1e-6)
    assert back.geometry.thickness_mm == 5.0
    assert back.provenance.warnings == ()


def test_the_same_phantom_gives_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    for name in ("a", "b"):
        write_phantom_series(_volume(), tmp_path / name, seed=3)
    write_phantom_series(_volume(), tmp_path / "c", seed=4)
    first, second, other = (sorted((tmp_path / name).iterdir()) for name in "abc")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert pydicom.dcmread(first[0]).SeriesInstanceUID != pydicom.dcmread(other[0]).SeriesInstanceUID


def test_it_says_that_it_shows_no_patient(tmp_path: Path) -> None:
    write_phantom_series(_volume(), tmp_path / "thick")
    header = pydicom.dcmread(next((tmp_path / "thick").iterdir()))
    assert header.QualityControlImage == "YES" and "PHANTOM" in str(header.PatientName)


def test_values_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        write_phantom_series(_volume(lowest=-1025), tmp_path / "thick")
    assert not (tmp_path / "thick").exists()
