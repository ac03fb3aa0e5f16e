"""Labels on the thin grid: thick slices exactly, volumes kept, structures that meet stay apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import label as regions_of

import thinslice
from thinslice.errors import GeometryError, InputError
from thinslice.evaluation.clinical.lung_density import find_lung
from thinslice.geometry import Geometry
from thinslice.inference.labels import LabelAreas, upscale_labels
from thinslice.volume import Volume

SPACING_MM = (5.0, 0.8, 0.8)


def balls(depth: int = 9, plane: int = 64) -> Volume:
    """A large ball of label 2, a small one of label 7 that it touches, a spot of label 300 in one slice alone."""
    z, y, x = np.meshgrid(*(np.arange(n) * step for n, step in zip((depth, plane, plane), SPACING_MM, strict=True)),
                          indexing="ij")  # fmt: skip

    def ball(radius_mm: float, at: tuple[float, float, float]) -> np.ndarray:
        return (z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2 <= radius_mm**2

    labels = np.zeros((depth, plane, plane), np.int16)
    labels[ball(13.0, (20.0, 24.0, 20.0))] = 2
    labels[ball(7.0, (21.0, 24.0, 40.0))] = 7
    labels[3, 56:58, 56:58] = 300
    return Volume(labels, Geometry(labels.shape, SPACING_MM))


def changes(thick: Volume, thin: Volume) -> dict[int, float]:
    """Change of every label's volume in percent over the extent of the thin volume."""
    before, after = LabelAreas(thick.geometry), LabelAreas(thin.geometry)
    for volume, areas in ((thick, before), (thin, after)):
        for plane in volume.hu:
            areas.add(plane.astype(int))
    reach = (thin.geometry.shape[0] - 1) * thin.geometry.spacing_mm[0]
    return {n: 100 * (after.ml(n, reach) / before.ml(n, reach) - 1) for n in before.labels}


@pytest.mark.parametrize("factor", range(2, 9))
def test_thick_slices_stay_and_volumes_are_kept(factor: int) -> None:
    thick = balls()
    thin = upscale_labels(thick, thick.geometry.thin_grid(factor))
    assert thin.hu.dtype == np.int16 and thin.geometry == thick.geometry.thin_grid(factor)
    assert np.array_equal(thin.hu[::factor], thick.hu)
    assert set(np.unique(thin.hu)) == {0, 2, 7, 300}
    # Nothing reaches the ends: counting voxels gives the volumes too.
    for number in (2, 7, 300):
        counted = np.sum(thin.hu == number) / factor / np.sum(thick.hu == number)
        assert counted == pytest.approx(1, abs=0.002 if number != 300 else 0.05)
    assert max(map(abs, changes(thick, thin).values())) < 0.2 or factor in (2, 4, 6, 8)
    assert max(abs(changes(thick, thin)[n]) for n in (2, 7)) < 0.1


@pytest.mark.parametrize("spacing_mm", [2.0, 1.4, 1.2, 0.9, 0.7])
def test_volumes_are_kept_at_any_spacing(spacing_mm: float) -> None:
    thick = balls()
    slices = int(8 * 5.0 / spacing_mm + 1e-6) + 1
    thin = upscale_labels(thick, thick.geometry.respaced(spacing_mm, slices))
    assert thin.geometry.shape[0] == slices
    found = changes(thick, thin)
    assert abs(found[2]) < 0.2 and abs(found[7]) < 1.0
    # Four voxels of one slice: within one voxel of the thin volume.
    assert abs(found[300]) <= 100 / (4 * 5.0 / spacing_mm) + 0.1


def test_a_partition_stays_a_partition_without_gaps() -> None:
    """Two lobes that fill a box, the border between them moving: nothing between them is left or taken twice."""
    labels = np.zeros((5, 30, 30), np.int16)
    for k in range(5):
        labels[k, 4:26, 4 : 10 + 2 * k] = 1
        labels[k, 4:26, 10 + 2 * k : 26] = 2
    thick = Volume(labels, Geometry(labels.shape, SPACING_MM))
    thin = upscale_labels(thick, thick.geometry.thin_grid(4)).hu
    box = np.zeros(thin.shape, bool)
    box[:, 4:26, 4:26] = True
    assert np.array_equal(thin > 0, box)
    borders = (thin[:, 15, 4:26] == 1).sum(axis=1)
    assert np.array_equal(borders, np.round(6 + 0.5 * np.arange(17) + 1e-9)) or np.all(np.diff(borders) >= 0)
    assert np.all(np.abs(borders - (6 + 0.5 * np.arange(17))) <= 1)


def test_a_structure_in_one_slice_tapers_to_the_next_ones() -> None:
    labels = np.zeros((3, 40, 40), np.int16)
    y, x = np.mgrid[:40, :40]
    labels[1, np.hypot(y - 20, x - 20) <= 9] = 5
    thick = Volume(labels, Geometry(labels.shape, SPACING_MM))
    areas = (upscale_labels(thick, thick.geometry.thin_grid(5)).hu == 5).sum(axis=(1, 2))
    whole = areas[5]
    assert areas.tolist() == pytest.approx([whole * (1 - abs(n - 5) / 5) for n in range(11)], abs=1)


