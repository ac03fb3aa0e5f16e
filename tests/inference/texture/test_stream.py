"""Texture through the whole line: as noisy as the truth, consistent, repeatable, the same however it is cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from support.noisy_phantom import EvenMap, phantom
from thinslice import upscale, upscale_slabs, upscale_with_uncertainty
from thinslice.errors import ModelError, ThinsliceWarning, UsageError
from thinslice.inference import stitch
from thinslice.inference.prepare import prepare
from thinslice.inference.settings import UpscaleSettings
from thinslice.inference.texture import law
from thinslice.inference.texture.size import NoiseSize, measure_size
from thinslice.inference.texture.stream import textured
from thinslice.options import options_as_flags
from thinslice.volume import Volume

pytestmark = pytest.mark.filterwarnings("ignore::thinslice.errors.ThinsliceWarning")


@pytest.fixture(autouse=True)
def _no_anatomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The phantom holds noise alone."""
    monkeypatch.setattr(law, "ANATOMY_CORRELATION", 0.0)


def made(thick: Volume, **rest: Any) -> tuple[np.ndarray, float]:
    """Thin slices, and the consistency in HU."""
    stream = upscale_slabs(thick, **{"model": EvenMap(), "device": "cpu", "backend": "torch", "texture": True, **rest})
    hu = np.concatenate([slab.hu for slab in stream])
    return hu, stream.result.consistency_rms_hu or 0.0


@pytest.mark.parametrize(("factor", "width"), [(5, 1.0), (8, 1.0), (2, 1.0), (4, 1.5)])
@pytest.mark.parametrize("map_hu", [3.0, 60.0])
def test_noise_is_that_of_thin_slices_whatever_the_level_of_the_map(factor: int, width: float, map_hu: float) -> None:
    scan = phantom(factor, width)
    plain, _ = made(scan.thick, model=EvenMap(map_hu), factor=factor, texture=False)
    hu, consistency = made(scan.thick, model=EvenMap(map_hu), factor=factor)
    middle = slice(2 * factor, -2 * factor)
    by_offset = [np.std(hu[middle][offset::factor]) / np.std(scan.thin[middle]) for offset in range(factor)]
    np.testing.assert_allclose(by_offset, 1.0, atol=0.1)
    assert np.std(plain[middle]) < 0.9 * np.std(hu[middle])
    assert consistency < 1.0
    assert abs(hu[middle].mean() - plain[middle].mean()) < 0.1


def test_air_keeps_its_mean_where_noise_reaches_below_the_window() -> None:
    scan = phantom(5)
    thick = scan.thick.hu.copy()
    thick[:, 64:] = np.clip(thick[:, 64:] - 1040, -1024, None)  # -1000 HU and noise
    volume = Volume(thick, scan.thick.geometry, scan.thick.provenance)
    plain, _ = made(volume, factor=5, texture=False)
    hu, consistency = made(volume, factor=5)
    assert hu.min() >= -1024 and consistency < 1.0
    assert abs(hu[10:-10, 66:].mean() - plain[10:-10, 66:].mean()) < 1.0
    assert np.std(hu[10:-10, 66:]) > 1.2 * np.std(plain[10:-10, 66:])


def test_the_same_input_gives_the_same_output_and_another_seed_another() -> None:
    thick = phantom(5).thick
    first, again, other = (made(thick, factor=5, texture_seed=seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.std(first) == pytest.approx(np.std(other), rel=0.02)


@pytest.mark.parametrize("slab_bytes", [1, 1 << 18])
def test_the_size_of_slabs_changes_no_voxel(monkeypatch: pytest.MonkeyPatch, slab_bytes: int) -> None:
    thick = phantom(5).thick
    whole, _ = made(thick, factor=5)
    monkeypatch.setattr(stitch, "SLAB_BYTES", slab_bytes)
    np.testing.assert_array_equal(made(thick, factor=5)[0], whole)


def test_slabs_cut_anywhere_give_the_same_slices() -> None:
    thick = phantom(4, 1.5).thick
    run = prepare(thick, UpscaleSettings(EvenMap(), 4, device="cpu", backend="torch", texture=True))
    estimate = np.random.default_rng(0).normal(-900.0, 100.0, run.geometry.shape).clip(-1024).astype(np.float32)
    channels = np.stack([estimate, np.full_like(estimate, 20.0)])

    def cut(step: int) -> Iterator[tuple[int, np.ndarray]]:
        for start in range(0, channels.shape[1], step):
            yield start, channels[:, start : start + step].copy()

    results = []
    for step in (1, 3, 16, 200):
        assert run.texture is not None
        size = NoiseSize(soft=1.2, lung=1.0, level_hu=20.0)
        slabs = list(textured(cut(step), run.texture, size, thick.hu, None))
        assert [start for start, _ in slabs] == np.cumsum([0, *(s.shape[1] for _, s in slabs)])[:-1].tolist()
        results.append(np.concatenate([slab for _, slab in slabs], axis=1))
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])
    assert results[0].shape == channels.shape


