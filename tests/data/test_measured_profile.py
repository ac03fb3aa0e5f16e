"""A slice profile is found again in pairs that were simulated with it, and on the real pair."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import thinslice
from thinslice.data.measured_profile import measure_profile, measure_shared_profile
from thinslice.errors import GeometryError, InputError
from thinslice.geometry import Geometry
from thinslice.profile import ProfileDensity, SliceProfile
from thinslice.recipes.slice_profile import MeasuredProfile, read_slice_profile
from thinslice.volume import Volume


def thin_volume(depth: int = 90, side: int = 40) -> Volume:
    noise = np.random.default_rng(3).normal(size=(depth, side, side))
    hu = 150.0 * gaussian_filter(noise, 1.2) / gaussian_filter(noise, 1.2).std()
    return Volume(hu.astype(np.float32), Geometry((depth, side, side), (1.0, 0.7, 0.7), origin_mm=(3.0, 4.0, -50.0)))


def pair(profile: SliceProfile, *, offset: int = 0, thickness_mm: float | None = None) -> tuple[Volume, Volume]:
    """Thick slices `offset` mm off the first place where the profile fits."""
    thin = thin_volume()
    part = thin.crop((offset, 0, 0), thin.geometry.shape)
    first = offset + profile.centres(part.hu.shape[0])[0]
    hu = profile.apply(part.hu)
    grid = Geometry(
        (hu.shape[0], *thin.geometry.shape[1:]),
        (float(profile.factor), 0.7, 0.7),
        origin_mm=thin.geometry.position_mm((first, 0, 0)),
        thickness_mm=thickness_mm,
    )
    return Volume(hu, grid), thin


@pytest.mark.parametrize(
    "profile",
    [
        SliceProfile.mean(5),
        SliceProfile.mean(4, width=1.5),
        SliceProfile.gaussian(5, fwhm=0.9),
        SliceProfile.trapezoid(5, ramp=0.8),
        SliceProfile.heavy_tailed(5),
    ],
    ids=lambda profile: profile.name,
)
@pytest.mark.parametrize("offset", [0, 2])
def test_the_profile_that_made_a_pair_is_found(profile: SliceProfile, offset: int) -> None:
    thick, thin = pair(profile, offset=offset)
    measured = measure_profile(thick, thin)
    found = dict(zip(measured.offsets_mm, measured.weights, strict=True))
    expected = dict(zip(range(-profile.reach, profile.reach + 1), profile.weights, strict=True))
    np.testing.assert_allclose([found[x] for x in found], [expected.get(int(x), 0.0) for x in found], atol=2e-3)
    assert measured.residual_rms_hu == pytest.approx(0.0, abs=0.5)
    assert measured.centre_mm == pytest.approx(0.0, abs=0.02)


def test_noise_in_the_thick_slices_is_the_residual() -> None:
    thick, thin = pair(SliceProfile.mean(5), thickness_mm=5.0)
    noisy = Volume(thick.hu + np.random.default_rng(1).normal(0, 8, thick.hu.shape).astype(np.float32), thick.geometry)
    measured = measure_profile(noisy, thin)
    assert measured.residual_rms_hu == pytest.approx(8.0, rel=0.05)
    assert measured.box_residual_rms_hu == pytest.approx(8.0, rel=0.05)
    assert measured.width_mm == pytest.approx(5.0, rel=0.05)


def test_slices_between_thin_ones_and_a_shift_are_found() -> None:
    thick, thin = pair(SliceProfile.mean(5))
    moved = replace(thick.geometry, origin_mm=(3.0, 4.0, thick.geometry.origin_mm[2] + 0.4))
    measured = measure_profile(Volume(thick.hu, moved), thin)
    # The voxels lie 0.4 mm below the position in the header.
    assert measured.centre_mm == pytest.approx(-0.4, abs=0.1)


def test_axes_may_run_the_other_way() -> None:
    thick, thin = pair(SliceProfile.gaussian(5))
    depth, _, width = thin.geometry.shape
    turned = Volume(
        np.ascontiguousarray(thin.hu[::-1, :, ::-1]),
        replace(
            thin.geometry,
            origin_mm=thin.geometry.position_mm((depth - 1, 0, width - 1)),
            direction=((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0)),
        ),
    )
    assert measure_profile(thick, turned) == measure_profile(thick, thin)


def test_pairs_that_do_not_fit_are_refused() -> None:
    thick, thin = pair(SliceProfile.mean(5))
    with pytest.raises(GeometryError, match="must be the thin one"):
        measure_profile(thin, thick)
    off = replace(thin.geometry, origin_mm=(3.35, 4.0, -50.0))
    with pytest.raises(GeometryError, match="do not coincide"):
        measure_profile(thick, Volume(thin.hu, off))
    with pytest.raises(GeometryError, match="do not coincide"):
        measure_profile(thick, Volume(thin.hu, replace(thin.geometry, spacing_mm=(1.0, 0.72, 0.72))))
    with pytest.raises(GeometryError, match="do not cover"):
        measure_profile(thick, thin.crop((0, 0, 4), thin.geometry.shape))
    with pytest.raises(GeometryError, match="longer pair"):
        measure_profile(thick, thin.crop((0, 0, 0), (24, 40, 40)))


def test_a_profile_survives_its_file(tmp_path: Path) -> None:
    measured = measure_profile(*pair(SliceProfile.gaussian(5)))
    measured.write(tmp_path / "profile.json")
    assert read_slice_profile(tmp_path / "profile.json") == measured


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no slice profile"),
        ('{"offsets_mm": [0, 1, 2]}', "weights"),
        ('{"offsets_mm": [0, 2, 1], "weights": [1, 1, 1], "thick_spacing_mm": 5}', "ascend"),
        ('{"offsets_mm": [0, 1, 2], "weights": [0, 0, 0], "thick_spacing_mm": 5}', "zero"),
        ('{"offsets_mm": [0, 1, 2], "weights": [1, -1, 1], "thick_spacing_mm": 5}', "weights"),
        ('{"offsets_mm": [0, 1, 2], "weights": [1, NaN, 1], "thick_spacing_mm": 5}', "weights|JSON"),
        ('{"offsets_mm": [0, 1, 2], "weights": [1, 1e308, 1], "thick_spacing_mm": 5}', "weights"),
        ('{"offsets_mm": [0, 1, 2], "weights": [0, 1e-308, 0], "thick_spacing_mm": 5}', "zero"),
        ('{"offsets_mm": [0, 1, 2e9], "weights": [1, 1, 1], "thick_spacing_mm": 5}', "offsets_mm"),
        (" " * (1 << 20) + "{}", "too large"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "profile.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_slice_profile(tmp_path / "profile.json")
    with pytest.raises(InputError, match="check the path"):
        read_slice_profile(tmp_path / "none.json")


@pytest.mark.parametrize("profile", [SliceProfile.mean(5), SliceProfile.trapezoid(5), SliceProfile.gaussian(5)])
def test_a_profile_that_is_measured_again_keeps_weights_sum_and_width(profile: SliceProfile) -> None:
    # A measured density holds the thin slice's own width; on the same grid again it stays within a few percent.
    offsets = tuple((i - profile.reach) / 5 for i in range(len(profile.weights)))
    density = (0.0, *profile.weights, 0.0)
    again = SliceProfile.measured(5, ProfileDensity((offsets[0] - 0.2, *offsets, offsets[-1] + 0.2), density))
    assert sum(again.weights) == pytest.approx(1.0)
    assert again.weights == pytest.approx(again.weights[::-1])
    assert again.width == pytest.approx(profile.width, rel=0.08)


def test_upscaling_with_the_true_profile_is_consistent_and_better() -> None:
    profile = SliceProfile.gaussian(5, fwhm=1.1)
    thick, thin = pair(profile)
    measured = measure_profile(thick, thin)
    box = thinslice.upscale(thick, model="cubic-consistent", factor=5)
    informed = thinslice.upscale(thick, model="cubic-consistent", factor=5, profile=measured)
    assert informed.provenance.derivation is not None
    settings = informed.provenance.derivation.settings
    assert (settings["profile"], settings["profile_sha256"]) == ("measured", measured.sha256)
    first = round(thick.geometry.origin_mm[2] - thin.geometry.origin_mm[2])
    truth = thin.hu[first : first + informed.hu.shape[0]]
    inner = slice(10, -10)

    def rms(values: np.ndarray) -> float:
        return float(np.sqrt(np.mean((values - truth)[inner] ** 2)))

    assert rms(informed.hu) < 0.97 * rms(box.hu)
    used = measured.on_grid(5, 5.0)
    depth = len(thick.hu)
    remade = np.tensordot(used.matrix(depth), informed.hu, axes=1)
    assert np.abs(remade - thick.hu[list(used.supported(depth))]).max() < 1.0


def test_the_real_pair_is_not_a_box(shared: Path) -> None:
    thick = thinslice.read(shared / "ct/pair/phantom_thick_5mm.nii.gz")
    thin = thinslice.read(shared / "ct/pair/phantom_thin_1mm.nii.gz")
    measured = measure_profile(thick, thin)
    assert isinstance(measured, MeasuredProfile)
    assert measured.residual_rms_hu is not None and measured.box_residual_rms_hu is not None
    assert measured.residual_rms_hu < 5.0 < 20.0 < measured.box_residual_rms_hu
    assert 6.0 < measured.width_mm < 7.0


def test_several_pairs_give_one_profile_and_other_protocols_are_refused() -> None:
    first, second = pair(SliceProfile.heavy_tailed(5)), pair(SliceProfile.heavy_tailed(5), offset=1)
    both = measure_shared_profile([first, second])
    assert both.voxels == sum(measure_profile(*each).voxels or 0 for each in (first, second))
    assert both.width_mm == pytest.approx(measure_profile(*first).width_mm, abs=0.01)
    with pytest.raises(GeometryError, match="Thick slices lie 5 and 4 mm apart"):
        measure_shared_profile([first, pair(SliceProfile.mean(4))])
    with pytest.raises(GeometryError, match="Thick slices are 5 and 6 mm thick"):
        measure_shared_profile([first, pair(SliceProfile.mean(5), thickness_mm=6.0)])
    with pytest.raises(GeometryError, match="no pair"):
        measure_shared_profile([])
