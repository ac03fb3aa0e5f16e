from __future__ import annotations

import itertools
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinslice.errors import ShapeError, UsageError
from thinslice.planning import PLANS, ModelWindow, WindowPlan, plan_windows
from thinslice.planning.overlap import BUDGET_BYTES
from thinslice.planning.spans import pass_bytes
from thinslice.profile import SliceProfile

shapes = st.tuples(st.integers(1, 40), st.integers(1, 150), st.integers(1, 150))
factors = st.integers(2, 8)
model_windows = st.builds(
    ModelWindow,
    depth=st.one_of(st.none(), st.integers(2, 7)),
    min_depth=st.integers(1, 5),
    max_depth=st.one_of(st.none(), st.integers(5, 9)),
    tile=st.tuples(st.integers(16, 64), st.integers(16, 64)),
    halo=st.tuples(st.integers(0, 6), st.integers(0, 20), st.integers(0, 20)),
    working_bytes=st.floats(1, 1000),
)
budgets = st.integers(1, 1 << 24)


def fewest(window: ModelWindow) -> int:
    return window.min_depth if window.depth is None else window.depth


@pytest.mark.parametrize("name", PLANS)
@given(shape=shapes, factor=factors, window=model_windows, budget=budgets)
@settings(max_examples=150, deadline=None)
def test_laws_of_every_plan(
    name: str, shape: tuple[int, int, int], factor: int, window: ModelWindow, budget: int
) -> None:
    plan = plan_windows(shape, factor, window, name, budget=budget)
    assert plan.thin_shape == ((shape[0] - 1) * factor + 1, *shape[1:])

    for counts in plan.coverage():
        assert counts.min() >= 1
        if plan.blend == "replace":
            assert counts.max() == 1

    axes = zip((plan.depths, plan.heights, plan.widths), shape, plan.thin_shape, strict=True)
    for axis, (spans, extent, thin_extent) in enumerate(axes):
        for span in spans:
            assert 0 <= span.start < span.stop <= extent
            assert span.pad >= 0
            assert 0 <= span.out_start < span.out_stop <= thin_extent
            given_by_network = (span.extent - 1) * factor + 1 if axis == 0 else span.extent
            assert span.trim >= 0
            assert span.kept.stop <= given_by_network
            scale = factor if axis == 0 else 1
            # Thick slice k on thin slice factor * k, a pixel on itself: there is no other shift.
            assert span.start * scale + span.trim == span.out_start
            # No voxel that is only padding is given.
            assert span.out_stop <= (span.stop - 1) * scale + 1
        assert [s.out_start for s in spans] == sorted(s.out_start for s in spans)
        assert [s.start for s in spans] == sorted(s.start for s in spans)

    for span in plan.depths:
        if window.depth is not None:
            assert span.extent == window.depth
        assert span.extent >= window.min_depth or window.depth is not None
        assert span.pad == 0 or span.stop - span.start == shape[0]  # padded only when the volume is too shallow
    assert len(plan.windows) == len(plan.depths) * len(plan.heights) * len(plan.widths)


@given(shape=shapes, factor=factors, window=model_windows, budget=budgets)
@settings(max_examples=200, deadline=None)
def test_overlap_reads_the_whole_halo(
    shape: tuple[int, int, int], factor: int, window: ModelWindow, budget: int
) -> None:
    plan = plan_windows(shape, factor, window, "overlap", budget=budget)
    axes = zip((plan.depths, plan.heights, plan.widths), shape, window.halo, strict=True)
    for axis, (spans, extent, halo) in enumerate(axes):
        scale = factor if axis == 0 else 1
        if axis == 0 and window.depth is not None:
            continue  # a network of fixed depth gets what fits
        for span in spans:
            first, last = span.out_start / scale, (span.out_stop - 1) / scale
            assert span.start <= max(0, np.ceil(first - halo))
            assert span.stop - 1 >= min(extent - 1, np.floor(last + halo))


@given(shape=shapes, factor=factors, window=model_windows)
@settings(max_examples=100, deadline=None)
def test_overlap_starts_on_whole_blocks(shape: tuple[int, int, int], factor: int, window: ModelWindow) -> None:
    plan = plan_windows(shape, factor, window, "overlap")
    assert all(span.start % 8 == 0 for span in (*plan.heights, *plan.widths))


