from __future__ import annotations

import platform
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import thinslice
from thinslice.errors import (
    DeviceError,
    InputError,
    ModelError,
    NotEligibleError,
    ResourceError,
    ShapeError,
    UsageError,
)
from thinslice.geometry import Geometry
from thinslice.inference import prepare as prepare_module
from thinslice.inference.backends import choice
from thinslice.inference.upscale import upscale, upscale_slabs
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.catalog import build
from thinslice.planning import ModelWindow
from thinslice.profile import SliceProfile
from thinslice.volume import Provenance, Volume


def volume(hu: Any, *, distance_mm: float = 5.0, thickness_mm: float | None = None, **provenance: Any) -> Volume:
    geometry = Geometry(hu.shape, (distance_mm, 0.7, 0.7), (10.0, -20.0, 30.0), thickness_mm=thickness_mm)
    return Volume(hu, geometry, Provenance(**provenance))


def noise(shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(2).integers(-1000, 1500, shape).astype(np.int16)


class Network(ThroughPlaneModel):
    """Linear interpolation plus what a test wants."""

    factors = range(2, 9)
    default_factor = 5

    def __init__(self, window: ModelWindow | None = None, *, spoil: Any = lambda thin: thin) -> None:
        super().__init__()
        self.window = window or ModelWindow(halo=(1, 0, 0))
        self.weight = nn.Parameter(torch.ones(()))
        self.spoil = spoil
        self.profiles: list[SliceProfile | None] = []

    def forward(
        self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None
    ) -> torch.Tensor:
        factor = self.checked_factor(x, factor)
        self.profiles.append(profile)
        size = ((x.shape[2] - 1) * factor + 1, *x.shape[3:])
        return self.spoil(self.weight * nn.functional.interpolate(x, size=size, mode="trilinear", align_corners=True))


MODELS = ("nearest", "linear", "cubic", "cubic-consistent")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("shape", [(2, 9, 7), (3, 1, 33), (17, 40, 41)])
@pytest.mark.parametrize("plan", [None, "released", "paper"])
def test_constant_in_constant_out(model: str, shape: tuple[int, int, int], plan: str | None) -> None:
    thin = upscale(volume(np.full(shape, 37, np.int16)), model=model, plan=plan)
    assert thin.hu.shape == ((shape[0] - 1) * 5 + 1, *shape[1:])
    assert thin.hu.dtype == np.int16
    assert (thin.hu == 37).all()


@pytest.mark.parametrize("factor", [2, 3, 8])
def test_thick_slices_land_on_thin_ones(factor: int) -> None:
    thick = volume(noise((6, 12, 13)))
    for model in ("nearest", "linear", "cubic"):
        thin = upscale(thick, model=model, factor=factor)
        np.testing.assert_array_equal(thin.hu[::factor], thick.hu)
    assert thin.geometry == thick.geometry.thin_grid(factor)


@pytest.mark.parametrize("shape", [(2000, 6, 5), (4, 768, 768), (3, 1024, 1024), (5, 511, 333)])
def test_deep_wide_and_odd_volumes(shape: tuple[int, int, int]) -> None:
    thick = volume(noise(shape))
    stream = upscale_slabs(thick, model=Network(ModelWindow(halo=(1, 0, 0), working_bytes=60.0)), factor=2)
    expected = 0
    for slab in stream:
        assert slab.start == expected
        expected += len(slab.hu)
        for index in range(slab.start, expected):
            if index % 2 == 0:
                assert np.abs(slab.hu[index - slab.start] - thick.hu[index // 2]).max() <= 1
    assert expected == stream.geometry.shape[0]


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("plan", ["released", "paper", "overlap"])
def test_volumes_shallower_than_a_network_takes(depth: int, plan: str) -> None:
    network = Network(ModelWindow(depth=4, min_depth=4, tile=(16, 16)))
    thick = volume(noise((depth, 21, 22)))
    thin = upscale(thick, model=network, plan=plan)
    np.testing.assert_array_equal(thin.hu[::5], thick.hu)


def test_one_slice_is_refused() -> None:
    with pytest.raises(NotEligibleError, match="one slice only"):
        upscale(volume(noise((1, 9, 7))), model="linear")


@pytest.mark.parametrize("value", [3000, -2000])
@pytest.mark.parametrize("model", MODELS)
def test_values_outside_the_window_survive_and_are_reported(value: int, model: str) -> None:
    stream = upscale_slabs(volume(np.full((3, 4, 4), value, np.int16)), model=model)
    thin = np.concatenate([slab.hu for slab in stream])
    assert (thin == value).all()
    assert any("176 thin voxels" in warning and "outside the working range" in warning for warning in stream.warnings)
    assert stream.hu_range[0] <= thin.min()
    assert stream.hu_range[1] >= thin.max()


def test_metal_keeps_its_value_and_changes_nothing_elsewhere() -> None:
    hu = noise((6, 20, 20))
    metal = hu.copy()
    metal[2:4, 5:8, 5:8] = 3071
    plain, thin = (upscale(volume(array), model="linear").hu for array in (hu, metal))
    assert (thin[10:16, 5:8, 5:8] == 3071).all()
    plain[:, 5:8, 5:8] = thin[:, 5:8, 5:8]
    np.testing.assert_array_equal(plain, thin)


@pytest.mark.parametrize(("padding", "dtype"), [(-2000, np.int16), (-2000, np.float32), (3071.5, np.float32)])
def test_padding_comes_back_exactly_and_does_not_leak(padding: float, dtype: type) -> None:
    hu = np.full((4, 10, 10), -1024, dtype)
    hu[:, 3:7, 3:7] = 40
    hu[:, 0] = padding
    thin = upscale(volume(hu, padding_hu=padding), model=Network()).hu
    assert thin.dtype == dtype
    assert (thin[:, 0] == padding).all()
    assert thin[:, 1:].min() >= -1024
    assert thin[:, 1:].max() <= 41


def test_float_sources_stay_float_and_are_not_rounded() -> None:
    thin = upscale(volume(np.full((3, 4, 4), 0.25, np.float32)), model="linear")
    assert thin.hu.dtype == np.float32
    np.testing.assert_allclose(thin.hu, 0.25, atol=1e-3)


def test_the_same_input_twice_gives_the_same_pixels() -> None:
    thick = volume(noise((9, 33, 41)))
    torch.manual_seed(0)
    network = build("thinnet")
    stream = upscale_slabs(thick, model=network, threads=1)
    first = np.concatenate([slab.hu for slab in stream])
    again = np.concatenate([slab.hu for slab in stream])
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, upscale(thick, model=network, threads=1).hu)


def test_derivation_is_recorded_and_provenance_is_kept() -> None:
    network = Network()
    network.card = {"name": "our-net", "version": "7"}  # type: ignore[assignment]
    network.sha256 = "ab" * 32  # type: ignore[assignment]
    source = volume(
        noise((4, 8, 8)), distance_mm=2.5, thickness_mm=5.0, format="nifti", file_axes=(0, 1, 2),
        padding_hu=-2000.0, warnings=("odd",), headers=("a", "b", "c", "d"), details={"k": 1},
    )  # fmt: skip
    thin = upscale(source, model=network, plan="paper", device="cpu")
    derivation = thin.provenance.derivation
    assert derivation is not None
    assert (derivation.model, derivation.model_version, derivation.weights_sha256) == ("our-net", "7", "ab" * 32)
    assert derivation.factor == 3
    assert derivation.settings["plan"] == "paper"
    assert derivation.settings["spacing_mm"] == pytest.approx(2.5 / 3, abs=1e-6)
    assert derivation.settings["profile"] == "mean"
    assert derivation.settings["profile_width"] == 2.0
    assert thin.provenance.warnings[0] == "odd"
    assert "overlap" in thin.provenance.warnings[1]
    expected = replace(source.provenance, derivation=derivation, warnings=thin.provenance.warnings)
    assert thin.provenance == expected
    assert thin.provenance.headers == source.provenance.headers
    assert thin.provenance.details == {"k": 1}


def test_names_of_networks_without_a_card() -> None:
    stream = upscale_slabs(volume(noise((4, 8, 8))), model="cubic")
    assert (stream.model_name, stream.model_version, stream.weights_sha256) == ("cubic", thinslice.__version__, None)
    assert upscale_slabs(volume(noise((4, 8, 8))), model=Network()).model_name == "Network"


def test_the_network_gets_the_true_profile() -> None:
    network = Network()
    thick = volume(noise((4, 8, 8)), distance_mm=2.5, thickness_mm=5.0)
    upscale(thick, model=network, factor=4)
    assert network.profiles[0] == SliceProfile.mean(4, width=2.0)


def test_consistency_of_a_consistent_network_is_small_and_of_another_not() -> None:
    thick = volume(np.clip(noise((9, 20, 20)), -200, 400))
    streams = [upscale_slabs(thick, model=model) for model in ("cubic-consistent", "linear")]
    for stream in streams:
        assert stream.consistency_rms_hu is None
        list(stream)
    consistent, linear = (stream.consistency_rms_hu for stream in streams)
    assert consistent is not None
    assert linear is not None
    assert consistent < 0.5 < 10 < linear


def test_the_stream_holds_the_facts_of_its_run() -> None:
    seen: list[tuple[int, int]] = []
    network = Network(ModelWindow(depth=4, tile=(16, 16), plan="released"))
    stream = upscale_slabs(volume(noise((9, 30, 30))), model=network, progress=lambda *at: seen.append(at))
    assert (stream.factor, stream.plan_name, stream.backend, stream.device) == (5, "released", "torch", "cpu")
    assert seen == []
    list(stream)
    assert seen[-1] == (stream.windows_total, stream.windows_total)
    assert all(a < b for a, b in pairwise(seen))
    assert 0 < stream.network_s <= stream.total_s
    assert stream.memory_estimate.total_bytes > 0


def test_air_is_skipped_for_networks_under_our_own_plan_only() -> None:
    thick = volume(np.full((6, 40, 40), -1000, np.int16))
    skipped = {}
    for plan in ("overlap", "released"):
        stream = upscale_slabs(thick, model=Network(ModelWindow(tile=(16, 16))), plan=plan)
        list(stream)
        skipped[plan] = stream.windows_skipped / stream.windows_total
    assert skipped == {"overlap": 1, "released": 0}
    stream = upscale_slabs(thick, model="nearest")
    list(stream)
    assert stream.windows_skipped == 0


# What is refused, before anything runs


def test_not_eligible_volumes_are_refused() -> None:
    with pytest.raises(NotEligibleError, match="spacing_mm="):
        upscale_slabs(volume(noise((4, 8, 8)), distance_mm=1.0), model="linear")
    with pytest.raises(NotEligibleError, match="axis="):
        upscale_slabs(volume(noise((4, 8, 8)), details={"axis_ambiguous": True}), model="linear")


def test_a_factor_the_network_cannot_do_is_refused_naming_one_it_can() -> None:
    network = Network()
    network.factors = (5,)
    with pytest.raises(ShapeError, match=r"cannot do factor 3, only 5; try factor=5 \(spacing_mm=1\)"):
        upscale_slabs(volume(noise((4, 8, 8))), model=network, factor=3)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"model": "no-such-model"}, UsageError, "neither a model name"),
        ({"plan": "no-such-plan"}, UsageError, "overlap, released, paper"),
        ({"device": "gpu"}, UsageError, "no device named"),
        ({"device": "cuda:x"}, UsageError, "no device named"),
        ({"device": "cpu:0"}, UsageError, "no device named"),
        ({"backend": "tensorrt"}, UsageError, "no backend named"),
        ({"backend": "torch-compile"}, UsageError, "needs a CUDA device"),
        ({"threads": 0}, UsageError, "at least 1"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        upscale_slabs(volume(noise((4, 8, 8))), **{"model": "linear", **arguments})


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for device in ("cuda", "cuda:0", "mps"):
        with pytest.raises(DeviceError, match=device):
            upscale_slabs(volume(noise((4, 8, 8))), model="linear", device=device)
    assert upscale_slabs(volume(noise((4, 8, 8))), model="linear", device="auto").device == "cpu"


def test_values_that_are_no_numbers_are_refused() -> None:
    hu = np.zeros((4, 8, 8), np.float32)
    hu[2, 3, 3] = np.nan
    with pytest.raises(InputError, match="Slice 2"):
        upscale_slabs(volume(hu), model="linear")


def test_short_memory_is_refused_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_module, "available_memory_bytes", lambda: 1 << 20)
    with pytest.raises(ResourceError, match=r"needs about \d+\.\d GiB .* 0\.0 GiB are available"):
        upscale_slabs(volume(noise((20, 200, 200))), model="linear")
    monkeypatch.setattr(prepare_module, "available_memory_bytes", lambda: None)
    upscale_slabs(volume(noise((4, 8, 8))), model="linear")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_network_that_gives_no_numbers_is_refused(value: float) -> None:
    def spoil(thin: torch.Tensor) -> torch.Tensor:
        thin = thin.clone()
        thin[..., 0, 0] = value
        return thin

    with pytest.raises(ModelError, match="not finite"):
        upscale(volume(noise((4, 8, 8))), model=Network(spoil=spoil))


