"""The viewer shows what the package makes: values that the shader computes, read back from a browser."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import thinslice
from support.open_viewer import open_viewer
from thinslice.geometry import Geometry, nearest_thick
from thinslice.pictures.planes import planes_of
from thinslice.pictures.viewer.page import grid_json
from thinslice.volume import Volume

PADDING_HU = -2000

OBLIQUE = ((0.0, 0.6, -0.8), (0.0, 0.8, 0.6), (1.0, 0.0, 0.0))
FEET_FIRST = ((0.0, 0.0, -1.0), (0.0, -1.0, 0.0), (-1.0, 0.0, 0.0))
SAGITTAL = ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0))


def phantom(depth: int, height: int, width: int) -> npt.NDArray[np.int16]:
    """Noise around 0 HU with metal that two thick slices share, and padding in a corner."""
    hu = np.random.default_rng(7).integers(-1000, 1200, (depth, height, width)).astype(np.int16)
    hu[depth // 2 : depth // 2 + 2, 1, 1] = 2900
    hu[:, 0, 0] = PADDING_HU
    return hu


def case(factor: int, direction: Any = OBLIQUE) -> tuple[Volume, Geometry]:
    """A thick volume and its thin grid."""
    hu = phantom(9, 5, 6)
    thick = Volume(hu, Geometry(hu.shape, (float(factor), 0.7, 0.8), (-20.0, 30.0, 100.0), direction))
    thick = replace(thick, provenance=replace(thick.provenance, padding_hu=float(PADDING_HU)))
    return thick, thick.geometry.thin_grid(factor)


def upscaled(thick: Volume, model: str, factor: int) -> npt.NDArray[np.float32]:
    """What the package makes in float32, without rounding."""
    exact = replace(thick, hu=thick.hu.astype(np.float32))
    return np.asarray(thinslice.upscale(exact, model=model, factor=factor).hu)


@pytest.mark.parametrize("factor", [4, 5])
def test_linear_and_cubic_are_those_of_the_package(blank: Any, factor: int) -> None:
    thick, thin_grid = case(factor)
    viewer = open_viewer(blank, thick.hu, thick.geometry, thin_grid, paddingHu=PADDING_HU)
    for mode in ("linear", "cubic"):
        made = upscaled(thick, mode, factor)
        for row, column in ((0, 0), (1, 1), (2, 3), (4, 5)):
            shown = viewer.column(mode, row, column, thin_grid.shape[0])
            # A value is written in steps of 1/256 HU; 32-bit positions cost less than 0.03 HU here.
            np.testing.assert_allclose(shown, made[:, row, column], atol=0.04)


def test_thick_is_the_nearest_slice_and_thin_the_thin_one(blank: Any) -> None:
    thick, thin_grid = case(4)
    thin = np.rint(upscaled(thick, "cubic", 4)).astype(np.int16)
    viewer = open_viewer(blank, thick.hu, thick.geometry, thin_grid, thin)
    nearest = [nearest_thick(index, 4) for index in range(thin_grid.shape[0])]
    np.testing.assert_array_equal(viewer.column("thick", 2, 3, len(nearest)), thick.hu[nearest, 2, 3])
    np.testing.assert_array_equal(viewer.column("thin", 2, 3, len(nearest)), thin[:, 2, 3])


def test_the_difference_of_the_package_s_own_cubic_is_rounding(blank: Any) -> None:
    thick, thin_grid = case(5)
    thin = np.rint(upscaled(thick, "cubic", 5)).astype(np.int16)
    viewer = open_viewer(blank, thick.hu, thick.geometry, thin_grid, thin, paddingHu=PADDING_HU)
    # Between voxels too: all modes are mixed from the same grid.
    for origin, step in (("[0, 2, 3]", "[1, 0, 0]"), ("[0.3, 1.4, 2.2]", "[0.7, 0.02, 0.01]")):
        difference = viewer.values(f"viewer.valuesAlong('difference', {origin}, {step}, 30)")
        assert np.abs(difference).max() < 0.55


def test_thin_slices_at_a_distance_of_their_own(blank: Any) -> None:
    thick, _ = case(4)
    grid = replace(thick.geometry, spacing_mm=(3.75, 0.7, 0.8))
    thin_grid = grid.respaced(1.0, 31)
    viewer = open_viewer(blank, thick.hu, grid, thin_grid)
    shown = viewer.column("linear", 2, 3, 31)
    at = np.arange(31) / 3.75
    np.testing.assert_allclose(shown, np.interp(at, np.arange(9), thick.hu[:, 2, 3]), atol=0.04)
    nearest = viewer.column("thick", 2, 3, 31)
    np.testing.assert_array_equal(nearest, thick.hu[[min(nearest_thick(i, 3.75), 8) for i in range(31)], 2, 3])


def test_slabs_are_means_and_maxima_over_slices(blank: Any) -> None:
    thick, thin_grid = case(5)
    of_slices = np.random.default_rng(3).integers(-900, 900, thin_grid.shape[0]).astype(np.int16)
    thin = np.broadcast_to(of_slices[:, None, None], thin_grid.shape)
    viewer = open_viewer(blank, thick.hu, thick.geometry, thin_grid, thin)
    index = viewer.state("index")[0]
    around = of_slices[index - 1 : index + 2]
    for slab, expected in (("mean", around.mean()), ("maximum", around.max())):
        viewer.set(f"{{ slab: '{slab}', slabMm: 3 }}")
        shown = viewer.values("viewer.valuesOfPlane('axial', 'thin', 40, 40)")
        assert np.unique(shown[~np.isnan(shown)]) == pytest.approx([expected], abs=1 / 128)
    # At the border the slab holds the slices that there are.
    viewer.set("{ slab: 'mean', slabMm: 3, index: [0, 2, 2] }")
    shown = viewer.values("viewer.valuesOfPlane('axial', 'thin', 40, 40)")
    assert np.unique(shown[~np.isnan(shown)]) == pytest.approx([of_slices[:2].mean()], abs=1 / 128)


@pytest.mark.parametrize("direction", [OBLIQUE, FEET_FIRST, SAGITTAL], ids=["oblique", "feet first", "sagittal"])
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_planes_lie_as_the_package_draws_them(blank: Any, direction: Any, plane: str) -> None:
    thick, thin_grid = case(5, direction)
    thin = np.zeros(thin_grid.shape, np.int16)
    viewer = open_viewer(blank, thick.hu, thick.geometry, thin_grid, thin)
    view = planes_of(thin_grid)[plane]
    index = viewer.state("index")
    # A ramp along the rows and one along the columns of the package's picture.
    ramps = np.zeros((2, *thin_grid.shape), np.int16)
    for ramp, axis, flip in ((ramps[0], view.rows, view.flip_rows), (ramps[1], view.columns, view.flip_columns)):
        along = np.arange(thin_grid.shape[axis])[:: -1 if flip else 1]
        ramp += (10 * along).astype(np.int16).reshape([-1 if a == axis else 1 for a in range(3)])
    for ramp, axis in zip(ramps, (0, 1), strict=True):
        blank.evaluate("viewer.destroy()")
        viewer = open_viewer(blank, thick.hu, thick.geometry, thin_grid, ramp)
        shown = viewer.values(f"viewer.valuesOfPlane('{plane}', 'thin', 90, 90)").reshape(90, 90)
        inside = shown[:, ~np.isnan(shown).all(0)][~np.isnan(shown).all(1)]
        assert (np.diff(inside, axis=axis) >= 0).all() and inside[-1, -1] > inside[0, 0]
        assert np.allclose(np.diff(inside, axis=1 - axis), 0)
    assert index == viewer.state("index")


def test_the_screen_shows_the_values_through_the_window(blank: Any) -> None:
    """Pixels of a pane, but for letters and lines over it, are the values' brightness."""
    from matplotlib.image import imread

    thick, thin_grid = case(5, FEET_FIRST)
    thin = np.rint(upscaled(thick, "cubic", 5)).astype(np.int16)
    viewer = open_viewer(blank, thick.hu, thick.geometry, thin_grid, thin)
    viewer.set("{ compare: 'one', a: 'thin', planes: 'coronal', showsCrosshair: false }")
    viewer.set("{ window: { centreHu: 100, widthHu: 1000 } }")
    pane = blank.locator(".ts-pane")
    box = pane.bounding_box()
    wide, high = round(box["width"]), round(box["height"])
    values = viewer.values(f"viewer.valuesOfPlane('coronal', 'thin', {wide}, {high})").reshape(high, wide)
    picture = np.asarray(imread(io.BytesIO(pane.screenshot()), format="png"))[..., 0] * 255
    expected = np.where(np.isnan(values), 0, np.clip((values - 100) / 1000 + 0.5, 0, 1) * 255)
    assert np.mean(np.abs(picture - expected) <= 1.5) > 0.97


