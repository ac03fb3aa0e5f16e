from __future__ import annotations

from dataclasses import replace

from thinslice.planning import ModelWindow, estimate_memory, plan_windows


def test_streaming_needs_the_same_however_deep_the_volume() -> None:
    window = ModelWindow(halo=(6, 20, 20), tile=(512, 512), working_bytes=200.0)
    short, long = (
        estimate_memory(plan_windows((depth, 512, 512), 5, window), window.working_bytes) for depth in (200, 2000)
    )
    assert long.thick_bytes == 10 * short.thick_bytes
    assert long.additional_bytes < 1.3 * short.additional_bytes


def test_collecting_adds_the_thin_volume() -> None:
    plan = plan_windows((60, 512, 512), 5, ModelWindow())
    streamed, collected = (estimate_memory(plan, 400.0, collect=collect) for collect in (False, True))
    assert collected == replace(streamed, thin_bytes=296 * 512 * 512 * 2)
    assert collected.total_bytes - streamed.total_bytes == collected.thin_bytes


def test_a_batch_multiplies_the_working_memory() -> None:
    plan = plan_windows((60, 512, 512), 5, ModelWindow(depth=4), "released")
    one, four = (estimate_memory(plan, 400.0, batch=batch) for batch in (1, 4))
    assert abs(four.working_bytes - 4 * one.working_bytes) <= 4
    assert four.slab_bytes == one.slab_bytes
