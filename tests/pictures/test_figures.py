"""Preview and comparison: right planes, right way up, right proportions, slab by slab as well as at once."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import thinslice
from thinslice.errors import GeometryError, OutputExistsError, UsageError
from thinslice.geometry import Geometry, nearest_thick
from thinslice.pictures.drawing import WINDOWS_HU
from thinslice.pictures.figures import Preview, _interpolated, comparison
from thinslice.pictures.planes import SIDES, find_body, planes_of
from thinslice.volume import Volume


def pixels(png: bytes) -> NDArray[np.float32]:
    from matplotlib.image import imread

    return np.asarray(imread(io.BytesIO(png), format="png"))[..., :3]


@pytest.fixture
def thick() -> Volume:
    hu = np.full((6, 40, 50), -1000, np.int16)
    hu[:, 8:32, 5:45] = 40
    hu[3:, 12:28, 10:25] = -850
    return Volume(hu, Geometry(hu.shape, (5.0, 2.0, 2.0)))


def repeated(thick: Volume, factor: int) -> NDArray[np.int16]:
    depth = (thick.hu.shape[0] - 1) * factor + 1
    return np.asarray(thick.hu[[nearest_thick(index, factor) for index in range(depth)]])


def preview(thick: Volume, factor: int, slabs: list[tuple[int, NDArray[np.int16]]]) -> bytes:
    picture = Preview(thick, thick.geometry.thin_grid(factor), caption="linear, factor $5")
    for start, slab in slabs:
        picture.add(start, slab)
    return picture.png_bytes()


def test_slab_by_slab_equals_all_at_once_and_again(thick: Volume) -> None:
    thin = repeated(thick, 5)
    whole = preview(thick, 5, [(0, thin)])
    assert preview(thick, 5, [(i, thin[i : i + 4]) for i in range(0, len(thin), 4)]) == whole
    assert preview(thick, 5, [(0, thin)]) == whole


@pytest.mark.parametrize("factor", [2, 5])
def test_thick_repeated_looks_like_thick(thick: Volume, factor: int) -> None:
    """Both of a pair of panels show the same extent at the same scale, so equal content gives equal pictures."""
    picture = pixels(preview(thick, factor, [(0, repeated(thick, factor))]))
    width = picture.shape[1]
    # Panels and gaps in inches, as drawn; heading and footer are left out.
    left, panel, gap, group_gap, total = 1.8, 2.9, 0.05, 0.2, 1.8 + 9 * 2.9 + 6 * 0.05 + 2 * 0.2 + 0.05
    body = picture[95:-80]
    for group in range(3):
        x0 = left + group * (3 * panel + 2 * gap + group_gap)
        # Thick and thin; between them stands the interpolation, which repeated slices do not equal.
        first, second = (round(x / total * width) for x in (x0, x0 + 2 * (panel + gap)))
        wide = round(panel / total * width) - 2
        a, b = body[:, first + 1 : first + wide], body[:, second + 1 : second + wide]
        assert a.std() > 0.05
        # Sub-pixel offsets of the panels leave a little at edges; the first panel has letters and the scale bar.
        assert np.mean(np.abs(a - b)) < 0.02


def test_the_parts_are_the_columns_of_the_whole(thick: Volume) -> None:
    picture = Preview(thick, thick.geometry.thin_grid(5), deviation=True)
    picture.add(0, repeated(thick, 5), np.ones((26, 40, 50), np.float32))
    parts = picture.parts()
    assert [title.split(" window")[0].split("the ")[-1] for title, _ in parts[:3]] == ["lung", "soft tissue", "bone"]
    whole = pixels(picture.png_bytes())
    lung = pixels(parts[0][1])
    # Labels and the first panels stand at one place in both; the heading above and the footer below are left out.
    shared = np.s_[95:-100, : round((1.8 + 2.9) * 140)]
    np.testing.assert_array_equal(lung[shared], whole[: lung.shape[0]][shared])
    assert len({png for _, png in parts}) == 4


@pytest.mark.parametrize("factor", [2, 4, 5])
def test_the_picture_before_is_the_baseline_nearest(thick: Volume, factor: int) -> None:
    """At an even factor thin slices lie halfway between two thick ones; both take the upper."""
    baseline = thinslice.upscale(thick, model="nearest", factor=factor)
    picture = Preview(thick, baseline.geometry)
    picture.add(0, baseline.hu)
    for axis in range(3):
        np.testing.assert_array_equal(picture._before[axis], picture._after[axis])


@pytest.mark.parametrize("factor", [2, 4])
def test_a_comparison_shows_thick_slices_as_the_baseline_nearest(thick: Volume, factor: int) -> None:
    baseline = thinslice.upscale(thick, model="nearest", factor=factor)
    rows = [("coronal", "error"), ("sagittal", "error")]
    assert comparison({"a": thick}, baseline, rows=rows) == comparison({"a": baseline}, baseline, rows=rows)


def test_missing_slices_and_slabs_that_do_not_fit_are_refused(thick: Volume) -> None:
    thin = repeated(thick, 5)
    with pytest.raises(UsageError, match="holds 20 of 26"):
        preview(thick, 5, [(0, thin[:20])])
    for start, slab in ((20, thin[:10]), (-1, thin[:1]), (0, thin[:, 1:])):
        with pytest.raises(UsageError, match="does not fit"):
            preview(thick, 5, [(start, slab)])
    with pytest.raises(UsageError, match="no thin grid"):
        Preview(thick, Geometry((27, 40, 50), (1.0, 2.0, 2.0)))


def test_saves_once(thick: Volume, tmp_path: Path) -> None:
    picture = Preview(thick, thick.geometry.thin_grid(2))
    picture.add(0, repeated(thick, 2))
    picture.save(tmp_path / "preview.png")
    assert (tmp_path / "preview.png").read_bytes() == picture.png_bytes()
    with pytest.raises(OutputExistsError):
        picture.save(tmp_path / "preview.png")


@pytest.mark.parametrize("shape", [(1, 9, 9), (2, 9, 9), (3, 1, 1)])
def test_the_smallest_volumes_and_empty_ones_are_drawn(shape: tuple[int, int, int]) -> None:
    air = Volume(np.full(shape, -1000, np.int16), Geometry(shape, (5.0, None, None)))
    assert preview(air, 5, [(0, repeated(air, 5))]).startswith(b"\x89PNG")


def test_planes_stand_as_a_radiologist_expects() -> None:
    """Head up, patient's left on the right, front up in axial and left in sagittal, however the array is stored."""
    grid = Geometry((4, 5, 6), (2.0, 1.0, 1.0))
    world = np.zeros((3, *grid.shape))
    for index in np.ndindex(*grid.shape):
        world[(slice(None), *index)] = grid.position_mm(index)
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        for flips in ((1, 1, 1), (-1, 1, -1), (1, -1, -1)):
            stored = world.transpose(0, *(a + 1 for a in order))[:, :: flips[0], :: flips[1], :: flips[2]]
            direction = np.asarray(grid.direction)[:, order] * flips
            spacing = tuple(grid.spacing_mm[a] for a in order)
            planes = planes_of(Geometry(stored.shape[1:], spacing, direction=tuple(map(tuple, direction))))
            assert list(planes) == ["axial", "coronal", "sagittal"]
            for name, right, down, sign in (("axial", 0, 1, 1), ("coronal", 0, 2, -1), ("sagittal", 1, 2, -1)):
                plane = planes[name]
                shown = [plane.show(stored[axis].take(0, axis=plane.normal)) for axis in range(3)]
                assert np.all(np.diff(shown[right], axis=1) > 0)
                assert np.all(np.diff(shown[down], axis=0) * sign > 0)


