"""Random crops: the same for the same seed and step, and thick slices that are what their thin ones average to."""

from __future__ import annotations

import numpy as np
import pytest

from thinslice import Geometry, SliceProfile, Volume
from thinslice.data.crops import CropSampler
from thinslice.errors import NotEligibleError
from thinslice.intensity import WINDOW_WIDTH_HU
from thinslice.recipes import SimulationRecipe

PLAIN = SimulationRecipe(
    profiles={"mean": 1.0}, box_width_share=0, noise_share=0, blur_share=0, depth=5, plane=16, least_body=0
)

PAIR = range(2)


def volumes() -> list[Volume]:
    rng = np.random.default_rng(0)
    shapes = [(70, 40, 36), (50, 30, 44)]
    return [Volume(rng.integers(-900, 900, s).astype(np.int16), Geometry(s, (1.0, 0.7, 0.7))) for s in shapes]


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    first, second = (CropSampler(volumes(), SimulationRecipe(plane=16, depth=4), seed=3) for _ in range(2))
    first.draw(0, PAIR)
    a, b = first.draw(7, PAIR), second.draw(7, PAIR)
    np.testing.assert_array_equal(a.thick, b.thick)
    np.testing.assert_array_equal(a.thin, b.thin)
    other = second.draw(8, PAIR)
    assert other.thin.shape != a.thin.shape or not np.array_equal(other.thin, a.thin)


def test_thick_slices_average_their_thin_ones() -> None:
    sampler = CropSampler(volumes(), PLAIN, seed=0)
    seen = set()
    for step in range(20):
        batch = sampler.draw(step, PAIR)
        depth = batch.thick.shape[2]
        assert batch.thin.shape[2] == (depth - 1) * batch.factor + 1
        assert batch.weight.shape == batch.thin.shape
        profile = SliceProfile.mean(batch.factor)
        assert profile == batch.profile
        again = np.einsum("kz,bczhw->bckhw", profile.matrix(depth), batch.thin)
        np.testing.assert_allclose(again, batch.thick[:, :, list(profile.supported(depth))], atol=1e-5)
        seen.add(batch.factor)
    assert len(seen) >= 5


def test_clipped_voxels_carry_no_loss() -> None:
    volume = volumes()[0]
    volume.hu[:, :10] = -1024
    batch = CropSampler([volume], PLAIN, seed=0).draw(0, range(4))
    np.testing.assert_array_equal(batch.weight == 0, batch.thin <= 0)
    assert 0 < batch.weight.mean() < 1


def test_padding_and_metal_end_where_a_networks_input_ends() -> None:
    volume = volumes()[0]
    clean = CropSampler([Volume(np.maximum(volume.hu, -1024), volume.geometry)], PLAIN, seed=0)
    volume.hu[:, :10], volume.hu[:, 30:] = -3024, 3000
    batch = CropSampler([volume], PLAIN, seed=0).draw(0, range(4))
    for part in (batch.thick, batch.thin):
        assert part.min() == 0.0 and part.max() == 1.0
    again = clean.draw(0, range(4))
    same = (batch.thin > 0) & (batch.thin < 1)
    np.testing.assert_array_equal(batch.thin[same], again.thin[same])


def test_a_volume_smaller_than_a_crop_is_refused() -> None:
    with pytest.raises(NotEligibleError, match="simulation.plane"):
        CropSampler(volumes(), SimulationRecipe(plane=64), seed=0)


def constant(spacing_mm: float = 1.0, hu: int = 40, depth: int = 120, plane: int = 40) -> Volume:
    shape = (depth, plane, plane)
    return Volume(np.full(shape, hu, np.int16), Geometry(shape, (spacing_mm, 0.7, 0.7)))


def test_coarse_slices_play_z_at_factor_two_alone() -> None:
    shape = (100, 40, 40)
    hu = np.broadcast_to(np.arange(100, dtype=np.int16)[:, None, None], shape).copy()
    recipe = PLAIN.model_copy(update={"coarse_mm": 2.0, "in_plane_share": 0.0, "factors": (2, 3)})
    sampler = CropSampler([Volume(hu, Geometry(shape, (2.5, 0.9, 0.9)))], recipe, seed=0)
    fine = CropSampler([Volume(hu, Geometry(shape, (1.0, 0.9, 0.9)))], recipe, seed=0)
    for step in range(20):
        batch = sampler.draw(step, range(1))
        varies_along_z = bool(np.ptp(batch.thin[0, 0, :, 0, 0]) > 0)
        assert varies_along_z == (batch.factor == 2)
        assert np.ptp(fine.draw(step, range(1)).thin[0, 0, :, 0, 0]) > 0


