"""Laws of the sampling grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from thinslice.errors import GeometryError
from thinslice.geometry import AXIAL_DIRECTION, LPS_TO_RAS, POSITION_TOLERANCE_MM, Geometry

spacings = st.floats(0.1, 10.0)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    rotation = Rotation.from_euler("xyz", [draw(st.floats(-3.0, 3.0)) for _ in range(3)]).as_matrix()
    return Geometry(
        shape=tuple(draw(st.integers(1, 60)) for _ in range(3)),
        spacing_mm=tuple(draw(spacings) for _ in range(3)),
        origin_mm=tuple(draw(st.floats(-500, 500)) for _ in range(3)),
        direction=tuple(map(tuple, rotation)),
        thickness_mm=draw(st.none() | spacings),
    )


@settings(deadline=None)
@given(geometries(), st.integers(1, 8))
def test_thick_slice_k_lies_on_thin_slice_factor_times_k(geometry: Geometry, factor: int) -> None:
    thin = geometry.thin_grid(factor)
    assert thin.shape[0] == (geometry.shape[0] - 1) * factor + 1
    for k in range(geometry.shape[0]):
        np.testing.assert_allclose(
            thin.position_mm((k * factor, 2, 3)), geometry.position_mm((k, 2, 3)), atol=POSITION_TOLERANCE_MM
        )


@settings(deadline=None)
@given(geometries(), st.tuples(*[st.floats(-50, 50)] * 3))
def test_index_at_inverts_position_mm(geometry: Geometry, index: tuple[float, float, float]) -> None:
    np.testing.assert_allclose(geometry.index_at(geometry.position_mm(index)), index, atol=1e-6)


@settings(deadline=None)
@given(geometries())
def test_ras_is_lps_with_two_axes_flipped(geometry: Geometry) -> None:
    np.testing.assert_array_equal(LPS_TO_RAS @ geometry.affine_ras, geometry.affine_lps)


def test_crop_keeps_world_positions() -> None:
    geometry = Geometry((10, 20, 30), (2.0, 0.5, 0.7), origin_mm=(1, 2, 3))
    part = geometry.crop((2, 3, 4), (5, 9, 30))
    assert part.shape == (3, 6, 26)
    assert part.position_mm((0, 0, 0)) == geometry.position_mm((2, 3, 4))


def test_axial_axes_run_to_superior_posterior_left() -> None:
    geometry = Geometry((2, 2, 2), (5.0, 1.0, 1.0))
    assert geometry.direction == AXIAL_DIRECTION
    assert geometry.position_mm((1, 0, 0)) == (0, 0, 5)
    assert geometry.position_mm((0, 1, 0)) == (0, 1, 0)
    assert geometry.position_mm((0, 0, 1)) == (1, 0, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": (0, 4, 4)},
        {"spacing_mm": (0.0, 1.0, 1.0)},
        {"spacing_mm": (None, 1.0, 1.0)},
        {"spacing_mm": (5.0, float("nan"), 1.0)},
        {"origin_mm": (0.0, float("inf"), 0.0)},
        {"direction": ((0, 0, 1), (0.3, 1, 0), (1, 0, 0))},
        {"thickness_mm": -1.0},
    ],
)
def test_what_is_no_grid_is_refused(change: dict[str, object]) -> None:
    values: dict[str, object] = {"shape": (4, 4, 4), "spacing_mm": (5.0, 1.0, 1.0), **change}
    with pytest.raises(GeometryError):
        Geometry(**values)  # type: ignore[arg-type]


def test_crop_outside_and_factor_zero_are_refused() -> None:
    geometry = Geometry((4, 4, 4), (5.0, 1.0, 1.0))
    with pytest.raises(GeometryError):
        geometry.crop((0, 0, 0), (5, 4, 4))
    with pytest.raises(GeometryError):
        geometry.thin_grid(0)