def test_the_body_is_found_past_a_thin_table() -> None:
    hu = np.full((8, 120, 160), -1000, np.int16)
    hu[:, 30:70, 40:120] = 40
    hu[:, 100, 60:62] = 40
    body = find_body(hu, Geometry(hu.shape, (5.0, 1.0, 1.0)))
    assert body.centre == pytest.approx((49.5, 79.5), abs=1)
    assert body.stop[0] < 90 and body.start == (18, 28)


def test_comparison_shows_errors_only_with_a_truth(thick: Volume) -> None:
    grid = thick.geometry.thin_grid(5)
    thin = Volume(repeated(thick, 5), grid)
    wrong = Volume(thin.hu + np.int16(100), grid)
    with_truth = pixels(comparison({"thick": thick, "wrong": wrong}, thin, caption="a_b $x$"))
    without = pixels(comparison({"thick": thick, "wrong": wrong}))
    assert with_truth.shape[1] > without.shape[1] and with_truth.shape[0] > without.shape[0]
    # Only the magma of an error map is coloured.
    assert (np.ptp(with_truth, axis=2) > 0.2).sum() > 1000
    assert (np.ptp(without, axis=2) > 0.2).sum() == 0


def test_error_maps_light_up_where_the_estimate_is_wrong(thick: Volume) -> None:
    grid = thick.geometry.thin_grid(5)
    truth = Volume(repeated(thick, 5), grid)
    wrong = Volume(truth.hu + np.int16(150), grid)

    def colour(panel: Volume) -> float:
        return float(np.ptp(pixels(comparison({"ours": panel}, truth, rows=[("coronal", "error")])), axis=2).mean())

    assert colour(wrong) > colour(truth) + 0.09