@pytest.mark.parametrize("width", [0.5, 1.0, 2.5, 4.0])
def test_overlap_up_to_four_leaves_a_constant_alone(width: float) -> None:
    recipe = PLAIN.model_copy(update={"box_width": (width, width), "box_width_share": 1.0})
    for step in range(10):
        batch = CropSampler([constant()], recipe, seed=0).draw(step, range(1))
        np.testing.assert_allclose(batch.thick, batch.thin[0, 0, 0, 0, 0], atol=1e-6)
        assert batch.thick.shape[2] >= 2


def test_a_profile_longer_than_every_volume_is_refused() -> None:
    recipe = PLAIN.model_copy(update={"box_width": (4.0, 4.0), "box_width_share": 1.0, "factors": (8,)})
    with pytest.raises(NotEligibleError, match="simulation.box_width"):
        CropSampler([constant(depth=30, plane=30)], recipe, seed=0).draw(0, range(1))


@pytest.mark.parametrize("width", [1.0, 3.0])
@pytest.mark.parametrize("grain_share", [0.0, 1.0])
def test_low_dose_noise_has_the_recipes_strength(width: float, grain_share: float) -> None:
    recipe = PLAIN.model_copy(
        update={
            "low_dose_hu": (30.0, 30.0),
            "low_dose_share": 1.0,
            "grain_share": grain_share,
            "box_width": (width, width),
            "box_width_share": 1.0,
        }
    )
    batch = CropSampler([constant()], recipe, seed=0).draw(0, range(1))
    noise = (batch.thick - batch.thin[0, 0, 0, 0, 0]) * WINDOW_WIDTH_HU
    assert noise.std() == pytest.approx(30.0, rel=0.05)
    assert np.ptp(batch.thin) == 0
    # (depth, height, width): neighbours along z are alike where slices overlap, and with a kernel only.
    noise = noise[0, 0]
    between = float(np.mean(noise[1:] * noise[:-1])) / 30.0**2
    assert between > 0.4 if width > 1 and grain_share else abs(between) < 0.1


def test_the_outside_of_the_field_of_view_carries_no_loss_even_blurred() -> None:
    volume = constant(plane=64)
    volume.hu[:, :, :32] = -1024
    recipe = PLAIN.model_copy(update={"blur_share": 1.0, "blur_pixels": 3.0, "outside_hu": -1024.0, "plane": 32})
    seen = 0
    for step in range(10):
        batch = CropSampler([volume], recipe, seed=0).draw(step, range(1))
        faint = (batch.thin > 0) & (batch.weight == 0)
        seen += int(faint.sum())
        assert np.all(batch.weight[batch.thin > 0.14] == 1) or faint.any()
    assert seen > 0


def test_sharpening_keeps_means_and_raises_edges() -> None:
    volume = constant(plane=64)
    volume.hu[:, :, :32] = 140
    plain = PLAIN.model_copy(update={"plane": 64, "in_plane_share": 0.0, "factors": (3,)})
    sharp = plain.model_copy(update={"sharpen_share": 1.0})
    batches = [CropSampler([volume], recipe, seed=0).draw(0, range(1)) for recipe in (plain, sharp)]
    assert np.ptp(batches[1].thin) > 1.05 * np.ptp(batches[0].thin)
    assert batches[1].thin.mean() == pytest.approx(batches[0].thin.mean(), abs=1e-4)


@pytest.mark.parametrize("key", ["nodule_share", "shell_share", "metal_share"])
def test_inserts_come_as_often_as_the_recipe_says(key: str) -> None:
    volume = constant(hu=-860 if key == "nodule_share" else 40)
    for share in (0.0, 1.0):
        recipe = PLAIN.model_copy(update={key: share, "plane": 40, "depth": 12})
        batches = [CropSampler([volume], recipe, seed=0).draw(step, range(1)) for step in range(8)]
        changed = [bool(np.ptp(batch.thin) > 0) for batch in batches]
        assert np.mean(changed) >= 0.6 if share else not any(changed)