def test_a_distance_of_their_own_gets_texture_too() -> None:
    scan = phantom(4)
    plain, _ = made(scan.thick, spacing_mm=1.07, texture=False)
    hu, consistency = made(scan.thick, spacing_mm=1.07)
    assert np.std(hu[6:-6]) == pytest.approx(np.std(scan.thin), rel=0.12)
    assert consistency < 1.0 and abs(hu.mean() - plain.mean()) < 0.2


def test_standard_deviations_hold_the_noise_that_was_added() -> None:
    thick = phantom(5).thick
    options: dict[str, Any] = {"model": EvenMap(12.0), "factor": 5, "device": "cpu", "backend": "torch"}
    plain, before = upscale_with_uncertainty(thick, **options)
    thin, after = upscale_with_uncertainty(thick, texture=True, **options)
    added = np.std(thin.hu.astype(np.float64) - plain.hu)
    middle = slice(10, -10)
    assert np.sqrt(np.mean(after.hu[middle] ** 2 - before.hu[middle] ** 2)) == pytest.approx(added, rel=0.08)


def test_every_result_states_the_synthetic_noise() -> None:
    thick = phantom(5).thick
    with pytest.warns(ThinsliceWarning, match="never read small structures"):
        thin = upscale(thick, model=EvenMap(), factor=5, device="cpu", backend="torch", texture=True, texture_seed=3)
    derivation = thin.provenance.derivation
    assert derivation is not None
    assert derivation.settings["texture"] == "synthetic noise" and derivation.settings["texture_seed"] == 3


def test_a_network_without_a_map_is_refused_with_one_that_has_it() -> None:
    thick = phantom(5).thick
    with options_as_flags(), pytest.raises(ModelError, match=r"--model default.* or go without --texture"):
        upscale(thick, model="linear", factor=5, texture=True)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"texture_seed": 4}, "goes with texture"),
        ({"texture": True, "texture_seed": -1}, "whole number from 0"),
        ({"texture": True, "uncertainty": "ensemble"}, "network's own uncertainty"),
    ],
)
def test_options_that_contradict_texture_are_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        UpscaleSettings(**options)


def test_the_factor_of_the_map_is_found_by_probes() -> None:
    scan = phantom(5, side=160)
    run = prepare(scan.thick, UpscaleSettings(EvenMap(7.0), 5, device="cpu", backend="torch", texture=True))
    assert run.texture is not None
    size = measure_size(
        scan.thick.hu,
        run.texture.noise,
        run.texture.left,
        run.start_network(),
        window=run.model.window,
        profile=run.profile,
        padding_hu=None,
        consistent=True,
    )
    assert size.soft * 7.0 == pytest.approx(size.level_hu, rel=0.05)
    assert size.lung == size.soft  # no lung in it


def test_memory_counts_the_slices_that_wait() -> None:
    thick = phantom(5).thick
    settings = UpscaleSettings(EvenMap(), 5, device="cpu", backend="torch")
    plain, with_texture = (prepare(thick, each) for each in (settings, replace(settings, texture=True)))
    assert with_texture.memory_estimate.slab_bytes > plain.memory_estimate.slab_bytes
    collected = prepare(thick, replace(settings, texture=True), collect=True)
    assert collected.memory_estimate.thin_bytes == np.prod(collected.geometry.shape) * collected.dtype.itemsize