def test_comparison_samples_by_position(thick: Volume) -> None:
    """A panel stored upside down is shown the right way up, so it has no error."""
    grid = thick.geometry.thin_grid(5)
    truth = Volume(repeated(thick, 5), grid)
    downwards = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0))
    origin = grid.position_mm((grid.shape[0] - 1, 0, 0))
    upside_down = Volume(
        np.ascontiguousarray(truth.hu[::-1]),
        Geometry(grid.shape, grid.spacing_mm, origin_mm=origin, direction=downwards),
    )
    rows = [("coronal", "error")]
    assert comparison({"a": upside_down}, truth, rows=rows) == comparison({"a": truth}, truth, rows=rows)


def test_comparison_refuses_what_it_cannot_show(thick: Volume) -> None:
    with pytest.raises(UsageError, match="at least one"):
        comparison({})
    with pytest.raises(UsageError, match="no row"):
        comparison({"a": thick}, rows=[("oblique", "lung")])
    a = np.sqrt(0.5)
    turned = Geometry(thick.hu.shape, (5.0, 2.0, 2.0), direction=((0, a, a), (0, a, -a), (1, 0, 0)))
    with pytest.raises(GeometryError, match=r"45\.0 degrees"):
        comparison({"a": Volume(thick.hu, turned)}, thick)


def test_windows_are_the_usual_ones() -> None:
    assert WINDOWS_HU["lung"] == (-600.0, 1500.0) and set(WINDOWS_HU) == {"lung", "soft tissue", "bone"}


def test_importing_loads_no_matplotlib_and_drawing_no_pyplot() -> None:
    script = (
        "import sys, numpy as np\n"
        "from thinslice.pictures.figures import Preview\n"
        "from thinslice.geometry import Geometry\n"
        "from thinslice.volume import Volume\n"
        "assert 'matplotlib' not in sys.modules and 'torch' not in sys.modules\n"
        "v = Volume(np.zeros((2, 8, 8), np.int16), Geometry((2, 8, 8), (5, 1, 1)))\n"
        "p = Preview(v, v.geometry.thin_grid(2)); p.add(0, np.zeros((3, 8, 8), np.int16)); p.png_bytes()\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_map_of_standard_deviations_stands_beside_when_asked(thick: Volume) -> None:
    thin = repeated(thick, 5)
    plain = pixels(preview(thick, 5, [(0, thin)]))
    made = {}
    for value in (0.0, 100.0):
        picture = Preview(thick, thick.geometry.thin_grid(5), caption="linear, factor $5", deviation=True)
        for start in range(0, len(thin), 4):
            slab = thin[start : start + 4]
            picture.add(start, slab, np.full(slab.shape, value, np.float32))
        made[value] = pixels(picture.png_bytes())
    wide = made[0.0].shape[1]
    assert made[0.0].shape[0] == plain.shape[0] and wide > plain.shape[1]
    apart = np.abs(made[100.0] - made[0.0]).max(axis=(0, 2)) > 0.2
    assert apart[round(0.93 * wide)], "the map is bright where the standard deviation is high"
    assert not apart[: plain.shape[1]].any(), "nothing else changes"
    with pytest.raises(UsageError, match="lacks the standard deviations"):
        Preview(thick, thick.geometry.thin_grid(5), deviation=True).add(0, thin)


def test_the_interpolated_column_lies_between_the_thick_slices() -> None:
    hu = np.zeros((3, 4, 4), np.int16)
    hu[1], hu[2] = 100, 300
    assert _interpolated(hu, 0, 7, 11, 5).tolist() == np.full((4, 4), 180.0).tolist()  # 0.6 * 100 + 0.4 * 300
    along = _interpolated(hu, 2, 1, 11, 5)
    np.testing.assert_allclose(along[:, 0], [0, 20, 40, 60, 80, 100, 140, 180, 220, 260, 300], atol=1e-3)


def test_sides_are_named_as_the_picture_is_turned() -> None:
    """The voxel at the patient's left end is at the right of an axial picture, however the array runs."""
    for direction in (((0, 0, 1), (0, 1, 0), (1, 0, 0)), ((0, 0, -1), (0, -1, 0), (-1, 0, 0))):
        plane = planes_of(Geometry((2, 3, 4), (5.0, 1.0, 1.0), direction=direction))["axial"]
        x = np.arange(4) * direction[0][2]  # LPS x grows to the patient's left
        picture = plane.show(np.tile(x, (3, 1)))
        assert SIDES["axial"][:2] == ("R", "L") and picture[0, -1] > picture[0, 0]
