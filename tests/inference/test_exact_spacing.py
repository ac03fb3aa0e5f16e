"""Thin slices at a distance of their own: their grid, their values, consistency, and their places in files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

import thinslice
from support.dicom_factory import write_series
from thinslice.commands.upscale import UpscaleJob, run_upscale
from thinslice.geometry import Geometry
from thinslice.inference.respace import respaced
from thinslice.inference.settings import UpscaleSettings
from thinslice.planning.exact_spacing import ExactSpacing, exact_ratio
from thinslice.profile import ProfileDensity
from thinslice.volume import Volume


def box(ratio: float, depth: int, width: float = 1.0) -> ExactSpacing:
    return ExactSpacing(ratio, int(ratio + 0.5), ProfileDensity.box(width), depth)


def fine_ramp(spacing: ExactSpacing, slope: float = 10.0) -> np.ndarray:
    """The network's slices of HU that rise with the position, (1, slices, 1, 2)."""
    position = np.arange((spacing.depth - 1) * spacing.factor + 1) / spacing.factor
    return np.repeat((slope * position)[None, :, None, None], 2, axis=3).astype(np.float32)


@settings(max_examples=30)
@given(st.floats(2.0, 8.0), st.integers(2, 30), st.floats(0.5, 2.0))
def test_a_ramp_stays_a_ramp_at_every_distance(ratio: float, depth: int, width: float) -> None:
    spacing = box(ratio, depth, width)
    thick = np.repeat((10.0 * np.arange(depth))[:, None, None], 2, axis=2).astype(np.float32)
    slabs = list(respaced(iter([(0, fine_ramp(spacing))]), spacing, thick, None))
    made = np.concatenate([slab for _, slab in slabs], axis=1)
    assert [start for start, _ in slabs] == [start for start, _ in spacing.blocks()]
    assert made.shape == (1, spacing.slices, 1, 2)
    expected = 10.0 * np.arange(spacing.slices) / ratio
    # The first and last slice reach past the network's slices, so what they average is not centred on them.
    inner = slice(1, -1)
    np.testing.assert_allclose(made[0, inner, 0, 0], expected[inner], atol=0.02)


@pytest.mark.parametrize("ratio", [2.5, 3.75, 4.3, 7.9])
@pytest.mark.parametrize("width", [0.6, 1.0, 1.2])
def test_thick_slices_are_met(ratio: float, width: float) -> None:
    spacing = box(ratio, 12, width)
    rng = np.random.default_rng(2)
    fine = rng.uniform(-500, 500, (1, 11 * spacing.factor + 1, 3, 4)).astype(np.float32)
    thick = gaussian_filter(rng.uniform(-500, 500, (12, 3, 4)), (1, 0, 0)).astype(np.float32)
    made = np.concatenate([slab for _, slab in respaced(iter([(0, fine)]), spacing, thick, None)], axis=1)[0]
    assert len(spacing.rows()) >= 8
    for k, first, weights in spacing.rows():
        average = np.tensordot(weights, made[first : first + len(weights)], axes=1)
        np.testing.assert_allclose(average, thick[k], atol=1.0)


def test_slabs_in_any_size_give_the_same() -> None:
    spacing = box(2.5, 20)
    fine = np.random.default_rng(5).uniform(-500, 500, (2, 19 * spacing.factor + 1, 3, 4)).astype(np.float32)
    thick = np.zeros((20, 3, 4), np.float32)
    whole = np.concatenate([s for _, s in respaced(iter([(0, fine)]), spacing, thick, None)], axis=1)
    for size in (1, 7):
        parts = ((start, fine[:, start : start + size]) for start in range(0, fine.shape[1], size))
        np.testing.assert_array_equal(
            np.concatenate([s for _, s in respaced(parts, spacing, thick, None)], axis=1), whole
        )
    assert whole[1].min() >= fine[1].min() and whole[1].max() <= fine[1].max() * (1 + 1e-5)  # standard deviations