def test_one_piece_stays_one_piece_through_the_slices() -> None:
    thick = balls()
    thin = upscale_labels(thick, thick.geometry.thin_grid(5))
    for number in (2, 7):
        assert regions_of(thin.hu == number)[1] == regions_of(thick.hu == number)[1] == 1


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0)])
def test_axes_of_the_segmentation_may_run_otherwise(axes: tuple[int, int, int]) -> None:
    thick = balls()
    expected = upscale_labels(thick, thick.geometry.thin_grid(5))
    turned = _turned(thick, axes, flip=(True, False, True))
    found = upscale_labels(turned, expected)
    assert found == expected


def test_another_grid_is_refused() -> None:
    thick = balls()
    thin = thick.geometry.thin_grid(5)
    moved = Volume(thick.hu, replace(thick.geometry, origin_mm=(0.0, 0.0, 2.5)))
    with pytest.raises(GeometryError, match=r"2\.50 mm off the scan"):
        upscale_labels(moved, thin)
    with pytest.raises(GeometryError, match="64 x 60"):
        upscale_labels(thick.crop((0, 0, 0), (9, 64, 60)), thin)
    with pytest.raises(GeometryError, match="reach over 40 mm and those of the segmentation over 35 mm"):
        upscale_labels(thick.crop((0, 0, 0), (8, 64, 64)), thin)
    oblique = replace(thick.geometry, direction=((0, 0.6, 0.8), (0, 0.8, -0.6), (1, 0, 0)))
    with pytest.raises(GeometryError, match="degrees"):
        upscale_labels(Volume(thick.hu, oblique), thin)


@pytest.mark.parametrize("value", [0.5, -1.0, np.nan])
def test_what_is_no_label_is_refused(value: float) -> None:
    thick = balls()
    hu = thick.hu.astype(np.float32)
    hu[4, 10, 10] = value
    with pytest.raises(InputError, match="no map of labels"):
        upscale_labels(Volume(hu, thick.geometry), thick.geometry.thin_grid(5))


def test_large_numbers_are_kept() -> None:
    thick = balls()
    hu = np.where(thick.hu == 7, 70_001, thick.hu.astype(np.float32)).astype(np.float32)
    found = upscale_labels(Volume(hu, thick.geometry), thick.geometry.thin_grid(3))
    assert set(np.unique(found.hu)) == {0, 2, 300, 70_001}


def test_an_empty_segmentation_stays_empty() -> None:
    empty = Volume(np.zeros((4, 12, 12), np.int16), Geometry((4, 12, 12), SPACING_MM))
    assert not upscale_labels(empty, empty.geometry.thin_grid(5)).hu.any()


def test_lung_and_bone_of_a_real_chest_are_kept(shared: Path) -> None:
    """Thresholds of thick slices that are means of thin ones, as a simple segmentation would give them."""
    thin = thinslice.read(shared / "ct" / "dev" / "rider_pilot_0117_chest_0.8mm.nii.gz").crop((0, 0, 0), (45, 404, 512))
    hu = thin.hu.reshape(9, 5, 404, 512).mean(axis=1)
    labels = np.where(find_lung(hu, 1.66), 1, np.where(hu > 200, 2, 0)).astype(np.int16)
    grid = thin.geometry.respaced(4.0, 9)
    thick = Volume(labels, grid)
    found = upscale_labels(thick, grid.thin_grid(5))
    assert max(map(abs, changes(thick, found).values())) < 0.1
    truth = find_lung(thin.hu, 0.33)[2:43]
    ours = found.hu == 1
    assert 2 * np.sum(truth & ours) / (truth.sum() + ours.sum()) > 0.98


def _turned(volume: Volume, axes: tuple[int, int, int], flip: tuple[bool, bool, bool]) -> Volume:
    """The same voxels at the same places, stored with other axes."""
    grid = volume.geometry
    corner = tuple(float(n - 1) if flipped else 0.0 for n, flipped in zip(grid.shape, flip, strict=True))
    direction = np.asarray(grid.direction) * [-1 if flipped else 1 for flipped in flip]
    hu = volume.hu[tuple(slice(None, None, -1 if flipped else 1) for flipped in flip)].transpose(axes)
    turned = Geometry(
        tuple(grid.shape[a] for a in axes),  # type: ignore[arg-type]
        tuple(grid.spacing_mm[a] for a in axes),  # type: ignore[arg-type]
        grid.position_mm(corner),  # type: ignore[arg-type]
        tuple(map(tuple, direction[:, axes])),  # type: ignore[arg-type]
    )
    return Volume(np.ascontiguousarray(hu), turned)