def test_deviations_have_their_step(blank: Any) -> None:
    thick, thin_grid = case(5)
    thin = np.zeros(thin_grid.shape, np.int16)
    deviation = np.arange(thin.size, dtype=np.int16).reshape(thin.shape)
    viewer = open_viewer(blank, thick.hu, thick.geometry, thin_grid, thin, deviation, deviationStepHu=0.5)
    shown = viewer.column("deviation", 2, 3, len(thin))
    np.testing.assert_allclose(shown, deviation[:, 2, 3] * 0.5, atol=1 / 256)


def test_slices_show_as_they_arrive(blank: Any) -> None:
    thick, thin_grid = case(5)
    thin = np.rint(upscaled(thick, "cubic", 5)).astype(np.int16)
    nothing = np.zeros((0, 5, 6), np.int16)
    shown = open_viewer(blank, thick.hu, thick.geometry, thin_grid, nothing)
    shown.add("thin", 10, thin[10:20])
    assert np.isnan(shown.column("thin", 2, 3, 41)).all()
    shown.add("thin", 0, thin[:10])
    column = shown.column("thin", 2, 3, 41)
    np.testing.assert_array_equal(column[:20], thin[:20, 2, 3])
    assert np.isnan(column[20:]).all()
    blank.evaluate("viewer.draw()")
    assert "Thin (synthesised): 20 of 41 slices" in blank.locator(".ts-progress").inner_text()
    shown.add("thin", 20, thin[20:])
    assert not np.isnan(shown.column("thin", 2, 3, 41)).any()
    assert blank.locator(".ts-live").text_content() == "All slices have arrived."