def test_a_network_that_gives_another_shape_is_refused() -> None:
    with pytest.raises(ModelError, match="contract"):
        upscale(volume(noise((4, 8, 8))), model=Network(spoil=lambda thin: thin[:, :, 1:]))


# Memory that runs out on the way


def test_a_batch_too_large_is_halved() -> None:
    sizes: list[int] = []

    def spoil(thin: torch.Tensor) -> torch.Tensor:
        sizes.append(len(thin))
        if len(thin) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return thin

    network = choice.TorchBackend(Network(spoil=spoil), "cpu", factor=5, profile=SliceProfile.mean(5), batch=8)
    windows = np.random.default_rng(0).random((7, 1, 3, 4, 4), np.float32)
    thin = network(windows)
    assert network.batch <= 2
    assert sizes[0] == 7
    np.testing.assert_allclose(thin[:, :, ::5], windows, atol=1e-6)


def test_only_auto_falls_back_to_the_cpu() -> None:
    class Short(Network):
        """Stands for an accelerator without memory until it is moved to the CPU."""

        on_cpu = False

        def to(self, *target: Any, **rest: Any) -> Any:
            self.on_cpu = target == ("cpu",)
            return super().to("cpu")

        def forward(self, x: torch.Tensor, **rest: Any) -> torch.Tensor:
            if not self.on_cpu:
                raise torch.OutOfMemoryError("out of memory")
            return super().forward(x, **rest)

    windows = np.zeros((1, 1, 3, 4, 4), np.float32)
    for may_fall_back in (True, False):
        network = choice.TorchBackend(
            Short(), "meta", factor=5, profile=SliceProfile.mean(5), may_fall_back=may_fall_back
        )
        if may_fall_back:
            assert network(windows).shape == (1, 1, 11, 4, 4)
            assert network.choice.device == "cpu"
            assert "CPU took over" in network.warnings[0]
        else:
            with pytest.raises(ResourceError, match="use device='cpu'"):
                network(windows)


