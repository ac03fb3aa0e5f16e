"""The volume value and the intensity window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinslice import Geometry, Volume
from thinslice.errors import GeometryError, InputError
from thinslice.intensity import to_hu, to_unit
from thinslice.volume import Provenance, as_hu


@given(st.integers(-32768, 32767))
def test_unit_intensity_inverts_to_the_same_integer_hu(hu: int) -> None:
    assert round(float(to_hu(to_unit(hu)))) == hu


def test_the_window_is_the_papers() -> None:
    assert to_unit([-1024.0, 2048.0]).tolist() == [0.0, 1.0]
    assert to_unit(3072.0) > 1  # never clamped


def test_shape_and_type_must_fit() -> None:
    grid = Geometry((2, 3, 4), (5.0, 1.0, 1.0))
    with pytest.raises(GeometryError):
        Volume(np.zeros((2, 3, 5), np.int16), grid)
    with pytest.raises(InputError, match="float64"):
        Volume(np.zeros((2, 3, 4)), grid)


def test_crop_keeps_values_positions_and_headers() -> None:
    hu = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    whole = Volume(hu, Geometry((2, 3, 4), (5.0, 1.0, 1.0)), Provenance(headers=("a", "b")))
    part = whole.crop((1, 0, 1), (2, 3, 4))
    np.testing.assert_array_equal(part.hu, hu[1:, :, 1:])
    assert part.provenance.headers == ("b",)
    assert part.geometry.origin_mm == (1.0, 0.0, 5.0)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([1.0, 2.0], np.int16), ([0.5], np.float32), ([40000], np.float32), ([-32768], np.int16), ([np.nan], np.float32)],
)
def test_int16_where_exact(values: list[float], dtype: type) -> None:
    stored = as_hu(values)
    assert stored.dtype == dtype
    np.testing.assert_array_equal(stored, np.asarray(values, np.float32))


def small(origin_z: float = 0.0) -> Volume:
    hu = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    return Volume(hu, Geometry((2, 3, 4), (5.0, 0.7, None), (0.0, 0.0, origin_z), thickness_mm=5.0))


def test_a_volume_is_an_array() -> None:
    volume = small()
    assert volume.shape == (2, 3, 4)
    assert np.shares_memory(np.asarray(volume), volume.hu)
    assert not np.shares_memory(np.array(volume), volume.hu)
    assert np.asarray(volume, dtype=np.float64).dtype == np.float64
    assert float(np.mean(volume)) == 11.5  # type: ignore[call-overload]
    # What NumPy 2 passes on for np.array(..., copy=False); to NumPy 1 that meant: copy where needed.
    with pytest.raises(ValueError, match="cannot be viewed"):
        volume.__array__(np.float32, copy=False)


def test_equal_means_grid_and_voxels() -> None:
    assert small() == small()
    assert small() == Volume(small().hu, small().geometry, Provenance(format="nifti"))
    assert small() != small(origin_z=1.0)
    changed = small().hu.copy()
    changed[1, 1, 1] = -5
    assert small() != Volume(changed, small().geometry)
    assert small() != "volume"
    with pytest.raises(TypeError):
        hash(small())


def test_a_volume_is_shown_in_one_line_without_its_source() -> None:
    provenance = Provenance(format="dicom", headers=("PATIENT^NAME",), details={"series_uid": "1.2.3"})
    text = repr(Volume(small().hu, small().geometry, provenance))
    assert text == "Volume(2 x 3 x 4, 5 x 0.7 x ? mm, 5 mm thick, axial, int16 0 to 23 HU, dicom)"
    page = Volume(small().hu, small().geometry, provenance)._repr_html_()
    assert "PATIENT" not in page and "1.2.3" not in page and "2 x 3 x 4" in page


def test_a_volume_of_an_array() -> None:
    volume = Volume.from_array(np.zeros((2, 3, 4)), spacing_mm=(5.0, 0.7, 0.7), thickness_mm=6.0)
    assert volume.hu.dtype == np.int16 and volume.geometry.thickness_mm == 6.0
    with pytest.raises(GeometryError, match="three axes"):
        Volume.from_array(np.zeros((3, 4)), spacing_mm=(5.0, 0.7, 0.7))