def test_a_volume_that_is_too_large_is_reduced_and_the_page_states_it(blank: Any) -> None:
    thick, thin_grid = case(5)
    thin = np.repeat(np.arange(0, 30, dtype=np.int16).reshape(1, 5, 6), 41, axis=0)
    viewer = open_viewer(blank, thick.hu, thick.geometry, thin_grid, thin, budgetBytes=2000)
    assert "2 x 2 pixels are shown as one" in blank.locator(".ts-progress").inner_text()
    # Rows 2 and 3, columns 2 and 3 hold 14, 15, 20 and 21.
    assert viewer.column("thin", 1, 1, 41).tolist() == [18.0] * 41


def test_grids_that_do_not_fit_are_refused(blank: Any) -> None:
    thick, thin_grid = case(5)
    moved = replace(thin_grid, origin_mm=(0.0, 0.0, 0.0))
    message = blank.evaluate(
        "([thick, thin]) => { try { ThinsliceViewer.createViewer(document.body, { thick, thin }); return null }"
        " catch (error) { return error.name + ': ' + error.message } }",
        [grid_json(thick.geometry), grid_json(moved)],
    )
    assert message == "GridError: The thick and the thin volume do not lie on one grid of rows and columns."


def test_graphics_memory_that_was_taken_comes_back(blank: Any) -> None:
    thick, thin_grid = case(5)
    thin = np.rint(upscaled(thick, "cubic", 5)).astype(np.int16)
    viewer = open_viewer(blank, thick.hu, thick.geometry, thin_grid, thin)
    before = viewer.column("cubic", 2, 3, 41)
    blank.evaluate(
        "() => new Promise((done) => { const gl = document.querySelector('canvas').getContext('webgl2');"
        "const loss = gl.getExtension('WEBGL_lose_context'); viewer.on('restored', done); loss.loseContext();"
        "setTimeout(() => loss.restoreContext(), 50); })"
    )
    assert np.isnan(viewer.column("thin", 2, 3, 41)).all()
    viewer.add("thin", 0, thin)
    np.testing.assert_array_equal(viewer.column("thin", 2, 3, 41), thin[:, 2, 3])
    np.testing.assert_array_equal(viewer.column("cubic", 2, 3, 41), before)
