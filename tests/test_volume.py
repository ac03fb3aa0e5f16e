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
