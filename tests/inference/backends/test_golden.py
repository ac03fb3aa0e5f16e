"""The golden case: what it holds, what a verdict is, and that it is found once."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from thinslice.errors import ModelError, ResourceError
from thinslice.inference.backends import golden
from thinslice.inference.backends.torch_backend import TorchBackend
from thinslice.models.along_z import InterpolateConfig
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.catalog import build
from thinslice.models.deviation import Ensemble, Learned
from thinslice.models.interpolate import Interpolate
from thinslice.profile import SliceProfile
from thinslice.system import user_cache

HU = 1 / 3072


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("THINSLICE_CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def model() -> ThroughPlaneModel:
    return Interpolate(InterpolateConfig(method="linear"))


def off_by(model: ThroughPlaneModel, hu: float, *, factor: int | None = None) -> tuple[golden.MakeBackend, list[int]]:
    """Prepares torch with one voxel off (at one factor), and lists the factors it was asked for."""
    factors: list[int] = []

    def prepare(asked: int, profile: SliceProfile) -> golden.RunWindows:
        factors.append(asked)
        network = TorchBackend(model, "cpu", factor=asked, profile=profile)

        def spoiled(windows: np.ndarray) -> np.ndarray:
            thin = network(windows)
            if factor in (None, asked):
                thin[0, 0, 1, 2, 3] += hu * HU
            return thin

        return spoiled

    return prepare, factors


def test_the_case_is_the_same_every_time_and_spans_the_window(model: ThroughPlaneModel) -> None:
    windows = golden.golden_windows(model)
    assert windows.shape == (1, 1, golden.DEPTH, *golden.PLANE)
    assert windows.dtype == np.float32
    np.testing.assert_array_equal(windows, golden.golden_windows(model))
    assert windows.min() == 0.0
    assert windows.max() == 1.0  # metal, clipped as networks see it
    hu = windows * 3072 - 1024
    assert all(((hu > low) & (hu < high)).mean() > 0.005 for low, high in ((-900, -800), (0, 80), (650, 750)))
    assert golden.golden_windows(build("tvsrn")).shape[2] == 4


@pytest.mark.parametrize(("hu", "agrees"), [(0.0, True), (0.4, True), (-0.4, True), (0.6, False), (np.nan, False)])
def test_half_an_hu_is_the_limit(model: ThroughPlaneModel, hu: float, agrees: bool) -> None:
    verdict = golden.examine(model, off_by(model, hu)[0], backend="spoiled")
    assert verdict.agrees == agrees
    if hu == hu:
        assert verdict.difference_hu == pytest.approx(abs(hu), abs=1e-3)


def test_the_extreme_factors_are_looked_at_too(model: ThroughPlaneModel) -> None:
    prepare, factors = off_by(model, 1.0, factor=2)
    assert not golden.examine(model, prepare, backend="spoiled").agrees
    prepare, factors = off_by(model, 0.0)
    assert golden.examine(model, prepare, backend="sound").agrees
    assert sorted(factors) == [2, 5, 8]


def test_a_verdict_is_found_once(model: ThroughPlaneModel, folder: Path) -> None:
    prepare, factors = off_by(model, 0.0)
    first = golden.examine(model, prepare, backend="sound")
    asked = len(factors)
    assert golden.examine(model, prepare, backend="sound") == first
    assert len(factors) == asked
    assert len(list(folder.glob("backends/*.json"))) == 1


@pytest.mark.parametrize(
    "changed",
    ["weights", "config", "backend", "version", "threads", "tolerance", "damage", "nothing kept"],
)
def test_anything_that_matters_asks_again(
    model: ThroughPlaneModel, folder: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    network = build("thinnet", features=4, blocks=1)
    asked: list[int] = []

    def prepare(factor: int, profile: SliceProfile) -> golden.RunWindows:
        asked.append(factor)
        return TorchBackend(network, "cpu", factor=factor, profile=profile)

    options: dict[str, Any] = {"backend": "torch again", "version": "1"}
    if changed == "nothing kept":
        monkeypatch.setenv("THINSLICE_CACHE_DIR", "")
    golden.examine(network, prepare, **options)
    before = len(asked)
    if changed == "weights":
        with torch.no_grad():
            next(network.parameters()).add_(1e-3)
    elif changed == "config":
        network = build("thinnet", features=4, blocks=2)
    elif changed in ("backend", "version"):
        options[changed] += "x"
    elif changed == "threads":
        machine = golden.machine
        monkeypatch.setattr(golden, "machine", lambda threads: machine(threads + 1))
    elif changed == "tolerance":
        options["tolerance_hu"] = 0.25
    elif changed == "damage":
        next(folder.glob("backends/*.json")).write_text(json.dumps({"verdict": {"agrees": True}}))
    golden.examine(network, prepare, **options)
    assert len(asked) > before


def failing(error: Exception) -> golden.MakeBackend:
    def prepare(factor: int, profile: SliceProfile) -> golden.RunWindows:
        raise error

    return prepare


def test_what_cannot_run_does_not_agree_and_says_why(model: ThroughPlaneModel) -> None:
    verdict = golden.examine(model, failing(ModelError("It has no such layer; use another.")), backend="a")
    assert (verdict.agrees, verdict.difference_hu, verdict.reason) == (False, None, "It has no such layer")
    assert golden.examine(model, failing(RuntimeError("secret")), backend="b").reason == "RuntimeError"


def test_what_could_not_be_compared_is_tried_again(model: ThroughPlaneModel, folder: Path) -> None:
    assert not golden.examine(model, failing(ModelError("It had a bad day.")), backend="a").agrees
    assert not list(folder.glob("backends/*"))
    assert golden.examine(model, off_by(model, 0.0)[0], backend="a").agrees


@pytest.mark.parametrize(
    ("load", "hours", "again"),
    [(2.0, 0.5, False), (2.0, 2.0, True), (0.1, 2.0, False), (None, 2.0, False), (0.1, 24.0 * 31, True)],
)
def test_times_of_a_busy_machine_are_measured_again_after_an_hour(
    model: ThroughPlaneModel,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    load: float | None,
    hours: float,
    again: bool,
) -> None:
    monkeypatch.setattr(golden, "load_per_core", lambda: load)
    prepare, factors = off_by(model, 0.0)
    golden.examine(model, prepare, backend="sound")
    asked = len(factors)
    kept = next(folder.glob("backends/*.json"))
    assert json.loads(kept.read_text())["load_per_core"] == load
    then = time.time() - 3600 * hours
    os.utime(kept, (then, then))
    golden.examine(model, prepare, backend="sound")
    assert (len(factors) > asked) == again


def test_times_grow_old(model: ThroughPlaneModel, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden, "load_per_core", lambda: 0.0)
    prepare, factors = off_by(model, 0.0)
    golden.examine(model, prepare, backend="sound")
    asked = len(factors)
    kept = next(folder.glob("backends/*.json"))
    for days, again in ((golden.KEPT_DAYS - 1, False), (golden.KEPT_DAYS + 1, True)):
        then = time.time() - 86400 * days
        os.utime(kept, (then, then))
        golden.examine(model, prepare, backend="sound")
        assert (len(factors) > asked) == again


def test_a_profile_of_another_width_is_looked_at(model: ThroughPlaneModel) -> None:
    widths: set[int] = set()

    def prepare(factor: int, profile: SliceProfile) -> golden.RunWindows:
        widths.add(len(profile.weights) > len(SliceProfile.mean(factor).weights))
        return TorchBackend(model, "cpu", factor=factor, profile=profile)

    assert golden.examine(model, prepare, backend="sound").agrees
    assert widths == {False, True}


def test_scale_and_network_inside_are_part_of_what_a_network_is() -> None:
    def learned(scale: float, **config: int) -> Learned:
        torch.manual_seed(0)
        return Learned(build("thinnet", features=4, blocks=1, deviation=True, **config), scale)

    prints = {golden.fingerprint(learned(*options)) for options in ((1.0,), (1.1,))}
    assert len(prints) == 2 and golden.fingerprint(learned(1.0)) in prints
    inner = build("thinnet", features=4, blocks=1)
    assert golden.fingerprint(Ensemble(inner)) != golden.fingerprint(inner)


@pytest.mark.parametrize(
    "error",
    [
        ResourceError("short"),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("could not create a primitive"),
        RuntimeError("Exception from src/inference: Failed to allocate 1024 bytes of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_short_memory_is_not_held_against_it(model: ThroughPlaneModel, folder: Path, error: Exception) -> None:
    assert golden.examine(model, failing(error), backend="a").reason == "memory was short"
    assert not list(folder.glob("backends/*"))
    assert golden.examine(model, off_by(model, 0.0)[0], backend="a").agrees


def test_the_model_is_left_where_and_as_it_is(model: ThroughPlaneModel) -> None:
    network = build("thinnet", features=4, blocks=1)
    before = golden.fingerprint(network)
    golden.examine(network, lambda f, p: TorchBackend(network, "cpu", factor=f, profile=p), backend="a")
    assert golden.fingerprint(network) == before


def test_what_is_kept_names_no_one(model: ThroughPlaneModel, folder: Path) -> None:
    golden.examine(model, off_by(model, 0.0)[0], backend="a")
    kept = json.loads(next(folder.glob("backends/*.json")).read_text())
    assert set(kept) == {
        "backend",
        "channels",
        "device",
        "golden",
        "load_per_core",
        "machine",
        "model",
        "tolerance_hu",
        "verdict",
        "versions",
    }
    assert str(Path.home()) not in json.dumps(kept)


def test_a_cache_that_cannot_be_written_costs_time_only(
    model: ThroughPlaneModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_cache, "keep", lambda name, value: False)
    assert golden.examine(model, off_by(model, 0.0)[0], backend="a").agrees


@pytest.mark.parametrize(
    ("seconds", "preparation_s", "share", "pays"),
    [(0.5, 0.0, 1, True), (0.8, 0.0, 1e6, False), (1.1, 0.0, 1e6, False), (0.5, 8.0, 31, False), (0.5, 8.0, 33, True)],
)
def test_it_pays_to_save_a_quarter_after_preparation(
    seconds: float, preparation_s: float, share: float, pays: bool
) -> None:
    assert golden.Verdict(True, 0.0, seconds, 1.0, preparation_s).pays(share) == pays