def test_windows_of_the_same_slices_follow_each_other() -> None:
    plan = plan_windows((30, 300, 300), 5, ModelWindow(depth=4, tile=(64, 64)), "released")
    changes = sum(a.depth != b.depth for a, b in pairwise(plan.windows))
    assert changes == len(plan.depths) - 1


def given_slices(plan: WindowPlan) -> list[tuple[int, int, int, int]]:
    return [(s.start, s.stop, s.out_start, s.out_stop) for s in plan.depths]


def test_released_drops_three_of_sixteen_except_at_the_ends() -> None:
    plan = plan_windows((8, 256, 256), 5, ModelWindow(depth=4), "released")
    # 16 slices each, 13 at the ends of the volume, 10 between; they meet without overlap.
    assert given_slices(plan) == [(0, 4, 0, 13), (2, 6, 13, 23), (4, 8, 23, 36)]
    assert [span.trim for span in plan.depths] == [0, 3, 3]


def test_released_last_window_is_flush_and_overwrites() -> None:
    plan = plan_windows((9, 256, 256), 5, ModelWindow(depth=4), "released")
    assert given_slices(plan) == [(0, 4, 0, 13), (2, 6, 13, 23), (4, 8, 23, 28), (5, 9, 28, 41)]


def test_released_equals_its_definition_played_out() -> None:
    """The loop of protocol.md: write every window's kept slices in order, later ones over earlier ones."""
    for depth in range(5, 30):
        starts = [*range(0, depth - 4, 2), depth - 4]
        owner = np.full((depth - 1) * 5 + 1, -1)
        for number, start in enumerate(starts):
            low = 0 if start == 0 else 3
            high = 16 if start == depth - 4 else 13
            owner[start * 5 + low : start * 5 + high] = number
        planned = np.full_like(owner, -1)
        plan = plan_windows((depth, 256, 256), 5, ModelWindow(depth=4), "released")
        assert [span.start for span in plan.depths] == starts
        for number, span in enumerate(plan.depths):
            planned[span.out] = number
        assert owner.min() >= 0
        np.testing.assert_array_equal(planned, owner)


def test_paper_overlaps_by_one_thick_slice_and_averages() -> None:
    plan = plan_windows((9, 256, 256), 5, ModelWindow(depth=4), "paper")
    assert plan.blend == "average"
    assert given_slices(plan) == [(0, 4, 0, 16), (3, 7, 15, 31), (5, 9, 25, 41)]
    counts = plan.coverage()[0]
    assert counts[15] == 2
    assert counts[14] == 1
    assert (counts[25:31] == 2).all()


@pytest.mark.parametrize("name", ["released", "paper"])
def test_published_tiles_stand_side_by_side_the_last_flush(name: str) -> None:
    plan = plan_windows((4, 600, 512), 5, ModelWindow(depth=4), name)
    assert [(s.start, s.stop) for s in plan.heights] == [(0, 256), (256, 512), (344, 600)]
    assert [(s.start, s.stop) for s in plan.widths] == [(0, 256), (256, 512)]
    if name == "released":
        assert [(s.out_start, s.out_stop) for s in plan.heights] == [(0, 256), (256, 344), (344, 600)]


@pytest.mark.parametrize("name", ["released", "paper"])
def test_published_plans_pad_what_is_too_small(name: str) -> None:
    plan = plan_windows((2, 100, 300), 5, ModelWindow(depth=4), name)
    assert plan.largest == (4, 256, 256)
    assert plan.depths[0].pad == 2
    assert plan.heights[0].pad == 156


@pytest.mark.parametrize("plane", [512, 768, 1024])
@pytest.mark.parametrize("depth", [1, 60, 2000])
def test_overlap_stays_within_its_budget(plane: int, depth: int) -> None:
    window = ModelWindow(halo=(6, 20, 20), tile=(512, 512), working_bytes=200.0)
    plan = plan_windows((depth, plane, plane), 5, window)
    rows = max(span.out_stop - span.out_start for span in plan.depths)
    taken = pass_bytes(plan.largest, 5, window.working_bytes) + rows * plane * plane * 4
    assert taken <= BUDGET_BYTES
    read = sum(w.shape[0] * w.shape[1] * w.shape[2] for w in plan.windows)
    assert read <= {512: 1.6, 768: 1.8, 1024: 2.0}[plane] * max(depth, window.min_depth) * plane * plane


