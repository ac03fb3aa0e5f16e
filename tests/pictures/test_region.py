"""One region for every method: chosen once, cut alike, drawn with its errors."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray

import thinslice
from thinslice.errors import UsageError
from thinslice.geometry import Geometry
from thinslice.pictures.region import FigureRegion, choose_region, cuts_of, region_figure, thick_cuts_of
from thinslice.volume import Volume

GRID = Geometry((21, 40, 48), (1.0, 0.8, 0.8))


def thin(seed: int = 0) -> Volume:
    hu = np.random.default_rng(seed).integers(-900, 1200, GRID.shape).astype(np.int16)
    return Volume(hu, GRID)


def pixels(png: bytes) -> NDArray[np.float32]:
    from matplotlib.image import imread

    return np.asarray(imread(io.BytesIO(png), format="png"))[..., :3]


def test_planes_go_through_the_middle_and_between_thick_slices() -> None:
    region = choose_region(thin(), 5, depth=(3, 19), height=(4, 20), width=(8, 40))
    assert (region.start, region.stop) == ((3, 4, 8), (19, 20, 40))
    assert region.cut == (12, 12, 24)
    assert region.cut[0] % 5 != 0
    for factor in (2, 3, 4, 8):
        cut = choose_region(thin(), factor).cut
        assert cut[0] % factor != 0 and all(a <= c < b for a, c, b in zip((0, 0, 0), cut, GRID.shape, strict=True))


@pytest.mark.parametrize("wrong", [{"depth": (0, 22)}, {"height": (-1, 5)}, {"width": (40, 49)}])
def test_a_region_outside_is_refused(wrong: dict[str, tuple[int, int]]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        choose_region(thin(), 5, **wrong)


def test_cuts_are_the_volume_at_those_places() -> None:
    volume, region = thin(), FigureRegion((2, 4, 8), (18, 20, 40), (12, 10, 30))
    cuts = cuts_of(volume.hu, GRID, region)
    np.testing.assert_array_equal(cuts["axial"], volume.hu[12, 4:20, 8:40])
    np.testing.assert_array_equal(cuts["coronal"], volume.hu[2:18, 10, 8:40])
    np.testing.assert_array_equal(cuts["sagittal"], volume.hu[2:18, 4:20, 30])
    volume.hu[:] = 0
    assert cuts["axial"].any(), "cuts must not keep the volume alive"


@pytest.mark.parametrize("factor", [2, 4, 5])
def test_thick_slices_are_shown_where_they_lie(factor: int) -> None:
    thick = np.arange(20 // factor + 1)[:, None, None] * np.ones((1, 40, 48), np.int16)
    region = FigureRegion((0, 0, 0), GRID.shape, (11, 20, 20))
    cuts = thick_cuts_of(thick, factor, GRID, region)
    depth = (thick.shape[0] - 1) * factor + 1
    for k in range(thick.shape[0]):
        assert (cuts["coronal"][k * factor] == k).all() and (cuts["sagittal"][k * factor] == k).all()
    assert cuts["coronal"].shape == (21, 48) and cuts["axial"].shape == (40, 48)
    assert abs(float(cuts["axial"][0, 0]) - 11 / factor) <= 0.5
    assert set(np.diff(cuts["sagittal"][:depth, 0])) <= {0, 1}


@pytest.mark.parametrize("factor", [2, 4, 5])
def test_thick_slices_are_shown_as_the_baseline_nearest(factor: int) -> None:
    thick = thin().hu[::factor]
    depth = (len(thick) - 1) * factor + 1
    grid = Geometry((depth, 40, 48), (1.0, 0.8, 0.8))
    spacing = Geometry(thick.shape, (float(factor), 0.8, 0.8))
    baseline = thinslice.upscale(Volume(thick, spacing), model="nearest", factor=factor)
    region = FigureRegion((0, 4, 8), (depth, 20, 40), (factor + factor // 2, 10, 30))
    expected = cuts_of(baseline.hu, grid, region)
    for view, cut in thick_cuts_of(thick, factor, grid, region).items():
        np.testing.assert_array_equal(cut, expected[view])


def test_an_estimate_like_the_truth_has_a_dark_error_map() -> None:
    region = choose_region(thin(), 5)
    truth, other = cuts_of(thin().hu, GRID, region), cuts_of(thin(1).hu, GRID, region)
    same, wrong = (pixels(region_figure({"m": cuts}, truth, GRID)) for cuts in (truth, other))
    assert same.shape == wrong.shape
    # Six rows: three views, each above its error.
    assert wrong.mean() > same.mean() + 0.05


def test_planes_of_another_region_and_unknown_rows_are_refused() -> None:
    region = choose_region(thin(), 5)
    truth = cuts_of(thin().hu, GRID, region)
    shifted = cuts_of(thin().hu, GRID, choose_region(thin(), 5, width=(0, 10)))
    with pytest.raises(UsageError, match="another region"):
        region_figure({"m": shifted}, truth, GRID)
    with pytest.raises(UsageError, match="row"):
        region_figure({"m": truth}, truth, GRID, rows=(("axial", "brain"),))
    with pytest.raises(UsageError):
        region_figure({}, truth, GRID)