@pytest.mark.parametrize(
    ("thick_mm", "wanted_mm", "ratio"),
    [(2.5, 1.0, 2.5), (3.75, 1.0, 3.75), (5.0, 1.0, None), (4.9999, 1.0, None), (5.0, 3.0, None), (5.0, 0.6, None)],
)
def test_a_whole_factor_is_preferred(thick_mm: float, wanted_mm: float, ratio: float | None) -> None:
    assert exact_ratio(thick_mm, wanted_mm) == ratio


@pytest.fixture(scope="module")
def coarse() -> Volume:
    hu = gaussian_filter(np.random.default_rng(1).normal(0, 900, (14, 24, 20)), 1.5)
    grid = Geometry((14, 24, 20), (3.75, 0.7, 0.7), origin_mm=(1.0, 2.0, -300.0), thickness_mm=3.75)
    return Volume(hu.astype(np.float32), grid)


@pytest.mark.parametrize("model", ["linear", "cubic-consistent", "fast"])
def test_upscale_gives_the_wanted_distance(coarse: Volume, model: str) -> None:
    thin = thinslice.upscale(coarse, model=model, spacing_mm=1.0, backend="torch")
    assert thin.geometry.spacing_mm == (1.0, 0.7, 0.7)
    assert thin.geometry.thickness_mm == 1.0
    assert thin.hu.shape[0] == int(13 * 3.75) + 1
    np.testing.assert_allclose(thin.geometry.position_mm((15, 0, 0)), coarse.geometry.position_mm((4, 0, 0)))
    assert thin.provenance.derivation is not None and thin.provenance.derivation.factor == 3.75
    if model == "linear":  # thin slice 15 lies on thick slice 4, whose average over 3.75 mm the projection restores
        assert np.abs(thin.hu[15] - coarse.hu[4]).max() < 20.0
    stream = thinslice.upscale_slabs(coarse, model=model, spacing_mm=1.0, backend="torch")
    np.testing.assert_array_equal(np.concatenate([slab.hu for slab in stream]), thin.hu)
    assert stream.result.consistency_rms_hu is not None and stream.result.consistency_rms_hu < 0.1


def test_whole_factors_stay_as_they_were(coarse: Volume) -> None:
    assert thinslice.upscale(coarse, model="linear").geometry.spacing_mm[0] == pytest.approx(3.75 / 4)
    by_factor = thinslice.upscale(coarse, model="linear", factor=3)
    by_spacing = thinslice.upscale(coarse, model="linear", spacing_mm=1.25)
    np.testing.assert_array_equal(by_factor.hu, by_spacing.hu)
    assert by_factor.geometry == by_spacing.geometry


def test_metal_and_padding_survive(coarse: Volume) -> None:
    hu = np.rint(coarse.hu).astype(np.int16)
    hu[:, :4] = -2000
    hu[6, 12, 10] = 3000
    thick = Volume(hu, coarse.geometry, replace(coarse.provenance, padding_hu=-2000.0))
    thin = thinslice.upscale(thick, model="linear", spacing_mm=1.0)
    assert thin.hu.dtype == np.int16
    assert (thin.hu[:, :4] == -2000).all() and (thin.hu[:, 4:] > -2000).all()
    assert thin.hu.max() > 2100


def test_a_derived_series_lies_on_the_exact_grid(tmp_path: Path) -> None:
    source = tmp_path / "thick"
    write_series(source, shape=(9, 32, 32), spacing_mm=(2.5, 0.7, 0.7))
    job = UpscaleJob(
        source,
        tmp_path / "thin",
        UpscaleSettings("linear", spacing_mm=1.0),
        preview=tmp_path / "look.png",
        report=tmp_path / "report.json",
    )
    report = run_upscale(job)
    assert report.factor == 2.5 and report.spacing_mm_out[0] == 1.0
    thick, thin = thinslice.read(source), thinslice.read(tmp_path / "thin")
    assert thin.geometry.spacing_mm[0] == pytest.approx(1.0) and thin.hu.shape[0] == 21
    np.testing.assert_allclose(thin.geometry.position_mm((20, 0, 0)), thick.geometry.position_mm((8, 0, 0)), atol=1e-3)
    one = pydicom.dcmread(min((tmp_path / "thin").iterdir()))
    assert float(one.SliceThickness) == 1.0 and "factor 2.5" in one.DerivationDescription
