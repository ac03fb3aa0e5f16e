"""Random crops: the same for the same seed and step, and thick slices that are what their thin ones average to."""

from __future__ import annotations

import numpy as np
import pytest

from thinslice import Geometry, SliceProfile, Volume
from thinslice.data.crops import CropSampler
from thinslice.errors import NotEligibleError
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
