"""Progress that moves inside one window."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import pytest

from support.command_line import smooth_volume
from thinslice.inference.prepare import prepare
from thinslice.inference.settings import UpscaleSettings
from thinslice.inference.share import WorkShare, network_parts
from thinslice.inference.upscale import SlabStream
from thinslice.models.load import load_model


def _shares(**settings: Any) -> tuple[list[float], int]:
    prepared = prepare(smooth_volume(plane=32), UpscaleSettings(backend="torch", device="cpu", **settings))
    shares: list[float] = []
    for _ in SlabStream(prepared, share=shares.append):
        pass
    return shares, prepared.windows_total


@pytest.mark.parametrize("settings", [{"model": "default"}, {"model": "fast", "uncertainty": "ensemble"}], ids=str)
def test_the_share_rises_within_one_window_and_ends_at_one(settings: dict[str, Any]) -> None:
    shares, windows = _shares(**settings)
    assert windows == 1 and len(set(shares)) > 6
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert max(after - before for before, after in itertools.pairwise(shares)) < 0.75


def test_an_interpolation_reports_its_end() -> None:
    assert _shares(model="linear")[0][-1] == 1.0


def test_the_result_is_the_same_with_and_without_a_report() -> None:
    prepared = prepare(smooth_volume(plane=32), UpscaleSettings(backend="torch", device="cpu"))
    plain = np.concatenate([slab.hu for slab in SlabStream(prepared)])
    watched = np.concatenate([slab.hu for slab in SlabStream(prepared, share=lambda share: None)])
    np.testing.assert_array_equal(plain, watched)
    assert not any(part._forward_hooks for part in prepared.model.modules())


def test_a_graph_is_estimated_from_the_time_that_a_voxel_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = prepare(smooth_volume(plane=32), UpscaleSettings(model="linear", backend="torch", device="cpu"))
    network: Any = type("Graph", (), {"choice": type("Choice", (), {"backend": "openvino"})})
    monkeypatch.setattr("thinslice.inference.share.TICK_S", 0.01)
    shares: list[float] = []

    def run(windows: Any) -> Any:
        while len(shares) < 3:
            time.sleep(0.01)
        return windows

    class Graph(network):
        def __call__(self, windows: Any) -> Any:
            return run(windows)

    work = WorkShare(prepared.window_plan, prepared.model, Graph(), shares.append, seconds_per_voxel=1.0)
    work.infer(np.zeros((1, 1, 5, 32, 32), np.float32))
    assert 0 < shares[0] < shares[2] < 1
    work.windows_done(1, 1)
    assert shares[-1] == 1.0


def test_parts_are_counted_down_to_layers() -> None:
    assert len(network_parts(load_model("default"))) >= 12
    assert network_parts(load_model("linear"))
