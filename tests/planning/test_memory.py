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


def test_headers_of_a_dicom_source_count_although_they_are_in_memory_already() -> None:
    plan = plan_windows((2000, 32, 32), 2, ModelWindow())
    without, with_headers = (estimate_memory(plan, 0.0, header_elements=elements) for elements in ((), [100] * 2000))
    # Measured: 2000 headers of about 100 elements take 176 MiB.
    assert 150 << 20 < with_headers.total_bytes - without.total_bytes < 220 << 20
    assert with_headers.additional_bytes == without.additional_bytes
