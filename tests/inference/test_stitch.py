from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from thinslice.inference.stitch import StitchCounts, stitch
from thinslice.intensity import to_hu, to_unit
from thinslice.models.catalog import build
from thinslice.planning import ModelWindow, WindowPlan, plan_windows
from thinslice.profile import SliceProfile

Floats = npt.NDArray[np.float32]


def linear(factor: int) -> Callable[[Floats], Floats]:
    def infer(windows: Floats) -> Floats:
        depth = windows.shape[2]
        at = np.arange((depth - 1) * factor + 1) / factor
        matrix = np.clip(1 - np.abs(at[:, None] - np.arange(depth)), 0, 1).astype(np.float32)
        return np.einsum("td,bcdhw->bcthw", matrix, windows)

    return infer


class ConvNet(nn.Module):
    """Two layers of 3x3x3 and linear interpolation between: reach of 3 slices and 2 pixels."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.factor = factor
        self.first = nn.Conv3d(1, 4, 3, padding=1)
        self.second = nn.Conv3d(4, 1, 3, padding=1)

    @torch.inference_mode()
    def __call__(self, windows: Floats) -> Floats:
        x = self.second(torch.relu(self.first(torch.from_numpy(windows))))
        size = ((x.shape[2] - 1) * self.factor + 1, *x.shape[3:])
        thin = nn.functional.interpolate(x, size=size, mode="trilinear", align_corners=True)
        return (0.5 + 0.2 * torch.tanh(thin)).numpy()


HALO = (3, 2, 2)


def run(thick: npt.NDArray[np.generic], plan: WindowPlan, infer: Callable[[Floats], Floats], **rest: object) -> Floats:
    slabs, expected = [], 0
    for start, slab in stitch(thick, plan, infer, profile=SliceProfile.mean(plan.factor), **rest):  # type: ignore[arg-type]
        assert start == expected
        assert slab.shape == (1, slab.shape[1], *plan.thin_shape[1:]) and slab.dtype == np.float32
        expected += slab.shape[1]
        slabs.append(slab[0])
    thin = np.concatenate(slabs)
    assert thin.shape == plan.thin_shape
    return thin


def noise(shape: tuple[int, int, int]) -> npt.NDArray[np.int16]:
    return np.random.default_rng(7).integers(-1000, 1900, shape).astype(np.int16)


@pytest.mark.parametrize("factor", [2, 5, 8])
@pytest.mark.parametrize("shape", [(1, 20, 21), (2, 40, 33), (3, 33, 40), (13, 51, 70), (20, 30, 45)])
def test_overlap_gives_what_the_whole_volume_would(shape: tuple[int, int, int], factor: int) -> None:
    thick, network = noise(shape), ConvNet(factor)
    window = ModelWindow(min_depth=1, halo=HALO, tile=(16, 24), working_bytes=1.0)
    plan = plan_windows(shape, factor, window, "overlap", budget=1)
    whole = to_hu(network(to_unit(thick)[None, None])[0, 0])
    if shape[0] > 10:
        assert len(plan.depths) > 1
        assert len(plan.heights) > 1
    np.testing.assert_allclose(run(thick, plan, network), whole, atol=1e-5 * 3072)


@pytest.mark.parametrize(("factor", "width"), [(5, 1.0), (2, 1.0), (5, 1.5), (3, 2.0), (5, 2.0)])
def test_slices_that_overlap_leave_no_seam_either(factor: int, width: float) -> None:
    profile = SliceProfile.mean(factor, width=width)
    network = build("cubic-consistent")

    def infer(windows: Floats) -> Floats:
        return network(torch.from_numpy(windows), factor=factor, profile=profile).numpy()

    thick = np.random.default_rng(5).normal(40, 20, (150, 4, 4)).astype(np.float32)
    # The plan gets the profile; a network with a small halo of its own is the harder case.
    window = replace(network.window, halo=(6, 0, 0))
    plan = plan_windows(thick.shape, factor, window, "overlap", profile=profile, budget=1)
    assert len(plan.depths) > 3
    seams = run(thick, plan, infer) - to_hu(infer(to_unit(thick)[None, None])[0, 0])
    assert np.abs(seams).max() < 0.5


def test_a_halo_too_small_would_be_seen() -> None:
    """The test above can fail."""
    thick, network = noise((13, 51, 70)), ConvNet(5)
    window = ModelWindow(min_depth=1, halo=(1, 0, 0), tile=(16, 24), working_bytes=1.0)
    plan = plan_windows(thick.shape, 5, window, "overlap", budget=1)
    whole = to_hu(network(to_unit(thick)[None, None])[0, 0])
    assert np.abs(run(thick, plan, network) - whole).max() > 1


@pytest.mark.parametrize("name", ["released", "paper", "overlap"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 9, 12])
def test_any_plan_reproduces_what_no_window_changes(name: str, depth: int) -> None:
    """Linear interpolation is the same in every window, so each plan must give it, at every depth and odd planes."""
    thick = noise((depth, 37, 51))
    plan = plan_windows(thick.shape, 5, ModelWindow(depth=4, tile=(20, 24)), name)
    expected = to_hu(linear(5)(to_unit(thick)[None, None])[0, 0])
    np.testing.assert_allclose(run(thick, plan, linear(5)), expected, atol=1e-3)


def test_planes_far_smaller_than_a_tile_are_reflected_again_and_again() -> None:
    fed: list[Floats] = []

    def spy(windows: Floats) -> Floats:
        fed.append(windows)
        return linear(5)(windows)

    thick = noise((4, 1, 3))
    run(thick, plan_windows(thick.shape, 5, ModelWindow(depth=4, tile=(8, 10)), "released"), spy)
    row = to_unit(thick)[0, 0]
    np.testing.assert_array_equal(fed[0][0, 0, 0, 0], row[[0, 1, 2, 1, 0, 1, 2, 1, 0, 1]])
    np.testing.assert_array_equal(fed[0][0, 0, 0, 7], fed[0][0, 0, 0, 0])


def test_shallow_volumes_are_fed_replicas_of_the_last_slice() -> None:
    fed: list[Floats] = []

    def spy(windows: Floats) -> Floats:
        fed.append(windows)
        return linear(5)(windows)

    thick = noise((2, 8, 8))
    run(thick, plan_windows(thick.shape, 5, ModelWindow(depth=4, tile=(8, 8)), "released"), spy)
    np.testing.assert_array_equal(fed[0][0, 0], to_unit(thick)[[0, 1, 1, 1]])


def test_paper_averages_where_windows_meet() -> None:
    calls = iter([0.2, 0.4, 0.6])

    def constant(windows: Floats) -> Floats:
        batch, _, depth, height, width = windows.shape
        return np.full((batch, 1, (depth - 1) * 5 + 1, height, width), next(calls), np.float32)

    thick = noise((9, 8, 8))  # windows give thin slices 0..15, 15..30, 25..40
    thin = to_unit(run(thick, plan_windows(thick.shape, 5, ModelWindow(depth=4, tile=(8, 8)), "paper"), constant))
    np.testing.assert_allclose(
        thin[[0, 14, 15, 16, 24, 25, 30, 31, 40], 3, 3], [0.2, 0.2, 0.3, 0.4, 0.4, 0.5, 0.5, 0.6, 0.6], atol=1e-6
    )


def test_a_batch_gives_the_same_as_singles() -> None:
    thick, network = noise((9, 50, 70)), ConvNet(5)
    plan = plan_windows(thick.shape, 5, ModelWindow(depth=4, tile=(20, 24)), "released")
    sizes: list[int] = []

    def spy(windows: Floats) -> Floats:
        sizes.append(len(windows))
        return network(windows)

    together = run(thick, plan, spy, batch=lambda: 4)
    assert max(sizes) == 4
    np.testing.assert_allclose(together, run(thick, plan, network), atol=1e-2)


def test_the_result_is_clamped_to_the_window() -> None:
    thick = noise((4, 8, 8))
    plan = plan_windows(thick.shape, 5, ModelWindow(depth=4, tile=(8, 8)), "released")
    thin = run(thick, plan, lambda windows: linear(5)(windows) * 10 - 4)
    assert thin.min() == -1024
    assert thin.max() == 2048


def test_progress_counts_every_window() -> None:
    seen: list[tuple[int, int]] = []
    thick = noise((9, 50, 70))
    plan = plan_windows(thick.shape, 5, ModelWindow(depth=4, tile=(20, 24)), "released")
    run(thick, plan, linear(5), progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(1, len(plan.windows) + 1))
    assert {total for _, total in seen} == {len(plan.windows)}


def body_in_air(air: float) -> npt.NDArray[np.float32]:
    """A block of tissue in the corner of noisy air."""
    rng = np.random.default_rng(1)
    thick = (air + rng.normal(0, 12, (12, 64, 96))).astype(np.float32)
    thick[:, :, :30] = rng.normal(40, 12, (12, 64, 30))
    return thick


def test_windows_of_air_are_skipped_without_a_seam() -> None:
    thick, network = body_in_air(-965.0), linear(5)
    plan = plan_windows(thick.shape, 5, ModelWindow(halo=(2, 4, 4), tile=(32, 32), working_bytes=1.0), "overlap")
    counts = StitchCounts()
    skipped = run(thick, plan, network, skip_air=True, counts=counts)
    whole = run(thick, plan, network)
    assert 0 < counts.skipped < counts.total
    assert counts.done == counts.total
    # What is interpolated instead differs by the noise of air alone, and averages back to the thick slices.
    assert np.abs(skipped - whole).max() < 40
    assert np.abs((skipped - whole).mean()) < 0.5
    profile = SliceProfile.mean(5)
    made = np.tensordot(profile.matrix(12), skipped[:, :, 90:], axes=1)
    np.testing.assert_allclose(made, thick[1:-1, :, 90:], atol=0.02)


def test_nothing_is_skipped_unless_asked() -> None:
    thick = np.full((6, 40, 40), -1000, np.int16)
    plan = plan_windows(thick.shape, 5, ModelWindow(tile=(16, 16)), "overlap")
    counts = StitchCounts()
    run(thick, plan, linear(5), counts=counts)
    assert counts.skipped == 0


def test_padding_is_air_to_the_network_and_to_the_search_for_air() -> None:
    thick = np.full((6, 40, 40), -1000, np.int16)
    thick[:, :10] = -500  # marked as padding, else it would be tissue
    plan = plan_windows(thick.shape, 5, ModelWindow(tile=(16, 16)), "overlap")
    counts = StitchCounts()
    thin = run(thick, plan, linear(5), skip_air=True, padding_hu=-500.0, counts=counts)
    assert counts.skipped == counts.total
    np.testing.assert_allclose(thin[:, :10], -1024, atol=1e-3)