def test_memory_that_runs_out_on_the_cpu_is_reported() -> None:
    def spoil(thin: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    with pytest.raises(ResourceError, match="main memory"):
        upscale(volume(noise((4, 8, 8))), model=Network(spoil=spoil), device="cpu")


def test_other_faults_of_a_network_are_not_hidden() -> None:
    def spoil(thin: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        upscale(volume(noise((4, 8, 8))), model=Network(spoil=spoil))


def test_glibc_keeps_freed_memory() -> None:
    assert choice.keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
    assert np.zeros(1 << 24)[-1] == 0  # memory still comes


def test_real_chest(shared: Path) -> None:
    """The thick chest of the shared data in slabs: thin slices average back, as the meter measures."""
    found = sorted((shared / "ct" / "thick").glob("lung_dx_A0001*"))
    if not found:
        pytest.skip("shared data absent: ct/thick/lung_dx_A0001_B_5mm")
    import nibabel as nib

    data = np.asanyarray(nib.load(next(p for p in found if p.name.endswith((".nii", ".nii.gz")))).dataobj)
    thick = volume(np.ascontiguousarray(data.T[20:30]).astype(np.int16))
    stream = upscale_slabs(thick, model="cubic-consistent")
    thin = np.concatenate([slab.hu for slab in stream])
    profile = SliceProfile.mean(5)
    made = np.tensordot(profile.matrix(10), thin.astype(np.float32), axes=1)
    inside = (thick.hu[1:-1] > -1024) & (thick.hu[1:-1] < 2048)
    assert stream.consistency_rms_hu == pytest.approx(
        float(np.sqrt(np.mean((made - thick.hu[1:-1])[inside] ** 2))), rel=1e-3
    )
    assert stream.consistency_rms_hu < 6


def test_windows_and_memory_are_those_of_the_backend_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("thinnet", features=8, blocks=1)
    model.window = replace(model.window, working_bytes=4000.0, in_pieces_bytes=40.0)
    thick = volume(noise((24, 96, 96)))
    settled: list[Any] = []

    def settle(*arguments: Any, **options: Any) -> choice.Choice:
        settled.append(options["work_voxels"])
        return choice.Choice("openvino", "cpu", version="0")

    in_pieces = upscale_slabs(thick, model=model, backend="torch")
    monkeypatch.setattr(prepare_module, "settle", settle)
    elsewhere = upscale_slabs(thick, model=model, backend="auto")
    assert settled == [24 * 96 * 96]  # at first the windows of torch, one
    assert len(in_pieces.window_plan.windows) == 1
    assert elsewhere.memory_estimate.working_bytes > 20 * in_pieces.memory_estimate.working_bytes
