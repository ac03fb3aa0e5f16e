"""A run is decided in one frozen value; the stream carries it out and changes its result alone."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest

from thinslice.errors import UsageError
from thinslice.geometry import Geometry
from thinslice.inference import prepare as prepare_module
from thinslice.inference.backends.base import Choice
from thinslice.inference.prepare import prepare
from thinslice.inference.settings import UpscaleSettings
from thinslice.inference.upscale import SlabStream, collect, collect_with_uncertainty, upscale, upscale_slabs
from thinslice.models.catalog import build
from thinslice.pictures.viewer.page import held_bytes
from thinslice.volume import Provenance, Volume

SETTINGS = UpscaleSettings(model="linear", factor=3, device="cpu", backend="torch")


@pytest.fixture
def thick() -> Volume:
    hu = np.random.default_rng(3).integers(-900, 1500, (6, 20, 21)).astype(np.int16)
    return Volume(hu, Geometry(hu.shape, (5.0, 0.7, 0.7)), Provenance(warnings=("odd",)))


def test_a_prepared_run_does_not_change(thick: Volume) -> None:
    prepared = prepare(thick, SETTINGS)
    with pytest.raises(FrozenInstanceError):
        prepared.choice = Choice("torch", "cuda")  # type: ignore[misc]
    before = vars(prepared).copy()
    list(SlabStream(prepared))
    assert vars(prepared) == before


def test_an_iteration_changes_the_result_alone(thick: Volume) -> None:
    stream = SlabStream(prepare(thick, SETTINGS))
    before, first = vars(stream).copy(), stream.result
    assert (first.device, first.consistency_rms_hu, first.network_s, first.windows_skipped) == ("cpu", None, 0.0, 0)
    list(stream)
    assert {name for name, value in vars(stream).items() if value is not before[name]} == {"result"}
    assert stream.result.consistency_rms_hu is not None and stream.result.total_s >= stream.result.network_s > 0


def test_the_stream_has_the_attributes_of_both(thick: Volume) -> None:
    stream = upscale_slabs(thick, model="linear", factor=3)
    list(stream)
    decided = (
        *("geometry", "provenance", "factor", "profile", "plan_name", "backend", "dtype", "hu_range", "model_name"),
        *("model_version", "weights_sha256", "memory_estimate", "calibration", "window_plan", "windows_total"),
    )
    for name in decided:
        assert getattr(stream, name) == getattr(stream.prepared, name)
    for name in ("device", "precision", "warnings", "consistency_rms_hu", "network_s", "total_s", "windows_skipped"):
        assert getattr(stream, name) == getattr(stream.result, name)
    assert stream.deviation is None
    with pytest.raises(AttributeError, match="no_such"):
        stream.no_such  # noqa: B018


def test_a_device_that_does_not_agree_makes_a_new_choice(thick: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    def settle(*_: Any, **__: Any) -> Choice:
        return Choice("torch", "cpu", warnings=("the CPU ran it.",))

    monkeypatch.setattr(prepare_module, "settle", settle)
    prepared = prepare(thick, replace(SETTINGS, device="auto"))
    assert prepared.settings.device == "auto" and prepared.choice.device == "cpu"
    assert prepared.warnings == ("the CPU ran it.",)


def test_the_estimate_counts_a_page_that_is_packed_beside_the_run(thick: Volume) -> None:
    plain, beside = prepare(thick, SETTINGS), prepare(thick, SETTINGS, packs_page=True)
    page = held_bytes(thick.geometry, beside.geometry)
    assert beside.memory_estimate.additional_bytes - plain.memory_estimate.additional_bytes == page > 0


def test_collecting_gives_the_volume_of_upscale(thick: Volume) -> None:
    collected = collect(SlabStream(prepare(thick, SETTINGS)))
    whole = upscale(thick, model="linear", factor=3, device="cpu", backend="torch")
    np.testing.assert_array_equal(collected.hu, whole.hu)
    assert collected.geometry == whole.geometry and collected.provenance == whole.provenance
    assert collected.provenance.warnings[0] == "odd"
    with pytest.raises(UsageError, match="uncertainty"):
        collect_with_uncertainty(SlabStream(prepare(thick, SETTINGS)))


@pytest.mark.parametrize("uncertainty", [None, "ensemble"])
def test_slabs_have_one_shape(thick: Volume, uncertainty: Any) -> None:
    network = build("thinnet", features=4, blocks=1)
    for slab in SlabStream(prepare(thick, replace(SETTINGS, model=network, uncertainty=uncertainty))):
        assert slab.hu.shape == (len(slab.hu), 20, 21)
        assert (slab.deviation_hu is None) == (uncertainty is None)
        assert slab.deviation_hu is None or slab.deviation_hu.shape == slab.hu.shape