@given(shape=shapes, factor=factors, window=model_windows, budget=budgets)
@settings(max_examples=100, deadline=None)
def test_more_memory_never_reads_more_twice(
    shape: tuple[int, int, int], factor: int, window: ModelWindow, budget: int
) -> None:
    def read(plan: WindowPlan) -> int:
        return sum(w.shape[0] * w.shape[1] * w.shape[2] for w in plan.windows)

    def taken(plan: WindowPlan) -> int:
        rows = max(span.out_stop - span.out_start for span in plan.depths)
        return pass_bytes(plan.largest, factor, window.working_bytes) + rows * shape[1] * shape[2] * 4

    small, large = (plan_windows(shape, factor, window, "overlap", budget=size) for size in (budget, 4 * budget))
    assert taken(small) <= max(budget, taken(large))
    if taken(small) <= budget:
        assert read(large) <= read(small)


def test_even_a_very_deep_volume_is_planned_at_once() -> None:
    window = ModelWindow(halo=(7, 21, 21), tile=(512, 512), working_bytes=256.0)
    calls = itertools.count()
    sys.setprofile(lambda *_: next(calls))
    try:
        plan_windows((4000, 512, 512), 5, window)
    finally:
        sys.setprofile(None)
    # 300 000 calls and returns, 25 ms. Counted, not timed, so that the machine's load does not matter.
    assert next(calls) < 1_000_000


def test_deviations_beside_the_slices_make_windows_smaller() -> None:
    window = ModelWindow(halo=(7, 21, 21), tile=(512, 512), working_bytes=256.0)
    one, two = (plan_windows((64, 512, 512), 5, window, channels=channels).largest for channels in (1, 2))
    assert two[0] * two[1] * two[2] < one[0] * one[1] * one[2]


def test_a_window_that_holds_the_volume_is_the_only_one() -> None:
    plan = plan_windows((20, 128, 128), 5, ModelWindow(halo=(4, 16, 16), working_bytes=100.0))
    assert len(plan.windows) == 1
    assert plan.largest == (20, 128, 128)


@pytest.mark.parametrize("depth", [2, 3, 4, 5, 9, 40])
@pytest.mark.parametrize("halo", [0, 1])
def test_windows_are_as_deep_as_a_network_knows_them(depth: int, halo: int) -> None:
    window = ModelWindow(max_depth=4, halo=(halo, 16, 16), working_bytes=1.0)
    plan = plan_windows((depth, 64, 64), 5, window, profile=SliceProfile.mean(5, width=2.0))
    assert {span.extent for span in plan.depths} == {min(4, depth)}
    assert not any(span.pad for span in plan.depths)
    # Three intervals of a window are given, or two beside a halo.
    assert len(plan.depths) == -(-(depth - 1) // (3 - halo))


def test_an_unknown_plan_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="overlap, released, paper"):
        plan_windows((4, 8, 8), 5, ModelWindow(), "fancy")


def test_a_network_of_one_slice_is_refused() -> None:
    with pytest.raises(ShapeError, match="two or more"):
        plan_windows((4, 8, 8), 5, ModelWindow(depth=1))


@pytest.mark.parametrize("plan", PLANS)
def test_a_network_of_fixed_depth_needs_one_window_for_a_volume_of_that_depth(plan: str) -> None:
    cut = plan_windows((4, 30, 30), 5, ModelWindow(depth=4), plan, profile=SliceProfile.mean(5, width=2.0))
    assert len(cut.windows) == 1


def test_slices_that_overlap_widen_the_halo() -> None:
    narrow, wide = (
        plan_windows((200, 64, 64), 5, ModelWindow(halo=(6, 0, 0)), profile=SliceProfile.mean(5, width=width), budget=1)
        for width in (1.0, 2.0)
    )
    for plan, halo in ((narrow, 6), (wide, 18)):
        middle = plan.depths[len(plan.depths) // 2]
        assert middle.out_start // 5 - middle.start == halo
