"""Tilted and unevenly spaced slices on an upright, even grid: anatomy stays where it is in the world."""

from __future__ import annotations

import numpy as np
import pytest

from thinslice.io.dicom.series.regrid import even, upright

AIR, SOFT = -1000.0, 40.0


def ball(points: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """HU of a ball of soft tissue in air, its edge 2 mm wide; points (..., 3) LPS."""
    away = np.linalg.norm(points - centre, axis=-1) - radius
    return np.asarray(AIR + (SOFT - AIR) / (1 + np.exp(2.0 * away)))


def grid(positions: np.ndarray, row: np.ndarray, column: np.ndarray, shape: tuple[int, int], mm: float) -> np.ndarray:
    down, right = np.arange(shape[0]) * mm, np.arange(shape[1]) * mm
    in_plane = down[:, None, None] * column + right[None, :, None] * row
    return np.asarray(positions[:, None, None, :] + in_plane)


@pytest.mark.parametrize("degrees", [-18.5, 0.4, 12.0, 25.0])
def test_a_tilted_ball_stays_in_its_place(degrees: float) -> None:
    angle = np.radians(degrees)
    row, column = np.array([1.0, 0, 0]), np.array([0, np.cos(angle), -np.sin(angle)])
    positions = np.array([[-30.0, -30.0, 3.0 * k] for k in range(18)])  # the table moves along z
    centre = np.array([2.0, 1.0, 26.0])
    hu = ball(grid(positions, row, column, (64, 64), 1.0), centre, 9.0).astype(np.float32)
    made, moved = upright(hu, positions, row, column, (1.0, 1.0), outside_hu=-1024.0)
    assert np.abs(np.cross(moved - moved[0], np.cross(row, column))).max() < 1e-9, "positions lie on the normal"
    points = grid(moved, row, column, made.shape[1:], 1.0)
    inside = made != -1024.0
    assert np.sqrt(np.mean((made - ball(points, centre, 9.0))[inside] ** 2)) < 4.0
    soft = made > (AIR + SOFT) / 2
    np.testing.assert_allclose(points[soft].mean(axis=0), centre, atol=0.3)  # slices sample the ball every 3 mm
    assert soft.sum() == pytest.approx(np.count_nonzero(hu > (AIR + SOFT) / 2), rel=0.02)


def test_upright_slices_are_left_as_they_are() -> None:
    hu = np.arange(3 * 5 * 4, dtype=np.int16).reshape(3, 5, 4)
    positions = np.array([[1.0, 2.0, 5.0 * k] for k in range(3)])
    made, moved = upright(hu, positions, np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), (0.7, 0.7), outside_hu=-1024)
    np.testing.assert_array_equal(made, hu)
    np.testing.assert_array_equal(moved, positions)


def test_padding_is_not_blended_into_tissue() -> None:
    hu = np.full((2, 20, 20), 30, dtype=np.int16)
    hu[:, :, :5] = -2000
    positions = np.array([[0.0, 0, 0], [0.0, 0.4, 5.0]])
    made, _ = upright(hu, positions, np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), (1.0, 1.0), outside_hu=-2000)
    assert set(np.unique(made).tolist()) == {-2000, 30}


def test_uneven_slices_follow_a_straight_line_exactly() -> None:
    heights = np.array([0.0, 4.0, 8.0, 15.0, 22.0])
    hu = (10.0 * heights)[:, None, None] * np.ones((1, 3, 3))
    made, at, nearest = even(hu.astype(np.float32), heights, outside_hu=-1024.0)
    np.testing.assert_allclose(np.diff(at), 4.0)
    np.testing.assert_allclose(made[:, 0, 0], 10.0 * at, rtol=1e-6)
    assert at[0] == heights[0] and heights[-1] - at[-1] < 4.0
    assert nearest.tolist() == [0, 1, 2, 3, 3, 4]
